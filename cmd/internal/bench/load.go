package bench

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// load is one phase against one address.
type load struct {
	addr        string
	writeKey    string
	connections int
	events      int // per request
	duration    time.Duration
	// rate is requests per second over all connections, each due at a fixed time; 0 sends again at once.
	rate float64
	// next numbers the events over all phases; a number is used once.
	next *atomic.Int64
}

// phase is what a load saw.
type phase struct {
	Requests int64         `json:"requests"`
	Acked    int64         `json:"acked_events"`
	Unsure   int64         `json:"unsure_events"` // sent, no answer: may be stored
	Refused  map[int]int64 `json:"refused_requests,omitempty"`
	Elapsed  time.Duration `json:"elapsed_ns"`
	// Latencies are sorted; from when a request was due if there was a rate, else from when it was sent.
	latencies []time.Duration
}

func (p *phase) perSecond(n int64) float64 { return float64(n) / p.Elapsed.Seconds() }

// quantile returns the q-th part of the sorted latencies.
func (p *phase) quantile(q float64) time.Duration {
	if len(p.latencies) == 0 {
		return 0
	}
	return p.latencies[min(int(q*float64(len(p.latencies))), len(p.latencies)-1)]
}

// run drives the load until its duration has passed or ctx ends.
func (l *load) run(ctx context.Context) (*phase, error) {
	auth := base64.StdEncoding.EncodeToString([]byte(l.writeKey + ":"))
	total := &phase{Refused: map[int]int64{}}
	var mu sync.Mutex
	var wg sync.WaitGroup
	errs := make([]error, l.connections)
	start := time.Now()
	for i := range l.connections {
		wg.Add(1)
		go func() { // ends with the duration; waited for below
			defer wg.Done()
			p, err := l.connection(ctx, start, i, newRequest(l.addr, auth, l.events))
			errs[i] = err
			mu.Lock()
			defer mu.Unlock()
			total.add(p)
		}()
	}
	wg.Wait()
	total.Elapsed = time.Since(start)
	slices.Sort(total.latencies)
	for _, err := range errs {
		if err != nil && total.Requests == 0 {
			return nil, fmt.Errorf("load %s: %w", l.addr, err)
		}
	}
	return total, nil
}

func (p *phase) add(o *phase) {
	p.Requests += o.Requests
	p.Acked += o.Acked
	p.Unsure += o.Unsure
	for status, n := range o.Refused {
		p.Refused[status] += n
	}
	p.latencies = append(p.latencies, o.latencies...)
}

// connection is the work of one of them. With a rate, its requests are due at start + (i + k·connections)/rate.
func (l *load) connection(ctx context.Context, start time.Time, i int, req *request) (*phase, error) {
	p := &phase{Refused: map[int]int64{}, latencies: make([]time.Duration, 0, 1<<16)}
	c, err := dial(l.addr)
	if err != nil {
		return p, err
	}
	defer func() { _ = c.c.Close() }()
	for k := 0; ctx.Err() == nil; k++ {
		due := time.Now()
		if l.rate > 0 {
			due = start.Add(time.Duration(float64(i+k*l.connections) / l.rate * float64(time.Second)))
		}
		if due.Sub(start) >= l.duration {
			break
		}
		time.Sleep(time.Until(due))
		req.number(l.next.Add(int64(l.events)) - int64(l.events))
		status, err := c.roundTrip(req.raw)
		if err != nil {
			p.Unsure += int64(l.events)
			return p, err
		}
		p.latencies = append(p.latencies, time.Since(due))
		p.Requests++
		if status == 200 {
			p.Acked += int64(l.events)
		} else {
			p.Refused[status]++
		}
	}
	return p, nil
}
