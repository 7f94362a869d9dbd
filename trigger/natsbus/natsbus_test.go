package natsbus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"millrace/trigger"
	"millrace/trigger/triggertest"
)

const ackWait = 600 * time.Millisecond

func open(t *testing.T, o Options) *Bus {
	t.Helper()
	b, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// external starts a server that listens on a free port of the loopback interface, as an operator's would elsewhere.
func external(t *testing.T) *server.Server {
	t.Helper()
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(10 * time.Second) {
		t.Fatal("external server is not ready")
	}
	return srv
}

func TestConformanceEmbedded(t *testing.T) {
	t.Parallel()
	triggertest.Bus(t, func(t *testing.T) triggertest.BusUnderTest {
		return triggertest.BusUnderTest{Bus: open(t, Options{Dir: t.TempDir(), AckWait: ackWait}), AckWait: ackWait, MaxMessage: 256 << 10}
	})
}

func TestConformanceExternal(t *testing.T) {
	t.Parallel()
	triggertest.Bus(t, func(t *testing.T) triggertest.BusUnderTest {
		b := open(t, Options{URL: external(t).ClientURL(), AckWait: ackWait})
		return triggertest.BusUnderTest{Bus: b, AckWait: ackWait, MaxMessage: 256 << 10}
	})
}

func subscribe(t *testing.T, b *Bus) trigger.Subscription {
	t.Helper()
	for try := 0; ; try++ {
		s, err := b.Subscribe(t.Context(), "dispatch", "millrace.batches.>")
		switch {
		case err == nil:
			return s
		case !errors.Is(err, trigger.ErrUnavailable) || try == maxStrikes:
			t.Fatal(err)
		}
	}
}

// expect waits for the delivery of id and acknowledges all on the way: what is repeated after a loss of acks is no fault.
func expect(t *testing.T, s trigger.Subscription, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		d, err := s.Next(ctx)
		switch {
		case ctx.Err() != nil:
			t.Fatalf("no delivery of %q", id)
		case err != nil:
			continue
		}
		_ = d.Ack(ctx)
		if d.Message().ID == id {
			return
		}
	}
}

func TestReopenKeeps(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := open(t, Options{Dir: dir, AckWait: ackWait})
	s := subscribe(t, b)
	send(t, b, "a")
	send(t, b, "b")
	expect(t, s, "a")
	_ = b.Close()
	expect(t, subscribe(t, open(t, Options{Dir: dir, AckWait: ackWait})), "b")
}

func TestComesBackAfterLoss(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		lose func(t *testing.T, b *Bus)
	}{
		{"consumer deleted", func(t *testing.T, b *Bus) {
			if err := b.cur.js.DeleteConsumer(t.Context(), b.o.Stream, "dispatch"); err != nil {
				t.Fatal(err)
			}
		}},
		{"stream deleted", func(t *testing.T, b *Bus) {
			if err := b.cur.js.DeleteStream(t.Context(), b.o.Stream); err != nil {
				t.Fatal(err)
			}
		}},
		{"stream purged", func(t *testing.T, b *Bus) {
			stream, err := b.cur.js.Stream(t.Context(), b.o.Stream)
			if err == nil {
				err = stream.Purge(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := open(t, Options{Dir: t.TempDir()})
			s := subscribe(t, b)
			send(t, b, "before")
			expect(t, s, "before")
			test.lose(t, b)
			send(t, b, "after")
			expect(t, s, "after")
		})
	}
}

// TestWipedWhileRunning empties the directory under the running server and then publishes more than the open block files hold, at which
// point the server stops answering for good.
func TestWipedWhileRunning(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "nats")
	b := open(t, Options{Dir: dir})
	s := subscribe(t, b)
	send(t, b, "before")
	expect(t, s, "before")
	for try := 0; os.RemoveAll(dir) != nil; try++ { // the server may write a file in between
		if try == 100 {
			t.Fatal("directory can not be removed")
		}
	}
	failed := 0
	for i := range 400 {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		err := b.Publish(ctx, trigger.Message{ID: fmt.Sprint("m", i), Subject: "millrace.batches.acme.web", Data: make([]byte, 60<<10)})
		cancel()
		if err != nil {
			failed++
			if !errors.Is(err, trigger.ErrUnavailable) {
				t.Fatalf("got %v, want %v", err, trigger.ErrUnavailable)
			}
		}
	}
	if failed == 0 {
		t.Error("no publish failed: the test does not reach what it is for")
	}
	// A server that is not replaced fails all that come after the block is full, more than 200; some may fail because the machine is slow.
	if failed > 100 {
		t.Errorf("%d publishes failed, want the server back after %d", failed, maxStrikes)
	}
	send(t, b, "after")
	expect(t, s, "after")
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("directory: %v, want it to be there again", err)
	}
}

func TestOpensOverDamage(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		damage func(path string, size int64) error
	}{
		{"every file flipped", func(path string, size int64) error {
			body, err := os.ReadFile(path)
			for i := range body {
				body[i] ^= 0x55
			}
			return errors.Join(err, os.WriteFile(path, body, 0o600))
		}},
		{"every file cut", func(path string, size int64) error { return os.Truncate(path, size/2) }},
		{"every file gone", func(path string, _ int64) error { return os.Remove(path) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			b := open(t, Options{Dir: dir})
			s := subscribe(t, b)
			for i := range 20 {
				send(t, b, fmt.Sprint("before", i))
			}
			expect(t, s, "before3")
			_ = b.Close()
			files := 0
			err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
				if err != nil || info.IsDir() {
					return err
				}
				files++
				return test.damage(path, info.Size())
			})
			if err != nil || files == 0 {
				t.Fatalf("damage %d files: %v", files, err)
			}
			b = open(t, Options{Dir: dir})
			s = subscribe(t, b)
			send(t, b, "after")
			expect(t, s, "after")
		})
	}
}

func TestEmptyTakesOnlyItsOwn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"jetstream", "wal"} {
		if err := os.MkdirAll(filepath.Join(dir, name, "x"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := empty(Options{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || left[0].Name() != "wal" {
		t.Errorf("left: %v (%v), want only what is not JetStream's", left, err)
	}
}

func TestNeverBlocksNorGrows(t *testing.T) {
	t.Parallel()
	b := open(t, Options{Dir: t.TempDir(), MaxBytes: 1 << 20})
	for i := range 100 {
		if err := b.Publish(t.Context(), trigger.Message{ID: fmt.Sprint(i), Subject: "millrace.batches.acme.web", Data: make([]byte, 50<<10)}); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := b.cur.js.Stream(t.Context(), b.o.Stream)
	if err != nil {
		t.Fatal(err)
	}
	if got := stream.CachedInfo().State.Bytes; got > 1<<20 {
		t.Errorf("stream holds %d bytes, want at most %d", got, 1<<20)
	}
}

func TestExternalAway(t *testing.T) {
	t.Parallel()
	srv := external(t)
	url, port := srv.ClientURL(), srv.Addr().String()
	srv.Shutdown()
	srv.WaitForShutdown()
	b := open(t, Options{URL: url})
	if err := b.Publish(t.Context(), trigger.Message{ID: "a", Subject: "millrace.batches.acme.web"}); !errors.Is(err, trigger.ErrUnavailable) {
		t.Errorf("publish to %s: got %v, want %v", port, err, trigger.ErrUnavailable)
	}
	if _, err := b.Subscribe(t.Context(), "dispatch", "millrace.batches.>"); !errors.Is(err, trigger.ErrUnavailable) {
		t.Errorf("subscribe: got %v, want %v", err, trigger.ErrUnavailable)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{
		"neither":                {},
		"both":                   {Dir: "d", URL: "u"},
		"credentials, no url":    {Dir: "d", Creds: "c"},
		"a bad name of a stream": {Dir: "d", Stream: "a.b"},
	} {
		if _, err := Open(t.Context(), o); err == nil {
			t.Errorf("%s: got nil, want an error", name)
		}
	}
}

func BenchmarkPublishToDelivery(b *testing.B) {
	bus, err := Open(b.Context(), Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer bus.Close()
	s, err := bus.Subscribe(b.Context(), "dispatch", "millrace.batches.>")
	if err != nil {
		b.Fatal(err)
	}
	data := make([]byte, 900)
	for i := 0; b.Loop(); i++ {
		if err := bus.Publish(b.Context(), trigger.Message{ID: fmt.Sprint(i), Subject: "millrace.batches.acme.web", Data: data}); err != nil {
			b.Fatal(err)
		}
		d, err := s.Next(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		_ = d.Ack(b.Context())
	}
}
