// Package batchertest holds what tests of the second stage share: the conformance suite of [batcher.ObjectStore], which every implementation
// runs ([TestStore]), and a real S3 server to run it against ([StartVersity]).
package batchertest
