package doctor

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"millrace/cmd/internal/loopback"
	"millrace/configs"
	"millrace/scheduler/mesos"
	"millrace/scheduler/mesossim"
)

// double starts a double of a cluster.
func double(t *testing.T, o mesossim.Options) *mesossim.Cluster {
	t.Helper()
	o.Dir = t.TempDir()
	c, err := mesossim.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// behind is a master that says what another one does, but for what change makes of it.
func behind(t *testing.T, c *mesossim.Cluster, change func(r *http.Response)) string {
	t.Helper()
	target, err := url.Parse(c.URL())
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Header.Set("Accept-Encoding", "identity") // What it says is to be changed as a text.
		},
		ModifyResponse: func(r *http.Response) error { change(r); return nil },
	})
	t.Cleanup(srv.Close)
	return srv.URL
}

// says replaces the body of the answers at a path.
func says(path string, body func(old string) string) func(*http.Response) {
	return func(r *http.Response) {
		if r.Request.URL.Path != path {
			return
		}
		old, _ := io.ReadAll(r.Body) // What is missing of it is missed below.
		text := body(string(old))
		r.Body, r.ContentLength = io.NopCloser(bytes.NewBufferString(text)), int64(len(text))
		r.Header.Set("Content-Length", fmt.Sprint(len(text)))
	}
}

// findings runs the check on a configuration.
func findings(t *testing.T, set func(m *configs.MesosExecutor)) ([]Finding, bool) {
	t.Helper()
	l, err := configs.Load(configs.Default(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	set(&l.Executors.Mesos)
	var out []Finding
	sound := Run(t.Context(), &Env{Config: l}, []string{"mesos"}, func(f Finding) { out = append(out, f) })
	return out, sound
}

var address = regexp.MustCompile(`@127[0-9.:]+`)

func masters(of ...string) func(m *configs.MesosExecutor) {
	return func(m *configs.MesosExecutor) { m.Masters = of }
}

// trouble is what is wrong with a cluster, and a part of what is to be said of it.
type trouble struct {
	name     string
	set      func(m *configs.MesosExecutor)
	result   Result
	why, fix string
}

func (c *trouble) isFound(t *testing.T) {
	got, sound := findings(t, c.set)
	for _, f := range got {
		if f.Result == c.result && strings.Contains(f.Why, c.why) && strings.Contains(f.Fix, c.fix) {
			if sound == (c.result == Fail) {
				t.Errorf("sound: got %v, of %+v", sound, got)
			}
			return
		}
	}
	t.Errorf("got %+v, want %s: %s, fix: %s", got, c.result, c.why, c.fix)
}

// TestMesosMasters: what keeps masters from being found, or from taking us, is said, and what to do about it.
func TestMesosMasters(t *testing.T) {
	t.Parallel()
	plain := double(t, mesossim.Options{Agents: make([]mesossim.AgentOptions, 2)})
	locked := double(t, mesossim.Options{Masters: 2, Credentials: map[string]string{"millrace": "s3cret"}})
	wrong := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(wrong, []byte("other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	nobody := freeAddress(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	website := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(website.Close)
	for _, c := range []trouble{
		{"nothing there", masters("http://" + nobody), Fail, "no master that leads was found", "executors.mesos.masters names http://" + nobody},
		{"one of two there", masters("http://"+nobody, plain.URL()), Warn, nobody + " can not be reached: dial tcp", "check address, port and firewall"},
		{"a website", masters(website.URL), Fail, "is no Mesos master: 404", "usually port 5050"},
		{"unknown secret", func(m *configs.MesosExecutor) {
			m.Masters, m.Principal, m.Secret = locked.Masters(), "millrace", configs.SecretRef("file:"+wrong)
		}, Fail, "does not know the principal millrace: 401", `Basic realm="mesos-master-scheduler"`},
		{"no secret", masters(locked.Masters()...), Fail, "does not know somebody without credentials: 401", "--credentials"},
		{"missing secret", func(m *configs.MesosExecutor) {
			m.Masters, m.Principal, m.Secret = locked.Masters(), "millrace", "env:NO_SUCH_SECRET"
		}, Fail, "NO_SUCH_SECRET is not set", "executors.mesos"},
		{"no ZooKeeper", masters("zk://" + nobody + "/mesos"), Fail, "ZooKeeper: dial tcp " + nobody, "start ZooKeeper"},
		{"no leader in ZooKeeper", masters("zk://" + silent.Addr().String() + "/mesos"), Fail, "no master leads, by what ZooKeeper has at /mesos", "--zk of the masters"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.isFound(t)
		})
	}
}

// TestMesosCluster: so is what is wrong with a cluster that takes us.
func TestMesosCluster(t *testing.T) {
	t.Parallel()
	plain := double(t, mesossim.Options{Agents: make([]mesossim.AgentOptions, 2)})
	nobody := freeAddress(t)
	bare := double(t, mesossim.Options{})
	if err := bare.KillAgent(0); err != nil {
		t.Fatal(err)
	}
	full := double(t, mesossim.Options{
		Limits: map[string]map[string]float64{"batch": {"cpus": 0, "mem": 64}}, Flags: map[string]string{"agent_reregister_timeout": "1.5hrs", "offer_timeout": "10secs", "roles": "web,batch"},
	})
	for _, c := range []trouble{
		{"an old master", masters(behind(t, plain, says("/version", func(string) string { return `{"version":"1.8.1"}` }))), Warn, "is Mesos 1.8.1", "upgrade the cluster"},
		{"a clock", masters(behind(t, plain, func(r *http.Response) {
			r.Header.Set("Date", time.Now().Add(2*time.Hour).UTC().Format(http.TimeFormat))
		})), Warn, "behind that of http://127.0.0.1", "set the clock"},
		{"refused", masters(behind(t, plain, func(r *http.Response) {
			if r.Request.URL.Path == mesos.SchedulerPath {
				r.StatusCode, r.Status = http.StatusForbidden, "403 Forbidden"
			}
		})), Fail, "refuses frameworks of it", "register_frameworks"},
		{"agents not visible", masters(behind(t, plain, func(r *http.Response) {
			if r.Request.URL.Path == "/slaves" {
				r.StatusCode, r.Status = http.StatusForbidden, "403 Forbidden"
			}
		})), Skip, "agents: not visible to us: 403", ""},
		{"no agents", masters(bare.URL()), Fail, "none of them active", "start agents"},
		{"files of agents", masters(behind(t, plain, says("/slaves", func(old string) string { return address.ReplaceAllString(old, "@"+nobody) }))), Warn,
			"logs of tasks on 2 of 2 agents can not be read (127.0.0.1, 127.0.0.1): connect: connection refused", "--advertise_ip"},
		{"settle", masters(full.URL()), Warn, "settle is 11m0s, and agents have 1h30m0s", "more than 1h30m0s"},
		{"hold", masters(full.URL()), Warn, "hold is 30s, and the masters take offers back after 10s", "--offer_timeout"},
		{"role", func(m *configs.MesosExecutor) { m.Masters, m.Roles = []string{full.URL()}, []string{"batch", "night"} }, Fail, "know the roles web,batch, not night", "--roles"},
		{"quota", func(m *configs.MesosExecutor) { m.Masters, m.Roles = []string{full.URL()}, []string{"batch"} }, Warn, "role batch is used up: 0 of 0 cpus", "raise the quota"},
		{"no GPUs", func(m *configs.MesosExecutor) { m.Masters, m.GPU = []string{plain.URL()}, true }, Warn, "no agent has GPUs", "take gpu away"},
		{"two clusters", masters(plain.URL(), bare.URL()), Warn, "do not agree on who leads", "not of one cluster"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.isFound(t)
		})
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	addr, err := loopback.Free()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// TestMesosSound: of a cluster that is all right, it is said what there is. Nothing is left there.
func TestMesosSound(t *testing.T) {
	t.Parallel()
	c := double(t, mesossim.Options{
		Masters: 3, Credentials: map[string]string{"millrace": "s3cret"},
		Agents: []mesossim.AgentOptions{
			{Hostname: "a", Attributes: []mesos.Attribute{{Name: "rack", Type: mesos.TypeText, Text: &mesos.Text{Value: "r1"}}}},
			{Hostname: "b", Resources: mesossim.Resources(16, 1024, 512)},
		},
	})
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, sound := findings(t, func(m *configs.MesosExecutor) {
		m.Masters, m.Principal, m.Secret = c.Masters(), "millrace", configs.SecretRef("file:"+secret)
	})
	var all strings.Builder
	for _, f := range got {
		fmt.Fprintln(&all, f.Result, f.Why)
		if f.Result != OK {
			t.Errorf("got %+v", f)
		}
	}
	for _, want := range []string{
		c.Masters()[2] + " is Mesos 1.11.0", c.URL() + " leads", "takes calls of the principal millrace", "given up after 11m0s; its agents have 140ms",
		"2 agents, 2 of them active: 24 of 24 CPUs and 9216 of 9216 MiB of memory are free; a task can have at most 16 CPUs, 8192 MiB of memory, 20480 MiB of disk; attributes for constraints: rack",
		"0 GPUs", "files API of 2 agents answers",
	} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("got %s\nwant %q in it", all.String(), want)
		}
	}
	resp, err := http.Get(c.URL() + "/frameworks")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if text, err := io.ReadAll(resp.Body); err != nil || !sound || !strings.Contains(string(text), `"frameworks":[]`) || !strings.Contains(string(text), `"completed_frameworks":[]`) {
		t.Errorf("sound %v, %v, frameworks of the cluster: %s", sound, err, text)
	}
}

// TestMesosTLS: a master with a certificate of an authority of its own is known by executors.mesos.ca, and not without.
func TestMesosTLS(t *testing.T) {
	t.Parallel()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/version" {
			_, _ = io.WriteString(w, `{"version":"1.11.0"}`)
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0) // It is told of the handshake that fails.
	srv.StartTLS()
	t.Cleanup(srv.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		ca, want string
	}{
		{"", "certificate signed by unknown authority"}, {ca, "does not know who leads: 503"}, {filepath.Join(filepath.Dir(ca), "none"), "executors.mesos.ca: read certificate authority"},
	} {
		got, sound := findings(t, func(m *configs.MesosExecutor) { m.Masters, m.CA = []string{srv.URL}, c.ca })
		if !slices.ContainsFunc(got, func(f Finding) bool { return strings.Contains(f.Why, c.want) }) || sound {
			t.Errorf("ca %q: got %+v, want %q", c.ca, got, c.want)
		}
	}
}

func TestMesosDurations(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{"10mins": 10 * time.Minute, "75secs": 75 * time.Second, "1.5hrs": 90 * time.Minute, "500ms": 500 * time.Millisecond, "2weeks": 14 * 24 * time.Hour} {
		if got, err := parseMesosDuration(text); err != nil || got != want {
			t.Errorf("%s: got %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "10", "mins", "1 min", "1..5secs"} {
		if got, err := parseMesosDuration(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}
