// Package sqlstore keeps the scheduler's state and the trigger ledger in SQLite.
//
// It guarantees that a change is committed whole and is on stable storage when Apply returns nil (WAL with synchronous=FULL: one fsync a
// change, whatever its size, so that callers who group their changes pay for one), that a change which was decided on an older revision
// leaves nothing behind, and that what was committed is never seen half. Times are kept to the microsecond.
//
// It does not group the changes of several callers, keep two processes from deciding differently (it lets only one open the database), or
// bound its size: call [Store.Prune].
//
//	Apply ──▶ one connection, one transaction ──▶ WAL ──fsync──▶ nil
//	Load, Runs, … ──▶ other connections, each reading one committed state while Apply goes on
//
// If we stop before the COMMIT record is in the WAL, the next open finds the state before the change; after it, the change. When the
// answer of COMMIT is an error, either may be the case: that is scheduler.ErrUnavailable, and the revisions tell. Migrations are one
// transaction each, together with the note that they were applied: a process killed in one starts it again.
package sqlstore
