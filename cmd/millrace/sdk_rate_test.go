package main

import (
	"path/filepath"
	"testing"
)

// TestSDKsBeyondRate is TestSDKs where millrace itself answers 429, since each of them brings more than the 10 events that its source may bring
// at once. The first batch of a server's SDK is more than that by itself: it uses up what there is. The SDK for Node.js sends its batches at the
// same time, and forgets that one of them has to wait when another succeeds (_clearRateLimitState in its publisher.ts).
func TestSDKsBeyondRate(t *testing.T) {
	t.Parallel()
	k := newSDKKit(t)
	config := filepath.Join(t.TempDir(), "millrace.yaml")
	write(t, config, `ingest: {source_rate: 1}
batch: {max_age: 500ms}
sources:
  python: {kind: clickstream, write_keys: [wk_python]}
  node: {kind: clickstream, write_keys: [wk_node]}
  browser: {kind: clickstream, write_keys: [wk_browser]}
`)
	runSDKs(t, k, newServer(t, "serve", "--config", config, "--log-level", "error"), []*sdkRun{
		{name: "browser", key: "wk_browser", events: 18, rated: true, page: "cdn"},
		{name: "python", key: "wk_python", events: 105, rated: true, send: k.sendFromPython},
		{name: "node", key: "wk_node", events: 20, rated: true, hasty: true, send: k.sendFromNode},
	})
}
