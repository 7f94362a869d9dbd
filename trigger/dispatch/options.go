package dispatch

import (
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/trigger"
)

// From says where a ledger without any cursor starts in the chains that exist.
type From int

// The places to start from. A chain that is found later always starts at its first entry.
const (
	FromTail From = iota
	FromFirst
)

// Options are the tunables of a [Dispatcher]; the zero value works.
type Options struct {
	// Bus brings hints; nil leaves Announce, Nudge and polling.
	Bus trigger.Bus
	// Gate says whether runs of gated rules have a place; nil: always.
	Gate trigger.Gate
	// Name is that of the durable subscription; default "dispatch".
	Name string
	From From
	// Disabled makes Run do nothing until its context ends.
	Disabled bool
	// PollMin is how soon a chain is looked at again that has just grown, or while its objects are not all there; default 1 s. A chain that
	// stays as it is waits ever longer, an eighth of its rest, at most PollMax; default 30 s. List is how often chains are listed; default 1 min.
	PollMin, PollMax, List time.Duration
	// MaxBatches bounds the batches of one intake; default 256. There are fewer if there are many rules.
	MaxBatches int
	// CatchUp: after a pause of the process or a jump of the clock, the nominal times of a cron rule within CatchUp are all fired, of older ones
	// only the newest, and only if there is no other; default 2 h.
	CatchUp    time.Duration
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

func (o Options) withDefaults() Options {
	def := func(p *time.Duration, d time.Duration) {
		if *p <= 0 {
			*p = d
		}
	}
	def(&o.PollMin, time.Second)
	def(&o.PollMax, 30*time.Second)
	def(&o.List, time.Minute)
	def(&o.CatchUp, 2*time.Hour)
	if o.Name == "" {
		o.Name = "dispatch"
	}
	if o.MaxBatches <= 0 {
		o.MaxBatches = 256
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}
