//go:build race

package engine

// simSchedules is smaller under the race detector, which makes them ten times slower and is after something else.
const simSchedules = 800
