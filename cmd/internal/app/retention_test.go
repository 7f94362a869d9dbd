package app

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"millrace/scheduler/archive"
	"millrace/scheduler/sqlstore"
)

// TestPrune: the first round comes soon, then there is one a day; a failure is said and does not end the rounds.
func TestPrune(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var rounds []time.Duration
		var out bytes.Buffer
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			prune(ctx, func(_ context.Context, before time.Time) (pruned, error) {
				if want := time.Now().Add(-48 * time.Hour); !before.Equal(want) {
					t.Errorf("prune before %v, want %v", before, want)
				}
				if rounds = append(rounds, time.Since(start)); len(rounds) == 2 {
					return pruned{Done: archive.Done{Runs: 1}}, errors.New("disk away")
				}
				return pruned{Done: archive.Done{Runs: 7, Objects: 2}, Pruned: sqlstore.Pruned{Batches: 9}, Outputs: 3, Logs: 5}, nil
			}, func() time.Duration { return 48 * time.Hour }, slog.New(slog.NewTextHandler(&out, nil)))
		}()
		time.Sleep(50 * time.Hour)
		cancel()
		<-ended
		if len(rounds) != 3 || rounds[0] != pruneFirst || rounds[1] != pruneFirst+pruneEvery {
			t.Errorf("rounds at %v, want three, a day apart, the first after %v", rounds, pruneFirst)
		}
		for _, want := range []string{"runs=7 archives=2 batches=9 notices=0 outputs=3 logs=5 retention=48h0m0s", "disk away"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("log lacks %q:\n%s", want, out.String())
			}
		}
	})
}

// TestPruneNever: without retention nothing is removed.
func TestPruneNever(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 1000*time.Hour)
		defer cancel()
		prune(ctx, func(context.Context, time.Time) (pruned, error) {
			t.Error("pruned")
			return pruned{}, nil
		}, func() time.Duration { return 0 }, slog.New(slog.DiscardHandler))
	})
}
