package sdk

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// A task with ForEach is described as the DAG format has it, and its function gets its element.
func TestForEach(t *testing.T) {
	t.Parallel()
	type object struct {
		URI string `json:"uri"`
	}
	d := New("fan").OnManual()
	load := Task(d, "load", Item[object](), func(_ context.Context, a *Attempt, in object) (string, error) { return in.URI, nil },
		ForEach{Items: "inputs.objects", Key: "item.uri", MaxConcurrent: 4, TolerateFailures: "5%"})
	Task(d, "sum", List(load), func(_ context.Context, _ *Attempt, in []string) (int, error) { return len(in), nil }, ForEach{Items: "[1]", TolerateFailures: "2"})
	text, err := d.Describe("/bin/fan")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"foreach":{"items":"inputs.objects","key":"item.uri","max_concurrent":4,"tolerate_failures":"5%"}`, `"foreach":{"items":"[1]","tolerate_failures":2}`,
		`"needs":["load"]`,
	} {
		if !strings.Contains(oneLine(t, text), want) {
			t.Errorf("%s does not say %s", text, want)
		}
	}
	got, err := Item[object]().Of(&Attempt{Item: json.RawMessage(`{"uri":"s3://b/k"}`)})
	if err != nil || got.URI != "s3://b/k" {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, raw := range []string{"", "7"} {
		var never interface{ Unwrap() error }
		if _, err := Item[object]().Of(&Attempt{Item: json.RawMessage(raw)}); err == nil || !errors.As(err, &never) {
			t.Errorf("item %q: got %v, want an error that is never tried again", raw, err)
		}
	}
	list, err := List(load).Of(&Attempt{Upstream: map[string]json.RawMessage{"load": json.RawMessage(`["a",null,"b"]`)}})
	if err != nil || len(list) != 3 || list[1] != "" {
		t.Errorf("got %q, %v", list, err)
	}
	bad := New("none").OnManual()
	Task(bad, "a", None, func(context.Context, *Attempt, Nothing) (Nothing, error) { return Nothing{}, nil }, ForEach{})
	if _, err := bad.Describe("/bin/none"); err == nil || !strings.Contains(err.Error(), "ForEach has no Items") {
		t.Errorf("got %v", err)
	}
}

func oneLine(t *testing.T, text []byte) string {
	t.Helper()
	var v json.RawMessage
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
