// Package chaintest holds no code of the program: its tests run package seal's worker for real where a simulation can only claim to, and so
// check that the simulation of package seal has not left out what matters.
//
//	writer ─▶ log (wal, memlog) ◀── loopback ──┬── batcher process ──▶ versitygw
//	            in the test's process          ├── batcher process ──▶    ▲
//	                                           └── batcher process ──▶    │
//	driver ── SIGKILL, SIGSTOP and SIGCONT at each seal.Step ──▶    checks: rows by _mr, orphans, verify
//
// TestBatchers runs three and four batchers over one partition at the same time, each a process of its own with its own S3 client and its own
// dedupe index, with differing policies and codecs, while a writer goes on appending. A seeded driver kills each of them at, or a moment
// after, each step of the protocol, and halts it there until the others have put entries without it. At the end every acknowledged record is
// in exactly one object or named once as a duplicate, no object is in no entry, and package verify agrees. What the operating system makes of
// it differs from run to run: the seed decides what is done to whom, not when it happens.
//
// The log is the test's own: its partition is lent to the batchers over a loopback connection, so that what a batcher sees of the log is as
// real as what it sees of the store, trimming included, and so that the log survives the batchers.
//
// TestOpenLanes gives one worker 10,000 lanes that are open at the same time and measures the peak of its process's memory.
//
// The tests start processes and measure memory, so they are run without the race detector; the simulation has that.
package chaintest
