// Package ingest holds the words and the seams of the first stage: what a sender's event becomes ([Record]), where it will end up ([Lane]),
// how a place in the log is named ([Stream], [Span], [Receipt]) and how a log is written and read ([Appender], [Consumer], [Partition]).
//
//	sender ──▶ gateway ──▶ Appender ══ log ══▶ Consumer ──▶ batcher
//	           (decode,     (durable             (only what
//	            normalise)   before 2xx)          is durable)
//
// The package starts no goroutine and does no I/O. Everything that blocks is in the packages below it: gateway serves HTTP, wal keeps the
// embedded log, memlog is the log for tests.
package ingest
