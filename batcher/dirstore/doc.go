// Package dirstore keeps objects as plain files in a directory, so that anything can read them: DuckDB, zcat, rsync.
//
//	<root>/events/tenant=…/…ndjson.gz     an object: the file has the object's bytes and nothing else
//	<root>/_millrace/chain/…              objects like any other
//	<root>/_millrace/meta/<2>/<62 hex>    metadata of the object whose key has this SHA-256
//	<root>/_millrace/tmp/                 what is being written; emptied by Open
//	<root>/_millrace/home                 the store's random id
//	<root>/_millrace/lock                 flock of the one process that puts
//
// The last four are the store's own: they are in no list, and no key may name them.
//
// # A put, and what a crash at each step leaves
//
//  1. Wait until no other call puts this key; one process puts (flock), so from here on this call is alone with the key.
//     If the file exists: ErrExists, once it is durable.
//  2. Make the missing directories, and sync the parent of each. Crash: empty directories.
//  3. Write the body to a temporary file and sync it. Crash: a temporary file, which Open removes.
//  4. If there is metadata: write it to a temporary file, sync, rename it to its place, sync its directory. Crash: metadata without object,
//     which nobody sees and the next put of the key replaces; a put without metadata removes it first.
//  5. Link the body to its name; an existing name makes it ErrExists. Now others can see the object. Crash: it is there or not, with all of
//     its bytes and its metadata, for both were durable before. Whoever saw it made it durable first (below).
//  6. Sync the directory. Crash: the object stays.
//  7. Remove the temporary name.
//
// # Seen means durable
//
// Between steps 5 and 6 an object can be seen that a power failure would take away, and a chain entry that builds on it would be left with a
// hole. So nothing here reports that an object exists before its directory is synced: the process that puts knows the keys which are at that
// stage and syncs for each answer; everything older is durable because Open syncs the file system after it has the lock. A read-only opener
// knows nothing of the other process, and syncs the directory of each key the first time that it sees it.
//
// A failed sync of a directory is final: the names may look durable and not be. The store then answers ErrUnavailable to everything and says
// why, until it is opened anew by someone who has looked at the disk.
//
// # Why metadata is a file of its own
//
// A trailer or header would make the file unreadable for others. Extended attributes would be atomic with the link, but copies, archives and
// rsync without -X lose them silently, tmpfs and some network file systems have none, and the facts of a batch must survive a restore. A
// file that is durable before the link is atomic with it as well, because there is one writer. It records the object's size; where that differs,
// someone has replaced the object, and it is shown without metadata, as S3 would show it.
//
// # Limits
//
// File systems without hard links are refused. Parts of a key are at most 255 bytes, and a key cannot be below another ("a" and "a/b"): both
// are ErrRefused. The lock is advisory; a person who writes into the directory while a put of the same key runs is outside of all this.
package dirstore
