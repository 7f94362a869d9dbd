package natsbus

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/batcher"
	"millrace/ingest"
	"millrace/trigger"
	"millrace/trigger/dispatch"
	"millrace/trigger/publish"
	"millrace/trigger/triggertest"
)

// plant is a chain and a ledger, with processes around them that come and go: a bus in a directory, an announcer, a dispatcher.
type plant struct {
	t      *testing.T
	dir    string
	chain  *triggertest.Chain
	ledger *triggertest.Ledger
	rules  *triggertest.Rules
	n      int

	bus  *Bus
	ann  *publish.Announcer
	stop func()
}

func newPlant(t *testing.T) *plant {
	t.Helper()
	p := &plant{t: t, dir: filepath.Join(t.TempDir(), "nats"), chain: triggertest.NewChain(), rules: triggertest.NewRules(
		trigger.Rule{DAG: "d", ID: "all", Version: "v", Kind: trigger.KindBatch},
		trigger.Rule{DAG: "d", ID: "pairs", Version: "v", Kind: trigger.KindBatch, Coalesce: &trigger.Coalesce{MaxBatches: 2}},
	)}
	p.ledger = triggertest.NewLedger(p.rules)
	t.Cleanup(func() {
		if p.stop != nil {
			p.stop()
		}
	})
	return p
}

// boot starts the processes. rest is how long a chain is left alone without a trigger: an hour where a test must prove that triggers work,
// little where it must prove that they are not needed.
func (p *plant) boot(o Options, rest time.Duration) {
	p.t.Helper()
	o.Dir = p.dir
	p.bus = open(p.t, o)
	ctx, cancel := context.WithCancel(p.t.Context())
	p.ann = publish.New(p.bus, publish.Options{Timeout: 300 * time.Millisecond, Patience: time.Second})
	d := dispatch.New(p.chain, p.ledger, p.ledger, p.rules, dispatch.Options{Bus: p.bus, PollMin: rest, PollMax: rest, List: rest})
	done := make(chan error, 2)
	go func() { done <- p.ann.Run(ctx) }()
	go func() { done <- d.Run(ctx) }()
	p.stop = func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				p.t.Errorf("run: got %v, want nil", err)
			}
		}
		_ = p.bus.Close()
		p.stop = nil
	}
	<-d.Ready()
}

// commit makes n batches whole.
func (p *plant) commit(n int) []batcher.Batch {
	var out []batcher.Batch
	for range n {
		p.n++
		s := triggertest.Stream("a")
		b := p.chain.Put(p.chain.Cut(s, time.Now(), ingest.EventLane("default", "web"))[0], time.Now())
		p.chain.Close(s, time.Now())
		out = append(out, b)
	}
	return out
}

func (p *plant) announce(list []batcher.Batch) {
	for _, b := range list {
		p.ann.Announce(p.t.Context(), b)
	}
}

// expect waits until every batch so far has its run, and looks whether any has two.
func (p *plant) expect() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	runs := func(s *triggertest.State) (n int) {
		for _, f := range s.Runs {
			if f.Rule == "all" {
				n++
			}
		}
		return n
	}
	if err := p.ledger.Wait(ctx, func(s *triggertest.State) bool { return runs(s) == p.n }); err != nil {
		p.ledger.View(func(s *triggertest.State) { p.t.Fatalf("%d of %d batches have their run: %v", runs(s), p.n, err) })
	}
	if err := p.ledger.Check(); err != nil {
		p.t.Error(err)
	}
}

const (
	often = 20 * time.Millisecond
	never = time.Hour
)

// TestJetStreamWiped is row 43 of the fault matrix: the directory is emptied with triggers in it.
func TestJetStreamWiped(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	p.boot(Options{}, never)
	p.announce(p.commit(10))
	p.expect() // by triggers alone
	p.stop()
	late := p.commit(10)
	bus := open(t, Options{Dir: p.dir}) // they are announced while nobody dispatches
	for _, b := range late {
		m, err := publish.Encode(b)
		if err == nil {
			err = bus.Publish(t.Context(), m)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	_ = bus.Close()
	if err := os.RemoveAll(p.dir); err != nil {
		t.Fatal(err)
	}
	p.boot(Options{}, often)
	p.expect()
	p.announce(p.commit(10))
	p.expect()
}

// TestJetStreamWipedUnderRunning is row 43 without a restart.
func TestJetStreamWipedUnderRunning(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	p.boot(Options{}, often)
	for round := range 5 {
		p.announce(p.commit(20))
		if round == 1 {
			for try := 0; os.RemoveAll(p.dir) != nil && try < 100; try++ { // the server may write a file in between
				continue
			}
		}
	}
	p.expect()
}

// TestLateDuplicate is row 44: what is published again after the window of ids is delivered again, and starts nothing.
func TestLateDuplicate(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	p.boot(Options{Duplicates: 100 * time.Millisecond, AckWait: ackWait}, never)
	list := p.commit(4)
	p.announce(list)
	p.expect()
	watch, err := p.bus.Subscribe(t.Context(), "watch", publish.Subjects)
	if err != nil {
		t.Fatal(err)
	}
	m, err := publish.Encode(list[0])
	if err != nil {
		t.Fatal(err)
	}
	// Publish until the window has passed: then there is a second delivery of it.
	seen := 0
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for seen < 2 {
		if err := p.bus.Publish(ctx, m); err != nil {
			t.Fatal(err)
		}
		short, done := context.WithTimeout(ctx, 50*time.Millisecond)
		if d, err := watch.Next(short); err == nil {
			if d.Message().ID == m.ID && d.Tries() == 1 {
				seen++
			}
			_ = d.Ack(ctx)
		}
		done()
		if ctx.Err() != nil {
			t.Fatal("no second delivery: the window never passed")
		}
	}
	p.announce(p.commit(2))
	p.expect()
}

// TestConsumerDeleted is row 45: the durable consumer goes while dispatch runs.
func TestConsumerDeleted(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	p.boot(Options{}, never)
	p.announce(p.commit(5))
	p.expect()
	if err := p.bus.cur.js.DeleteConsumer(t.Context(), p.bus.o.Stream, "dispatch"); err != nil {
		t.Fatal(err)
	}
	p.announce(p.commit(5))
	p.expect() // by triggers alone
}

// TestNeverExhausted is row 45: a delivery that nobody answers comes again without an end, where a bound on tries would lose it silently.
func TestNeverExhausted(t *testing.T) {
	t.Parallel()
	b := open(t, Options{Dir: t.TempDir()})
	s := subscribe(t, b)
	send(t, b, "a")
	for try := 1; try <= 50; try++ {
		d, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if d.Tries() != try {
			t.Fatalf("tries: got %d, want %d", d.Tries(), try)
		}
		if err := d.Retry(t.Context(), time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}

// TestForgedOverNATS is row 46: what anybody with access to the bus can send.
func TestForgedOverNATS(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	p.boot(Options{MaxMessage: 512 << 10}, never)
	list := p.commit(3)
	forged := list[0]
	forged.Seq, forged.ID = 99, "forged"
	m, err := publish.Encode(forged)
	if err != nil {
		t.Fatal(err)
	}
	large := m
	large.ID, large.Data = "large", make([]byte, 256<<10)
	for _, m := range []trigger.Message{m, large, {ID: "empty", Subject: m.Subject}, {ID: "json", Subject: m.Subject, Header: m.Header, Data: []byte("null")}} {
		if err := p.bus.Publish(t.Context(), m); err != nil {
			t.Fatalf("publish %q: %v", m.ID, err)
		}
	}
	p.announce(list)
	p.expect()
	// Each of them was ended for good: the consumer has nothing left to deliver.
	consumer, err := p.bus.cur.js.Consumer(t.Context(), p.bus.o.Stream, "dispatch")
	if err != nil {
		t.Fatal(err)
	}
	info := &jetstream.ConsumerInfo{NumAckPending: -1}
	for end := time.Now().Add(10 * time.Second); info.NumAckPending != 0 || info.NumPending != 0; {
		if info, err = consumer.Info(t.Context()); err != nil || time.Now().After(end) {
			t.Fatalf("consumer has %d unanswered and %d waiting (%v), want none", info.NumAckPending, info.NumPending, err)
		}
	}
}

func send(t *testing.T, b *Bus, id string) {
	t.Helper()
	if err := b.Publish(t.Context(), trigger.Message{ID: id, Subject: "millrace.batches.acme.web", Data: []byte(id)}); err != nil {
		t.Fatalf("publish %q: %v", id, err)
	}
}

// BenchmarkCommitToStart goes from the announcement of a batch, over the embedded server, to the intake that has its run.
func BenchmarkCommitToStart(b *testing.B) {
	bus, err := Open(b.Context(), Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer bus.Close()
	rules := triggertest.NewRules(trigger.Rule{DAG: "d", ID: "all", Kind: trigger.KindBatch})
	chain, ledger := triggertest.NewChain(), triggertest.NewLedger(rules)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	ann := publish.New(bus, publish.Options{})
	d := dispatch.New(chain, ledger, ledger, rules, dispatch.Options{Bus: bus})
	go ann.Run(ctx)
	go d.Run(ctx)
	<-d.Ready()
	n := 0
	for b.Loop() {
		n++
		s := triggertest.Stream(fmt.Sprint("s", n%4))
		batch := chain.Put(chain.Cut(s, time.Now(), ingest.EventLane("default", "web"))[0], time.Now())
		ann.Announce(ctx, batch)
		if err := ledger.Wait(ctx, func(s *triggertest.State) bool { return len(s.Runs) == n }); err != nil {
			b.Fatal(err)
		}
	}
}
