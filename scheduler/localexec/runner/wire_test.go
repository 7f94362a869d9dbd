//go:build linux

package runner

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/scheduler"
)

var update = flag.Bool("update", false, "write the golden files")

// samples has every field of every message.
func samples() []*Message {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	return []*Message{
		{Kind: KindHello, Hello: &Hello{Proto: Proto, Journal: JournalVersion, Argv: []string{"/bin/millrace", "runner"}, Exe: "1:2:3:4.5", MaxLog: 6, Idle: 7}},
		{Kind: KindWelcome, Welcome: &Welcome{Proto: Proto, PID: 8, Error: "e"}, Active: 9},
		{Kind: KindLaunch, Seq: 1, Launch: []scheduler.Launch{{
			ID: "i", Run: "r", Task: "t", MapIndex: -1, Try: 2, Argv: []string{"a"}, Env: []string{"A=b"}, Input: []byte("in"), Timeout: 3, Grace: 4, Heartbeat: 5,
			Secrets: []string{"s"},
		}}},
		{Kind: KindKill, Seq: 2, Kill: &Kill{ID: "i", Grace: 5}},
		{Kind: KindReconcile, Seq: 3, IDs: []string{"i"}},
		{Kind: KindRefuse, Seq: 4, IDs: []string{"i"}, Error: "e"},
		{Kind: KindDone, Seq: 4, Error: "e"},
		{Kind: KindReports, Seq: 5, Reports: []scheduler.Report{{
			Attempt: "i", Outcome: scheduler.OutcomeExited, Exit: 1, Signal: "s", Reason: "r", StartedAt: at, EndedAt: at, Output: []byte("o"), OutputRef: &scheduler.OutputRef{Ref: "f", SHA256: "h", Bytes: 7},
			OutputError: "oe", Node: "n", External: "x", Log: "l",
		}}},
		{Kind: KindAck, Seq: 5}, {Kind: KindNack, Seq: 5}, {Kind: KindBye}, {Kind: KindReplaced},
	}
}

// TestWire pins the messages, and with them the shapes of Launch and Report: if it fails, Proto has to rise, and -update is not enough.
func TestWire(t *testing.T) {
	t.Parallel()
	var lines bytes.Buffer
	for _, m := range samples() {
		var frame bytes.Buffer
		must(t, WriteMessage(&frame, m))
		lines.Write(frame.Bytes()[4:])
		lines.WriteByte('\n')
		got, err := ReadMessage(&frame)
		must(t, err)
		if diff := cmp.Diff(m, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", m.Kind, diff)
		}
	}
	const golden = "testdata/wire.json"
	if *update {
		must(t, os.WriteFile(golden, lines.Bytes(), 0o600))
	}
	want, err := os.ReadFile(golden)
	must(t, err)
	if diff := cmp.Diff(string(want), lines.String()); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
}

func FuzzReadMessage(f *testing.F) {
	for _, m := range samples() {
		var frame bytes.Buffer
		if err := WriteMessage(&frame, m); err != nil {
			f.Fatal(err)
		}
		f.Add(frame.Bytes())
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ReadMessage(bytes.NewReader(data))
		if err != nil {
			return
		}
		if _, err := json.Marshal(m); err != nil {
			t.Errorf("got %v for what was read", err)
		}
	})
}

func FuzzJournal(f *testing.F) {
	var data []byte
	for _, rec := range life() {
		data, _ = appendFrame(data, rec, 0)
	}
	f.Add(data)
	f.Fuzz(func(_ *testing.T, frames []byte) {
		head := append([]byte(journalMagic), 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
		_ = decodeJournal(append(head, frames...), newTable().apply)
	})
}
