package clickstream

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"millrace/ingest"
)

// one is a track event of 544 bytes, of the shape that browsers send.
func one(n int) []byte {
	ev := fmt.Appendf(nil, `{"type":"track","event":"Order Completed","messageId":"ajs-next-1763886%09d-4b0c-9f21","anonymousId":"5c6d0a2e-7f3b-4d5e-8a9b-%012d",`+
		`"userId":"user-%d","timestamp":"2026-11-23T08:38:31.123Z","context":{"library":{"name":"analytics.js","version":"npm:next-1.84.1"},`+
		`"page":{"path":"/checkout","referrer":"","title":"Checkout","url":"https://shop.example.com/checkout"},"locale":"de-DE"},`+
		`"properties":{"order_id":"%d","total":129.95,"currency":"EUR","products":[{"sku":"A-1","quantity":1,"price":99.95}],"coupon":"`, n, n, n, n)
	for len(ev) < 544-3 {
		ev = append(ev, 'x')
	}
	return append(ev, `"}}`...)
}

func many(n int) []byte {
	body := []byte(`{"batch":[`)
	for i := range n {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, one(i)...)
	}
	return append(body, `],"sentAt":"2026-11-23T08:38:32.000Z","writeKey":"wk"}`...)
}

func benchmarkDecode(b *testing.B, body []byte, typ Type, events int) {
	d, router := NewDecoder(Limits{}), anyKey{NewTarget(&ingest.Source{Tenant: "default", Name: "web"})}
	in := Input{Received: time.UnixMicro(1795423115000123).UTC()}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if err := d.Scan(body, typ); err != nil {
			b.Fatal(err)
		}
		in.Key = d.WriteKey()
		recs, err := d.Records(router, in)
		if err != nil || len(recs) != events || recs[0].Lane.Quarantine() {
			b.Fatalf("got %d records, error %v, want %d", len(recs), err, events)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(events), "ns/event")
}

func BenchmarkDecodeSingle(b *testing.B)   { benchmarkDecode(b, one(7), Track, 1) }
func BenchmarkDecodeBatch100(b *testing.B) { benchmarkDecode(b, many(100), 0, 100) }

type anyKey struct{ t *Target }

func (a anyKey) Route([]byte) *Target { return a.t }

// BenchmarkFields compares what finds the fields of a batch of 100: the scanner here, gjson (Valid, then ForEach twice), and the standard
// library into a struct with raw fields. None of them writes a row.
func BenchmarkFields(b *testing.B) {
	body := many(100)
	b.Run("scanner", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		d := NewDecoder(Limits{})
		for b.Loop() {
			if d.Scan(body, 0) != nil || len(d.items) != 100 {
				b.Fatal("not read")
			}
		}
	})
	b.Run("gjson", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		for b.Loop() {
			if n := gjsonFields(body); n != 100*7 {
				b.Fatalf("got %d fields, want 700", n)
			}
		}
	})
	b.Run("std", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		for b.Loop() {
			var got struct{ Batch []map[string]json.RawMessage }
			if json.Unmarshal(body, &got) != nil || len(got.Batch) != 100 {
				b.Fatal("not read")
			}
		}
	})
	b.Run("gjson valid only", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		for b.Loop() {
			if !gjson.ValidBytes(body) {
				b.Fatal("not valid")
			}
		}
	})
	b.Run("scanner valid only", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		for b.Loop() {
			s := scanner{buf: body}
			if s.value(0, 0) != len(body) {
				b.Fatal("not valid")
			}
		}
	})
}

func gjsonFields(body []byte) (n int) {
	if !gjson.ValidBytes(body) {
		return -1
	}
	gjson.ParseBytes(body).ForEach(func(k, v gjson.Result) bool {
		if k.Str == "batch" {
			v.ForEach(func(_, ev gjson.Result) bool {
				ev.ForEach(func(k, v gjson.Result) bool {
					if f := fieldOf([]byte(k.Str)); f != other && len(v.Raw) > 0 {
						n++
					}
					return true
				})
				return true
			})
		}
		return true
	})
	return n
}

func TestBenchmarkEvent(t *testing.T) {
	t.Parallel()
	if ev := one(7); len(ev) != 544 || !json.Valid(ev) || bytes.Contains(ev, []byte("\n")) {
		t.Errorf("the benchmark's event has %d bytes, want 544 of JSON", len(ev))
	}
}
