package bench

import (
	"fmt"
	"io"
	"slices"
)

// Print writes r as a table for people.
func (r *IngestReport) Print(w io.Writer) error {
	_, _ = fmt.Fprintf(w, "%d CPUs, %d connections, %d events a request\n\n", r.CPUs, r.Conns, r.Events)
	_, _ = fmt.Fprintln(w, "SERVER\tREQ/S\tEVENTS/S\tCPU-S/M\tGENERATOR\tPEAK RSS\tACKED\tIN OBJECTS")
	for _, m := range r.Measured {
		stored := "-"
		if m.Stored > 0 {
			stored = fmt.Sprint(m.Stored)
		}
		_, _ = fmt.Fprintf(w, "%s\t%.0f\t%.0f\t%.2f\t%.0f%%\t%d MiB\t%d\t%s\n", m.Server, m.ReqPerSec, m.EvPerSec, m.ServerCPU,
			100*m.GeneratorShare, m.PeakRSS>>20, m.Events, stored)
	}
	for _, m := range r.Measured {
		if m.LatencyMillis == nil {
			continue
		}
		l := m.LatencyMillis
		_, _ = fmt.Fprintf(w, "\n%s at %.0f requests/s, from when each was due:\tp50 %.2f ms, p90 %.2f, p99 %.2f, p99.9 %.2f, max %.2f\n",
			m.Server, m.Rate, l["p50"], l["p90"], l["p99"], l["p99.9"], l["max"])
		if len(m.Lag) > 0 {
			_, _ = fmt.Fprintf(w, "lag of the log meanwhile:\tfirst %.1f s, last %.1f s, most %.1f s\n", m.Lag[0], m.Lag[len(m.Lag)-1], slices.Max(m.Lag))
		}
		for status, n := range m.Refused {
			_, _ = fmt.Fprintf(w, "answered %d:\t%d requests\n", status, n)
		}
	}
	_, err := fmt.Fprintf(w, "\nverdict:\t%s\n", r.Verdict)
	return err
}
