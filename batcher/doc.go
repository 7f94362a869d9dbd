// Package batcher holds the words and the seams of the second stage: how a partition's records are cut ([Policy]), what a link of the chain
// says ([Entry], [Cut], [Facts]), what becomes of a cut ([Batch]), where it is kept ([ObjectStore]), under which names (key.go), and to whom
// it is announced ([Announcer]).
//
//	ingest.Partition ──▶ seal (the worker) ──▶ ObjectStore: chain entry, id sidecar, object
//	                                       └──▶ Announcer (a hint; the chain is the truth)
//
// The package starts no goroutine and does no I/O. The protocol, and what a crash at each of its steps does, is told in package seal.
package batcher
