package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"millrace/cmd/internal/send"
	"millrace/configs"
	"millrace/ingest"
)

// sendFlags are the flags of send.
type sendFlags struct {
	template, data, rate, to, progress string
	count, connections                 int
}

func newSend(g *global) *cobra.Command {
	var f sendFlags
	c := &cobra.Command{
		Use: "send SOURCE", Short: "Post events to a source as its senders do, signed like the provider", Args: exactArgs(1),
		Long: `Post events to a source of the configuration as its senders do: an SDK's call to a clickstream source, a delivery that is signed like the
provider's to a webhook source, lines of JSON to a source of events. Without a configuration file, the sources of 'millrace dev' are known.

One line comes for each request, with the receipt that 'millrace where' takes. Nothing is repeated. Exit code 1 if any was not accepted.
Templates: ` + strings.Join(send.Templates(), ", ") + `.`,
		Example: `  millrace send web                                        # a track call
  millrace send stripe --template stripe.invoice
  millrace send web --count 10000 --rate 500/s
  millrace send demo --data @order.json                    # or --data - for standard input
  millrace where $(millrace send stripe -o name)`,
		RunE: func(c *cobra.Command, args []string) error { return g.send(c, args[0], f) },
	}
	c.Flags().StringVar(&f.template, "template", "", "what to send (default: what suits the source)")
	c.Flags().StringVarP(&f.data, "data", "d", "", "the body instead of a template: text, @FILE, or - for standard input")
	c.Flags().IntVar(&f.count, "count", 1, "how many requests")
	c.Flags().StringVar(&f.rate, "rate", "", "at most so many a second: 500/s, 30/m (default: as fast as they are answered)")
	c.Flags().IntVar(&f.connections, "connections", 8, "requests under way at a time")
	c.Flags().StringVar(&f.to, "to", "", "where events are accepted (default: ingest.listen of the configuration)")
	c.Flags().StringVar(&f.progress, "progress", "auto", progressUsage)
	g.rowFlags(c)
	return c
}

var sendColumns = []column[send.Result]{
	{"N", func(r send.Result) string { return strconv.Itoa(r.N) }},
	{"STATUS", func(r send.Result) string { return strconv.Itoa(r.Status) }},
	{"TOOK", func(r send.Result) string { return fmt.Sprintf("%.1fms", r.Seconds*1e3) }},
	{"EVENT", func(r send.Result) string { return dash(r.ID) }},
	{"RECEIPT", func(r send.Result) string {
		if !r.Accepted {
			return "- " + firstLine(r.Answer)
		}
		return dash(r.Receipt)
	}},
}

func (g *global) send(c *cobra.Command, name string, f sendFlags) error {
	src, base, err := g.source(name)
	if err != nil {
		return err
	}
	if f.to != "" {
		base = f.to
	}
	o := send.Options{Template: f.template, Count: f.count, Connections: f.connections}
	if o.Rate, err = parseRate(f.rate); err != nil {
		return err
	}
	if f.count < 1 || f.connections < 1 {
		return &codeError{exitUsage, errors.New("--count and --connections must be at least 1")}
	}
	if f.template != "" && !slices.Contains(send.Templates(), f.template) {
		return &codeError{exitUsage, fmt.Errorf("no template %q%s; there are: %s", f.template, didYouMean(f.template, send.Templates()),
			strings.Join(send.TemplatesFor(src), ", "))}
	}
	if c.Flags().Changed("data") {
		if f.template != "" {
			return &codeError{exitUsage, errors.New("give --template or --data, not both")}
		}
		if o.Data, err = readData(f.data, g.in); err != nil {
			return err
		}
	}
	if u, err := url.Parse(base); err != nil || u.Host == "" {
		return &codeError{exitUsage, fmt.Errorf("--to %q: want a URL such as http://127.0.0.1:8080", base)}
	} else if u.Scheme == "https" {
		o.Client = g.httpClient(u) // knows the certificate of dev --tls
	}
	bar, err := newProgress(g, f.progress, "sent", int64(f.count))
	if err != nil {
		return err
	}
	out := newRowStream(g, func(r send.Result) string { return r.Receipt }, sendColumns)
	var failed error
	sum, err := send.Run(c.Context(), base, src, o, func(r send.Result) {
		bar.add(1)
		failed = errors.Join(failed, out.print(r))
	})
	bar.end()
	failed = errors.Join(failed, out.end())
	switch {
	case errors.Is(err, send.ErrUnreachable):
		return &codeError{exitUnreachable, fmt.Errorf("%w\nIs it running? 'millrace dev' starts one; --to points elsewhere", err)}
	case errors.Is(err, send.ErrCannotSign):
		return &codeError{exitUsage, err}
	case err != nil:
		return err
	case failed != nil:
		return failed
	case sum.Accepted < sum.Sent:
		return &codeError{exitFailed, fmt.Errorf("%d of %d requests were not accepted", sum.Sent-sum.Accepted, sum.Sent)}
	}
	if g.output == "table" {
		_, _ = fmt.Fprintf(g.err, "accepted %d of %d in %s; follow one with: millrace where RECEIPT\n", sum.Accepted, sum.Sent, sum.Took.Round(1e6))
	}
	return nil
}

// senders returns the configuration that sources are looked up in, and what to call it: that of a file or the environment, else that of dev.
func (g *global) senders() (*configs.Loaded, string, error) {
	l, err := g.load(configs.Default())
	if err != nil {
		return nil, "", err
	}
	if l.File == "" && len(l.Sources) == 0 {
		l, err = g.load(configs.Dev())
		return l, "'millrace dev'", err
	}
	return l, orDefault(l.File), nil
}

// source returns a source with its secrets, and the URL where events are accepted.
func (g *global) source(name string) (*ingest.Source, string, error) {
	l, where, err := g.senders()
	if err != nil {
		return nil, "", err
	}
	src, ok := l.Sources[name]
	if !ok {
		names := slices.Sorted(maps.Keys(l.Sources))
		return nil, "", &codeError{exitNotFound, fmt.Errorf("no source %q in %s%s; there are: %s", name, where, didYouMean(name, names),
			strings.Join(names, ", "))}
	}
	only := l.Config
	only.Sources = map[string]configs.Source{name: src} // secrets of others need not be at hand
	list, err := only.SourceList(l.Dir())
	if err != nil {
		return nil, "", err
	}
	scheme := "http"
	if l.Ingest.TLS.On() {
		scheme = "https"
	}
	return &list[0], listenURL(scheme, l.Ingest.Listen), nil
}

// listenURL is how a listener is reached from this machine.
func listenURL(scheme, addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return scheme + "://" + addr
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// readData returns the body that --data means.
func readData(arg string, in io.Reader) ([]byte, error) {
	if arg == "-" {
		b, err := io.ReadAll(in)
		if err != nil {
			return nil, fmt.Errorf("read standard input: %w", err)
		}
		return b, nil
	}
	if file, ok := strings.CutPrefix(arg, "@"); ok {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, &codeError{exitUsage, fmt.Errorf("read --data: %w", err)}
		}
		return b, nil
	}
	return []byte(arg), nil
}

// parseRate reads "500/s", "30/m", "10/h" or a bare number a second.
func parseRate(text string) (float64, error) {
	if text == "" {
		return 0, nil
	}
	number, per, _ := strings.Cut(text, "/")
	unit := map[string]float64{"": 1, "s": 1, "m": 60, "h": 3600}[per]
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || unit == 0 || !(n > 0 && n < 1e9) {
		return 0, &codeError{exitUsage, fmt.Errorf("rate %q: want a number above 0 and /s, /m or /h, such as 500/s", text)}
	}
	return n / unit, nil
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
