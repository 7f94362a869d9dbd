package configs

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"millrace/ingest"
)

// Size is a number of bytes; in YAML a number, or one with B, KiB, MiB, GiB or TiB.
type Size int64

var sizeUnits = []struct {
	name  string
	bytes int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// ParseSize reads what String writes.
func ParseSize(text string) (Size, error) {
	number, unit := strings.TrimSpace(text), int64(1)
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(number, u.name); ok {
			number, unit = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/unit {
		return 0, fmt.Errorf("size %q: want a whole number of bytes, or one with KiB, MiB, GiB or TiB", text)
	}
	return Size(n * unit), nil
}

// String returns the shortest exact form.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s != 0 && int64(s)%u.bytes == 0 && u.bytes > 1 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// MarshalText writes a size.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// ParseDuration reads what time.ParseDuration does, and days before it: "7d", "1d12h".
func ParseDuration(text string) (time.Duration, error) {
	days, rest, found := strings.Cut(text, "d")
	if !found {
		return time.ParseDuration(text)
	}
	n, err := strconv.ParseUint(days, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("duration %q: want it like 500ms, 10s, 1h30m or 7d", text)
	}
	dur := time.Duration(n) * 24 * time.Hour
	if rest == "" {
		return dur, nil
	}
	more, err := time.ParseDuration(rest)
	return dur + more, err
}

// FormatDuration writes a duration without the units that are zero: "30d", "1h30m".
func FormatDuration(d time.Duration) string {
	if day := 24 * time.Hour; d > day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// SecretRef is how a secret stands in the configuration: a literal, env:NAME or file:PATH. It prints as "***" if it is a literal.
type SecretRef string

// String hides a literal.
func (r SecretRef) String() string {
	if r == "" || isReference(string(r)) {
		return string(r)
	}
	return stars
}

func isReference(text string) bool {
	return strings.HasPrefix(text, "env:") || strings.HasPrefix(text, "file:")
}

// GoString hides a literal from %#v.
func (r SecretRef) GoString() string { return r.String() }

// LogValue hides a literal from slog.
func (r SecretRef) LogValue() slog.Value { return slog.StringValue(r.String()) }

// MarshalText hides a literal.
func (r SecretRef) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// Resolve returns the secret. A relative file is below dir. A missing variable or file, or an empty one, is an error.
func (r SecretRef) Resolve(dir string) (ingest.Secret, error) {
	if name, ok := strings.CutPrefix(string(r), "env:"); ok {
		v := os.Getenv(name)
		if v == "" {
			return "", fmt.Errorf("environment variable %s is not set", name)
		}
		return ingest.Secret(v), nil
	}
	if path, ok := strings.CutPrefix(string(r), "file:"); ok {
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("read secret: %w", err)
		}
		v := strings.TrimRight(string(b), "\r\n")
		if v == "" {
			return "", fmt.Errorf("secret file %s is empty", path)
		}
		return ingest.Secret(v), nil
	}
	return ingest.Secret(r), nil
}
