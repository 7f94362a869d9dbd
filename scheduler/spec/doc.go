// Package spec reads DAG files: YAML in, [scheduler.DAG] out, or a list of faults with file, line, column, excerpt and a hint.
//
//	file ──▶ tokens (limits) ──▶ documents ──▶ nodes with positions ──▶ DAG (types, CEL, cron) ──▶ graph checks
//
// It guarantees that nothing in a file is ignored: a key that is unknown is an error. All faults of a
// file are reported together, as far as its syntax can be read; a fault in one document of a file does not hide its neighbours. Equal DAGs
// compile to equal bytes, so that a version changes only with what it says. Hostile files cost bounded time and memory. What is permitted and
// probably not meant is a [Warning], which refuses nothing.
//
// It does not know which sources, executors or programs exist: that is for those who run the DAG.
//
// [Dir] watches a directory of such files. It only reads; if it stops at any point, nothing is lost, since a start reads all files anew.
package spec
