//go:build linux

package localexec

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"millrace/scheduler/localexec/runner"
)

// link is one connection to a runner.
//
//	ask ─▶ write ─────▶ runner ─▶ read ─▶ answer of ask
//	                              └────▶ deliver ─▶ report ─▶ ack
type link struct {
	conn net.Conn

	mu      sync.Mutex // guards writes, and the rest
	seq     uint64
	waiting map[uint64]chan error // requests without an answer; each is sent to at most once, with room
	broken  error
}

func newLink(conn net.Conn) *link {
	return &link{conn: conn, waiting: map[uint64]chan error{}}
}

var errLost = errors.New("connection to the runner was lost")

// writeTime is how long the runner may not read before it counts as dead.
const writeTime = 10 * time.Second

func (l *link) write(m *runner.Message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.writeLocked(m)
}

func (l *link) writeLocked(m *runner.Message) error {
	if l.broken != nil {
		return l.broken
	}
	_ = l.conn.SetWriteDeadline(time.Now().Add(writeTime))
	err := runner.WriteMessage(l.conn, m)
	if err != nil {
		_ = l.conn.Close() // A part of the frame may be out: nothing can follow it.
	}
	return err
}

// ask writes the requests one after the other and then waits for the answers.
func (l *link) ask(ctx context.Context, requests []*runner.Message) error {
	answers := make([]chan error, 0, len(requests))
	for _, m := range requests {
		answer, err := l.request(m)
		if err != nil {
			return err
		}
		answers = append(answers, answer)
	}
	var errs []error
	for _, answer := range answers {
		select {
		case err := <-answer:
			errs = append(errs, err)
		case <-ctx.Done():
			return ctx.Err() // read drops the late answers into channels that nobody has.
		}
	}
	return errors.Join(errs...)
}

func (l *link) request(m *runner.Message) (chan error, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	m.Seq = l.seq
	answer := make(chan error, 1)
	l.waiting[m.Seq] = answer
	if err := l.writeLocked(m); err != nil {
		delete(l.waiting, m.Seq)
		return nil, err
	}
	return answer, nil
}

// serve reads until the connection breaks or ctx ends, and joins all that it has started. deliver gets one batch of reports after the other.
func (l *link) serve(ctx context.Context, deliver func(context.Context, *runner.Message) error, active func(int)) error {
	inner, cancel := context.WithCancel(ctx)
	batches := make(chan *runner.Message, 1) // The runner sends the next one after our answer.
	var wg sync.WaitGroup
	wg.Go(func() {
		l.deliver(inner, batches, deliver)
		if ctx.Err() != nil {
			_ = l.write(&runner.Message{Kind: runner.KindBye})
		}
		_ = l.conn.Close() // Ends read.
	})
	err := l.read(inner, batches, active)
	cancel()
	wg.Wait()
	l.fail(err)
	return err
}

func (l *link) read(ctx context.Context, batches chan<- *runner.Message, active func(int)) error {
	in := bufio.NewReader(l.conn)
	for {
		m, err := runner.ReadMessage(in)
		if err != nil {
			return fmt.Errorf("%w: %w", errLost, err)
		}
		active(m.Active)
		switch m.Kind {
		case runner.KindDone:
			l.answer(m)
		case runner.KindReports:
			select {
			case batches <- m:
			case <-ctx.Done():
			}
		case runner.KindReplaced:
			return ErrReplaced
		}
	}
}

func (l *link) answer(m *runner.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	answer := l.waiting[m.Seq]
	if answer == nil {
		return
	}
	delete(l.waiting, m.Seq)
	var err error
	if m.Error != "" {
		err = errors.New(m.Error)
	}
	answer <- err
}

// fail answers all that still wait: whether the runner has their requests is not known.
func (l *link) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = err
	for seq, answer := range l.waiting {
		delete(l.waiting, seq)
		answer <- err
	}
}

// deliver hands batches over and says whether they were taken. One that was not comes again, with what has happened since. When ctx ends, it
// finishes what it is at: a batch that was taken is acknowledged.
func (l *link) deliver(ctx context.Context, batches <-chan *runner.Message, take func(context.Context, *runner.Message) error) {
	failures := 0
	for ctx.Err() == nil {
		select {
		case m := <-batches:
			answer := &runner.Message{Kind: runner.KindAck, Seq: m.Seq}
			if take(ctx, m) == nil {
				failures = 0
			} else {
				answer.Kind = runner.KindNack
				failures++
				pause(ctx, failures)
			}
			if l.write(answer) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}
