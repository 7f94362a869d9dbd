//go:build !race

package dispatch

const defaultSchedules = 2000
