package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"millrace/batcher"
	"millrace/batcher/chain"
	"millrace/batcher/dedupe"
	"millrace/batcher/encode"
	"millrace/ingest"
)

// uploader makes one cut's object exist. It shares nothing with the loop and may run beside it.
type uploader struct {
	p      *partition
	w      *Worker
	stream ingest.Stream
	rng    *rand.Rand
}

func (c *cutter) uploader() *uploader {
	return &uploader{p: c.p, w: c.w, stream: c.inc.Stream, rng: c.w.random()}
}

// commit is step 5 for cut number i of e, whose records are in r: sidecar, then object, each if absent, then the announcement. What the store
// has after that decides; its facts are returned. A crash before the object leaves a cut that step 2 finishes, perhaps with the sidecar there
// already; one after it leaves an object that step 2 finds.
func (u *uploader) commit(ctx context.Context, e *batcher.Entry, i int, r *rows) (batcher.Facts, error) {
	u.w.step(StepPutIDs)
	cut := &e.Cuts[i]
	began := time.Now()
	if u.w.mut.eagerAnnounce {
		u.tell(ctx, e, i, batcher.Facts{Batch: cut.Batch, Rows: cut.Count})
	}
	body, facts, ids, err := u.encode(cut, r)
	if err == nil && !u.w.mut.sidecarLate {
		err = u.put(ctx, "put ids", batcher.IDsKey(cut.Batch), ids, nil)
	}
	if err == nil {
		u.w.step(StepPutObject)
		err = u.put(ctx, "put object", cut.Object, body, encode.MetaOf(facts))
	}
	if err == nil && u.w.mut.sidecarLate {
		err = u.put(ctx, "put ids", batcher.IDsKey(cut.Batch), ids, nil)
	}
	if refused(err) {
		return u.void(ctx, e, i, r, err.Error())
	}
	if err != nil {
		return facts, fmt.Errorf("commit batch %s: %w", cut.Batch, err)
	}
	u.w.step(StepObjectPut)
	facts, err = u.facts(ctx, cut, body)
	if err != nil {
		return facts, err
	}
	if facts.Void != "" {
		return facts, u.quarantine(ctx, cut, r)
	}
	u.w.metrics.committed(cut, &facts, time.Since(began))
	u.tell(ctx, e, i, facts)
	return facts, nil
}

// refused reports whether err says that the encoder or the store will never take the batch.
func refused(err error) bool {
	return errors.Is(err, batcher.ErrRefused) || errors.Is(err, errEncoder)
}

// errEncoder: the encoder cannot make an object of these records.
var errEncoder = errors.New("records cannot be encoded")

// encode makes the object and the sidecar of a cut from its records. It is a function of cut and records alone, never of configuration.
func (u *uploader) encode(cut *batcher.Cut, r *rows) (body []byte, f batcher.Facts, ids []byte, err error) {
	o, err := u.w.newObject(cut.Codec, u.stream)
	if err != nil {
		return nil, f, nil, fmt.Errorf("encode batch %s: %w", cut.Batch, err)
	}
	var dec ingest.Decoder
	list := make([]dedupe.ID, 0, cut.Count)
	kept := keeper(cut.Dups)
	err = r.each(func(m *rowMeta, stored []byte) error {
		if !kept(m.offset) {
			return nil
		}
		rec, err := dec.Decode(stored)
		if err != nil {
			return fmt.Errorf("record %d: %w: %w", m.offset, errEncoder, err)
		}
		o.Add(m.offset, &rec)
		list = append(list, dedupe.ID{Hash: m.id, Received: time.UnixMicro(m.at).UTC(), Offset: m.offset})
		return nil
	})
	body, f = o.Close()
	f.Batch, f.Records = cut.Batch, cut.Records
	return body, f, dedupe.MarshalIDs(list), err
}

// put puts an object if it is absent. Afterwards there is one, this or another. An unknown outcome is resolved by asking.
func (u *uploader) put(ctx context.Context, what, key string, body []byte, meta map[string]string) error {
	return u.p.retry(ctx, u.rng, what, func() error {
		err := u.w.store.PutIfAbsent(ctx, key, body, meta)
		if err == nil || errors.Is(err, batcher.ErrExists) {
			return nil
		}
		if again(err) {
			if _, statErr := u.w.store.Stat(ctx, key); statErr == nil {
				return nil
			}
		}
		return err
	})
}

// facts asks the store for the object of a cut, which exists, and checks that it is this cut's: same batch, count and records digest. Bytes
// are not compared, since a newer compressor makes others of the same rows.
func (u *uploader) facts(ctx context.Context, cut *batcher.Cut, body []byte) (f batcher.Facts, err error) {
	err = u.p.retry(ctx, u.rng, "stat", func() error {
		f, _, err = u.w.chains.Facts(ctx, *cut)
		return err
	})
	if err != nil {
		return f, err
	}
	if u.w.mut.compareBytes && body != nil {
		if there, _, err := u.w.store.Get(ctx, cut.Object); err == nil && !bytes.Equal(there, body) {
			return f, fmt.Errorf("object %q: %w", cut.Object, chain.ErrForeign)
		}
	}
	return f, chain.Check(cut, &f)
}

// tell is step 3. News of a batch may come more than once, and a void batch is none.
func (u *uploader) tell(ctx context.Context, e *batcher.Entry, i int, f batcher.Facts) {
	u.w.step(StepAnnounce)
	u.w.announce.Announce(ctx, batcher.BatchOf(e, i, f, u.w.store.URI(e.Cuts[i].Object)))
}

// void gives a batch up, after the encoder or the store refused it for good, or with the loss accepted: its raw records, those that exist, go
// to quarantine, then an object without rows is put at its key, if that is free. Whichever object is there then decides. A crash in between
// leaves a cut without an object, which comes here again.
func (u *uploader) void(ctx context.Context, e *batcher.Entry, i int, r *rows, reason string) (batcher.Facts, error) {
	cut := &e.Cuts[i]
	if err := u.quarantine(ctx, cut, r); err != nil {
		return batcher.Facts{}, err
	}
	body, f, err := encode.Void(cut.Codec, cut.Batch, reason)
	if err != nil {
		return f, fmt.Errorf("void batch %s: %w", cut.Batch, err)
	}
	f.Records = cut.Records
	if err := u.put(ctx, "put void", cut.Object, body, encode.MetaOf(f)); err != nil {
		return f, fmt.Errorf("void batch %s: %w", cut.Batch, err)
	}
	f, err = u.facts(ctx, cut, nil)
	if err != nil {
		return f, err
	}
	if f.Void == "" { // somebody could make it after all
		u.tell(ctx, e, i, f)
		return f, nil
	}
	u.w.metrics.voided(cut)
	u.w.opts.Log.Error("batch is void", "batch", cut.Batch, "stream", u.stream, "reason", f.Void)
	return f, nil
}

// quarantine keeps the raw records of a void batch that are at hand, one object each, by offset. Several holders of parts of it add theirs.
func (u *uploader) quarantine(ctx context.Context, cut *batcher.Cut, r *rows) error {
	kept := keeper(cut.Dups)
	return r.each(func(m *rowMeta, stored []byte) error {
		if !kept(m.offset) {
			return nil
		}
		if err := u.put(ctx, "put raw", batcher.RawKey(cut.Batch, m.offset), stored, nil); err != nil {
			return fmt.Errorf("keep record %d of void batch %s: %w", m.offset, cut.Batch, err)
		}
		return nil
	})
}
