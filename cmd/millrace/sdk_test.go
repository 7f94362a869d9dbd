package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// sdkResult is what a program that uses an SDK tells at its end.
type sdkResult struct {
	Given  map[string]string // message id to type, of all that the SDK was given
	Errors []string          // what the SDK says it did not deliver
}

// sdkRun is one SDK, pointed at millrace by the options that its documentation names for that and nothing else, and what comes in between.
type sdkRun struct {
	name   string
	key    string // "": dev
	events int
	plan   []fault
	last   bool // the last fault lasts until the page is left
	rated  bool // the events are more than the source may bring at once
	hasty  bool // the SDK may come again before Retry-After
	send   func(t *testing.T, url, key string, events int) sdkResult
	page   string // instead of send: how page.html uses the SDK

	proxy  *faultyProxy
	result sdkResult
	took   time.Duration
}

// TestSDKs lets the real segment-analytics-python, @segment/analytics-node and @segment/analytics-next (in Chromium) deliver through faults:
// every event that an SDK was given is in exactly one row, and the SDK holds nothing back.
func TestSDKs(t *testing.T) {
	t.Parallel()
	k := newSDKKit(t)
	runs := []*sdkRun{
		{name: "browser that leaves", events: 12, plan: []fault{busy}, last: true, page: "cdn"},
		{name: "browser with batches", events: 12, plan: []fault{busy, cutAfter}, page: "batching"},
		{name: "browser with apiHost", events: 12, page: "api"},
		{name: "browser with snippet", events: 12, page: "snippet"},
	}
	for _, plan := range [][]fault{{tooMany, busy, cutBefore, cutAfter}, {cutAfter}, {cutBefore}, {down}, {busy}, {tooMany}, nil} {
		runs = append(runs,
			&sdkRun{name: "browser", events: 12, plan: plan, page: "cdn"},
			&sdkRun{name: "python", events: 250, plan: plan, send: k.sendFromPython},
			&sdkRun{name: "node", events: 50, plan: plan, send: k.sendFromNode})
	}
	s := newServer(t, "dev", "--log-level", "error")
	s.env = append(s.env, "MILLRACE_INGEST__SCRIPTS="+k.bundles())
	runSDKs(t, k, s, runs)
}

// runSDKs runs all at once against s, and looks for their events in its objects.
func runSDKs(t *testing.T, k sdkKit, s *server, runs []*sdkRun) {
	t.Helper()
	s.start()
	b := k.newBrowser(t)
	slots := make(chan struct{}, 4) // of processes, which wait more than they work
	var wg sync.WaitGroup
	for _, run := range runs {
		wg.Add(1)
		go func() { // ends with its subtest
			defer wg.Done()
			if run.send != nil {
				slots <- struct{}{}
				defer func() { <-slots }()
			}
			t.Run(run.String(), func(t *testing.T) { run.run(t, k, s, b) })
		}()
	}
	wg.Wait()
	s.drained()
	s.stop()
	checkSDKRows(t, filepath.Join(s.dir, "objects"), runs)
}

func (r *sdkRun) String() string {
	if len(r.plan) == 0 {
		return r.name
	}
	return r.name + " through " + strings.Trim(fmt.Sprint(r.plan), "[]")
}

// run lets the SDK send what it was given, and checks that it thinks that it did.
func (r *sdkRun) run(t *testing.T, k sdkKit, s *server, b *browser) {
	r.key = cmp.Or(r.key, "dev")
	r.proxy = newProxy(t, s.ingest, r.plan)
	r.proxy.lasting, r.proxy.rated, r.proxy.hasty = r.last, r.rated, r.hasty
	from := time.Now()
	if r.send != nil {
		r.result = r.send(t, r.proxy.server.URL, r.key, r.events)
	} else {
		r.result = b.open(t, k.newPage(t, r.proxy, r))
	}
	r.took = time.Since(from)
	r.proxy.server.Close() // what would come now comes too late
	for _, problem := range r.result.Errors {
		t.Errorf("the SDK says: %s", problem)
	}
	if len(r.result.Given) != r.events {
		t.Errorf("the SDK was given %d events with ids, want %d", len(r.result.Given), r.events)
	}
	r.proxy.check(t, r.result.Given)
	if stats := &r.proxy.stats; r.page != "" && (stats.settings == 0 || stats.preflights == 0) {
		t.Errorf("the page asked %d times for settings, and %d times whether it may post, want both", stats.settings, stats.preflights)
	}
}

// checkSDKRows holds the objects against what the SDKs were given.
func checkSDKRows(t *testing.T, objects string, runs []*sdkRun) {
	t.Helper()
	r := readRows(t, objects)
	all := map[string]bool{}
	for _, run := range runs {
		if run.proxy == nil {
			continue // not to be run this time
		}
		rows := 0
		for id, typ := range run.result.Given {
			all[id] = true
			rows += r.byID[id]
			if r.types[id] != typ {
				t.Errorf("%v: event %s is a row of type %q, want %q", run, id, r.types[id], typ)
			}
		}
		fmt.Printf("measured: %v: %d events in %.1f s, %d rows, %v\n", run, len(run.result.Given), run.took.Seconds(), rows, &run.proxy.stats)
	}
	r.check(t, all)
	if len(r.byID) != len(all) {
		t.Errorf("got rows of %d events, want %d", len(r.byID), len(all))
	}
}

func (k sdkKit) sendFromPython(t *testing.T, url, key string, events int) sdkResult {
	return runSDK(t, k.python, filepath.Join(k.source, "send.py"), url, key, strconv.Itoa(events))
}

func (k sdkKit) sendFromNode(t *testing.T, url, key string, events int) sdkResult {
	return runSDK(t, k.node, filepath.Join(k.source, "send.mjs"), k.modules, url, key, strconv.Itoa(events))
}

// runSDK runs a program to its end, which is when its SDK has nothing left to do, and decodes what it prints.
func runSDK(t *testing.T, args ...string) sdkResult {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1", "PYTHONDONTWRITEBYTECODE=1")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s\n%s", args, err, out, &errs)
	}
	var result sdkResult
	if err := json.Unmarshal(out, &result); err != nil {
		t.Fatalf("%v: %v\n%s\n%s", args, err, out, &errs)
	}
	if errs.Len() > 0 {
		t.Logf("%s", &errs)
	}
	return result
}
