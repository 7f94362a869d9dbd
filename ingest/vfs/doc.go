// Package vfs is the seam between millrace and the file system: the few operations that durability is built from, the real ones ([OS]), a
// strict model of a disk in memory ([Mem]) and a wrapper that makes any operation fail ([Inject]).
//
// # What is durable
//
// Three things are cached apart from each other and each needs its own call:
//
//	bytes and size of a file          File.Sync
//	a name in a directory             FS.SyncDir of the directory: after create, link, rename and remove
//	a new directory itself            FS.SyncDir of its parent, and so on upwards; MkdirAllSync does all of it
//
// [Mem] keeps to exactly this, more strictly than real file systems do: its CrashClone returns one of the disks that a power failure at this
// moment could leave behind, in which any subset of what was not synced is there, block by block and name by name. Code that survives every
// such disk survives ext4, XFS and Btrfs, whose journals permit fewer outcomes.
//
// The package guarantees no atomicity beyond the operating system's: Rename and Link are atomic towards other processes, and durable only
// after SyncDir. A failed Sync says nothing about what is on the disk, and a second Sync that succeeds does not either: the kernel may have
// dropped the dirty pages. [Mem] models this as well: after an injected failure of Sync, the bytes can be read until the crash and are gone after it.
package vfs
