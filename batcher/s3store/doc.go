// Package s3store keeps objects in a bucket of S3 or of a store that speaks S3 and honours If-None-Match.
//
// It guarantees what [batcher.ObjectStore] asks for by what S3 gives: a PUT with "If-None-Match: *" creates the object whole or not at all and
// refuses an existing key, reads see what was put, lists are in byte order. It keeps no state, so a crash at any point leaves nothing to mend:
// a PUT whose answer was lost has happened or not, and the next one finds out.
//
// # What an answer means
//
//	200                               this call created the object
//	412                               ErrExists: perhaps by this call, since the SDK repeats a PUT whose answer it did not see
//	404 on GET, HEAD                  ErrNotFound (a missing bucket is ErrUnavailable where the store says so)
//	409, 5xx, 429, no answer          ErrUnavailable: unknown outcome; ask, then try again
//	too large, key too long, …        ErrRefused: this object never
//	wrong checksum, three times       ErrRefused: something on the way changes these bytes each time
//	the same on GET, three times      ErrDamaged: the store keeps other bytes than were put
//	401, 403, no such bucket, …       ErrUnavailable with what an operator must do: the next try can be right
//
// Only what is certain to be the object's own fault is ErrRefused, because the caller gives up such a batch for good.
//
// # Checksums
//
// Bodies carry CRC-32C ("when_supported", the default), so that a body cut off on the way is refused, not stored; "when_required" is for
// stores that cannot do that, and leaves it to the signature's SHA-256 of the body. Reads check what the store sends along.
//
// # What is refused at the start
//
// [Store.Probe] puts to a fresh key twice and wants success, then 412; puts a body with a wrong checksum and wants a refusal; and refuses a
// lifecycle rule that expires or archives what is below _millrace/, if it may read the rules. Directory buckets (S3 Express) are refused by
// [Open], because their lists are in no order.
//
// A process needs s3:PutObject, s3:GetObject and s3:ListBucket (without which a missing object is 403, not 404), and for the check of rules
// s3:GetLifecycleConfiguration. It never deletes.
package s3store
