package mesossim

import (
	"encoding/json"
	"net/http"

	"millrace/scheduler/mesos"
)

// stream is the answer to one SUBSCRIBE: records that wait to be written, by the handler that took the call.
type stream struct {
	c     *Cluster
	id    string
	f     *framework
	l     *leader
	queue [][]byte
	wake  chan struct{} // holds at most one
	over  bool          // nothing more comes
	hard  bool          // cut without a last chunk
	pulse *timer
}

func newStream(c *Cluster) *stream {
	_, id := newUUID()
	return &stream{c: c, id: id, wake: make(chan struct{}, 1)}
}

// send queues an event, unless a fault says otherwise.
func (s *stream) send(ev *mesos.Event) {
	if s.over {
		return
	}
	fault := Pass
	if s.c.faults.event != nil {
		fault = s.c.faults.event(*ev)
	}
	if fault == CutBefore {
		s.cut()
		return
	}
	if s.c.faults.noise {
		s.push(json.RawMessage(`{"type":"FROBNICATED","frobnicated":{"by":{"value":"nobody"}}}`))
		s.push(json.RawMessage(`{}`))
	}
	if fault != Lose {
		s.push(ev)
	}
	switch fault {
	case Double:
		s.push(ev)
	case CutAfter:
		s.cut()
	case EndAfter:
		s.end(false)
	}
}

// cut ends a stream in the middle, as a broken network does. The master notices as soon as its handler does.
func (s *stream) cut() { s.end(true) }

func (s *stream) push(v any) {
	record, err := json.Marshal(v)
	if err != nil {
		panic(err) // Plain data: this cannot fail.
	}
	if s.c.faults.noise && len(record) > 2 {
		record = append(record[:len(record)-1], `,"not_known_yet":[{}]}`...)
	}
	s.queue = append(s.queue, record)
	s.notify()
}

func (s *stream) notify() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// end ends a stream after what is queued.
func (s *stream) end(hard bool) {
	if !s.over {
		s.over, s.hard = true, hard
		s.pulse.stop()
		s.notify()
	}
}

// beat sends heartbeats, the first at once.
func (s *stream) beat() {
	s.send(&mesos.Event{Type: mesos.EventHeartbeat})
	s.pulse = s.c.after(s.c.opt.Heartbeat, s.beat)
}

// serve writes a stream until it ends or the framework is gone.
func (s *stream) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set(mesos.StreamHeader, s.id)
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush() // The next write tells.
	defer func() {
		s.c.mu.Lock()
		defer s.c.mu.Unlock()
		if s.l != nil {
			s.l.disconnected(s)
		}
	}()
	for {
		s.c.mu.Lock()
		records, over, hard, framing := s.queue, s.over, s.hard, s.c.faults.framing
		s.queue = nil
		s.c.mu.Unlock()
		for _, chunk := range framing.chunks(records) {
			if _, err := w.Write(chunk); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
		}
		if over && hard {
			panic(http.ErrAbortHandler)
		}
		if over {
			return
		}
		select {
		case <-s.wake:
		case <-r.Context().Done():
			return
		}
	}
}

// chunks lays records out in chunks of HTTP.
func (f Framing) chunks(records [][]byte) (out [][]byte) {
	for _, r := range records {
		whole := mesos.AppendRecord(nil, r)
		switch f {
		case Split:
			third := (len(whole) + 2) / 3
			out = append(out, whole[:third], whole[third:min(2*third, len(whole))], whole[min(2*third, len(whole)):])
		case Joined:
			if len(out) == 0 {
				out = append(out, nil)
			}
			out[0] = append(out[0], whole...)
		default:
			out = append(out, whole)
		}
	}
	return out
}
