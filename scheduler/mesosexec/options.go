package mesosexec

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Options tune a [Client]. The zero value works.
type Options struct {
	// Credentials are sent with every request; nil: none.
	Credentials *Credentials
	// TLS is for masters with https; nil: the machine's authorities.
	TLS *tls.Config
	// ConnectTimeout bounds how long a master may take to answer to SUBSCRIBE, connecting included; default 10 s. It may then take as long until the
	// first event.
	ConnectTimeout time.Duration
	// CallTimeout bounds a call, a second try with other credentials included; default 75 s.
	CallTimeout time.Duration
	// MinPause and MaxPause bound the pause before subscribing again: it doubles from the one to the other, default 100 ms and 15 s, and up to half of it is
	// taken off at random. It begins anew after a stream that lived for MaxPause.
	MinPause, MaxPause time.Duration
	// MissedHeartbeats is how many may not come before a stream is dropped; default 5.
	MissedHeartbeats int
	// Rand may be nil. It is used by Run alone.
	Rand *rand.Rand
	// Logger and Registerer may be nil.
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		v     *time.Duration
		value time.Duration
	}{{&o.ConnectTimeout, 10 * time.Second}, {&o.CallTimeout, 75 * time.Second}, {&o.MinPause, 100 * time.Millisecond}, {&o.MaxPause, 15 * time.Second}} {
		if *d.v == 0 {
			*d.v = d.value
		}
	}
	if o.MissedHeartbeats == 0 {
		o.MissedHeartbeats = 5
	}
	if o.Rand == nil {
		o.Rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Validate reports all that is wrong with o.
func (o Options) Validate() error {
	var errs []error
	if o.ConnectTimeout < 0 || o.CallTimeout < 0 || o.MinPause < 0 || o.MaxPause < 0 {
		errs = append(errs, errors.New("a duration is negative"))
	}
	if o.MaxPause > 0 && o.MinPause > o.MaxPause {
		errs = append(errs, errors.New("the least pause is above the longest"))
	}
	if o.MissedHeartbeats < 0 {
		errs = append(errs, errors.New("the number of heartbeats that may be missed is negative"))
	}
	return errors.Join(errs...)
}
