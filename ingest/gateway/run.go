package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Run serves ln until ctx ends. Then it (1) is not ready any more and asks keep-alive connections to end with their next answer, (2) goes on
// for Options.DrainDelay, (3) stops accepting and closes idle connections, (4) finishes the requests that it has, at most for Options.Drain,
// and returns nil when the last of them has ended; the log may be closed then. It returns an error only if it can not accept.
//
// A client that leaves does not end its append: what came whole is stored, since a browser that closes a page sends and is gone. Only the end
// of the drain ends appends.
//
// ln may be one of TLS, which must not offer HTTP/2.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	f := front{s: s, life: life, ln: ln, conns: make(chan net.Conn), failed: make(chan error, 1)}
	s.open.limits, s.open.metrics, s.open.byIP = &s.limits, s.metrics, map[netip.Addr]int{}
	go func() { f.failed <- s.open.accept(life, ln, f.conns) }() // ends when ln is closed; received below
	err := f.serve(ctx)
	f.drain(context.WithoutCancel(ctx), end)
	s.serving.Lock() // waits for the last request
	defer s.serving.Unlock()
	return err
}

// front is Run's: one http.Server in charge, and those before it, which finish what they have. There is more than one only if limits change
// that a http.Server can not be given anew.
type front struct {
	s      *Server
	life   context.Context
	ln     net.Listener
	conns  chan net.Conn
	failed chan error // what ended accept

	servers []*http.Server
	closing []*handed
	wg      sync.WaitGroup // of Serve
}

// serve serves until ctx ends, then says that it is not ready and waits for the delay.
func (f *front) serve(ctx context.Context) error {
	f.next()
	var delay <-chan time.Time
	done := ctx.Done()
	for {
		select {
		case err := <-f.failed:
			f.failed <- nil // for drain
			return fmt.Errorf("serve ingest on %v: %w", f.ln.Addr(), err)
		case <-f.s.retime:
			f.next()
		case <-done:
			f.s.health.draining.Store(true)
			for _, srv := range f.servers {
				srv.SetKeepAlivesEnabled(false)
			}
			done, delay = nil, time.After(f.s.opts.DrainDelay)
		case <-delay:
			return nil
		}
	}
}

// next puts a http.Server with the limits of now in charge of new connections. The one before ends the connections that it has when they are
// idle.
func (f *front) next() {
	l := f.s.limits.Load()
	srv := &http.Server{
		BaseContext:       func(net.Listener) context.Context { return f.life },
		ConnContext:       connContext,
		Handler:           f.s.Handler(),
		ReadHeaderTimeout: min(l.HeaderTimeout, l.BodyTimeout),
		ReadTimeout:       l.BodyTimeout,
		WriteTimeout:      l.BodyTimeout + answerTime,
		IdleTimeout:       l.IdleTimeout,
		MaxHeaderBytes:    max(1, l.MaxHeaderBytes-4<<10),                             // net/http adds as much
		ErrorLog:          slog.NewLogLogger(f.s.opts.Log.Handler(), slog.LevelDebug), // faults of clients
	}
	in := &handed{addr: f.ln.Addr(), from: f.conns, done: make(chan struct{})}
	f.wg.Go(func() { _ = srv.Serve(in) }) // ends when in is closed
	for i, old := range f.servers {
		_ = f.closing[i].Close()
		old.SetKeepAlivesEnabled(false)
	}
	f.servers, f.closing = append(f.servers, srv), append(f.closing, in)
}

// connContext tells the requests of a connection what their appends wait for, and whether it is one too many.
func connContext(ctx context.Context, c net.Conn) context.Context {
	if secure, ok := c.(tlsConn); ok {
		c = secure.conn
	}
	counted, ok := c.(*conn)
	if !ok {
		return ctx
	}
	if counted.over != nil {
		ctx = context.WithValue(ctx, overKey{}, counted.over)
	}
	return context.WithValue(ctx, lifeKey{}, counted.life)
}

// drain ends all servers, by force when their time is over; end ends the appends that are left then.
func (f *front) drain(ctx context.Context, end context.CancelFunc) {
	_ = f.ln.Close()
	ctx, cancel := context.WithTimeout(ctx, f.s.opts.Drain)
	defer cancel()
	var all sync.WaitGroup
	var mu sync.Mutex // guards cut
	var cut error
	for _, srv := range f.servers {
		all.Go(func() { // ends with the time to drain
			err := srv.Shutdown(ctx)
			mu.Lock()
			defer mu.Unlock()
			cut = errors.Join(cut, err)
		})
	}
	all.Wait()
	if cut != nil {
		f.s.opts.Log.Warn("requests cut off at the end of the drain", "err", cut)
		end()
		for _, srv := range f.servers {
			_ = srv.Close()
		}
	}
	end() // accept, if it holds a connection that nobody takes
	<-f.failed
	f.wg.Wait()
}

// lifeKey is the key, in a request's context, of the life of its connection, which ends with Run's drain.
type lifeKey struct{}

// lifeOf returns the context for the append of a request.
func lifeOf(ctx context.Context) context.Context {
	if life, ok := ctx.Value(lifeKey{}).(context.Context); ok {
		return life
	}
	return context.WithoutCancel(ctx)
}
