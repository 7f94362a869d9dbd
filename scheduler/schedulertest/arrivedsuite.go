package schedulertest

import (
	"time"

	"millrace/scheduler"
	"millrace/trigger"
)

func testArrived(t *storeTest) {
	at := func(seconds int) time.Time { return Epoch.Add(time.Duration(seconds) * time.Second) }
	in := func(n, seconds int) trigger.Arrival { return trigger.Arrival{Batch: ExampleBatch(n), At: at(seconds)} }
	t.apply(&scheduler.Change{Arrivals: []trigger.Arrival{in(4, 0), in(2, 0), in(3, 0)}})
	t.apply(&scheduler.Change{Arrivals: []trigger.Arrival{in(1, 5), in(2, 5)}})
	t.apply(&scheduler.Change{Arrivals: []trigger.Arrival{in(5, 2), in(6, 9)}})
	past := func(n, seconds int) trigger.Past { return trigger.Past{Batch: ExampleBatch(n), At: at(seconds)} }
	for _, tt := range []struct {
		name            string
		from, to, limit int
		want            []trigger.Past
	}{
		{"in the order in which they came", 0, 9, 9, []trigger.Past{past(4, 0), past(2, 0), past(3, 0), past(5, 2), past(1, 5)}},
		{"from some time on", 1, 10, 9, []trigger.Past{past(5, 2), past(1, 5), past(6, 9)}},
		{"the first of them", 0, 9, 2, []trigger.Past{past(4, 0), past(2, 0)}},
		{"none", 10, 20, 9, nil},
	} {
		got, err := t.Arrived(t.Context(), at(tt.from), at(tt.to), tt.limit)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		t.same(tt.name, got, tt.want)
	}
}
