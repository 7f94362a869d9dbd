package notify

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/scheduler"
)

var _ scheduler.Notifications = (*Service)(nil)

// Options tune a [Service]. The zero value works.
type Options struct {
	// Console returns the address of the console for the links in notices, with its base path; nil: links are relative to it.
	Console func() string
	// Env is the environment of commands, as "NAME=value", besides what tells of the notice.
	Env []string
	// Agent is the User-Agent of requests; default "millrace".
	Agent string
	// GiveUp is how long a notice is tried; default 24 h.
	GiveUp time.Duration
	// Named returns which DAGs name a notifier, by its name; nil: none does.
	Named      func(ctx context.Context) (map[string][]string, error)
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

func (o Options) withDefaults() Options {
	if o.Agent == "" {
		o.Agent = "millrace"
	}
	if o.GiveUp == 0 {
		o.GiveUp = 24 * time.Hour
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Named == nil {
		o.Named = func(context.Context) (map[string][]string, error) { return nil, nil }
	}
	return o
}

// Service sends the notices of an outbox. Its methods are safe for concurrent use.
type Service struct {
	outbox  scheduler.Outbox
	opts    Options
	log     *slog.Logger
	metrics *metrics
	client  *http.Client
	changed chan struct{} // has one place; never closed
	// deliver is send, but in tests without a network.
	deliver func(ctx context.Context, n *Notifier, id string, body *scheduler.NoticeBody) error

	mu      sync.Mutex // guards senders
	senders map[string]*sender
}

// New returns a service with these notifiers; see [Service.Set].
func New(outbox scheduler.Outbox, notifiers []Notifier, opts Options) (*Service, error) {
	opts = opts.withDefaults()
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	s := &Service{
		outbox: outbox, opts: opts, log: opts.Logger, metrics: newMetrics(opts.Registerer), changed: make(chan struct{}, 1),
		senders: map[string]*sender{},
		client: &http.Client{
			Transport: &http.Transport{
				Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, MaxResponseHeaderBytes: 64 << 10, ForceAttemptHTTP2: true,
				IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: 1,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	s.deliver = s.send
	if err := s.Set(notifiers); err != nil {
		return nil, err
	}
	select {
	case <-s.changed: // Run begins with them
	default:
	}
	return s, nil
}

// Set replaces the notifiers, all of them or, if one is faulty, none. What a sender knows of a notifier that is as it was is kept.
func (s *Service) Set(notifiers []Notifier) error {
	next := map[string]*sender{}
	var errs []error
	for i := range notifiers {
		n := &notifiers[i]
		if err := n.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("notify.%s: %w", n.Name, err))
		}
		next[n.Name] = &sender{s: s, n: *n, wake: make(chan struct{}, 1)}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	s.mu.Lock()
	for name, old := range s.senders {
		if now := next[name]; now != nil && same(&old.n, &now.n) {
			next[name] = old
		}
	}
	s.senders = next
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
	return nil
}

func same(a, b *Notifier) bool {
	return a.Kind == b.Kind && a.URL == b.URL && maps.Equal(a.Headers, b.Headers) && a.Secret == b.Secret && slices.Equal(a.Run, b.Run) &&
		a.Timeout == b.Timeout
}

func (s *Service) all() []*sender {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.senders))
}

func (s *Service) sender(name string) *sender {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.senders[name]
}

// Wake says that there may be new notices. It does not block.
func (s *Service) Wake() {
	for _, one := range s.all() {
		one.poke()
	}
}

// Run sends until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { s.keepHouse(ctx) })
	for ctx.Err() == nil {
		round, end := context.WithCancel(ctx)
		var senders sync.WaitGroup
		for _, one := range s.all() {
			senders.Go(func() { one.run(round) })
		}
		select {
		case <-s.changed:
		case <-ctx.Done():
		}
		end() // a try that is under way is made again
		senders.Wait()
	}
	wg.Wait()
	s.client.CloseIdleConnections()
	return nil
}

// houseEvery is how often the gauges are set and the notices of nobody are looked at.
const houseEvery = 10 * time.Second

// keepHouse counts what waits, and gives up what no sender will.
func (s *Service) keepHouse(ctx context.Context) {
	tick := time.NewTicker(houseEvery)
	defer tick.Stop()
	for {
		counts, err := s.outbox.CountNotices(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.Warn("outbox not counted", "err", err)
		}
		if err == nil {
			s.metrics.counted(counts, time.Now())
		}
		for _, c := range counts {
			if s.sender(c.Notifier) == nil && c.Pending > 0 {
				s.abandon(ctx, c.Notifier)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// abandon gives up the notices of a notifier that the configuration has lacked for too long.
func (s *Service) abandon(ctx context.Context, name string) {
	now := time.Now().UTC()
	list, err := s.outbox.DueNotices(ctx, name, now, 100)
	if err != nil {
		return // the next round sees them again
	}
	for i := range list {
		n := &list[i]
		if now.Sub(n.Since) < s.opts.GiveUp {
			continue
		}
		n.Error = fmt.Sprintf("given up after %v: the configuration has no notifier %s", s.opts.GiveUp, name)
		s.bury(ctx, n, now)
	}
}

// bury gives a notice up. n.Error says why.
func (s *Service) bury(ctx context.Context, n *scheduler.Notice, now time.Time) {
	n.State, n.NextAt, n.EndedAt = scheduler.NoticeDead, time.Time{}, now
	if err := s.outbox.SettleNotice(ctx, n); err != nil {
		return // it is still pending, and comes again
	}
	s.metrics.dead.WithLabelValues(n.Notifier).Inc()
	s.log.Error("notice given up", "notice", n.ID, "notifier", n.Notifier, "run", n.Run, "err", n.Error)
}

// links makes the links of a body absolute.
func (s *Service) links(b *scheduler.NoticeBody) {
	if s.opts.Console == nil {
		return
	}
	base := strings.TrimRight(s.opts.Console(), "/") + "/"
	b.URL = base + b.URL
	for i := range b.Failed {
		b.Failed[i].Log = base + b.Failed[i].Log
	}
	if b.Task != nil {
		b.Task.Log = base + b.Task.Log
	}
}

// TestNotifier implements scheduler.Notifications.
func (s *Service) TestNotifier(ctx context.Context, name string) error {
	one := s.sender(name)
	if one == nil {
		names := slices.Sorted(maps.Keys(s.names()))
		return fmt.Errorf("find notifier %q: %w; the configuration has %s", name, scheduler.ErrNotFound, orNone(names))
	}
	b := scheduler.NoticeBody{
		V: 1, ID: scheduler.NoticeID(name, scheduler.OnTest, rand.Text()), Event: scheduler.OnTest, At: time.Now().UTC(),
		Reason: "asked for by a person", Failed: []scheduler.NoticeTask{},
	}
	s.links(&b)
	if err := s.deliver(ctx, &one.n, b.ID, &b); err != nil {
		return fmt.Errorf("%w: notifier %s: %w", scheduler.ErrInvalid, name, err)
	}
	return nil
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none: add it to notify"
	}
	return strings.Join(names, ", ")
}

func (s *Service) names() map[string]bool {
	out := map[string]bool{}
	for _, one := range s.all() {
		out[one.n.Name] = true
	}
	return out
}

// Retry implements scheduler.Notifications.
func (s *Service) Retry(ctx context.Context, id string) (*scheduler.Notice, error) {
	n, err := s.outbox.RetryNotice(ctx, id, time.Now().UTC())
	if err != nil {
		return nil, err
	}
	if one := s.sender(n.Notifier); one != nil {
		one.close()
		one.poke()
	}
	return n, nil
}

// Missing returns the notifiers that DAGs name and the configuration lacks, with the DAGs, by name.
func (s *Service) Missing(ctx context.Context) (map[string][]string, error) {
	named, err := s.opts.Named(ctx)
	if err != nil {
		return nil, err
	}
	known := s.names()
	out := map[string][]string{}
	for name, dags := range named {
		if !known[name] {
			out[name] = dags
		}
	}
	return out, nil
}

// Notifiers implements scheduler.Notifications.
func (s *Service) Notifiers(ctx context.Context) ([]scheduler.NotifierStatus, error) {
	named, err := s.opts.Named(ctx)
	if err != nil {
		return nil, err
	}
	counts, err := s.outbox.CountNotices(ctx)
	if err != nil {
		return nil, err
	}
	by := map[string]*scheduler.NotifierStatus{}
	get := func(name string) *scheduler.NotifierStatus {
		if by[name] == nil {
			by[name] = &scheduler.NotifierStatus{Name: name, Missing: true, DAGs: []string{}}
		}
		return by[name]
	}
	for _, one := range s.all() {
		one.status(get(one.n.Name))
	}
	for name, dags := range named {
		get(name).DAGs = dags
	}
	for _, c := range counts {
		st := get(c.Notifier)
		st.Pending, st.Dead, st.Oldest = c.Pending, c.Dead, c.Oldest
	}
	var out []scheduler.NotifierStatus
	for _, name := range slices.Sorted(maps.Keys(by)) {
		out = append(out, *by[name])
	}
	return out, nil
}
