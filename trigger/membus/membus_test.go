package membus_test

import (
	"testing"
	"time"

	"millrace/trigger/membus"
	"millrace/trigger/triggertest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	triggertest.Bus(t, func(*testing.T) triggertest.BusUnderTest {
		return triggertest.BusUnderTest{Bus: membus.New(membus.Options{AckWait: 300 * time.Millisecond}), AckWait: 300 * time.Millisecond}
	})
}
