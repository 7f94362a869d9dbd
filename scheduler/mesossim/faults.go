package mesossim

import (
	"net/http"

	"millrace/scheduler/mesos"
)

// Fault is what becomes of an event that a master is about to send.
type Fault int

// The faults of events.
const (
	Pass      Fault = iota // it is sent
	Lose                   // it is not
	Double                 // it is sent twice
	CutBefore              // the stream is cut instead, without a last chunk
	CutAfter               // it is sent, and the stream cut
	EndAfter               // it is sent, and the stream ended as it should be
)

// Framing is how records lie in chunks of HTTP. All are legal; real masters were seen to use the first only.
type Framing int

// The framings.
const (
	OneChunk Framing = iota // each record is one chunk
	Split                   // each record is three chunks
	Joined                  // all records that wait are one chunk
)

// CallFault is what becomes of a call before the master looks at it. The zero value is nothing.
type CallFault struct {
	Status int    // answered so, with Body, and not done
	Body   string // without Status nothing
	Lose   bool   // answered 202, and not done
	Cut    bool   // done, but the connection is closed without an answer; with Lose it is not done either
}

type faults struct {
	event   func(mesos.Event) Fault
	call    func(mesos.Call) CallFault
	framing Framing
	noise   bool
	wipe    bool
}

// OnEvent lets fn decide what becomes of each event of each stream; nil ends that. fn must not call the cluster, and must not block.
func (c *Cluster) OnEvent(fn func(mesos.Event) Fault) { c.fault(func(f *faults) { f.event = fn }) }

// OnCall lets fn decide what becomes of each call that is well-formed; nil ends that. fn may block, which makes an answer slow, and may call the cluster.
func (c *Cluster) OnCall(fn func(mesos.Call) CallFault) { c.fault(func(f *faults) { f.call = fn }) }

// Frame says how records lie in chunks from now on.
func (c *Cluster) Frame(framing Framing) { c.fault(func(f *faults) { f.framing = framing }) }

// Noise makes streams carry what a client has never heard of: events of an unknown type and without one, and unknown fields in all others.
func (c *Cluster) Noise(on bool) { c.fault(func(f *faults) { f.noise = on }) }

// WipeSandboxes makes agents delete a sandbox as soon as the last update of its task is acknowledged.
func (c *Cluster) WipeSandboxes(on bool) { c.fault(func(f *faults) { f.wipe = on }) }

func (c *Cluster) fault(set func(*faults)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	set(&c.faults)
}

// CutStreams cuts the streams of all frameworks, without a last chunk.
func (c *Cluster) CutStreams() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lead == nil {
		return
	}
	for _, f := range c.lead.order {
		if f.stream != nil {
			f.stream.cut()
		}
	}
}

// RescindOffers takes all offers back.
func (c *Cluster) RescindOffers() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lead == nil {
		return
	}
	for _, m := range c.lead.ranks {
		c.lead.rescindAll(m)
	}
}

// early answers a call as a fault says; done reports that nothing else is to be done, cut that the connection is to be closed when all is.
func (c *Cluster) early(w http.ResponseWriter, call *mesos.Call) (done, cut bool) {
	c.mu.Lock()
	fn := c.faults.call
	c.mu.Unlock()
	if fn == nil {
		return false, false
	}
	switch f := fn(*call); {
	case f.Cut && f.Lose:
		panic(http.ErrAbortHandler)
	case f.Lose:
		accepted(w)
		return true, false
	case f.Status != 0:
		refuse(w, f.Status, f.Body)
		return true, false
	default:
		return false, f.Cut
	}
}
