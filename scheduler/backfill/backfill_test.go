package backfill

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/batcher"
	"millrace/ingest"
	"millrace/scheduler"
	"millrace/scheduler/schedulertest"
	"millrace/trigger"
)

// fakeDAGs is one DAG, load.
type fakeDAGs struct{ dag *scheduler.DAG }

func (f fakeDAGs) DAG(_ context.Context, id string) (*scheduler.DAGHead, *scheduler.DAG, error) {
	if id != f.dag.ID {
		return nil, nil, fmt.Errorf("find dag %q: %w", id, scheduler.ErrNotFound)
	}
	return &scheduler.DAGHead{ID: id, Version: "v9"}, f.dag, nil
}

// fakeJudge wants batches of source web with an even number, whose key is that number's last digit; ticks are each hour.
type fakeJudge struct{}

func (fakeJudge) Rule(trigger.Rule) (scheduler.RuleJudge, error) { return fakeJudge{}, nil }

func (fakeJudge) Judge(b *batcher.Batch) (trigger.Fate, string, string) {
	switch {
	case b.Source != "web":
		return trigger.FateFiltered, "source", ""
	case b.Seq%2 == 1:
		return trigger.FateFiltered, "if", ""
	}
	return trigger.FateRun, "", fmt.Sprint(b.Seq % 10 / 5)
}

func (fakeJudge) Key(b *batcher.Batch) (string, error) {
	if b.Seq == 13 {
		return "", errors.New("no such key")
	}
	return "k", nil
}

func (fakeJudge) Ticks(_ trigger.Rule, s scheduler.Span, limit int) (out []time.Time, err error) {
	for t := s.From.Truncate(time.Hour); t.Before(s.To) && len(out) < limit; t = t.Add(time.Hour) {
		out = append(out, t)
	}
	return out, nil
}

// fakeChain has the entries of the examples, one batch each.
type fakeChain struct{ batcher.Catalogue }

func (fakeChain) Entry(_ context.Context, s ingest.Stream, seq int64) (batcher.Entry, error) {
	if seq > 30 {
		return batcher.Entry{}, batcher.ErrNotFound
	}
	b := schedulertest.ExampleBatch(int(seq))
	return batcher.Entry{Stream: s, Seq: seq, Cuts: []batcher.Cut{{Lane: b.Lane, First: b.First, Last: b.Last, Count: 100, Batch: b.ID, Object: b.Key, CreatedAt: b.CreatedAt}}}, nil
}

func (fakeChain) Facts(_ context.Context, c batcher.Cut) (batcher.Facts, string, error) {
	if c.Batch == schedulertest.ExampleBatch(2).ID {
		return batcher.Facts{}, "", batcher.ErrNotFound
	}
	return batcher.Facts{Batch: c.Batch, Rows: 100, CommittedAt: c.CreatedAt}, "file:///x", nil
}

// world is a store with the batches 5 to 20 of source web, of which the DAG has had some.
type world struct {
	*testing.T
	store   *schedulertest.Store
	dag     *scheduler.DAG
	planner *Planner
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, store: schedulertest.NewStore(), dag: &scheduler.DAG{ID: "load", On: []trigger.Rule{
		{DAG: "load", ID: "clicks", Kind: trigger.KindBatch}, {DAG: "load", ID: "hourly", Kind: trigger.KindCron}, {DAG: "load", ID: "hand", Kind: trigger.KindManual},
	}, Params: map[string]scheduler.Param{"n": {Type: "integer"}}}}
	w.planner = New(w.store, fakeDAGs{w.dag}, fakeJudge{}, fakeChain{})
	c := &scheduler.Change{Cursors: []trigger.Cursor{{Stream: schedulertest.ExampleStream, Seq: 20}}}
	for n := 5; n <= 20; n++ {
		b := schedulertest.ExampleBatch(n)
		a := trigger.Arrival{Batch: b}
		fate := func(f trigger.Fate) {
			a.Dispositions = append(a.Dispositions, trigger.Disposition{Batch: b.ID, Rule: "load/clicks", Fate: f})
		}
		run := func(s scheduler.State) {
			r := schedulertest.ExampleRun(b)
			r.Run.State = s
			c.NewRuns = append(c.NewRuns, r)
			fate(trigger.FateRun)
		}
		switch n {
		case 6:
			run(scheduler.StateSuccess)
		case 8:
			run(scheduler.StateFailed)
		case 10:
			run(scheduler.StateRunning)
		case 12:
			run(scheduler.StateCancelled)
		case 14:
			fate(trigger.FateFiltered)
		case 16:
			fate(trigger.FateHeld)
		case 18:
			b.Void = "empty"
		case 20:
			b.Source = "other"
		}
		a.Batch = b
		c.Arrivals = append(c.Arrivals, a)
	}
	if err := w.store.Apply(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return w
}

// seqs are the entries of the batches of each item, and of what was left out with a word of the reason.
func (w *world) seqs(p *scheduler.BackfillPlan) (items, left string) {
	seq := map[string]int{}
	for n := range 40 {
		seq[schedulertest.ExampleBatch(n).ID] = n
	}
	for _, it := range p.Items {
		items += "["
		for _, id := range it.Batches {
			items += fmt.Sprint(seq[id], " ")
		}
		items = strings.TrimSuffix(items, " ") + "]"
	}
	for _, l := range p.Left {
		word := "?"
		for _, known := range []string{"success", "failed, none", "under way", "cancelled", "held", "no rows", "(if)", "deleted", "never had", "no key", "backfill fill", "dispatched yet"} {
			if strings.Contains(l.Reason, known) {
				word = known
				break
			}
		}
		left += fmt.Sprintf("%d %s; ", seq[l.Batch], word)
	}
	return items, left
}

// all is a span with all of the batches.
var all = scheduler.Span{From: schedulertest.Epoch, To: schedulertest.Epoch.Add(time.Hour)}

func TestPlan(t *testing.T) {
	t.Parallel()
	id := func(n int) string { return schedulertest.ExampleBatch(n).ID }
	at := func(n int) time.Time { return schedulertest.Epoch.Add(time.Duration(n) * time.Second) }
	const odd = "(if); "
	for _, tt := range []struct {
		name        string
		spec        scheduler.BackfillSpec
		items, left string
	}{
		{"what never ran, or failed", scheduler.BackfillSpec{Selection: scheduler.Selection{Received: all}}, "[8][14]",
			"5 (if); 6 success; 7 (if); 9 (if); 10 under way; 11 (if); 12 cancelled; 13 (if); 15 (if); 16 held; 17 (if); 18 no rows; 19 (if); "},
		{"what failed last", scheduler.BackfillSpec{Selection: scheduler.Selection{Received: all}, Reprocess: scheduler.ReprocessFailed}, "[8][12]",
			"5 (if); 6 success; 7 (if); 9 (if); 10 under way; 11 (if); 13 (if); 14 never had; 15 (if); 16 held; 17 (if); 18 no rows; 19 (if); "},
		{"all, newest first", scheduler.BackfillSpec{Selection: scheduler.Selection{Received: all}, Reprocess: scheduler.ReprocessAll, Order: scheduler.OrderNewest},
			"[14][12][8][6]", "19 (if); 18 no rows; 17 (if); 16 held; 15 (if); 13 (if); 11 (if); 10 under way; 9 (if); 7 (if); 5 (if); "},
		{"in groups of one key", scheduler.BackfillSpec{Selection: scheduler.Selection{Received: all}, Reprocess: scheduler.ReprocessAll, Group: 2}, "[6 8][12 14]",
			"5 (if); 7 (if); 9 (if); 10 under way; 11 (if); 13 (if); 15 (if); 16 held; 17 (if); 18 no rows; 19 (if); "},
		{"in groups, newest first", scheduler.BackfillSpec{Selection: scheduler.Selection{Received: all}, Reprocess: scheduler.ReprocessAll, Group: 9,
			Order: scheduler.OrderNewest}, "[12 14][6 8]", "19 (if); 18 no rows; 17 (if); 16 held; 15 (if); 13 (if); 11 (if); 10 under way; 9 (if); 7 (if); 5 (if); "},
		{"by id, whatever the rule says, each once", scheduler.BackfillSpec{Selection: scheduler.Selection{Batches: []string{id(7), id(14), id(7), id(13), id(20)}}},
			"[7][14][20]", "13 no key; "},
		{"by disposition", scheduler.BackfillSpec{Selection: scheduler.Selection{Dispositions: []string{"filtered", "failed"}}}, "[8][14]", ""},
		{"by event time and disposition", scheduler.BackfillSpec{Selection: scheduler.Selection{Dispositions: []string{"filtered", "failed"},
			Events: scheduler.Span{From: at(10), To: at(30)}}}, "[14]", ""},
		{"the ends of a span", scheduler.BackfillSpec{Selection: scheduler.Selection{Events: scheduler.Span{From: at(9), To: at(14)}}}, "[8]",
			"9 " + odd + "10 under way; 11 " + odd + "12 cancelled; 13 " + odd},
		{"a range of the chain, of which the ledger does not have all", scheduler.BackfillSpec{Selection: scheduler.Selection{Stream: schedulertest.ExampleStream,
			FromSeq: 1, ToSeq: 6}}, "[4]", "2 deleted; 1 " + odd + "3 " + odd + "5 " + odd + "6 success; "},
		{"beyond what was dispatched, and the end", scheduler.BackfillSpec{Selection: scheduler.Selection{Stream: schedulertest.ExampleStream, FromSeq: 29, ToSeq: 99}}, "",
			"29 dispatched yet; 30 dispatched yet; "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			tt.spec.DAG = "load"
			p, err := w.planner.Plan(t.Context(), tt.spec)
			if err != nil {
				t.Fatal(err)
			}
			items, left := w.seqs(p)
			if diff := cmp.Diff([]string{tt.items, tt.left}, []string{items, left}); diff != "" {
				t.Errorf("runs and what is left out (-want +got):\n%s", diff)
			}
			if p.LeftTotal != len(p.Left) || p.Backfill.Counts.Total != len(p.Items) || p.Backfill.Version != "v9" || p.Backfill.ID == "" {
				t.Errorf("got %+v", p.Backfill)
			}
		})
	}
}

// The trigger of a run is what the rule's own would be: the batch, or a group by its first one.
func TestKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b6, b8 := schedulertest.ExampleBatch(6), schedulertest.ExampleBatch(8)
	for _, tt := range []struct {
		name     string
		group    int
		coalesce *trigger.Coalesce
		want     []string
	}{
		{"a batch alone", 0, nil, []string{b6.ID, b8.ID}},
		{"a group", 5, nil, []string{"coal:k:" + b6.ID}},
		{"of a rule that groups", 0, &trigger.Coalesce{MaxBatches: 2}, []string{"coal:k:" + b6.ID}},
		{"alone, of a rule that groups", 1, &trigger.Coalesce{MaxBatches: 2}, []string{"coal:k:" + b6.ID, "coal:k:" + b8.ID}},
	} {
		w.dag.On[0].Coalesce = tt.coalesce
		p, err := w.planner.Plan(t.Context(), scheduler.BackfillSpec{DAG: "load", Group: tt.group, Reprocess: scheduler.ReprocessAll,
			Selection: scheduler.Selection{Batches: []string{b6.ID, b8.ID}}})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for i, it := range p.Items {
			got = append(got, it.Key)
			if it.LaneKey != "k" || it.Rule != "clicks" || it.N != i || it.Kind != trigger.KindBatch {
				t.Errorf("%s: got %+v", tt.name, it)
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// What was read from the chain is stored with the backfill, as far as it is run.
func TestFoundInTheChain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, err := w.planner.Plan(t.Context(), scheduler.BackfillSpec{DAG: "load", Selection: scheduler.Selection{Stream: schedulertest.ExampleStream, FromSeq: 3, ToSeq: 8}})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Found) != 1 || p.Found[0].ID != schedulertest.ExampleBatch(4).ID || p.Found[0].Events != 100 {
		t.Errorf("got %+v, want batch 4 alone", p.Found)
	}
}

func TestTicks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	span := scheduler.Span{From: schedulertest.Epoch, To: schedulertest.Epoch.Add(3 * time.Hour)}
	had := schedulertest.ExampleRun(schedulertest.ExampleBatch(1))
	due := schedulertest.Epoch.Add(time.Hour)
	f := trigger.Firing{Kind: trigger.KindCron, DAG: "load", Rule: "hourly", Key: due.Format(time.RFC3339)}
	had.Run.ID, had.Run.State = f.RunID(), scheduler.StateSuccess
	if err := w.store.Apply(t.Context(), &scheduler.Change{NewRuns: []scheduler.NewRun{had}}); err != nil {
		t.Fatal(err)
	}
	p, err := w.planner.Plan(t.Context(), scheduler.BackfillSpec{DAG: "load", Rule: "hourly", Order: scheduler.OrderNewest, Selection: scheduler.Selection{Events: span}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, it := range p.Items {
		got = append(got, it.Key)
	}
	if diff := cmp.Diff([]string{"2026-11-01T14:00:00Z", "2026-11-01T12:00:00Z"}, got); diff != "" {
		t.Errorf("nominal times (-want +got):\n%s", diff)
	}
	if len(p.Left) != 1 || !p.Left[0].Due.Equal(due) || !strings.Contains(p.Left[0].Reason, "had run "+had.Run.ID) {
		t.Errorf("left out: got %+v, want %v", p.Left, due)
	}
	span.From, span.To = time.Now().Add(time.Hour), time.Now().Add(48*time.Hour)
	if p, err = w.planner.Plan(t.Context(), scheduler.BackfillSpec{DAG: "load", Rule: "hourly", Selection: scheduler.Selection{Events: span}}); err != nil || len(p.Items) > 0 {
		t.Errorf("of the future: got %+v, %v", p, err)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	ids := scheduler.Selection{Batches: []string{schedulertest.ExampleBatch(6).ID}}
	for _, tt := range []struct {
		name string
		spec scheduler.BackfillSpec
		err  error
		want string
	}{
		{"no such DAG", scheduler.BackfillSpec{DAG: "none", Selection: ids}, scheduler.ErrNotFound, "none"},
		{"nothing is selected", scheduler.BackfillSpec{}, scheduler.ErrInvalid, "say which batches"},
		{"no such batch", scheduler.BackfillSpec{Selection: scheduler.Selection{Batches: []string{"gone"}}}, scheduler.ErrNotFound, "its row was pruned (store.retention)"},
		{"no such rule", scheduler.BackfillSpec{Selection: ids, Rule: "click"}, scheduler.ErrInvalid, `it has clicks, hourly) did you mean "clicks"?`},
		{"a rule by hand", scheduler.BackfillSpec{Selection: ids, Rule: "hand"}, scheduler.ErrInvalid, "neither for batches nor a cron rule"},
		{"batches of a cron rule", scheduler.BackfillSpec{Selection: ids, Rule: "hourly"}, scheduler.ErrInvalid, "select the nominal times"},
		{"a span that ends before it begins", scheduler.BackfillSpec{Selection: scheduler.Selection{Received: scheduler.Span{From: all.To, To: all.From}}}, scheduler.ErrInvalid, "is not before to"},
		{"another word", scheduler.BackfillSpec{Selection: ids, Reprocess: "some"}, scheduler.ErrInvalid, "want none, failed or all"},
		{"another order", scheduler.BackfillSpec{Selection: ids, Order: "random"}, scheduler.ErrInvalid, "want oldest or newest"},
		{"a disposition that ends by itself", scheduler.BackfillSpec{Selection: scheduler.Selection{Dispositions: []string{"held"}}}, scheduler.ErrInvalid, "want one of run, filtered"},
		{"no entries", scheduler.BackfillSpec{Selection: scheduler.Selection{Stream: schedulertest.ExampleStream}}, scheduler.ErrInvalid, "from-seq at least 1"},
		{"entries of no chain", scheduler.BackfillSpec{Selection: scheduler.Selection{Batches: ids.Batches, FromSeq: 1}}, scheduler.ErrInvalid, "need a stream"},
		{"a chain that is not", scheduler.BackfillSpec{Selection: scheduler.Selection{Stream: ingest.Stream{Log: "x", Incarnation: "y"}, FromSeq: 1, ToSeq: 2}}, scheduler.ErrInvalid, "there is no chain"},
		{"too large a group", scheduler.BackfillSpec{Selection: ids, Group: 1001}, scheduler.ErrInvalid, "want 1 to 1000"},
		{"too many at once", scheduler.BackfillSpec{Selection: ids, MaxActive: -1}, scheduler.ErrInvalid, "max_active_runs is -1"},
		{"a name that is none", scheduler.BackfillSpec{Selection: ids, ID: "a b"}, scheduler.ErrInvalid, "must start with a letter"},
		{"another parameter", scheduler.BackfillSpec{Selection: ids, Params: []byte(`{"m": 1}`)}, scheduler.ErrInvalid, `unknown parameter "m"`},
		{"too many nominal times", scheduler.BackfillSpec{Rule: "hourly", Selection: scheduler.Selection{Events: scheduler.Span{From: all.From.AddDate(-5, 0, 0), To: all.To}}}, scheduler.ErrInvalid, "more than 20000 nominal times"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.spec.DAG == "" {
				tt.spec.DAG = "load"
			}
			if _, err := newWorld(t).planner.Plan(t.Context(), tt.spec); !errors.Is(err, tt.err) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %v and %q", err, tt.err, tt.want)
			}
		})
	}
	w := newWorld(t)
	w.dag.On = append(w.dag.On, trigger.Rule{ID: "views", Kind: trigger.KindBatch})
	if _, err := w.planner.Plan(t.Context(), scheduler.BackfillSpec{DAG: "load", Selection: ids}); !errors.Is(err, scheduler.ErrInvalid) || !strings.Contains(err.Error(), "clicks, views") {
		t.Errorf("two rules: got %v", err)
	}
	w.dag.On = w.dag.On[1:2]
	if p, err := w.planner.Plan(t.Context(), scheduler.BackfillSpec{DAG: "load", Selection: scheduler.Selection{Events: all}}); err != nil || p.Backfill.Rule != "hourly" {
		t.Errorf("a cron rule alone: got %+v, %v", p, err)
	}
}

// A batch that another backfill is to run is left out.
func TestPlannedByAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := scheduler.BackfillSpec{ID: "fill", DAG: "load", Selection: scheduler.Selection{Dispositions: []string{"failed"}}}
	p, err := w.planner.Plan(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.store.Apply(t.Context(), &scheduler.Change{Backfills: []scheduler.Backfill{p.Backfill}, Items: p.Items}); err != nil {
		t.Fatal(err)
	}
	spec.ID = "again"
	if p, err = w.planner.Plan(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if items, left := w.seqs(p); items != "" || left != "8 backfill fill; " {
		t.Errorf("got %s, left out %s", items, left)
	}
}
