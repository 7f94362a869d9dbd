package engine

import (
	"fmt"
	"path/filepath"
	"testing"

	"millrace/scheduler/sqlstore"
)

// BenchmarkExpand is the time from the request of a run to the launch of the first item of its mapped task, on SQLite with full durability: the list, and the
// first rows, are made and committed in between. The rest of the run is not measured.
func BenchmarkExpand(b *testing.B) {
	for _, n := range []int{100, 10_000, 100_000} {
		b.Run(fmt.Sprintf("items=%d", n), func(b *testing.B) {
			store, err := sqlstore.Open(b.Context(), filepath.Join(b.TempDir(), "state.db"), sqlstore.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer store.Close()
			f, w, stop := mappedEngine(b, store, n)
			defer stop()
			first := make(chan struct{}, 1)
			w.set(func() {
				w.fault = func(call string) (error, bool) {
					if call == "launch" {
						select {
						case first <- struct{}{}:
						default:
						}
					}
					return nil, true
				}
			})
			done := 0
			for b.Loop() {
				f.trigger("a", fmt.Sprint(done), "")
				<-first
				b.StopTimer()
				done += n
				w.until(done)
				select { // of the last launches
				case <-first:
				default:
				}
				b.StartTimer()
			}
		})
	}
}
