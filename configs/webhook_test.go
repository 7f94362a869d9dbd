package configs

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestWebhookDocs: every configuration that the pages about webhooks show is one that can be copied.
func TestWebhookDocs(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../docs/providers/*.md")
	if err != nil || len(pages) < 7 {
		t.Fatalf("got pages %v, %v", pages, err)
	}
	for _, page := range append(pages, "../docs/webhooks.md") {
		t.Run(filepath.Base(page), func(t *testing.T) {
			t.Parallel()
			doc, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(doc, -1)
			if len(blocks) == 0 {
				t.Fatal("the page shows no configuration")
			}
			for _, block := range blocks {
				file := filepath.Join(t.TempDir(), "millrace.yaml")
				if err := os.WriteFile(file, block[1], 0o600); err != nil {
					t.Fatal(err)
				}
				l, err := Load(Default(), file, nil)
				if err == nil {
					err = l.Validate()
				}
				if err != nil {
					t.Errorf("%v", err)
				}
			}
		})
	}
}
