//go:build linux

package runner

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"millrace/ingest/vfs"
	"millrace/scheduler"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func claimOf(id string) record {
	return record{ID: id, Claim: &claim{At: time.Unix(1700000000, 0).UTC(), Timeout: time.Minute, Grace: time.Second}}
}

func startOf(id string) record {
	return record{ID: id, Start: &process{PID: 77, Start: 12345, Boot: "b", At: time.Unix(1700000001, 0).UTC()}}
}

func endOf(id string) record {
	return record{ID: id, End: &scheduler.Report{Attempt: id, Outcome: scheduler.OutcomeExited, Exit: 3, Output: []byte("out")}}
}

func takenOf(id string) record { return record{ID: id, Taken: true} }

// life is what a journal sees of two attempts.
func life() []record {
	return []record{
		claimOf("a"), claimOf("b"), startOf("a"), startOf("b"),
		{ID: "b", Stop: &stop{Why: stopAsked, HardAt: time.Unix(1700000009, 0).UTC()}},
		endOf("a"), endOf("b"), takenOf("a"),
	}
}

func fold(recs []record) *table {
	tab := newTable()
	for _, rec := range recs {
		tab.apply(rec)
	}
	return tab
}

func sameTable(t *testing.T, what string, got, want *table) {
	t.Helper()
	if diff := cmp.Diff(journaled(want), journaled(got)); diff != "" || got.active != want.active {
		t.Errorf("%s: active %d, want %d; (-want +got):\n%s", what, got.active, want.active, diff)
	}
}

func journaled(tab *table) map[string]record {
	out := map[string]record{}
	for id, a := range tab.all {
		out[id] = a.record()
	}
	return out
}

// TestJournalCutAnywhere: whatever is left of what was not durable, a journal opens with a prefix of its records.
func TestJournalCutAnywhere(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	j, _, err := openJournal(mem, "/d/journal")
	must(t, err)
	ends := []int64{j.end}
	for _, rec := range life() {
		must(t, j.append(rec))
		ends = append(ends, j.end)
	}
	data, err := vfs.ReadFile(mem, "/d/journal")
	must(t, err)
	for n := headerSize; n <= len(data); n++ {
		whole := 0
		for whole+1 < len(ends) && ends[whole+1] <= int64(n) {
			whole++
		}
		got := newTable()
		must(t, decodeJournal(data[:n], got.apply))
		sameTable(t, fmt.Sprintf("cut at %d", n), got, fold(life()[:whole]))
	}
}

// TestJournalCrash crashes the machine after each operation of the file system: what was synced is there, and what opens is a prefix.
func TestJournalCrash(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		for n := int64(1); ; n++ {
			mem := vfs.NewMem()
			synced, written, done := runLife(mem, vfs.FailFrom(n, vfs.ErrNoSpace))
			crashed := mem.CrashClone(rand.New(rand.NewPCG(seed, uint64(n))), int(seed%5)*25)
			_, got, err := openJournal(crashed, "/d/journal")
			if err != nil {
				t.Fatalf("seed %d, operation %d: open: %v", seed, n, err)
			}
			ok := false
			for k := synced; k <= written; k++ {
				ok = ok || cmp.Equal(journaled(fold(life()[:k])), journaled(got))
			}
			if !ok {
				t.Fatalf("seed %d, operation %d: got %v, want the first %d to %d records", seed, n, journaled(got), synced, written)
			}
			if done {
				break
			}
		}
	}
}

// runLife writes the records of life with a sync after every second one, and a rewrite in the middle. It reports how many are known to be
// durable, how many may be there, and whether all went well.
func runLife(mem *vfs.Mem, hook func(vfs.Op) error) (synced, written int, done bool) {
	j, _, err := openJournal(vfs.Inject(mem, hook), "/d/journal")
	if err != nil {
		return 0, 0, false
	}
	for i, rec := range life() {
		written = i + 1
		if j.append(rec) != nil {
			return synced, written, false
		}
		switch {
		case i == 4:
			if j.rewrite(fold(life()[:written]).records()) != nil {
				return synced, written, false
			}
			synced = written
		case i%2 == 1:
			if j.file.Sync() != nil {
				return synced, written, false
			}
			j.durable, synced = j.end, written
		}
	}
	return synced, written, true
}

// TestJournalHeals: after any one failure the next rewrite says all, and until then nothing is appended.
func TestJournalHeals(t *testing.T) {
	t.Parallel()
	for n := int64(1); n < 60; n++ {
		mem := vfs.NewMem()
		j, _, err := openJournal(vfs.Inject(mem, vfs.FailOnce(n, vfs.ErrNoSpace)), "/d/journal")
		if err != nil {
			continue // The runner does not start, and says so.
		}
		tab := newTable()
		for _, rec := range life() {
			tab.apply(rec)
			if err := j.append(rec); err != nil {
				if err := j.append(rec); !errors.Is(err, errBroken) {
					t.Fatalf("operation %d: got %v from a broken journal, want errBroken", n, err)
				}
				for j.broken {
					_ = j.rewrite(tab.records())
				}
			}
		}
		for j.broken || j.rewrite(tab.records()) != nil {
			_ = j.rewrite(tab.records())
		}
		_, got, err := openJournal(mem.CrashClone(rand.New(rand.NewPCG(1, uint64(n))), 0), "/d/journal")
		must(t, err)
		sameTable(t, fmt.Sprintf("operation %d", n), got, tab)
	}
}

// TestJournalDamage: a bad byte in what was durable stops the runner; in what was not, it is a torn tail.
func TestJournalDamage(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	j, _, err := openJournal(mem, "/d/journal")
	must(t, err)
	must(t, j.append(claimOf("a"), claimOf("b")))
	must(t, j.file.Sync())
	j.durable = j.end
	durable := j.end
	must(t, j.append(startOf("a"), startOf("b")))
	data, err := vfs.ReadFile(mem, "/d/journal")
	must(t, err)
	for i := range data {
		bad := append([]byte(nil), data...)
		bad[i] ^= 0x10
		got := newTable()
		err := decodeJournal(bad, got.apply)
		if lost := int64(i) < durable && i >= headerSize; lost && !errors.Is(err, errDamaged) {
			t.Fatalf("byte %d: got %v, want errDamaged", i, err)
		} else if int64(i) >= durable && (err != nil || got.all["a"] == nil || got.all["b"] == nil) {
			t.Fatalf("byte %d: got %v and %v, want both claims", i, err, got.all)
		}
	}
	binary.LittleEndian.PutUint32(data[4:], JournalVersion+1)
	if err := decodeJournal(data, newTable().apply); err == nil || errors.Is(err, errDamaged) {
		t.Errorf("got %v for a later version, want an error that says so", err)
	}
}

// TestTableForgets: the newest taken attempts are remembered without their outputs, in the order of their ends, across a rewrite too.
func TestTableForgets(t *testing.T) {
	t.Parallel()
	tab := newTable()
	tab.apply(claimOf("open"))
	for i := range maxTaken + 10 {
		id := fmt.Sprint(i)
		for _, rec := range []record{claimOf(id), startOf(id), endOf(id), takenOf(id)} {
			tab.apply(rec)
		}
	}
	again := fold(tab.records())
	sameTable(t, "again", again, tab)
	if tab.all["9"] != nil || tab.all["10"] == nil || tab.all["open"] == nil || tab.active != 1 {
		t.Errorf("got %d attempts, %d active, want the oldest 10 forgotten", len(tab.all), tab.active)
	}
	if a := tab.all["10"]; len(a.end.Output) != 0 || a.end.OutputError == "" {
		t.Errorf("got %+v, want no output of a taken attempt", a.end)
	}
	again.apply(claimOf("next"))
	again.apply(endOf("next"))
	again.apply(takenOf("next"))
	if again.all["10"] != nil || again.all["11"] == nil {
		t.Error("got another order after a rewrite, want the oldest forgotten first")
	}
}

func TestSafeName(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	long := string(make([]byte, 300))
	for _, id := range []string{"", ".", "..", "a", "a.b", ".a", "a/b", "%2e", "~", "a~b", "A", "ü", long, long + "x", "a\nb"} {
		name := safeName(id)
		if other, dup := seen[name]; dup {
			t.Errorf("got %q for both %q and %q", name, id, other)
		}
		seen[name] = id
		if name != filepath.Base(name) || name == "." || name == ".." || len(name) > 200 {
			t.Errorf("got %q for %q, want one path element", name, id)
		}
	}
	if got, want := LogName("r1.extract.-1.2"), "logs/r1/extract.-1.2.log"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestJournalHeader pins the first bytes of the file: by them every later version knows what it has before it.
func TestJournalHeader(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "journal")
	j, _, err := openJournal(vfs.OS, name)
	must(t, err)
	must(t, j.close())
	data, err := os.ReadFile(name)
	must(t, err)
	want := []byte{'M', 'R', 'X', 'J', 1, 0, 0, 0, headerSize, 0, 0, 0, 0, 0, 0, 0}
	if diff := cmp.Diff(want, data); diff != "" {
		t.Errorf("empty journal (-want +got):\n%s", diff)
	}
}
