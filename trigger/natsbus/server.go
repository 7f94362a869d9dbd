package natsbus

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/trigger"
)

// maxStrikes is how many requests in a row the embedded server may fail before it is started again with an empty directory. A server whose
// directory was wiped or damaged under it answers nothing any more, or errors only, and has nothing left that is worth keeping.
const maxStrikes = 3

// dial starts the embedded server if o asks for one, and connects.
func dial(o Options) (*link, error) {
	l := &link{}
	url, opts := o.URL, []nats.Option{
		nats.Name("millrace"), nats.MaxReconnects(-1), nats.ReconnectWait(250 * time.Millisecond), nats.ReconnectBufSize(-1),
		nats.RetryOnFailedConnect(true),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { o.Log.Warn("nats connection", "err", err) }),
	}
	if o.Creds != "" {
		opts = append(opts, nats.UserCredentials(o.Creds))
	}
	var err error
	if o.Dir != "" {
		if l.srv, err = startOrEmpty(o); err != nil {
			return nil, fmt.Errorf("start embedded nats in %q: %w", o.Dir, err)
		}
		opts = append(opts, nats.InProcessServer(l.srv))
	}
	if l.nc, err = nats.Connect(url, opts...); err != nil {
		l.close()
		return nil, fmt.Errorf("connect to nats: %w", err)
	}
	if l.js, err = jetstream.New(l.nc); err != nil {
		l.close()
		return nil, fmt.Errorf("use jetstream: %w", err)
	}
	return l, nil
}

func (l *link) close() {
	if l.nc != nil {
		l.nc.Close()
	}
	if l.srv != nil {
		l.srv.Shutdown()
		l.srv.WaitForShutdown()
	}
}

// judge counts what the embedded server did not do, and starts it again after [maxStrikes]. Subscriptions notice by themselves.
func (b *Bus) judge(l *link, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err == nil:
		b.strikes = 0
		return
	case l.srv == nil || l != b.cur || b.closed || !errors.Is(err, trigger.ErrUnavailable):
		return
	}
	if b.strikes++; b.strikes < maxStrikes {
		return
	}
	b.strikes = 0
	b.o.Log.Error("embedded nats does nothing, it is started again with an empty directory; what was in it is found by the reconciler",
		"err", err)
	l.close()
	if err := empty(b.o); err != nil {
		b.o.Log.Error("nats directory can not be emptied", "err", err)
	}
	next, err := dial(b.o)
	if err != nil {
		b.o.Log.Error("embedded nats did not start", "err", err) // the closed link stays; every publish is a strike and comes here again
		return
	}
	b.cur = next
}

// startOrEmpty starts the embedded server; if it can not, a second time without what was in the directory.
func startOrEmpty(o Options) (*server.Server, error) {
	srv, err := start(o)
	if err == nil {
		return srv, nil
	}
	o.Log.Error("embedded nats did not start, its directory is emptied; what was in it is found by the reconciler", "err", err)
	if err := empty(o); err != nil {
		return nil, fmt.Errorf("empty it: %w", err)
	}
	return start(o)
}

// empty removes what the server keeps in its directory, and nothing else that may be there.
func empty(o Options) error { return os.RemoveAll(filepath.Join(o.Dir, server.JetStreamStoreDir)) }

func start(o Options) (*server.Server, error) {
	srv, err := server.NewServer(&server.Options{
		ServerName: "millrace", DontListen: true, NoSigs: true,
		JetStream: true, StoreDir: o.Dir, SyncAlways: true, DisableJetStreamBanner: true,
		// Room for the stream, for what it writes before it discards, and for an operator's own streams.
		JetStreamMaxStore: 4*o.MaxBytes + 256<<20, JetStreamMaxMemory: 64 << 20,
		MaxPayload: 1 << 20,
	})
	if err != nil {
		return nil, fmt.Errorf("configure it: %w", err)
	}
	srv.SetLoggerV2(serverLog{o.Log}, false, false, false)
	srv.Start()
	if !srv.ReadyForConnections(10*time.Second) || !srv.JetStreamEnabled() {
		srv.Shutdown()
		srv.WaitForShutdown()
		return nil, errors.New("it is not ready after 10s")
	}
	return srv, nil
}

// serverLog passes on what the server says, one level down: nothing that goes wrong in it needs a person by itself.
type serverLog struct{ log *slog.Logger }

func (l serverLog) Noticef(format string, v ...any) {
	l.log.Debug("nats", "text", fmt.Sprintf(format, v...))
}
func (l serverLog) Warnf(format string, v ...any) {
	l.log.Info("nats", "text", fmt.Sprintf(format, v...))
}
func (l serverLog) Errorf(format string, v ...any) {
	l.log.Warn("nats", "text", fmt.Sprintf(format, v...))
}
func (l serverLog) Fatalf(format string, v ...any) {
	l.log.Error("nats", "text", fmt.Sprintf(format, v...))
}
func (l serverLog) Debugf(string, ...any) {}
func (l serverLog) Tracef(string, ...any) {}
