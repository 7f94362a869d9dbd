package chain

import (
	"context"
	"sync"

	"millrace/batcher"
	"millrace/ingest"
)

// relist is how many incarnations that are known already one call of Streams looks into again. Every restart of a WAL leaves one behind, so
// listing them all each time would cost more with every year; a topic has one, and its new partitions are seen at once.
const relist = 16

// knownStreams remembers which streams were seen below which incarnation.
type knownStreams struct {
	mu      sync.Mutex // guards all below
	streams map[string][]ingest.Stream
	order   []string // prefixes of incarnations, in the order of their discovery
	turn    int
}

// Streams implements [batcher.Catalogue]. A stream whose incarnation was not there at the last call is in the result; a further partition of
// one that was may come some calls later, if the store has more than 16 incarnations.
func (r *Reader) Streams(ctx context.Context) ([]ingest.Stream, error) {
	logs, err := r.dirs(ctx, batcher.PrefixChain)
	if err != nil {
		return nil, err
	}
	k := &r.known
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.streams == nil {
		k.streams = make(map[string][]ingest.Stream)
	}
	again := len(k.order)
	for _, log := range logs {
		incarnations, err := r.dirs(ctx, batcher.PrefixChain+log+"/")
		if err != nil {
			return nil, err
		}
		for _, inc := range incarnations {
			prefix := batcher.PrefixChain + log + "/" + inc + "/"
			if _, ok := k.streams[prefix]; ok {
				continue
			}
			if err := r.look(ctx, prefix); err != nil {
				return nil, err
			}
			k.order = append(k.order, prefix)
		}
	}
	for range min(again, relist) {
		k.turn = (k.turn + 1) % again
		if err := r.look(ctx, k.order[k.turn]); err != nil {
			return nil, err
		}
	}
	var all []ingest.Stream
	for _, prefix := range k.order {
		all = append(all, k.streams[prefix]...)
	}
	return all, nil
}

// look lists the partitions of one incarnation.
func (r *Reader) look(ctx context.Context, prefix string) error {
	partitions, err := r.dirs(ctx, prefix)
	if err != nil {
		return err
	}
	streams := make([]ingest.Stream, 0, len(partitions))
	for _, p := range partitions {
		s, err := ingest.ParseStream(prefix[len(batcher.PrefixChain):] + p)
		if err != nil {
			continue // not a chain, so not ours
		}
		streams = append(streams, s)
	}
	r.known.streams[prefix] = streams
	return nil
}
