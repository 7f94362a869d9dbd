// Package mask takes secrets out of what tasks write. A [Masker] knows the values that an attempt was given, and the forms in which programs
// write them: as they are, in base64, escaped for a URL or for JSON, and the long lines of a value that has several. It replaces each by "***".
//
// It guarantees that a stream which is masked piece by piece becomes the same as if it were masked whole, wherever the pieces are cut: what may be
// the beginning of a secret is held back until it is known. It does not find a secret that a task has changed in another way, cut apart,
// or printed a letter at a time with other output in between; and values shorter than [MinLength] are left alone, since they would be found
// everywhere.
package mask
