package gateway

import (
	"errors"
	"fmt"
	"time"

	"millrace/ingest/clickstream"
)

// Limits bound what senders can make the process do. They can be changed while it runs: [Server.SetLimits]. The zero value works: each field
// says what it means when it is 0. docs/limits.md says what a sender sees at each, and TestLimits reaches every one.
type Limits struct {
	// MaxEvent is the longest event in bytes, which is also the longest body of a webhook and the longest line of a bulk upload. 0: 1 MiB.
	MaxEvent int
	// MaxRequest is the longest body in bytes, after decompression, but for bulk. 0: 4 MiB, or MaxEvent if that is more.
	MaxRequest int
	// MaxCompressed is the longest compressed body in bytes as it is sent, but for bulk. 0: MaxRequest.
	MaxCompressed int
	// MaxRatio is how many times larger than sent a body may become when it is decompressed, once that is more than 1 MiB. 0: 100.
	MaxRatio int
	// MaxBulk is the longest bulk upload in bytes, after decompression. It is never in memory as a whole. 0: 1 GiB.
	MaxBulk int64
	// MaxHeaderBytes bounds a request's line and headers together. 0: 64 KiB.
	MaxHeaderBytes int
	// MaxHeaders is how many header lines a request may have. 0: 100.
	MaxHeaders int
	// HeaderTimeout is how long a client may take to send a request's headers. 0: 5 s.
	HeaderTimeout time.Duration
	// BodyTimeout is how long a client may take to send a request, beyond the time that the bytes which came need at MinBodyRate. 0: 30 s.
	BodyTimeout time.Duration
	// MinBodyRate is how many bytes a second a slow body must make. 0: 1 KiB.
	MinBodyRate int
	// IdleTimeout is how long a connection may wait for its next request. 0: 2 min.
	IdleTimeout time.Duration
	// MaxConns bounds open connections; MaxConnsPerIP those of one peer address. 0: 10,000, and no bound.
	MaxConns, MaxConnsPerIP int
	// MaxInflight bounds the bytes of bodies that are read but not yet answered. Bulk may fill half of it, clickstream seven eighths, and only
	// webhooks, whose senders hardly ever come again, all of it. The memory behind them is up to four times as much. 0: 64 MiB.
	MaxInflight int
	// SourceRate is how many events a second each source may bring, TenantRate all sources of one tenant; ten times as many may come at once.
	// 0: no bound.
	SourceRate, TenantRate int
	// OrphanRate is how many bytes a second of events with unknown write keys go to quarantine, so that strangers can not fill the disk; a
	// thousand times as much may come at once. What is beyond gets 400. 0: 8 KiB/s; negative: none.
	OrphanRate int
}

// maxFramed is how long the headers of a request may be made by Limits.MaxHeaderBytes.
const maxFramed = 1 << 20

func (l Limits) withDefaults() Limits {
	orDefault(&l.MaxEvent, 1<<20)
	orDefault(&l.MaxRequest, max(4<<20, l.MaxEvent))
	orDefault(&l.MaxCompressed, l.MaxRequest)
	orDefault(&l.MaxRatio, 100)
	orDefault(&l.MaxBulk, 1<<30)
	orDefault(&l.MaxHeaderBytes, 64<<10)
	orDefault(&l.MaxHeaders, 100)
	orDefault(&l.HeaderTimeout, 5*time.Second)
	orDefault(&l.BodyTimeout, 30*time.Second)
	orDefault(&l.MinBodyRate, 1<<10)
	orDefault(&l.IdleTimeout, 2*time.Minute)
	orDefault(&l.MaxConns, 10_000)
	orDefault(&l.MaxInflight, 64<<20)
	orDefault(&l.OrphanRate, 8<<10)
	return l
}

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Validate reports all limits that can not be.
func (l Limits) Validate() error {
	l = l.withDefaults()
	var errs []error
	bad := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(l.MaxEvent > 0 && l.MaxRequest >= l.MaxEvent, "max_request %d must be at least max_event %d, and that positive", l.MaxRequest, l.MaxEvent)
	bad(l.MaxCompressed > 0, "max_compressed %d must be positive", l.MaxCompressed)
	bad(l.MaxInflight >= l.MaxRequest, "max_inflight %d must be at least max_request %d", l.MaxInflight, l.MaxRequest)
	bad(l.MaxRatio > 1, "max_ratio %d must be at least 2", l.MaxRatio)
	bad(l.MaxBulk >= int64(l.MaxEvent), "max_bulk %d must be at least max_event %d", l.MaxBulk, l.MaxEvent)
	bad(l.MaxHeaderBytes >= 1<<10 && l.MaxHeaderBytes <= maxFramed, "max_header_bytes %d must be from 1 KiB to 1 MiB", l.MaxHeaderBytes)
	bad(l.MaxHeaders >= 10, "max_headers %d must be at least 10", l.MaxHeaders)
	bad(l.HeaderTimeout > 0 && l.BodyTimeout > 0 && l.IdleTimeout > 0, "header_timeout %v, body_timeout %v and idle_timeout %v must be positive",
		l.HeaderTimeout, l.BodyTimeout, l.IdleTimeout)
	bad(l.MinBodyRate > 0, "min_body_rate %d must be positive", l.MinBodyRate)
	bad(l.MaxConns > 0 && l.MaxConnsPerIP >= 0, "max_conns %d must be positive, max_conns_per_ip %d not negative", l.MaxConns, l.MaxConnsPerIP)
	bad(l.SourceRate >= 0 && l.TenantRate >= 0, "source_rate %d and tenant_rate %d must not be negative", l.SourceRate, l.TenantRate)
	return errors.Join(errs...)
}

// decode returns what the limits mean to a decoder of clickstream.
func (l *Limits) decode() clickstream.Limits {
	return clickstream.Limits{MaxEvent: l.MaxEvent, MaxRows: 4 * l.MaxRequest}
}

// SetLimits replaces the limits: for requests that begin from now on, and, where they are about connections, for those that are accepted from
// now on. Limits with faults change nothing.
func (s *Server) SetLimits(l Limits) error {
	if err := l.Validate(); err != nil {
		return fmt.Errorf("check limits: %w", err)
	}
	l = l.withDefaults()
	old := s.limits.Swap(&l)
	if old == nil || old.OrphanRate != l.OrphanRate || old.MaxEvent != l.MaxEvent {
		s.orphans.Store(orphanLimiter(&l))
	}
	if old == nil || old.SourceRate != l.SourceRate || old.TenantRate != l.TenantRate {
		s.rates.Store(newRates(l.SourceRate, l.TenantRate))
	}
	if old != nil && old.timing() != l.timing() {
		select {
		case s.retime <- struct{}{}:
		default: // Run has not seen the last one yet
		}
	}
	return nil
}

// timing are the limits that a http.Server must be made anew for.
type timing struct {
	header, body, idle time.Duration
	bytes              int
}

func (l *Limits) timing() timing {
	return timing{l.HeaderTimeout, l.BodyTimeout, l.IdleTimeout, l.MaxHeaderBytes}
}
