package wal_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"millrace/ingest"
	"millrace/ingest/ingesttest"
	"millrace/ingest/vfs"
	"millrace/ingest/wal"
)

// cpu returns the processor time that the process used.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// report adds records per second and processor time per record, which does not depend on what else the machine does.
func report(b *testing.B, records int64, start time.Time, used time.Duration) {
	b.ReportMetric(float64(records)/time.Since(start).Seconds(), "rec/s")
	b.ReportMetric(float64((cpu()-used).Nanoseconds())/float64(records), "cpu-ns/rec")
}

func benchLog(b *testing.B, opts wal.Options) *wal.Log {
	b.Helper()
	l, err := wal.Open(b.TempDir(), opts)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	return l
}

// BenchmarkAppend writes records of 600 bytes with 64 writers, who each wait for durability, to a real disk and to one in memory (what is
// left then is the log's own cost). A trimmer behind them keeps the log small.
func BenchmarkAppend(b *testing.B) {
	for _, batch := range []int{1, 100} {
		for name, opts := range map[string]wal.Options{"disk": {}, "nosync": {FS: noSync{vfs.OS}}} {
			b.Run(fmt.Sprintf("%s/batch=%d", name, batch), func(b *testing.B) {
				l := benchLog(b, opts)
				recs := make([]ingest.Record, batch)
				for i := range recs {
					recs[i] = ingesttest.Record(fmt.Sprint("r", i), "k", 520)
				}
				var calls atomic.Int64
				var wg sync.WaitGroup
				b.ResetTimer()
				start, used := time.Now(), cpu()
				for range 64 {
					wg.Go(func() {
						for n := calls.Add(1); n <= int64(b.N); n = calls.Add(1) {
							if _, err := l.Append(context.Background(), recs); err != nil {
								b.Error(err)
								return
							}
							if n%1000 == 0 {
								_, next, _ := l.Bounds(context.Background())
								_ = l.Trim(context.Background(), l.Incarnations()[0].Stream, next)
							}
						}
					})
				}
				wg.Wait()
				report(b, int64(b.N)*int64(batch), start, used)
			})
		}
	}
}

// noSync leaves out the syncs.
type noSync struct{ vfs.FS }

type noSyncFile struct{ vfs.File }

func (f noSync) OpenFile(name string, flag int) (vfs.File, error) {
	file, err := f.FS.OpenFile(name, flag)
	return noSyncFile{file}, err
}

func (noSyncFile) Sync() error { return nil }

// BenchmarkRead reads a log of 128 MiB in pieces of 1 MiB, with checksums, from the page cache.
func BenchmarkRead(b *testing.B) {
	l := benchLog(b, wal.Options{})
	recs := make([]ingest.Record, 1000)
	for i := range recs {
		recs[i] = ingesttest.Record(fmt.Sprint("r", i), "k", 520)
	}
	for range 200 {
		if _, err := l.Append(context.Background(), recs); err != nil {
			b.Fatal(err)
		}
	}
	var buf []ingest.Stored
	var records int64
	b.ReportAllocs()
	b.ResetTimer()
	start, used := time.Now(), cpu()
	for from := int64(0); b.Loop(); {
		got, next, err := l.Read(context.Background(), from, 1<<20, buf)
		if err != nil {
			b.Fatal(err)
		}
		if from = next; len(got) == 0 {
			from = 0
		}
		for _, r := range got {
			b.SetBytes(int64(len(r.Bytes) * len(got)))
			break
		}
		records += int64(len(got))
		buf = got
	}
	report(b, records, start, used)
}
