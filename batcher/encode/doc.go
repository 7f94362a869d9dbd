// Package encode turns the kept records of a cut into the bytes of one object, and back.
//
//	rows ──▶ chunk of 128 KiB ──▶ compressor from a pool ──▶ body
//	          (per open object)     (a few per process)
//
// An open [Object] keeps no compressor: rows gather in a chunk, and each full chunk is compressed on its own by a compressor that goes back to
// its pool. Ten thousand open lanes thus cost their rows, not ten thousand compressors of half a megabyte. A gzip body is still one member
// (each chunk ends in a sync flush, and no reference reaches over it), because some readers stop after the first member. A zstd body is a
// run of frames, which zstd readers take for one stream (RFC 8878, section 3.1). gzip, zstd and DuckDB 2.0 were seen to read both to the end.
//
// A row is the record's payload with one more key, written last: "_mr":{"s":chain,"p":partition,"o":offset}. A sender cannot forge it, because
// [Mark] reads the end of the row, and nothing that a sender wrote comes after ours.
//
// The body is a function of codec, stream and rows for one version of the compressor only. Nothing may compare bodies: a newer compressor
// changes bytes, not rows. What is compared is the digest of the stored records ([Digest]), which is part of [batcher.Facts] and so of the
// object's metadata ([MetaOf], [FactsOf]).
//
// The package does no I/O and starts no goroutine; a crash loses what is open, and the log still has it.
package encode
