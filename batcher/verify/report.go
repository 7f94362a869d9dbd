package verify

import (
	"millrace/ingest"
)

// Kind says what is wrong.
type Kind string

// The kinds of problems. Each makes a report not OK.
const (
	// Missing: the chain says that the object exists, and it does not.
	Missing Kind = "missing"
	// Overwritten: there is an object, and it is not the one that the chain decided.
	Overwritten Kind = "overwritten"
	// Damaged: the object's bytes are not those that were put, or rows of it do not read.
	Damaged Kind = "damaged"
	// Lost: rows are not in the object that should have them, or acknowledged records are nowhere.
	Lost Kind = "lost"
	// Doubled: rows are there twice.
	Doubled Kind = "doubled"
	// Stray: rows are in an object whose cut does not have them.
	Stray Kind = "stray"
	// Void: a batch that could not become an object; its raw records are in quarantine as far as they existed.
	Void Kind = "void"
	// Accepted: records that the log had lost before any cut, and that an operator accepted as lost.
	Accepted Kind = "accepted_loss"
	// Sidecar: the id sidecar of a batch is missing or says something else than its object.
	Sidecar Kind = "sidecar"
	// Orphan: an object that no cut names.
	Orphan Kind = "orphan"
	// BeyondLog: records that the chain has claimed for an object which does not exist, and that lie beyond the end of a closed incarnation of
	// the log at hand. Nobody who has only this log can make the object: the log is an older copy, or its disk acknowledged what it did not
	// store.
	BeyondLog Kind = "beyond_log"
	// Chain: entries that are missing, or that contradict each other.
	Chain Kind = "chain"
)

// Report is the result of [Run].
type Report struct {
	// OK says that there is no problem.
	OK      bool  `json:"ok"`
	Streams int64 `json:"streams"`
	Entries int64 `json:"entries"`
	// Batches have an object; Rows and Bytes (as stored) are what was found in the objects.
	Batches int64 `json:"batches"`
	Rows    int64 `json:"rows"`
	Bytes   int64 `json:"bytes"`
	// InFlight counts what workers are at: batches after done whose object does not exist yet. It is no problem.
	InFlight Count `json:"in_flight"`
	// Log is the comparison with the log; nil if none was given.
	Log *LogReport `json:"log,omitempty"`
	// Totals counts problems, and the rows that each concerns, by kind.
	Totals map[Kind]Count `json:"totals,omitempty"`
	// Problems are the first of each kind, at most Options.MaxProblems; Totals counts all.
	Problems []Problem `json:"problems,omitempty"`
}

// Count is a number of things and of the rows that they concern.
type Count struct {
	Items int64 `json:"items"`
	Rows  int64 `json:"rows"`
}

// LogReport counts the records that the log still held, by what became of them. The fields add up to Records.
type LogReport struct {
	Records   int64 `json:"records"`
	InObjects int64 `json:"in_objects"`
	// Duplicates repeat an earlier record, and are named in the chain.
	Duplicates int64 `json:"duplicates"`
	// InFlight are cut, and their object does not exist yet; NotCut are in no entry yet.
	InFlight int64 `json:"in_flight"`
	NotCut   int64 `json:"not_cut"`
	// Set aside: named void or lost by the chain, or in an object that is missing, damaged or overwritten, which is a problem of its own.
	SetAside int64 `json:"set_aside"`
	// Lost are nowhere.
	Lost int64 `json:"lost"`
}

// Problem is one thing that is wrong, and where.
type Problem struct {
	Kind   Kind          `json:"kind"`
	Stream ingest.Stream `json:"stream,omitzero"`
	Seq    int64         `json:"seq,omitempty"`
	Batch  string        `json:"batch,omitempty"`
	Key    string        `json:"key,omitempty"`
	// First and Last bound the offsets concerned, where they are known.
	First int64 `json:"first"`
	Last  int64 `json:"last"`
	// Rows is how many rows are concerned, 0 if that is not known.
	Rows int64 `json:"rows,omitempty"`
	// What says it to people.
	What string `json:"what"`
}

// add counts a problem, and keeps it if there are few of its kind.
func (r *Report) add(p Problem, keep int) {
	if r.Totals == nil {
		r.Totals = make(map[Kind]Count)
	}
	c := r.Totals[p.Kind]
	c.Items++
	c.Rows += p.Rows
	r.Totals[p.Kind] = c
	if c.Items <= int64(keep) {
		r.Problems = append(r.Problems, p)
	}
}
