package wal_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/ingest"
	"millrace/ingest/ingesttest"
	"millrace/ingest/vfs"
	"millrace/ingest/wal"
)

func openReader(t *testing.T, fsys vfs.FS, dir string) *wal.Reader {
	t.Helper()
	r, err := wal.OpenReader(fsys, dir)
	must(t, err)
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// A reader beside the writer shows what a later group proves to be durable, and all of it once the writer is idle.
func TestReaderShowsWhatIsProvablyDurable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		l := open(t, dir, small(disk))
		ingesttest.MustAppend(t, l, ingesttest.Records("a", 3)...)
		ingesttest.MustAppend(t, l, ingesttest.Records("b", 2)...)
		all := payloads(t, l)
		if got := payloads(t, openReader(t, disk, dir)); !slices.Equal(got, all[:3]) {
			t.Errorf("got %d records while the last group is not provable, want 3", len(got))
		}
		time.Sleep(time.Second) // In the bubble: until the mark is written.
		r := openReader(t, disk, dir)
		if got := payloads(t, r); !slices.Equal(got, all) || r.Note() != nil {
			t.Errorf("got %d records, note %v of an idle log, want %d", len(got), r.Note(), len(all))
		}
		if got, want := r.Incarnations(), l.Incarnations(); !slices.Equal(got, want) {
			t.Errorf("got incarnations %v, want %v: a reader begins none", got, want)
		}
		must(t, l.Close())
		if got := payloads(t, openReader(t, disk, dir)); !slices.Equal(got, all) {
			t.Errorf("got %d records of a closed log, want %d", len(got), len(all))
		}
	})
}

func TestReaderChangesNothing(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	l := open(t, dir, small(disk))
	ingesttest.MustAppend(t, l, ingesttest.Records("a", 30)...)
	stream := l.Incarnations()[0].Stream
	must(t, l.SaveHint(t.Context(), stream, ingest.ChainHint{Home: "h", Seq: 1}))
	var changes []vfs.Op
	r := openReader(t, vfs.Inject(disk, func(op vfs.Op) error {
		if op.Kind.Changes() && op.Kind != vfs.OpOpen {
			changes = append(changes, op)
		}
		return nil
	}), dir)
	payloads(t, r)
	if hint, err := r.Hint(t.Context(), stream); err != nil || hint.Home != "h" {
		t.Errorf("got hint %v, %v, want the one that was saved", hint, err)
	}
	wantIs(t, "trim", r.Trim(t.Context(), stream, 1), wal.ErrReadOnly)
	wantIs(t, "save hint", r.SaveHint(t.Context(), stream, ingest.ChainHint{}), wal.ErrReadOnly)
	ctx, cancel := context.WithCancel(t.Context())
	must(t, r.Consume(ctx, func(context.Context, ingest.Partition) error {
		cancel()
		return nil
	}))
	must(t, r.Close())
	_, _, err := r.Read(t.Context(), 0, 1, nil)
	wantIs(t, "read after close", err, ingest.ErrClosed)
	if len(changes) > 0 {
		t.Errorf("got operations that change the disk: %v", changes)
	}
	_, err = wal.OpenReader(disk, "/none")
	wantIs(t, "open a log that is not there", err, fs.ErrNotExist)
}

func TestReaderMeetsTrimmedSegments(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	l := open(t, dir, small(disk))
	for i := range 30 {
		ingesttest.MustAppend(t, l, ingesttest.Record(fmt.Sprint("r", i), "k", 500))
	}
	r := openReader(t, disk, dir)
	must(t, l.Trim(t.Context(), l.Incarnations()[0].Stream, 20))
	_, _, err := r.Read(t.Context(), 0, 1, nil)
	wantIs(t, "read what was trimmed meanwhile", err, ingest.ErrTrimmed)
	found, err := wal.Check(t.Context(), disk, dir)
	if err != nil || len(found) != 0 {
		t.Errorf("check: got %v, %v, want nothing", found, err)
	}
}

// Damage that shows up while the log is open stops readers there, and nobody else.
func TestDamageUnderARunningLog(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	l := open(t, dir, small(disk))
	for i := range 30 {
		ingesttest.MustAppend(t, l, ingesttest.Record(fmt.Sprint("r", i), "k", 500))
	}
	name := filepath.Join(dir, fmt.Sprintf("%020d.wal", 0))
	data, err := vfs.ReadFile(disk, name)
	must(t, err)
	f, err := disk.OpenFile(name, 2) // os.O_RDWR
	must(t, err)
	_, err = f.WriteAt([]byte{data[1300] ^ 1}, 1300)
	must(t, err)
	found, err := ingesttest.Scan(t.Context(), l, 0, 600)
	wantDamage(t, err, filepath.Base(name), 1300)
	if len(found) != 1 {
		t.Errorf("got %d records before the damage, want 1", len(found))
	}
	ingesttest.MustAppend(t, l, ingesttest.Records("more", 1)...)
	if rest, err := ingesttest.Scan(t.Context(), l, 2, 600); err != nil || len(rest) != 29 {
		t.Errorf("got %d records, %v behind the damage, want 29", len(rest), err)
	}
}

// A file that goes away without Trim is damage, not something that was trimmed.
func TestFileRemovedUnderARunningLog(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	l := open(t, dir, small(disk))
	for i := range 30 {
		ingesttest.MustAppend(t, l, ingesttest.Record(fmt.Sprint("r", i), "k", 500))
	}
	name := fmt.Sprintf("%020d.wal", 0)
	must(t, disk.Remove(filepath.Join(dir, name)))
	_, _, err := l.Read(t.Context(), 0, 1, nil)
	wantDamage(t, err, name, 0)
}

func TestOptionsReportAllFaults(t *testing.T) {
	t.Parallel()
	must(t, wal.Options{}.Validate())
	err := wal.Options{Partition: -1, SegmentBytes: 1, MaxBytes: 1, MaxRecord: -1, MaxDelay: time.Hour}.Validate()
	for _, word := range []string{"partition", "segment", "max bytes", "max record", "max delay"} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("got %v, want it to name %s", err, word)
		}
	}
	if _, err := wal.Open(t.TempDir(), wal.Options{SegmentBytes: 1}); err == nil {
		t.Error("open: got nil with wrong options, want an error")
	}
}

func TestPartitionIsFixed(t *testing.T) {
	t.Parallel()
	opts := small(vfs.NewMem())
	opts.Partition = 3
	l := open(t, dir, opts)
	receipt := ingesttest.MustAppend(t, l, ingesttest.Records("a", 1)...)
	if l.ID() != 3 || receipt[0].Stream.Partition != 3 {
		t.Errorf("got partition %d, receipt %v, want 3", l.ID(), receipt)
	}
	must(t, l.Close())
	opts.Partition = 4
	if _, err := wal.Open(dir, opts); err == nil || !strings.Contains(err.Error(), "partition 3") {
		t.Errorf("got %v, want it to name the partition that the log has", err)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewPedanticRegistry()
	opts := small(vfs.NewMem())
	opts.Registerer = reg
	l := open(t, dir, opts)
	ingesttest.MustAppend(t, l, ingesttest.Records("a", 60)...)
	ingesttest.MustAppend(t, l, ingesttest.Records("b", 60)...)
	families, err := reg.Gather()
	must(t, err)
	got := map[string]float64{}
	for _, f := range families {
		m := f.GetMetric()[0]
		got[f.GetName()] = m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
	}
	want := map[string]float64{
		"millrace_wal_append_duration_seconds": 2, "millrace_wal_fsync_duration_seconds": 2, "millrace_wal_segments": 2,
		"millrace_wal_oldest_unflushed_age_seconds": 0, "millrace_wal_bytes": float64(held(l)),
	}
	for name, value := range want {
		if v, ok := got[name]; !ok || v != value {
			t.Errorf("%s: got %v, %v, want %v", name, v, ok, value)
		}
	}
	if got["millrace_buffer_disk_free_bytes"] == 0 {
		t.Error("got no free space")
	}
	_, err = wal.Open("/other", opts)
	if !errors.As(err, &prometheus.AlreadyRegisteredError{}) {
		t.Errorf("second log on one registry: got %v, want an error", err)
	}
	must(t, l.Close())
	opts.FS = vfs.NewMem()
	must(t, open(t, dir, opts).Close()) // The names are free again.
}
