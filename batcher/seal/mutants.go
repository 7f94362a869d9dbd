package seal

import (
	"millrace/batcher"
	"millrace/ingest"
)

// mutants are plausible misreadings of the protocol, each of which the simulation must catch. All are off except in tests.
type mutants struct {
	laneOf           func(*ingest.Record) ingest.Lane // the lane is computed from this worker's configuration
	dropUnseenNext   bool                             // next is not carried over for lanes that this worker did not see
	lowOwnView       bool                             // low is what this worker sees, even if the chain is further
	noDuplicateCut   bool                             // a lane with only duplicates is not cut
	batchIDByLane    bool                             // the batch id is made of (S, seq, lane)
	compareBytes     bool                             // an object that exists is compared by its bytes
	encodeFirst      bool                             // an unfinished entry is encoded again before the store is asked
	sidecarLate      bool                             // the sidecar is put after its object
	foldFromLow      bool                             // the index is made of sidecars and of the log from the tail's low
	oneTimePerKey    bool                             // the index keeps one receive time for each key
	noCountCheck     bool                             // what is encoded again is put without a look at count and digest
	alwaysClose      bool                             // an entry without cuts is written whenever done can rise
	voidShort        bool                             // a holder of a prefix voids what it cannot encode, unasked
	trimToTail       bool                             // the log is trimmed to the tail's low, done or not
	noPredecessor    bool                             // the index forgets the incarnations before
	ignoreWindow     bool                             // any number of entries may be unfinished
	keepLost         bool                             // ids that were kept for an entry that lost the race stay in the index
	eagerAnnounce    bool                             // a batch is announced before its object exists
	doneUnseen       bool                             // done is raised over entries whose objects were not seen
	forgetPreviously bool                             // an old incarnation is forgotten before the next one's entry 1
}

// mutateDuplicates drops lanes with only duplicates, as the mutant noDuplicateCut does.
func (c *cutter) mutateDuplicates(d *due, cuts []batcher.Cut) (left []batcher.Cut) {
	var picks []pick
	for i, p := range d.picks {
		if cuts[i].Count > 0 {
			picks, left = append(picks, p), append(left, cuts[i])
			continue
		}
		c.open -= p.seg.held
		if p.lane.segs = p.lane.segs[1:]; len(p.lane.segs) == 0 {
			delete(c.lanes, p.lane.name)
			c.last = nil
		}
	}
	d.picks = picks
	return left
}
