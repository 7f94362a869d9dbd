package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"millrace/scheduler"
)

// errNoFile says that an agent has no such file or directory.
var errNoFile = errors.New("the agent has no such file")

// agents asks agents. Safe for concurrent use.
type agents struct {
	opt     Options
	http    *http.Client
	metrics *metrics
	slots   chan struct{} // has an element for each request under way

	mu  sync.Mutex // guards what follows
	all map[string]*agent
}

// agent is what is known of one.
type agent struct {
	slots  chan struct{} // as above, of those to it
	failed int           // requests in a row without an answer
	until  time.Time     // nobody looks before this; Finish asks nevertheless
}

func newAgents(opt Options, m *metrics) *agents {
	return &agents{opt: opt, metrics: m, slots: make(chan struct{}, opt.Parallel), all: map[string]*agent{}, http: &http.Client{Transport: &http.Transport{
		// No proxy of the environment: agents are beside us.
		DialContext:         (&net.Dialer{Timeout: opt.RequestTimeout, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:     opt.TLS,
		TLSHandshakeTimeout: opt.RequestTimeout,
		MaxIdleConns:        8 * opt.Parallel,
		MaxIdleConnsPerHost: opt.PerAgent,
		IdleConnTimeout:     30 * time.Second,
		DisableCompression:  true,
	}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (a *agents) of(base string) *agent {
	a.mu.Lock()
	defer a.mu.Unlock()
	one := a.all[base]
	if one == nil {
		one = &agent{slots: make(chan struct{}, a.opt.PerAgent)}
		a.all[base] = one
	}
	return one
}

// places returns how many may look at an agent at once, and until when it is left alone since it does not answer.
func (a *agents) places(base string) (n int, until time.Time) {
	one := a.of(base)
	a.mu.Lock()
	defer a.mu.Unlock()
	if one.failed > 0 {
		return 1, one.until
	}
	return a.opt.PerAgent, time.Time{}
}

// note remembers whether an agent has answered, and says so if that has changed.
func (a *agents) note(base string, one *agent, err error) {
	a.mu.Lock()
	failed := one.failed
	if err == nil {
		one.failed, one.until = 0, time.Time{}
	} else {
		one.failed++
		one.until = time.Now().Add(min(250*time.Millisecond<<min(failed, 10), 10*time.Second))
	}
	a.mu.Unlock()
	switch {
	case err == nil && failed > 0:
		a.opt.Logger.Info("mesos agent gives files again", "agent", base)
	case err != nil && failed == 0:
		a.opt.Logger.Warn("mesos agent gives no files: logs stand still", "agent", base, "err", err)
	}
}

// fileInfo is a file as an agent lists it. Times are in whole seconds.
type fileInfo struct {
	Path  string `json:"path"`
	Size  int64  `json:"size"`
	Mode  uint32 `json:"mode"`
	MTime struct {
		Nanoseconds int64 `json:"nanoseconds"`
	} `json:"mtime"`
}

// regular says that it is a plain file, or that the agent does not say.
func (i fileInfo) regular() bool { return i.Mode&0o170000 == 0 || i.Mode&0o170000 == 0o100000 }

// call is a request of the agent's API, v1.
type call struct {
	Type      string    `json:"type"`
	ReadFile  *readFile `json:"read_file,omitempty"`
	ListFiles *listing  `json:"list_files,omitempty"`
}

type readFile struct {
	Path   string `json:"path"`
	Offset int64  `json:"offset"`
	Length int64  `json:"length"`
}

type listing struct {
	Path string `json:"path"`
}

// answer is what comes back.
type answer struct {
	ReadFile struct {
		Size int64  `json:"size"`
		Data []byte `json:"data"`
	} `json:"read_file"`
	ListFiles struct {
		FileInfos []fileInfo `json:"file_infos"`
	} `json:"list_files"`
}

// list returns the files of a directory by their names; errNoFile if there is no such directory.
func (a *agents) list(ctx context.Context, t *Task) (map[string]fileInfo, error) {
	res, err := a.ask(ctx, t, call{Type: "LIST_FILES", ListFiles: &listing{t.Dir}})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", t.Dir, err)
	}
	out := make(map[string]fileInfo, len(res.ListFiles.FileInfos))
	for _, info := range res.ListFiles.FileInfos {
		out[path.Base(info.Path)] = info
	}
	return out, nil
}

// read returns a piece of a file from an offset on, which is shorter than asked for as the agent likes, and empty only at the end; and the file's size.
func (a *agents) read(ctx context.Context, t *Task, name string, offset, length int64) (data []byte, size int64, err error) {
	file := t.Dir + "/" + name
	res, err := a.ask(ctx, t, call{Type: "READ_FILE", ReadFile: &readFile{file, offset, length}})
	if err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", file, err)
	}
	data = res.ReadFile.Data
	a.metrics.bytes.Add(float64(len(data)))
	return data, res.ReadFile.Size, nil
}

// ask sends a request when there is a place for it. What is no answer wraps scheduler.ErrUnavailable.
func (a *agents) ask(ctx context.Context, t *Task, c call) (*answer, error) {
	one := a.of(t.Agent)
	for _, slots := range []chan struct{}{one.slots, a.slots} {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		case <-ctx.Done():
			return nil, fmt.Errorf("ask agent %s: %w: %w", t.Agent, scheduler.ErrUnavailable, ctx.Err())
		}
	}
	begun := time.Now()
	res, err := a.send(ctx, t.Agent, c)
	result, failed := "ok", err
	switch {
	case errors.Is(err, errNoFile):
		result, failed = "no_file", nil
	case err != nil:
		result = "error"
	}
	if ctx.Err() == nil {
		a.note(t.Agent, one, failed)
	}
	a.metrics.requests.WithLabelValues(c.Type, result).Observe(time.Since(begun).Seconds())
	if failed != nil {
		return nil, fmt.Errorf("ask agent %s: %w: %w", t.Agent, scheduler.ErrUnavailable, err)
	}
	return res, err
}

// maxAnswer bounds an answer: the list of some 200,000 files. A piece of a file has at most 64 KiB, before base64.
const maxAnswer = 64 << 20

func (a *agents) send(ctx context.Context, base string, c call) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, a.opt.RequestTimeout)
	defer cancel()
	body, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	for used := ""; ; {
		header, err := a.opt.Authorization(used)
		if err != nil {
			return nil, err
		}
		res, err := a.post(ctx, base, header, body)
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
		_ = res.Body.Close() // It was read.
		switch {
		case err != nil:
			return nil, err
		case res.StatusCode == http.StatusUnauthorized && header != "" && header != used:
			used = header // Once more, if there is another by now.
			continue
		case res.StatusCode == http.StatusNotFound:
			return nil, errNoFile
		case res.StatusCode != http.StatusOK:
			return nil, fmt.Errorf("%s: %s", res.Status, strings.TrimSpace(string(text[:min(len(text), 200)])))
		}
		out := new(answer)
		if err := json.Unmarshal(text, out); err != nil {
			return nil, fmt.Errorf("read the answer: %w", err)
		}
		return out, nil
	}
}

func (a *agents) post(ctx context.Context, base, header string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(base, "/")+"/api/v1", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	if header != "" {
		req.Header.Set("Authorization", header)
	}
	return a.http.Do(req)
}
