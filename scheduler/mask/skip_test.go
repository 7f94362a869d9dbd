package mask

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// TestSkip compares the places that are found by steps with those at which a form stands.
func TestSkip(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	text := func(n int) string {
		var b strings.Builder
		for range n {
			b.WriteByte("ab4="[rng.IntN(4)])
		}
		return b.String()
	}
	found := 0
	for range 3000 {
		secrets := []string{text(4 + rng.IntN(12)), text(4 + rng.IntN(80))}
		m := New(secrets)
		b := []byte(text(rng.IntN(120)))
		for i := range len(b) + 1 {
			got := m.skip(b, i)
			for k := i; k < min(got, len(b)); k++ {
				if form := beginning(m, string(b[k:])); form != "" {
					t.Fatalf("of %q, skip(%q, %d) is %d, and %q begins at %d", secrets, b, i, got, form, k)
				}
			}
			if got < len(b) {
				found++
			}
		}
	}
	if found == 0 {
		t.Error("nothing was found")
	}
}

// beginning returns a form with which text begins, or which begins with all of text, or "".
func beginning(m *Masker, text string) string {
	for _, list := range m.forms {
		for _, form := range list {
			if strings.HasPrefix(text, form) || strings.HasPrefix(form, text) {
				return form
			}
		}
	}
	return ""
}
