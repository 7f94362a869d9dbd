package mesosexec

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"millrace/scheduler"
	"millrace/scheduler/mesos"
	"millrace/scheduler/mesosexec/match"
	"millrace/scheduler/mesossim"
)

// one is a framework that launches one attempt.
type one struct {
	t    *testing.T
	c    *Client
	l    *scheduler.Launch
	o    TaskOptions
	kill func(st *mesos.TaskStatus) bool // nil: it is not killed

	sent     bool
	statuses []mesos.TaskStatus
	over     chan struct{} // closed by the last update
}

// handle is the Handler: the first offer is for the attempt, and each update is acknowledged.
func (f *one) handle(ctx context.Context, e *mesos.Event) error {
	switch {
	case e.Type == mesos.EventOffers && !f.sent:
		result := match.Place(&match.Input{Now: time.Now(), Offers: e.Offers.Offers, Asks: []match.Ask{{ID: f.l.ID, Needs: needsOf(f.l, f.o)}}})
		if len(result.Accepts) == 0 {
			f.t.Errorf("found no place: %v", result.Unplaced)
			return nil
		}
		a := result.Accepts[0]
		info, err := taskOf(f.l, &a.Tasks[0], a.AgentID, f.o)
		if err != nil {
			f.t.Errorf("can not be launched: %v", err)
			return nil
		}
		f.sent = true
		return f.c.Call(ctx, &mesos.Call{Type: mesos.CallAccept, Accept: &mesos.Accept{OfferIDs: a.OfferIDs, Operations: []mesos.Operation{
			{Type: mesos.OperationLaunch, Launch: &mesos.Launch{TaskInfos: []mesos.TaskInfo{*info}}}}}})
	case e.Type == mesos.EventUpdate:
		st := e.Update.Status
		f.statuses = append(f.statuses, st)
		if f.kill != nil && f.kill(&st) {
			f.kill = nil
			if err := f.c.Call(ctx, &mesos.Call{Type: mesos.CallKill, Kill: &mesos.Kill{TaskID: st.TaskID, AgentID: st.AgentID}}); err != nil {
				return err
			}
		}
		if err := f.c.Call(ctx, &mesos.Call{Type: mesos.CallAcknowledge, Acknowledge: &mesos.Acknowledge{AgentID: st.AgentID, TaskID: st.TaskID, UUID: st.UUID}}); err != nil {
			return err
		}
		if st.State.Terminal() {
			close(f.over)
		}
	}
	return nil
}

// ran is what became of an attempt.
type ran struct {
	box
	statuses []mesos.TaskStatus
}

// end is the last update.
func (r ran) end() *mesos.TaskStatus { return &r.statuses[len(r.statuses)-1] }

// play runs an attempt on an agent of the double, where the protocol's seconds are hundredths.
func (f *one) play(t *testing.T, opt mesossim.Options) ran {
	t.Helper()
	f.t, f.over = t, make(chan struct{})
	opt.Allocation = 10 * time.Millisecond
	sim, err := mesossim.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sim.Close() })
	list, err := NewList(sim.Masters()...)
	if err != nil {
		t.Fatal(err)
	}
	f.c, err = New(list, &memory{}, func() mesos.Subscribe {
		return mesos.Subscribe{FrameworkInfo: mesos.FrameworkInfo{User: "root", Name: "millrace", Roles: []string{"*"}, FailoverTimeout: 1e6, Checkpoint: true,
			Capabilities: []mesos.Capability{{Type: mesos.CapMultiRole}, {Type: mesos.CapPartitionAware}, {Type: mesos.CapTaskKilling}}}}
	}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.c.Run(ctx, f.handle) }() // It ends with stop, below.
	defer func() { stop(); <-ended }()
	select {
	case <-f.over:
	case err := <-ended:
		t.Fatalf("the framework has ended: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("the task does not end")
	}
	return ran{box{sim.Tasks()[0].Dir}, f.statuses}
}

// quick is a cluster on which hours are seconds, but for what is waited for.
func quick() mesossim.Options { return mesossim.Options{Second: 10 * time.Millisecond} }

// script makes the task of a launch a shell script.
func script(l *scheduler.Launch, text string) *scheduler.Launch {
	l.Argv, l.Env = []string{"sh", "-c", text}, append(l.Env, path)
	return l
}

// TestTasksOnAnAgent: what a task asks for is seen by a process, which an agent of the double starts by way of the wrapper.
func TestTasksOnAnAgent(t *testing.T) {
	t.Parallel()
	t.Run("contract", func(t *testing.T) {
		t.Parallel()
		l := script(launchOf(t, "{run: [x]}"), `pwd; cat "$MILLRACE_INPUT"; echo err >&2; echo '{"n":1}' >"$MILLRACE_OUTPUT"; env | grep -E "MESOS|LIBPROCESS"; exit 3`)
		l.Input = []byte(`{"a":"` + strings.Repeat("é'\\\\", 5000) + `"}`)
		r := (&one{l: l}).play(t, quick())
		if got, want := r.read(t, "stdout"), r.dir+"/work\n"+string(l.Input)+"err\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if v := Judge(r.end(), Known{Attempt: l.ID}); v.Report.Outcome != scheduler.OutcomeExited || v.Report.Exit != 3 || r.read(t, outputFile) != "{\"n\":1}\n" {
			t.Errorf("got %+v", v.Report)
		}
	})
	t.Run("docker", func(t *testing.T) { // There are no images here; that the shell takes the place of the entrypoint is what is seen.
		t.Parallel()
		l := script(launchOf(t, "{image: load, run: [x], container: {containerizer: docker}}"), `cat "$MILLRACE_INPUT"`)
		l.Input = []byte(strings.Repeat("x", 3*partBytes))
		if r := (&one{l: l}).play(t, quick()); r.end().State != mesos.TaskFinished || r.read(t, "stdout") != string(l.Input) {
			t.Errorf("got %+v", r.end())
		}
	})
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		l := launchOf(t, "{run: [no-such-program]}")
		l.Env = append(l.Env, path)
		if r := (&one{l: l}).play(t, quick()); r.end().Message != "Command exited with status 127" || !strings.HasPrefix(r.read(t, refusedFile), `command "no-such-program": not found in PATH`) {
			t.Errorf("got %+v", r.end())
		}
	})
	t.Run("ports", func(t *testing.T) {
		t.Parallel()
		l := script(launchOf(t, "{run: [x], ports: [{}, 31005]}"), `echo "$PORT0 $PORT1 $PORTS"`)
		if got := (&one{l: l}).play(t, quick()).read(t, "stdout"); got != "31000 31005 31000,31005\n" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("user", func(t *testing.T) {
		t.Parallel()
		who := anotherUser(t)
		for _, task := range []string{"{run: [x], user: " + who.Username + "}", "{run: [x]}"} {
			l := script(launchOf(t, task), `id -u; touch "$MILLRACE_OUTPUT" file`)
			r := (&one{l: l, o: TaskOptions{User: who.Username}}).play(t, mesossim.Options{Second: 10 * time.Millisecond, Dir: openDir(t)})
			if got := strings.TrimSpace(r.read(t, "stdout")); got != who.Uid || r.end().State != mesos.TaskFinished {
				t.Errorf("%s: got %q and %s, want %s", task, got, r.end().State, who.Uid)
			}
		}
		l := script(launchOf(t, "{run: [x], user: nobody-has-this-name}"), "true")
		if r := (&one{l: l}).play(t, quick()); r.end().Reason != mesos.ReasonContainerLaunchFailed {
			t.Errorf("got %+v, want that the container could not be launched", r.end())
		}
	})
}

// anotherUser is one that this process can be: if it is root, another.
func anotherUser(t *testing.T) *user.User {
	t.Helper()
	who, err := user.Current()
	if err == nil && who.Uid == "0" {
		who, err = user.Lookup("nobody")
	}
	if err != nil {
		t.Fatal(err)
	}
	return who
}

// openDir is a directory that any user can enter, which those of a test are not.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "agents-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestURIsOnAnAgent: what is fetched is where the command starts, unpacked if it is an archive, executable if it is a program.
func TestURIsOnAnAgent(t *testing.T) {
	t.Parallel()
	var tgz, zipped bytes.Buffer
	z := gzip.NewWriter(&tgz)
	archive := tar.NewWriter(z)
	content := []byte("#!/bin/sh\necho tool\n")
	err := archive.WriteHeader(&tar.Header{Name: "bin/tool", Mode: 0o755, Size: int64(len(content)), Typeflag: tar.TypeReg})
	if err == nil {
		_, err = archive.Write(content)
	}
	if err == nil {
		err = archive.Close()
	}
	if err == nil {
		err = z.Close()
	}
	zw := zip.NewWriter(&zipped)
	var w io.Writer
	if err == nil {
		w, err = zw.Create("words.txt")
	}
	if err == nil {
		_, err = w.Write([]byte("words\n"))
	}
	if err == nil {
		err = zw.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	files := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := map[string][]byte{"/a.tgz": tgz.Bytes(), "/b.zip": zipped.Bytes(), "/c": []byte("#!/bin/sh\necho c\n"), "/d.zip": []byte("no archive\n")}[r.URL.Path]
		if body == nil {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(body)
	}))
	t.Cleanup(files.Close)
	local := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(local, []byte("local\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := script(launchOf(t, `{run: [x], uris: ["`+files.URL+`/a.tgz", "`+files.URL+`/b.zip", {value: "`+files.URL+`/c", executable: true, output_file: e/f}, {value: "`+files.URL+
		`/d.zip", extract: false}, "`+local+`"]}`), "bin/tool && cat words.txt && e/f && cat d.zip plain && test ! -x plain")
	if r := (&one{l: l}).play(t, quick()); r.read(t, "stdout") != "tool\nwords\nc\nno archive\nlocal\n" || r.end().State != mesos.TaskFinished {
		t.Errorf("got %q and %+v", r.read(t, "stdout"), r.end())
	}

	lost := script(launchOf(t, `{run: [x], uris: "`+files.URL+`/none"}`), "true")
	if r := (&one{l: lost}).play(t, quick()); r.end().Reason != mesos.ReasonContainerLaunchFailed {
		t.Errorf("got %+v, want that the container could not be launched", r.end())
	}
}

// TestHealthOnAnAgent: a task whose check fails is ended; as long as it passes, it is not.
func TestHealthOnAnAgent(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/good" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(server.Close)
	port := server.URL[strings.LastIndexByte(server.URL, ':')+1:]
	const times = ", delay: 0s, interval: 1s, timeout: 1h, grace: 0s, failures: 2}}"
	const waits = "while ! test -e stop; do sleep 0.05; done"
	for _, c := range []struct {
		name, check string
		healthy     bool
	}{
		{"http", "http: {port: " + port + ", path: /good}", true},
		{"http, ill", "http: {port: " + port + ", path: /bad}", false},
		{"tcp", "tcp: {port: " + port + "}", true},
		{"tcp, ill", "tcp: {port_index: 0}", false}, // nothing listens there
		{"command", `command: 'test "$PORT0" -gt 0'`, true},
		{"command, ill", `command: ["false"]`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := script(launchOf(t, "{run: [x], ports: 1, timeout: {grace: 1h}, health_check: {"+c.check+times), waits)
			f := &one{l: l, kill: func(st *mesos.TaskStatus) bool { return st.Healthy != nil && *st.Healthy }}
			r := f.play(t, quick())
			known := Known{Attempt: l.ID, Killed: c.healthy}
			v := Judge(r.end(), known)
			if ill := v.Report.Reason == "failed its health check"; v.Report.Outcome != scheduler.OutcomeExited || v.Report.Signal != "SIGTERM" || ill == c.healthy {
				t.Errorf("got %+v", v.Report)
			}
		})
	}
}

// TestTimesOnAnAgent: a task that takes too long is ended at once; one that is killed has its grace.
func TestTimesOnAnAgent(t *testing.T) {
	t.Parallel()
	const deaf = `trap "echo asked" TERM; echo ready; while true; do sleep 0.05; done`
	late := script(launchOf(t, "{run: [x], timeout: {run: 20s, grace: 1h}}"), deaf)
	r := (&one{l: late}).play(t, quick())
	if v := Judge(r.end(), Known{Attempt: late.ID}); v.Report.Outcome != scheduler.OutcomeTimeout {
		t.Errorf("got %+v, want a timeout", v.Report)
	}
	for _, c := range []struct {
		grace, takes string
		want         bool
	}{{"10h", "0.2", true}, {"0s", "1000", false}} { // 0s is as good as nothing: an agent gives 3 s.
		l := script(launchOf(t, "{run: [x], timeout: {grace: "+c.grace+"}, health_check: {command: test -e ready, delay: 0s, interval: 1s, timeout: 1h, grace: 10h}}"),
			`trap "echo asked; sleep `+c.takes+`; echo cleaned; exit 0" TERM; touch ../ready; while true; do sleep 0.05; done`)
		r := (&one{l: l, kill: func(st *mesos.TaskStatus) bool { return st.Healthy != nil && *st.Healthy }}).play(t, quick())
		// Without grace it may be killed before it can say that it was asked.
		if out := r.read(t, "stdout"); c.want && !strings.Contains(out, "asked\n") || strings.Contains(out, "cleaned\n") != c.want || r.end().State != mesos.TaskKilled {
			t.Errorf("grace %s: got %q and %s, want that it cleans up: %v", c.grace, out, r.end().State, c.want)
		}
	}
}
