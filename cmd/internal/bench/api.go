package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// get asks the server's console.
func (p *process) get(ctx context.Context, path string, query url.Values, out any) error {
	return p.call(ctx, http.MethodGet, path+"?"+query.Encode(), out)
}

func (p *process) call(ctx context.Context, method, path string, out any) error {
	token, err := os.ReadFile(filepath.Join(p.dir, "console.token"))
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+p.console+"/api/v1"+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(out)
}

// metric returns the sum of a metric's samples.
func (p *process) metric(ctx context.Context, name string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.console+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	sum := 0.0
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		line := lines.Text()
		if !strings.HasPrefix(line, name+" ") && !strings.HasPrefix(line, name+"{") {
			continue
		}
		v, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("metric %s: %w", name, err)
		}
		sum += v
	}
	return sum, nil
}

// watchLag samples the log's lag each second for d; the channel has one value.
func (p *process) watchLag(ctx context.Context, d time.Duration, really bool) <-chan []float64 {
	out := make(chan []float64, 1)
	if !really {
		out <- nil
		return out
	}
	go func() { // ends after d; the caller receives
		var lag []float64
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for end := time.Now().Add(d); time.Now().Before(end) && ctx.Err() == nil; <-tick.C {
			if v, err := p.metric(ctx, "millrace_log_lag_seconds"); err == nil {
				lag = append(lag, v)
			}
		}
		out <- lag
	}()
	return out
}

// checkStored waits until every acknowledged event is in an object, and has the server verify its chain.
func (p *process) checkStored(ctx context.Context, m *Measured, acked int64) error {
	deadline := time.Now().Add(2 * time.Minute)
	for {
		var err error
		if m.Stored, err = p.stored(ctx); err != nil {
			return err
		}
		if m.Stored >= acked || time.Now().After(deadline) || ctx.Err() != nil {
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	if m.Stored < acked || m.Stored > acked+m.Unsure {
		return fmt.Errorf("%w: %d acknowledged, %d without an answer, %d stored", errLost, acked, m.Unsure, m.Stored)
	}
	var report struct {
		OK bool `json:"ok"`
	}
	if err := p.call(ctx, http.MethodPost, "/verify", &report); err != nil {
		return err
	}
	if !report.OK {
		return fmt.Errorf("%w: verify found faults", errLost)
	}
	return nil
}

// stored sums the rows of all batches.
func (p *process) stored(ctx context.Context) (int64, error) {
	var sum int64
	query := url.Values{"limit": {"1000"}, "source": {"web"}}
	for {
		var page struct {
			Items []struct {
				Events int64 `json:"events"`
			} `json:"items"`
			Next string `json:"next"`
		}
		if err := p.get(ctx, "/batches", query, &page); err != nil {
			return 0, err
		}
		for _, b := range page.Items {
			sum += b.Events
		}
		if page.Next == "" {
			return sum, nil
		}
		query.Set("before", page.Next)
	}
}
