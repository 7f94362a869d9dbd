//go:build linux

package chaintest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/rpc"
	"os"
	"strings"
	"testing"
	"time"

	"millrace/batcher"
	"millrace/batcher/seal"
	"millrace/ingest"
)

// Ask is one call of a batcher process to the test, Answer what it returns. The fields in use depend on Op.
type Ask struct {
	Life   int
	Op     string
	Stream ingest.Stream
	Offset int64
	Max    int
	Hint   ingest.ChainHint
	// Step is of op "step", Batch and Key are of op "announce".
	Step       seal.Step
	Batch, Key string
}

// Answer is what the test says.
type Answer struct {
	Incarnations []ingest.Incarnation
	Records      []ingest.Stored
	Low, Next    int64
	Hint         ingest.ChainHint
	Ready        bool
}

// Lender lends a partition of the test's process to batchers, and hears of their steps.
type Lender struct {
	part   ingest.Partition
	driver *driver
}

// lookAgain bounds a wait at the lender, so that it ends even if the borrower has gone.
const lookAgain = 500 * time.Millisecond

// Do answers one call; it is called by net/rpc.
func (l *Lender) Do(ask Ask, a *Answer) (err error) {
	ctx := context.Background()
	switch ask.Op {
	case "incarnations":
		a.Incarnations = l.part.Incarnations()
	case "bounds":
		a.Low, a.Next, err = l.part.Bounds(ctx)
	case "read":
		a.Records, a.Next, err = l.part.Read(ctx, ask.Offset, ask.Max, nil)
	case "wait":
		ctx, cancel := context.WithTimeout(ctx, lookAgain)
		defer cancel()
		err = l.part.Wait(ctx, ask.Offset)
		a.Ready = err == nil
		if errors.Is(err, context.DeadlineExceeded) {
			err = nil
		}
	case "trim":
		err = l.part.Trim(ctx, ask.Stream, ask.Offset)
	case "hint":
		a.Hint, err = l.part.Hint(ctx, ask.Stream)
	case "save hint":
		err = l.part.SaveHint(ctx, ask.Stream, ask.Hint)
	case "step":
		l.driver.step(ask.Life, ask.Step)
	case "announce":
		l.driver.announce(ask.Batch, ask.Key)
	default:
		err = fmt.Errorf("op %q is not known", ask.Op)
	}
	return err
}

// lend serves l on a loopback port until the test ends.
func (l *Lender) lend(t *testing.T) (addr string) {
	t.Helper()
	srv := rpc.NewServer()
	if err := srv.RegisterName("Log", l); err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lis.Close() })
	go func() { // ends with the listener
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			go srv.ServeConn(conn) // ends with the batcher's process
		}
	}()
	return lis.Addr().String()
}

// borrowed is the log as a batcher process has it. It implements [ingest.Partition], and [batcher.Announcer] to the test.
type borrowed struct {
	conn *rpc.Client
	life int
}

var _ ingest.Partition = (*borrowed)(nil)

func borrow(addr string, life int) (*borrowed, error) {
	conn, err := rpc.Dial("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("borrow the log: %w", err)
	}
	return &borrowed{conn, life}, nil
}

// sentinels survive the way over the connection.
var sentinels = []error{ingest.ErrTrimmed, ingest.ErrCorrupt, ingest.ErrUnavailable, ingest.ErrClosed, ingest.ErrFailed}

func (b *borrowed) do(ctx context.Context, ask Ask) (Answer, error) {
	ask.Life = b.life
	var a Answer
	call := b.conn.Go("Log.Do", ask, &a, make(chan *rpc.Call, 1))
	select {
	case <-call.Done:
	case <-ctx.Done():
		return Answer{}, ctx.Err()
	}
	var said rpc.ServerError
	switch {
	case call.Error == nil:
		return a, nil
	case !errors.As(call.Error, &said):
		fmt.Fprintln(os.Stderr, "the test has gone:", call.Error)
		os.Exit(3)
	}
	for _, s := range sentinels {
		if strings.Contains(string(said), s.Error()) {
			return a, fmt.Errorf("%s: %w", said, s)
		}
	}
	return a, said
}

func (b *borrowed) ID() int { return 0 }

func (b *borrowed) Incarnations() []ingest.Incarnation {
	a, err := b.do(context.Background(), Ask{Op: "incarnations"})
	if err != nil {
		panic(err) // there is no way that it could fail
	}
	return a.Incarnations
}

func (b *borrowed) Bounds(ctx context.Context) (low, next int64, err error) {
	a, err := b.do(ctx, Ask{Op: "bounds"})
	return a.Low, a.Next, err
}

func (b *borrowed) Read(ctx context.Context, from int64, maxBytes int, buf []ingest.Stored) ([]ingest.Stored, int64, error) {
	a, err := b.do(ctx, Ask{Op: "read", Offset: from, Max: maxBytes})
	if err != nil {
		return buf[:0], from, err
	}
	return append(buf[:0], a.Records...), a.Next, nil
}

func (b *borrowed) Wait(ctx context.Context, from int64) error {
	for {
		a, err := b.do(ctx, Ask{Op: "wait", Offset: from})
		if err != nil || a.Ready {
			return err
		}
	}
}

func (b *borrowed) Trim(ctx context.Context, s ingest.Stream, low int64) error {
	_, err := b.do(ctx, Ask{Op: "trim", Stream: s, Offset: low})
	return err
}

func (b *borrowed) Hint(ctx context.Context, s ingest.Stream) (ingest.ChainHint, error) {
	a, err := b.do(ctx, Ask{Op: "hint", Stream: s})
	return a.Hint, err
}

func (b *borrowed) SaveHint(ctx context.Context, s ingest.Stream, hint ingest.ChainHint) error {
	_, err := b.do(ctx, Ask{Op: "save hint", Stream: s, Hint: hint})
	return err
}

// step tells the test, which may never answer.
func (b *borrowed) step(s seal.Step) {
	if _, err := b.do(context.Background(), Ask{Op: "step", Step: s}); err != nil {
		panic(err)
	}
}

// Announce implements [batcher.Announcer].
func (b *borrowed) Announce(ctx context.Context, batch batcher.Batch) {
	_, _ = b.do(ctx, Ask{Op: "announce", Batch: batch.ID, Key: batch.Key}) // news may get lost
}
