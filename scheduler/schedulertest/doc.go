// Package schedulertest has what others test with: a store in memory ([NewStore]) and the conformance suites that every store and every
// executor runs ([TestStore], [TestExecutor]).
//
// The store in memory keeps the contract of scheduler.Store to the letter, down to times of microseconds, but keeps nothing beyond the
// process. [Store.Intercept] stands between a caller and its transactions, for answers that get lost and stores that are away.
package schedulertest
