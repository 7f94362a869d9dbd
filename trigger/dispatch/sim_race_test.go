//go:build race

package dispatch

// defaultSchedules is smaller under the race detector, which makes them ten times slower and is after something else.
const defaultSchedules = 300
