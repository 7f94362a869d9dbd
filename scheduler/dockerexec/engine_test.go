//go:build linux

package dockerexec_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"
)

// engine is a Docker engine whose containers are processes of this machine. It answers what the executor asks, with the published types of the API, and
// keeps their rules: a name is used once, what has ended is started anew by another start, what runs is removed by force only. A container's root is
// a directory with nothing but the files of the attempt; programs are those of the machine, and values of variables that name a file of the attempt are
// changed into its path. Both streams of a program are one, so that their order is kept; in a real engine it is not.
type engine struct {
	*httptest.Server
	t   *testing.T
	dir string

	mu         sync.Mutex // guards the rest, and what containers say
	containers map[string]*box
	images     map[string]bool          // those that are there
	registry   map[string]string        // what is wrong with images that it has, "": nothing
	stuck      map[string]chan struct{} // pulls of these wait
	volumes    map[string]map[string]string
	watchers   map[chan events.Message]bool
	requests   []string // method and path without the version, as they came
	pulls      []string
	auth       []string
	starts     map[string]int // by attempt
	created    []created
	// fault decides what becomes of a request, by its operation and how many of that there were before; see the values below.
	fault func(op string, n int) fault
	seen  map[string]int
	oom   bool // the next container that ends was killed for its memory
}

// created is a request for a container.
type created struct {
	Name string
	*container.Config
	HostConfig *container.HostConfig
}

// fault is what becomes of a request.
type fault int

const (
	sound   fault = iota
	unheard       // the connection breaks before the engine does anything
	unsaid        // it breaks when the engine has done it
	broken        // 500
	refused       // 400
)

// box is a container.
type box struct {
	created
	id, root string
	state    container.State
	cmd      *exec.Cmd
	log      bytes.Buffer
	more     chan struct{} // closed at each change of log and state
}

func newEngine(t *testing.T) *engine {
	t.Helper()
	e := &engine{
		t: t, dir: t.TempDir(), containers: map[string]*box{}, images: map[string]bool{image: true}, registry: map[string]string{},
		volumes: map[string]map[string]string{}, watchers: map[chan events.Message]bool{}, starts: map[string]int{}, seen: map[string]int{},
	}
	e.Server = httptest.NewServer(e)
	t.Cleanup(func() {
		e.CloseClientConnections()
		e.Close()
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, b := range e.containers {
			b.kill(syscall.SIGKILL)
		}
	})
	return e
}

func (e *engine) host() string { return "tcp://" + e.Listener.Addr().String() }

var version = regexp.MustCompile(`^/v[0-9.]+`)

// ServeHTTP implements http.Handler.
func (e *engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := version.ReplaceAllString(r.URL.Path, "")
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	op := r.Method + " " + parts[0] + "/" + parts[len(parts)-1]
	if parts[0] == "containers" && len(parts) == 2 && r.Method == http.MethodDelete {
		op = "DELETE containers"
	}
	if parts[0] == "volumes" && r.Method == http.MethodDelete {
		op = "DELETE volumes"
	}
	e.mu.Lock()
	e.requests = append(e.requests, r.Method+" "+path)
	f := sound
	if e.fault != nil {
		f = e.fault(op, e.seen[op])
	}
	e.seen[op]++
	e.mu.Unlock()
	switch f {
	case unheard:
		panic(http.ErrAbortHandler)
	case unsaid:
		e.answer(httptest.NewRecorder(), r, op, parts)
		panic(http.ErrAbortHandler)
	case broken:
		fail(w, http.StatusInternalServerError, "something is wrong with the engine")
	case refused:
		fail(w, http.StatusBadRequest, "no such thing can be started")
	default:
		e.answer(w, r, op, parts)
	}
}

func (e *engine) answer(w http.ResponseWriter, r *http.Request, op string, parts []string) {
	name := ""
	if len(parts) > 1 {
		name = parts[1]
	}
	switch op {
	case "GET _ping/_ping", "HEAD _ping/_ping":
		w.Header().Set("Api-Version", "1.51")
		w.Header().Set("Ostype", "linux")
	case "GET info/info":
		reply(w, http.StatusOK, map[string]any{"Name": "fake", "ServerVersion": "0", "OSType": "linux", "Architecture": "none"})
	case "POST containers/create":
		e.create(w, r)
	case "GET containers/json":
		if len(parts) == 2 {
			e.list(w, r)
		} else {
			e.inspect(w, name)
		}
	case "POST images/create":
		e.pull(w, r)
	case "GET events/events":
		e.events(w, r)
	case "POST containers/start":
		e.start(w, name)
	case "POST containers/kill":
		e.kill(w, name, r.URL.Query().Get("signal"))
	case "DELETE containers":
		e.remove(w, name, r.URL.Query().Get("force") == "1")
	case "GET containers/logs":
		e.logs(w, r, name)
	case "GET volumes/volumes":
		e.listVolumes(w)
	case "DELETE volumes":
		e.removeVolume(w, name)
	case "PUT containers/archive", "GET containers/archive", "HEAD containers/archive":
		e.archive(w, r, name)
	default:
		fail(w, http.StatusNotImplemented, "the engine of this test knows no "+op)
	}
}

func reply(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}

func fail(w http.ResponseWriter, code int, message string) {
	reply(w, code, map[string]string{"message": message})
}

// find returns a container by name or id; the caller holds mu.
func (e *engine) find(name string) *box {
	for _, b := range e.containers {
		if b.Name == name || b.id == name {
			return b
		}
	}
	return nil
}

func (e *engine) create(w http.ResponseWriter, r *http.Request) {
	c := created{Name: r.URL.Query().Get("name")}
	if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	c.Name = r.URL.Query().Get("name")
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case !regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`).MatchString(c.Name):
		fail(w, http.StatusBadRequest, "Invalid container name ("+c.Name+")")
		return
	case e.find(c.Name) != nil:
		fail(w, http.StatusConflict, `Conflict. The container name "/`+c.Name+`" is already in use`)
		return
	case !e.images[c.Image]:
		fail(w, http.StatusNotFound, "No such image: "+c.Image)
		return
	}
	id := fmt.Sprintf("%064x", len(e.created)+1)
	b := &box{created: c, id: id, root: filepath.Join(e.dir, id), more: make(chan struct{})}
	b.state.Status = container.StateCreated
	for _, m := range c.HostConfig.Mounts {
		if m.Type != mount.TypeVolume {
			continue // directories of the machine are where they are
		}
		at := filepath.Join(e.dir, "volumes", m.Source)
		if err := errors.Join(os.MkdirAll(at, 0o777), os.MkdirAll(filepath.Dir(filepath.Join(b.root, m.Target)), 0o777), os.Symlink(at, filepath.Join(b.root, m.Target))); err != nil {
			fail(w, http.StatusInternalServerError, err.Error())
			return
		}
		e.volumes[m.Source] = m.VolumeOptions.Labels
	}
	e.created = append(e.created, c)
	e.containers[id] = b
	reply(w, http.StatusCreated, container.CreateResponse{ID: id})
}

func (e *engine) start(w http.ResponseWriter, name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	b := e.find(name)
	switch {
	case b == nil:
		fail(w, http.StatusNotFound, "No such container: "+name)
		return
	case b.state.Running:
		w.WriteHeader(http.StatusNotModified)
		return
	}
	e.starts[b.Labels["millrace.attempt"]]++
	b.state = container.State{Status: container.StateRunning, Running: true, StartedAt: time.Now().UTC().Format(time.RFC3339Nano)}
	argv := append(slices.Clone([]string(b.Entrypoint)), b.Cmd...)
	b.cmd = &exec.Cmd{Args: argv, Dir: b.root, SysProcAttr: &syscall.SysProcAttr{Setpgid: true}}
	path := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	b.cmd.Env = []string{"PATH=" + path}
	for _, kv := range b.Env {
		name, val, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(val+"/", "/millrace/") {
			val = b.root + val
		}
		if name == "PATH" {
			path = val
		}
		b.cmd.Env = append(b.cmd.Env, name+"="+val)
	}
	b.cmd.Path = lookUp(argv[0], path)
	pipe, in, err := os.Pipe()
	if err != nil {
		fail(w, http.StatusInternalServerError, err.Error())
		return
	}
	b.cmd.Stdout, b.cmd.Stderr = in, in
	if err := b.cmd.Start(); err != nil { // what the engine's init says and does
		_, _ = fmt.Fprintf(in, "[FATAL tini (7)] exec %s failed: %v\n", argv[0], err)
		b.cmd = nil
	}
	_ = in.Close()
	go e.run(b, pipe) // ends with the process, at the latest when the test does
	e.announce(b, events.ActionStart)
	w.WriteHeader(http.StatusNoContent)
}

func lookUp(name, path string) string {
	if strings.Contains(name, "/") {
		return name
	}
	for _, dir := range filepath.SplitList(path) {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return filepath.Join(dir, name)
		}
	}
	return name
}

// run keeps the output of a container, and notes its end: when its first process has ended all others are killed.
func (e *engine) run(b *box, pipe *os.File) {
	drained := make(chan struct{})
	go func() { // ends with the processes of the container
		defer close(drained)
		defer pipe.Close()
		buf := make([]byte, 32<<10)
		for {
			n, err := pipe.Read(buf)
			e.mu.Lock()
			b.log.Write(buf[:n])
			b.changed()
			e.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	code := 127
	if b.cmd != nil {
		_ = b.cmd.Wait()
		_ = syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL)
		code = b.cmd.ProcessState.ExitCode()
		if ws, ok := b.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			code = 128 + int(ws.Signal())
		}
	}
	<-drained
	e.mu.Lock()
	defer e.mu.Unlock()
	b.state.Status, b.state.Running, b.state.ExitCode = container.StateExited, false, code
	b.state.FinishedAt = time.Now().UTC().Format(time.RFC3339Nano)
	b.state.OOMKilled, e.oom = e.oom, false
	b.changed()
	e.announce(b, events.ActionDie)
}

func (b *box) changed() {
	close(b.more)
	b.more = make(chan struct{})
}

// kill signals the first process, or all that there are: as an engine, whose init passes signals on to its child alone.
func (b *box) kill(sig syscall.Signal) {
	if b.cmd == nil || !b.state.Running {
		return
	}
	pid := b.cmd.Process.Pid
	if sig == syscall.SIGKILL {
		pid = -pid
	}
	_ = syscall.Kill(pid, sig)
}

func (e *engine) kill(w http.ResponseWriter, name, signal string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	b := e.find(name)
	sig, known := map[string]syscall.Signal{"SIGTERM": syscall.SIGTERM, "SIGKILL": syscall.SIGKILL}[signal]
	switch {
	case b == nil:
		fail(w, http.StatusNotFound, "No such container: "+name)
	case !known:
		fail(w, http.StatusBadRequest, "Invalid signal: "+signal)
	case !b.state.Running:
		fail(w, http.StatusConflict, "container is not running")
	default:
		b.kill(sig)
		w.WriteHeader(http.StatusNoContent)
	}
}

func (e *engine) remove(w http.ResponseWriter, name string, force bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	b := e.find(name)
	switch {
	case b == nil:
		fail(w, http.StatusNotFound, "No such container: "+name)
	case b.state.Running && !force:
		fail(w, http.StatusConflict, "cannot remove a running container: stop it before, or remove it by force")
	default:
		b.kill(syscall.SIGKILL)
		delete(e.containers, b.id)
		_ = os.RemoveAll(b.root)
		e.announce(b, events.ActionDestroy)
		w.WriteHeader(http.StatusNoContent)
	}
}

func (e *engine) inspect(w http.ResponseWriter, name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	b := e.find(name)
	if b == nil {
		fail(w, http.StatusNotFound, "No such container: "+name)
		return
	}
	state := b.state
	reply(w, http.StatusOK, container.InspectResponse{ID: b.id, Name: "/" + b.Name, State: &state, Config: b.Config, HostConfig: b.HostConfig})
}

// chosen reports whether labels pass the filters of a request.
func chosen(r *http.Request, labels map[string]string) bool {
	var filters map[string]map[string]bool
	if json.Unmarshal([]byte(r.URL.Query().Get("filters")), &filters) != nil {
		return false
	}
	for want := range filters["label"] {
		if name, val, _ := strings.Cut(want, "="); labels[name] != val {
			return false
		}
	}
	return true
}

func (e *engine) list(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := []container.Summary{}
	for _, b := range e.containers {
		if chosen(r, b.Labels) && (b.state.Running || r.URL.Query().Get("all") == "1") {
			out = append(out, container.Summary{ID: b.id, Names: []string{"/" + b.Name}, Labels: b.Labels, State: b.state.Status})
		}
	}
	reply(w, http.StatusOK, out)
}

// announce tells those who listen; the caller holds mu.
func (e *engine) announce(b *box, what events.Action) {
	for w := range e.watchers {
		select {
		case w <- events.Message{Type: events.ContainerEventType, Action: what, Actor: events.Actor{ID: b.id, Attributes: b.Labels}}:
		default: // An engine drops what a slow listener does not take.
		}
	}
}

func (e *engine) events(w http.ResponseWriter, r *http.Request) {
	news := make(chan events.Message, 64)
	e.mu.Lock()
	e.watchers[news] = true
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.watchers, news)
	}()
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w)
	for enc := json.NewEncoder(w); ; {
		if flush.Flush() != nil {
			return
		}
		select {
		case m := <-news:
			if chosen(r, m.Actor.Attributes) && enc.Encode(m) != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

// logs sends the output as frames: a byte for the stream, three of nothing, the length, the bytes.
func (e *engine) logs(w http.ResponseWriter, r *http.Request, name string) {
	follow := r.URL.Query().Get("follow") == "1"
	w.Header().Set("Content-Type", "application/vnd.docker.multiplexed-stream")
	for at := 0; ; {
		e.mu.Lock()
		b := e.find(name)
		if b == nil {
			e.mu.Unlock()
			if at == 0 {
				fail(w, http.StatusNotFound, "No such container: "+name)
			}
			return
		}
		part, more, running := slices.Clone(b.log.Bytes()[at:]), b.more, b.state.Running
		e.mu.Unlock()
		at += len(part)
		for len(part) > 0 { // in small frames, so that secrets are cut
			n := min(len(part), 1000)
			head := binary.BigEndian.AppendUint32([]byte{1, 0, 0, 0}, uint32(n))
			if _, err := w.Write(append(head, part[:n]...)); err != nil {
				return
			}
			part = part[n:]
		}
		if !follow || !running {
			return
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-more:
		case <-r.Context().Done():
			return
		}
	}
}

func (e *engine) pull(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	name := q.Get("fromImage")
	if tag := q.Get("tag"); strings.HasPrefix(tag, "sha256:") {
		name += "@" + tag
	} else if tag != "" {
		name += ":" + tag
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pulls = append(e.pulls, name)
	e.auth = append(e.auth, r.Header.Get("X-Registry-Auth"))
	if gate := e.stuck[name]; gate != nil {
		e.mu.Unlock()
		select {
		case <-gate:
		case <-r.Context().Done():
		}
		e.mu.Lock()
	}
	problem, there := e.registry[name]
	if !there {
		fail(w, http.StatusNotFound, "manifest for "+name+" not found: manifest unknown")
		return
	}
	w.WriteHeader(http.StatusOK)
	if problem != "" {
		_ = json.NewEncoder(w).Encode(map[string]any{"errorDetail": map[string]string{"message": problem}, "error": problem})
		return
	}
	e.images[name] = true
	_, _ = io.WriteString(w, `{"status":"Downloaded newer image"}`)
}

func (e *engine) listVolumes(w http.ResponseWriter) {
	e.mu.Lock()
	defer e.mu.Unlock()
	type volume struct {
		Name   string
		Labels map[string]string
	}
	all := []volume{}
	for name, labels := range e.volumes {
		all = append(all, volume{name, labels})
	}
	reply(w, http.StatusOK, map[string]any{"Volumes": all, "Warnings": nil})
}

func (e *engine) removeVolume(w http.ResponseWriter, name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, b := range e.containers {
		for _, m := range b.HostConfig.Mounts {
			if m.Source == name {
				fail(w, http.StatusConflict, "volume is in use")
				return
			}
		}
	}
	delete(e.volumes, name)
	w.WriteHeader(http.StatusNoContent)
}

// statHeader is what an engine says of a path.
func statHeader(info os.FileInfo) string {
	text, _ := json.Marshal(container.PathStat{Name: info.Name(), Size: info.Size(), Mode: info.Mode(), Mtime: info.ModTime()})
	return base64.StdEncoding.EncodeToString(text)
}
