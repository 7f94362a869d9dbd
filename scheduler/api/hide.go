package api

import (
	"strings"

	"millrace/scheduler"
	"millrace/scheduler/mask"
)

// hideFields takes what of a connection nobody should see out of a text.
func hideFields(text string, fields map[string]string) string {
	secrets := []string{fields["password"], fields["uri"]}
	for name, val := range fields {
		if key, ok := strings.CutPrefix(name, "extra."); ok && scheduler.Sensitive(key) {
			secrets = append(secrets, val)
		}
	}
	return mask.New(secrets).String(text)
}
