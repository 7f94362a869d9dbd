package api

import (
	"time"

	"millrace/batcher"
	"millrace/scheduler"
	"millrace/trigger"
)

// fakeJudge is of rules that want every batch.
type fakeJudge struct{}

func (fakeJudge) Rule(trigger.Rule) (scheduler.RuleJudge, error) { return fakeJudge{}, nil }

func (fakeJudge) Ticks(trigger.Rule, scheduler.Span, int) ([]time.Time, error) { return nil, nil }

func (fakeJudge) Judge(*batcher.Batch) (trigger.Fate, string, string) {
	return trigger.FateRun, "", "k"
}

func (fakeJudge) Key(*batcher.Batch) (string, error) { return "k", nil }

// question is a request, and the status of its answer.
type question struct {
	method, path, body string
	want               int
}

// backfillQuestions are those about backfills, of a store that has the batch.
func backfillQuestions(batch string) []question {
	return []question{
		{"POST", "/backfills", `{"dag":"load","selection":{"batches":["` + batch + `"]},"dry_run":true}`, 200},
		{"POST", "/backfills", `{"dag":"load","id":"fill","selection":{"batches":["` + batch + `"]},"by":"ann","params":null}`, 201},
		{"POST", "/backfills", `{"dag":"load","id":"fill","selection":{"batches":["` + batch + `"]}}`, 200},
		{"POST", "/backfills", `{"dag":"load","selection":{}}`, 422}, {"POST", "/backfills", `{"dag":"none","selection":{"batches":["x"]}}`, 404},
		{"POST", "/backfills", `{"dag":"load","selection":{"batches":["none"]}}`, 404}, {"POST", "/backfills", `{"dag":"load","selection":{"batch":"x"}}`, 422},
		{"POST", "/backfills", `{"dag":"load","selection":{"received":{"from":"2026-11-01T00:00:00Z","to":"2026-11-30T00:00:00Z"},"dispositions":["failed"]},"dry_run":true}`, 200},
		{"GET", "/backfills", "", 200}, {"GET", "/backfills?dag=load&state=running&limit=1", "", 200}, {"GET", "/backfills?state=odd", "", 422},
		{"GET", "/backfills/fill", "", 200}, {"GET", "/backfills/none", "", 404}, {"GET", "/backfills/fill/items", "", 200},
		{"GET", "/backfills/fill/items?before=0&limit=1", "", 200}, {"GET", "/backfills/none/items", "", 404},
		{"POST", "/backfills/fill/pause", `{"by":"ann"}`, 200}, {"POST", "/backfills/fill/resume", "", 200}, {"POST", "/backfills/fill/cancel", `{"runs":true}`, 200},
		{"POST", "/backfills/none/pause", "", 404}, {"POST", "/backfills/fill/pause", `{"bye":1}`, 422},
	}
}
