// Package wal is the embedded log: records in segments on a local disk, durable before [Log.Append] returns.
//
//	Append ─┐
//	Append ─┼─▶ pending group ═▶ syncer: write + fdatasync ═▶ segment ═▶ Read ─▶ batcher
//	Append ─┘                              │ full: roll        ▲
//	                                       ▼                   └── Trim removes whole segments
//	                             new segment, directory, MANIFEST
//
// # What it guarantees
//
// A record whose Append returned nil survives kill -9, power failure at any instant and a full disk. Records keep their order. Readers see
// only what a sync covered, so nothing that a batch was made from can vanish. A stretch of bytes that was durable and does not check is found
// before any record of it is handed out, is named by segment, bytes and offsets ([Damage]), and stops the reader there, and Open if it is in
// the segment that was written last; nothing is cut off or skipped until an operator accepts the loss ([AcceptLoss]).
//
// A failed sync is final: the group's waiters and all later calls get ErrFailed, [Log.Failed] delivers the reason, and the process must exit.
// A full disk is not: Append returns ErrFull, reading and trimming go on, and writing does when there is room.
//
// Every Open begins an incarnation with a random id at the current end, and drops those that never held a record. A copy of the directory,
// opened elsewhere, therefore goes on under another name and can not be mistaken for the original.
//
// # What it does not guarantee
//
// The loss of the disk is the loss of what was not yet batched. A disk that acknowledges a flush and does not do it breaks every promise here.
// Damage to the very last group before a crash, within 0.1 s of it, looks like a torn write and is cut off as one; Close and the mark that an
// idle log writes end that doubt.
//
// # If it stops here
//
//	in Append, before the sync returned    nobody was told; the group is found whole, in part (its first records) or not at all
//	after the sync                         it is found
//	in a roll, before the manifest         the new segment holds nothing and is removed by the next Open
//	in a roll, after the manifest          the new segment is open and empty
//	in Trim, after the manifest            the files are removed by the next Open
//	in Open                                the next one does the same again
//
// # Where the time goes
//
// See FORMAT.md for the layout and for what was measured.
package wal
