package operator

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
	"millrace/scheduler/expr"
)

// values evaluates ${{ name }} by looking the name up; JSON values stand as they are, if they are JSON.
type values map[string]string

func (v values) Text(text string, escape func(string) (string, error)) (string, error) {
	var b strings.Builder
	for {
		i := strings.Index(text, "${{")
		if i < 0 {
			return b.String() + text, nil
		}
		n := expr.Span(text[i:])
		name := strings.TrimSpace(text[i+3 : i+n-2])
		val, ok := v[name]
		if !ok {
			return "", fmt.Errorf("there is no %s", name)
		}
		if escape != nil {
			var err error
			if val, err = escape(val); err != nil {
				return "", fmt.Errorf("evaluate %s: %w", name, err)
			}
		}
		b.WriteString(text[:i] + val)
		text = text[i+n:]
	}
}

func (v values) JSON(text string) (json.RawMessage, error) {
	for name, val := range v {
		if text == "${{ "+name+" }}" && json.Valid([]byte(val)) {
			return json.RawMessage(val), nil
		}
	}
	text, _ = v.Text(text, nil)
	return marshal(text)
}

// envelope returns what a task's process would be told.
func envelope(t *testing.T, task scheduler.Task, vals values) (*Envelope, error) {
	t.Helper()
	op := All(Options{Program: "/bin/millrace"})[task.Kind].(scheduler.Configured)
	argv, err := op.Compile(&task)
	if err != nil {
		return nil, err
	}
	if want := []string{"/bin/millrace", "op", task.Kind}; !cmp.Equal(argv, want) {
		t.Errorf("argv is %q, want %q: nothing of the settings", argv, want)
	}
	before, _ := json.Marshal(task)
	list, err := op.Settings(&task, vals)
	if after, _ := json.Marshal(task); string(after) != string(before) {
		t.Errorf("the task was changed from %s to %s", before, after)
	}
	if err != nil {
		return nil, err
	}
	text, ok := strings.CutPrefix(list[0], Variable+"=")
	if !ok {
		t.Fatalf("got %q", list)
	}
	return Open(task.Kind, text)
}

func httpTask(h scheduler.HTTP) scheduler.Task {
	h.Method = strings.TrimSpace(h.Method)
	if h.Method == "" {
		h.Method = "POST"
	}
	h.Expect, h.Timeout = []scheduler.StatusRange{{From: 200, To: 299}}, time.Second
	return scheduler.Task{ID: "a", Kind: scheduler.KindHTTP, HTTP: &h}
}

// A value is data wherever it stands: it does not change the request around it.
func TestHTTPValuesStayInTheirPlace(t *testing.T) {
	t.Parallel()
	vals := values{"evil": "a/../b?x=1&y=#%\r\n\"},{ ü", "n": `{"deep": [1, 2.5, null]}`, "plain": "abc", "dots": "..", "none": ""}
	tests := []struct {
		name string
		http scheduler.HTTP
		want scheduler.HTTP
		fail string
	}{
		{name: "path", http: scheduler.HTTP{URL: "https://h:8443/v1/${{ evil }}/x"},
			want: scheduler.HTTP{URL: "https://h:8443/v1/a%2F..%2Fb%3Fx=1&y=%23%25%0D%0A%22%7D%2C%7B%20%C3%BC/x"}},
		{name: "query", http: scheduler.HTTP{URL: "https://h?q=${{ evil }}&r=${{ plain }}"},
			want: scheduler.HTTP{URL: "https://h?q=a%2F..%2Fb%3Fx%3D1%26y%3D%23%25%0D%0A%22%7D%2C%7B+%C3%BC&r=abc"}},
		{name: "path and query", http: scheduler.HTTP{URL: "https://h/${{ plain }}-${{ plain }}?${{ plain }}=a/b?c"},
			want: scheduler.HTTP{URL: "https://h/abc-abc?abc=a/b?c"}},
		{name: "a question mark in an expression", http: scheduler.HTTP{URL: `https://h/${{ a ? "}}" : "?" }}?x=${{ plain }}`},
			want: scheduler.HTTP{URL: `https://h/1?x=abc`}},
		{name: "dots", http: scheduler.HTTP{URL: "https://h/v1/${{ dots }}/admin"}, fail: `".."`},
		{name: "half dots", http: scheduler.HTTP{URL: "https://h/v1/.${{ d }}/admin"}, fail: `".."`},
		{name: "nothing", http: scheduler.HTTP{Method: "DELETE", URL: "https://h/items/${{ none }}"}, fail: "yields nothing"},
		{name: "header", http: scheduler.HTTP{URL: "https://h", Headers: map[string]string{"X-A": "b ${{ plain }}"}},
			want: scheduler.HTTP{URL: "https://h", Headers: map[string]string{"X-A": "b abc"}}},
		{name: "header with a line end", http: scheduler.HTTP{URL: "https://h", Headers: map[string]string{"X-A": "${{ evil }}"}}, fail: "control character"},
		{name: "header that names a secret", http: scheduler.HTTP{URL: "https://h", Headers: map[string]string{"X-A": "${{ ref }}"}}, fail: "can not name a secret"},
		{name: "JSON", http: scheduler.HTTP{URL: "https://h", Body: json.RawMessage(`{"a":"${{ evil }}","b":["${{ n }}","x ${{ plain }}",1e400]}`)},
			want: scheduler.HTTP{URL: "https://h", Body: json.RawMessage(`{"a":"a/../b?x=1&y=#%\r\n\"},{ ü","b":[{"deep":[1,2.5,null]},"x abc",1e400]}`)}},
		{name: "text", http: scheduler.HTTP{URL: "https://h", Body: json.RawMessage(`"say ${{ plain }}"`)},
			want: scheduler.HTTP{URL: "https://h", Body: json.RawMessage(`"say abc"`)}},
		{name: "form", http: scheduler.HTTP{URL: "https://h", Body: json.RawMessage(`"a=${{ evil }}&b=1"`),
			Headers: map[string]string{"content-type": "application/x-www-form-urlencoded"}},
			want: scheduler.HTTP{URL: "https://h", Body: json.RawMessage(`"a=a%2F..%2Fb%3Fx%3D1%26y%3D%23%25%0D%0A%22%7D%2C%7B+%C3%BC&b=1"`),
				Headers: map[string]string{"content-type": "application/x-www-form-urlencoded"}}},
		{name: "too large", http: scheduler.HTTP{URL: "https://h", Body: json.RawMessage(`"` + strings.Repeat("x", 130_000) + `"`)}, fail: "is the most"},
	}
	vals["ref"], vals["d"], vals[`a ? "}}" : "?"`] = "env:SECRET", ".", "1"
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e, err := envelope(t, httpTask(tt.http), vals)
			if tt.fail != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fail) {
					t.Errorf("got %v, want %q", err, tt.fail)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := scheduler.HTTP{URL: e.HTTP.URL, Headers: e.HTTP.Headers, Body: e.HTTP.Body}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
		})
	}
}

func TestHTTPRefusesWhatCanNotBeSafe(t *testing.T) {
	t.Parallel()
	with := func(name, val string) map[string]string { return map[string]string{name: val} }
	tests := []struct {
		name, fail string
		http       scheduler.HTTP
	}{
		{"host from a value", "can not stand in the host", scheduler.HTTP{URL: "https://${{ x }}/y"}},
		{"host from a value with a slash", "can not stand in the host", scheduler.HTTP{URL: "https://${{ a/b }}/y"}},
		{"part of the host", "can not stand in the host", scheduler.HTTP{URL: "https://api.${{ x }}.example/y"}},
		{"port", "can not stand in the host", scheduler.HTTP{URL: "https://api:${{ x }}/y"}},
		{"scheme", "does not start with http", scheduler.HTTP{URL: "${{ x }}://api/y"}},
		{"file", "does not start with http", scheduler.HTTP{URL: "file:///etc/passwd"}},
		{"user", "a url with a user", scheduler.HTTP{URL: "https://me:secret@api/y"}},
		{"fragment", "with #", scheduler.HTTP{URL: "https://api/y#z"}},
		{"no host", "names no host", scheduler.HTTP{URL: "https:///y"}},
		{"bad escape", "url", scheduler.HTTP{URL: "https://api/%zz"}},
		{"control character", "invalid control character", scheduler.HTTP{URL: "https://api/\x01"}},
		{"control character in the query", "invalid control character", scheduler.HTTP{URL: "https://api/?\x01"}},
		{"method", `method "TRACE"`, scheduler.HTTP{URL: "https://api", Method: "TRACE"}},
		{"Host", "belongs to the connection", scheduler.HTTP{URL: "https://api", Headers: with("host", "other")}},
		{"smuggling", "belongs to the connection", scheduler.HTTP{URL: "https://api", Headers: with("Transfer-Encoding", "chunked")}},
		{"name of a header", "can not be the name", scheduler.HTTP{URL: "https://api", Headers: with("X A", "x")}},
		{"header twice", "stands twice", scheduler.HTTP{URL: "https://api", Headers: map[string]string{"X-A": "1", "x-a": "2"}}},
		{"type of the body from a value", "Content-Type", scheduler.HTTP{URL: "https://api", Headers: with("Content-Type", "${{ x }}")}},
		{"value in JSON text", "write the body as a mapping",
			scheduler.HTTP{URL: "https://api", Headers: with("Content-Type", "application/json"), Body: json.RawMessage(`"{\"a\": ${{ x }}}"`)}},
		{"value in XML", "does not know how to escape",
			scheduler.HTTP{URL: "https://api", Headers: with("Content-Type", "text/xml"), Body: json.RawMessage(`"<a>${{ x }}</a>"`)}},
		{"mapping that is no JSON", "the headers say that it is text/plain",
			scheduler.HTTP{URL: "https://api", Headers: with("Content-Type", "text/plain"), Body: json.RawMessage(`{}`)}},
		{"body of GET", "has no body", scheduler.HTTP{URL: "https://api", Method: "GET", Body: json.RawMessage(`{}`)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := envelope(t, httpTask(tt.http), nil); err == nil || !strings.Contains(err.Error(), tt.fail) {
				t.Errorf("got %v, want %q", err, tt.fail)
			}
		})
	}
}

func TestWaitSettings(t *testing.T) {
	t.Parallel()
	task := func(object string) scheduler.Task {
		return scheduler.Task{ID: "a", Kind: scheduler.KindWait, Wait: &scheduler.Wait{Object: object, Poll: time.Second},
			Timeout: scheduler.Timeout{Run: time.Minute}}
	}
	op := All(Options{Objects: json.RawMessage(`{"bucket":"b"}`), ObjectsEnv: []string{"AWS_PROFILE=p"}})[scheduler.KindWait].(scheduler.Configured)
	list, err := op.Settings(new(task("a/${{ x }}")), values{"x": "day=1"})
	if err != nil || len(list) != 2 || list[1] != "AWS_PROFILE=p" || !strings.Contains(list[0], `"object":"a/day=1"`) || !strings.Contains(list[0], `"bucket":"b"`) {
		t.Errorf("got %q, %v", list, err)
	}
	for _, evil := range []string{"../../etc", "..", "x/../y", "a\nb"} {
		if _, err := envelope(t, task("a/${{ x }}"), values{"x": evil}); err == nil {
			t.Errorf("%q is taken", evil)
		}
	}
	forever := task("a")
	forever.Timeout.Run = 0
	if _, err := envelope(t, forever, nil); err == nil || !strings.Contains(err.Error(), "needs a timeout") {
		t.Errorf("without a timeout: got %v", err)
	}
}

func TestSQLSettings(t *testing.T) {
	t.Parallel()
	task := func(q scheduler.SQL) scheduler.Task { return scheduler.Task{ID: "a", Kind: scheduler.KindSQL, SQL: &q} }
	e, err := envelope(t, task(scheduler.SQL{
		Connection: "env:W", Statements: []string{"INSERT INTO t VALUES (@a, @b, @idempotency_key)"},
		Params: map[string]json.RawMessage{"a": json.RawMessage(`"${{ x }}"`), "b": json.RawMessage(`12345678901234567890`)},
	}), values{"x": "'); DROP TABLE t; --"})
	if err != nil {
		t.Fatal(err)
	}
	want := &scheduler.SQL{
		Connection: "env:W", Statements: []string{"INSERT INTO t VALUES (@a, @b, @idempotency_key)"},
		Params: map[string]json.RawMessage{"a": json.RawMessage(`"'); DROP TABLE t; --"`), "b": json.RawMessage(`12345678901234567890`)},
	}
	if diff := cmp.Diff(want, e.SQL); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	one := json.RawMessage(`1`)
	for _, tt := range []struct {
		fail string
		sql  scheduler.SQL
	}{
		{"no place for a password", scheduler.SQL{Connection: "postgres://u:p@h/d", Statements: []string{"x"}}},
		{"could choose the database", scheduler.SQL{Connection: "env:${{ x }}", Statements: []string{"x"}}},
		{"names nothing", scheduler.SQL{Connection: "env:", Statements: []string{"x"}}},
		{"read as SQL", scheduler.SQL{Connection: "env:W", Statements: []string{"SELECT '${{ x }}'"}}},
		{"neither", scheduler.SQL{Connection: "env:W"}},
		{"one of them", scheduler.SQL{Connection: "env:W", Statements: []string{"x"}, File: "/x"}},
		{"absolute", scheduler.SQL{Connection: "env:W", File: "x.sql"}},
		{"empty", scheduler.SQL{Connection: "env:W", Statements: []string{" \n"}}},
		{"used by no statement", scheduler.SQL{Connection: "env:W", Statements: []string{"SELECT @ab"}, Params: map[string]json.RawMessage{"a": one}}},
		{"given by millrace", scheduler.SQL{Connection: "env:W", Statements: []string{"x"}, Params: map[string]json.RawMessage{"run_id": one}}},
		{"starts with no digit", scheduler.SQL{Connection: "env:W", Statements: []string{"x"}, Params: map[string]json.RawMessage{"1": one}}},
	} {
		if _, err := envelope(t, task(tt.sql), nil); err == nil || !strings.Contains(err.Error(), tt.fail) {
			t.Errorf("got %v, want %q", err, tt.fail)
		}
	}
}

func TestOpenRefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "{", `{"v":2,"wait":{}}`, `{"v":1,"http":{}}`, `{"v":1,"wait":{"object":"x","later":1}}`} {
		e, err := Open(scheduler.KindWait, text)
		if e != nil || ExitOf(err) != scheduler.ExitNoRetry {
			t.Errorf("%q: got %+v, %v, exit %d", text, e, err, ExitOf(err))
		}
	}
}

func TestSecret(t *testing.T) {
	t.Parallel()
	environ := func(name string) (string, bool) { return "v", name == "GIVEN" }
	for text, want := range map[string]string{"env:GIVEN": "v", "env:OTHER": "", "plain": "plain", "file:/nowhere": ""} {
		got, err := Secret(text, environ)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%s: got %q, %v, want %q", text, got, err, want)
		}
	}
	if _, err := Secret("env:OTHER", environ); err == nil || !strings.Contains(err.Error(), "executors.local.env") {
		t.Errorf("the error does not say what to do: %v", err)
	}
}

func TestExitOf(t *testing.T) {
	t.Parallel()
	for want, err := range map[int]error{
		0: nil, scheduler.ExitNoRetry: fmt.Errorf("x: %w", Final(errors.New("y"))), scheduler.ExitAgain: errors.New("anything else"),
	} {
		if got := ExitOf(err); got != want {
			t.Errorf("%v: got %d, want %d", err, got, want)
		}
	}
}
