// Package tasklog keeps the logs of attempts that have ended in the object store, for executors whose logs do not stay where they are written.
//
//	_millrace/logs/<run>/<task>.<map index>.<try>/log.gz                       the last part of the log, and the archive's commit
//	_millrace/logs/<run>/<task>.<map index>.<try>/<hash of the log>-<n>.gz     the parts before it, of 4 MiB each before compression
//
// Most logs are one object. A long one is cut, so that neither putting nor reading it takes more memory than a part. The last part is put last: a
// log is archived when log.gz is there, and its metadata says how long the log is, which parts belong to it and why it is not whole.
//
// Stopping anywhere leaves parts that nobody names, and the next try finds them there: the same log is cut into the same parts. An archive never
// changes. Whoever puts another log of the same attempt gets to know what there is already, and the parts of the other stay until the run is swept.
// A reader sees a log whole or not at all.
//
// [Store.Sweep] removes the logs of runs that the scheduler has forgotten. It remembers nothing, so stopping anywhere only puts it off.
package tasklog
