//go:build !race

package engine

const simSchedules = 10_000
