package expr

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"millrace/batcher"
)

// Inputs is what an expression sees of the inputs of a run as a whole.
type Inputs struct {
	// Digest is the same for runs of the same batches in the same order: a hash of their ids and checksums, in hex. Runs without a batch have one
	// digest.
	Digest string `json:"digest"`
	// Objects are those of its batches, oldest first.
	Objects []Object `json:"objects"`
}

func digest(batches []batcher.Batch) string {
	h := sha256.New()
	for i := range batches {
		_, _ = fmt.Fprintf(h, "%q %q\n", batches[i].ID, batches[i].Checksum) // a hash takes everything
	}
	return hex.EncodeToString(h.Sum(nil))
}

// spilled explains why an expression does not get an output, if that is because the output is in the object store.
func (p *Program) spilled(vars *Vars, err error) error {
	if !strings.Contains(err.Error(), "no such key: output") {
		return nil
	}
	for i := range vars.far {
		t := &vars.far[i]
		if t.OutputRef == nil && t.Task != "" {
			if slices.ContainsFunc(p.refs, func(r Ref) bool { return r.Root == "tasks" && r.Name == t.Task }) {
				return fmt.Errorf("evaluate %q: the outputs of the items of task %s have %d bytes together, which is too much for a list that "+
					"expressions see; the task itself finds it below upstream_refs; or put less out", p.src, t.Task, t.Map.Large)
			}
			continue
		}
		if slices.ContainsFunc(p.refs, func(r Ref) bool { return r.Root == "tasks" && r.Name == t.Task }) {
			return fmt.Errorf("evaluate %q: the output of task %s has %d bytes and is in the object store, where expressions do not see it; "+
				"use tasks.%s.output_ref, which has ref, sha256 and bytes, or put less out", p.src, t.Task, t.OutputRef.Bytes, t.Task)
		}
	}
	return nil
}
