// Package seal cuts the partitions of a log into batches: it is the worker that writes the chain of cuts, and with it the proof that every
// acknowledged record is in exactly one object, or is named once as a duplicate, as void or as lost.
//
//	            ┌──────────────────────── another worker's entry ───────────────────────┐
//	            ▼                                                                       │
//	1 walk to the tail ─▶ 2 finish entries after done ─▶ 3 announce ─▶ 4 put entry tail+1 ─▶ 5 put its objects ─▶ 3
//	                                                                                    └─▶ 6 trim up to low of done
//
// # What it guarantees
//
// Any number of workers, zombies and restarted ones among them, can work on one partition at the same time, and no lock, leader or fencing is
// needed: entries and objects are only ever put if absent, and entry N+1 is a function of entry N and the log. Whoever comes second adopts
// what the first decided. Losers leave nothing behind that a reader of the chain, or of the lake, could count twice.
//
// Records of one lane come in the order of their offsets, within an object and from object to object.
//
// # What it does not
//
// It does not say when (a batch that cannot be put waits, and the log grows until senders are told), and it announces on a best effort: whoever
// must see each batch reads the chain (package chain). A second worker costs requests, and perhaps a second upload, for nothing.
//
// # If we stop here
//
//	after 1  nothing was done.
//	after 2  some objects of older entries exist that did not; nobody may know. The next owner asks for them by Stat and goes on.
//	after 3  a batch is announced twice, with the same id.
//	after 4  the entry claims records and there are no objects. The next owner reads these records again from the log, which is not trimmed
//	         above low of done, and puts exactly what the entry says: same rows, same ids, whatever its own configuration is.
//	in 5     a sidecar without object: the next owner puts it again, finds it there, and goes on. A void batch with some raw records in
//	         quarantine: the same. An object: step 2 finds it.
//	after 5  the object is not announced, and done does not cover it: steps 2 and 3 of the next owner.
//	after 6  nothing: what was trimmed is in objects that the chain says exist.
//
// A worker that is paused anywhere and goes on hours later does one of these: it puts an entry whose place is taken, and adopts; it puts an
// object that is there, and finds the same batch; it trims what is trimmed. It reads below the log's start: then the chain has gone on,
// and it walks again.
//
// A log that is copied or restored holds a true prefix of its older incarnations. Each is drained in its own chain, then closed by an entry
// without cuts, which closes nothing for a holder of more. What was claimed beyond the prefix waits for that holder, or for an operator's
// [AcceptLoss]; so do records that the log lost. Until then nothing more is cut, and [Worker.Status] says why.
//
// # Memory
//
// Open rows are kept as the log stores them, in chunks that start at 1 KiB, because which of them are duplicates is decided by the cut. They
// and the rows whose objects are under way are bounded together (Options.Memory); at the bound nothing is read. An outage of the store thus
// stops reading, and the log buffers.
package seal
