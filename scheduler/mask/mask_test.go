package mask

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/url"
	"strings"
	"testing"
)

func TestString(t *testing.T) {
	t.Parallel()
	const secret = `p@ss w/"rd`
	pem := "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\n-----END KEY-----\n"
	escaped, err := json.Marshal(secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		secrets []string
		text    string
		want    string
	}{
		{"plain", []string{secret}, "token " + secret + ".", "token ***."},
		{"twice", []string{secret}, secret + secret, "******"},
		{"query", []string{secret}, "?p=" + url.QueryEscape(secret) + "&q=1", "?p=***&q=1"},
		{"path", []string{secret}, "/" + url.PathEscape(secret) + "/x", "/***/x"},
		{"json", []string{secret}, `{"p":` + string(escaped) + `}`, `{"p":"***"}`},
		{"base64", []string{secret}, base64.StdEncoding.EncodeToString([]byte(secret)), "***"},
		{"short", []string{"abc"}, "abc", "abc"},
		{"none", nil, "abc", "abc"},
		{"longest", []string{"abcd", "abcdefgh"}, "abcdefgh abcde", "*** ***e"},
		{"overlap", []string{"abcdef", "defxyz"}, "1abcdefxyz2", "1***2"},
		{"nested", []string{"abcdefgh", "cdef"}, "abcdefgh", "***"},
		{"same letters", []string{"aaaa"}, "aaaaaaaaa", "***"},
		{"beginning only", []string{"abcdef"}, "abcde", "abcde"},
		{"a line of several", []string{pem}, "x MIIEvQIBADANBgkq", "x ***"},
		{"all lines", []string{pem}, pem, "***"},
		{"without its end of line", []string{"hunter2!\n"}, "hunter2!.", "***."},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := New(c.secrets).String(c.text); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// A secret within a text that is encoded as a whole, as in a header of HTTP, is found wherever it begins.
func TestBase64Within(t *testing.T) {
	t.Parallel()
	const secret = "correct-horse-battery"
	m := New([]string{secret})
	for _, before := range []string{"", "u", "us", "use", "user:"} {
		text := base64.StdEncoding.EncodeToString([]byte(before + secret + "!?"))
		got := m.String(text)
		if !strings.Contains(got, stars) || len(got) > len(text)-20 {
			t.Errorf("after %q: got %q of %q, want most of it masked", before, got, text)
		}
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	m := New([]string{"123456", `q"uote`})
	for doc, want := range map[string]string{
		`{"a":"x123456","b":1}`:      `{"a":"x***","b":1}`,
		`{"a":123456}`:               `{"a":"***"}`,
		`[{"123456":true},1234567]`:  `[{"***":true},"***7"]`,
		`{"a":"q\"uote"}`:            `{"a":"***"}`,
		`{"a":12345}`:                `{"a":12345}`,
		`123456 is no JSON document`: `*** is no JSON document`,
	} {
		if got := string(m.JSON([]byte(doc))); got != want {
			t.Errorf("mask %s: got %s, want %s", doc, got, want)
		}
	}
}

// FuzzStream compares a stream that is cut somewhere with the same in one piece, and looks for what must not be there.
func FuzzStream(f *testing.F) {
	f.Add("abcdef", "defxyz", "1abcdefxyz2abcde", uint8(3))
	f.Add("aaaa", "aaab", "aaaaaaaaaaaab", uint8(1))
	f.Add("-----BEGIN\nKEY-----", "x y%z", "-----BEGIN\r\nKEY-----x%20y%25z", uint8(2))
	f.Fuzz(func(t *testing.T, one, two, text string, step uint8) {
		m := New([]string{one, two})
		if m == nil {
			return
		}
		want := m.String(text)
		s := NewStream(m)
		var got []byte
		for rest := text; rest != ""; {
			n := min(int(step%7)+1, len(rest))
			got = s.Next(got, []byte(rest[:n]))
			rest = rest[n:]
		}
		if got = s.End(got); string(got) != want {
			t.Fatalf("cut every %d bytes: got %q, want %q", step%7+1, got, want)
		}
		if again := resumed(m, text, int(step%7)+1); again != want {
			t.Fatalf("resumed every %d bytes: got %q, want %q", step%7+1, again, want)
		}
		for _, secret := range []string{one, two} {
			if len(secret) >= MinLength && !strings.Contains(secret, "*") && strings.Contains(want, secret) {
				t.Errorf("%q is in %q", secret, want)
			}
		}
	})
}

// resumed masks text by streams that are left wherever they come to, and resumed: what was held back comes again, a step at a time.
func resumed(m *Masker, text string, step int) string {
	var got []byte
	s := NewStream(m)
	for read, far := 0, 0; read < len(text); {
		n := min(step, len(text)-read)
		got = s.Next(got, []byte(text[read:read+n]))
		if read += n; read > far {
			far, read = read, read-s.Held()
			s = Resume(m, s.Covered())
		}
	}
	return string(s.End(got))
}

func BenchmarkStream(b *testing.B) {
	line := strings.Repeat("2026-11-23T18:58:19Z INFO loaded 5000 rows into events_by_hour in 13ms, next page token none\n", 340)
	m := New([]string{"sk_live_51H8xAbCdEfGhIjKlMnOpQr", "postgres://etl:correct-horse@db/prod", "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\n-----END KEY-----\n"})
	b.Run("masked", func(b *testing.B) {
		s := NewStream(m)
		var out []byte
		b.SetBytes(int64(len(line)))
		for b.Loop() {
			out = s.Next(out[:0], []byte(line))
			_, _ = io.Discard.Write(out)
		}
	})
	b.Run("copied", func(b *testing.B) {
		var out []byte
		b.SetBytes(int64(len(line)))
		for b.Loop() {
			out = append(out[:0], line...)
			_, _ = io.Discard.Write(out)
		}
	})
}
