package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// progressModes are the values of --progress.
var progressModes = []string{"auto", "plain", "none"}

const progressUsage = "auto (a bar on a terminal, else nothing), plain (a line every 10 s) or none"

// progress shows on stderr how far a command is. Not safe for concurrent use.
type progress struct {
	w       io.Writer
	what    string
	total   int64 // 0: nobody knows
	n       int64
	bar     bool
	every   time.Duration // 0: shows nothing
	begin   time.Time
	shown   time.Time
	visible bool // the bar stands on the line
}

// newProgress makes what mode asks for. The bar needs a terminal for itself: where rows go to one, they are the progress.
func newProgress(g *global, mode, what string, total int64) (*progress, error) {
	if !slices.Contains(progressModes, mode) {
		return nil, &codeError{exitUsage, fmt.Errorf("progress %q: want auto, plain or none%s", mode, didYouMean(mode, progressModes))}
	}
	p := &progress{w: g.err, what: what, total: total, begin: time.Now()}
	p.shown = p.begin
	switch {
	case mode == "plain":
		p.every = 10 * time.Second
	case mode == "auto" && terminal(g.err) && !terminal(g.out):
		p.bar, p.every = true, 100*time.Millisecond
	}
	return p, nil
}

// add counts n more.
func (p *progress) add(n int64) {
	p.n += n
	now := time.Now()
	if p.every == 0 || now.Sub(p.shown) < p.every {
		return
	}
	p.shown = now
	text := fmt.Sprintf("%s %d", p.what, p.n)
	if p.total > 0 {
		text += fmt.Sprintf(" of %d", p.total)
	}
	text += fmt.Sprintf(", %.0f/s", float64(p.n)/now.Sub(p.begin).Seconds())
	switch {
	case !p.bar:
		_, _ = fmt.Fprintln(p.w, text)
		return
	case p.total > 0:
		const width = 30
		full := int(width * min(p.n, p.total) / p.total)
		text = "[" + strings.Repeat("=", full) + strings.Repeat(" ", width-full) + "] " + text
	}
	_, _ = fmt.Fprintf(p.w, "\r%s ", text)
	p.visible = true
}

// end takes the bar away.
func (p *progress) end() {
	if p.visible {
		_, _ = fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// terminal reports whether a person looks at w.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}
