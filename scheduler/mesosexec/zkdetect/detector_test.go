package zkdetect

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"millrace/scheduler/mesosexec"
)

var _ mesosexec.Detector = (*Detector)(nil)

// keeper is a ZooKeeper with one directory.
type keeper struct {
	mu      sync.Mutex // guards the rest
	there   bool
	nodes   map[string]string
	watches []chan zk.Event
	broken  error // what every request says
	auth    string
	closed  int
}

func (k *keeper) change(set func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	set()
	for _, w := range k.watches {
		e := zk.Event{Type: zk.EventNodeChildrenChanged}
		if k.broken != nil {
			e = zk.Event{Type: zk.EventNotWatching, Err: k.broken}
		}
		w <- e
	}
	k.watches = nil
}

func (k *keeper) watch() <-chan zk.Event {
	w := make(chan zk.Event, 1)
	k.watches = append(k.watches, w)
	return w
}

func (k *keeper) ChildrenW(string) ([]string, *zk.Stat, <-chan zk.Event, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.broken != nil {
		return nil, nil, nil, k.broken
	}
	if !k.there {
		return nil, nil, nil, zk.ErrNoNode
	}
	var names []string
	for name := range k.nodes {
		names = append(names, name)
	}
	return names, nil, k.watch(), nil
}

func (k *keeper) ExistsW(string) (bool, *zk.Stat, <-chan zk.Event, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.there, nil, k.watch(), k.broken
}

func (k *keeper) Get(path string) ([]byte, *zk.Stat, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	text, ok := k.nodes[path[strings.LastIndex(path, "/")+1:]]
	if !ok {
		return nil, nil, zk.ErrNoNode
	}
	return []byte(text), nil, k.broken
}

func (k *keeper) AddAuth(_ string, auth []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.auth = string(auth)
	return nil
}

func (k *keeper) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed++
}

func info(ip string) string {
	return fmt.Sprintf(`{"address":{"hostname":"%s.example","ip":"%s","port":5050},"hostname":"x","id":"M","ip":16777343,"pid":"master@%s:5050","port":5050,"new":[1]}`, ip, ip, ip)
}

const patience = 60 * time.Second

// watching runs a detector until the test ends.
func watching(t *testing.T, d *Detector) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }() // It ends with stop; the cleanup waits for it.
	t.Cleanup(func() {
		stop()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("got %v, want nil", err)
			}
		case <-time.After(patience):
			t.Error("the detector does not end")
		}
	})
}

// leader waits for the one that leads.
func leader(t *testing.T, d *Detector) (string, <-chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	masters, changed, err := d.Masters(ctx)
	if err != nil || len(masters) != 1 {
		t.Fatalf("got masters %v, %v", masters, err)
	}
	return masters[0], changed
}

func expect(t *testing.T, changed <-chan struct{}) {
	t.Helper()
	select {
	case <-changed:
	case <-time.After(patience):
		t.Fatal("the change is not seen")
	}
}

func TestLeads(t *testing.T) {
	t.Parallel()
	d, err := New("zk://u:p@a,b:7/mesos/", Options{Pause: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(d.servers, []string{"a:2181", "b:7"}) || d.path != "/mesos" {
		t.Errorf("got servers %v, path %s", d.servers, d.path)
	}
	k := &keeper{nodes: map[string]string{"log_replicas": "", "info_0000000001": "old", "json.info_x": "?"}}
	connects := make(chan struct{}, 1)
	d.connect = func() (session, error) {
		select {
		case connects <- struct{}{}:
		default:
		}
		return k, nil
	}
	watching(t, d)
	got := make(chan string, 1)
	go func() { // It ends when there is a leader, which got waits for.
		masters, _, _ := d.Masters(t.Context())
		got <- strings.Join(masters, " ")
	}()
	k.change(func() { k.there = true })
	k.change(func() { k.nodes["json.info_0000000010"] = info("10.0.0.2") })
	select {
	case first := <-got:
		if first != "http://10.0.0.2:5050" {
			t.Errorf("got %s first", first)
		}
	case <-time.After(patience):
		t.Fatal("no master leads")
	}

	_, changed := leader(t, d)
	k.change(func() { k.nodes["json.info_0000000009"] = info("10.0.0.1") })
	expect(t, changed)
	now, changed := leader(t, d)
	if now != "http://10.0.0.1:5050" {
		t.Errorf("got %s, want the one with the lowest sequence", now)
	}

	k.change(func() { k.broken = zk.ErrSessionExpired })
	for range 3 {
		<-connects // It goes on trying.
	}
	if now, _ := leader(t, d); now != "http://10.0.0.1:5050" {
		t.Errorf("got %s without ZooKeeper, want the one that was known", now)
	}
	k.change(func() {
		k.broken = nil
		delete(k.nodes, "json.info_0000000009")
		delete(k.nodes, "json.info_0000000010")
		k.nodes["json.info_0000000011"] = info("10.0.0.1")
	})
	k.change(func() { k.nodes["json.info_0000000012"] = info("10.0.0.2") })
	select {
	case <-changed:
		t.Error("a master that is elected again is another")
	default:
	}
	k.change(func() { delete(k.nodes, "json.info_0000000011") })
	expect(t, changed)
	if now, _ := leader(t, d); now != "http://10.0.0.2:5050" || k.auth != "u:p" {
		t.Errorf("got %s, authenticated by %q", now, k.auth)
	}
}

// TestNobodyLeads: nor does one that can not be read.
func TestNobodyLeads(t *testing.T) {
	t.Parallel()
	d, err := New("zk://a/mesos", Options{Pause: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{there: true, nodes: map[string]string{"json.info_1": "{"}}
	d.connect = func() (session, error) { return k, nil }
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := d.look(k); s == nil || err != nil {
		t.Errorf("got %v", err)
	}
	if masters, _, err := d.Masters(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got masters %v, %v, want none", masters, err)
	}
	k.nodes["json.info_1"] = info("10.0.0.1")
	if _, err := d.look(k); err != nil {
		t.Error(err)
	}
	_, changed := leader(t, d)
	delete(k.nodes, "json.info_1")
	if _, err := d.look(k); err != nil {
		t.Error(err)
	}
	if masters, _, err := d.Masters(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got masters %v, %v, want none", masters, err)
	}
	select {
	case <-changed:
		t.Error("nobody is another")
	default:
	}
	k.broken = zk.ErrNoAuth
	if _, err := d.look(k); !errors.Is(err, zk.ErrNoAuth) || !strings.Contains(err.Error(), "/mesos") {
		t.Errorf("got %v, want %v of /mesos", err, zk.ErrNoAuth)
	}
}

func TestAddress(t *testing.T) {
	t.Parallel()
	tests := []struct {
		https      bool
		info, want string
	}{
		{false, info("10.0.0.1"), "http://10.0.0.1:5050"}, {true, info("10.0.0.1"), "https://10.0.0.1.example:5050"},
		{false, `{"hostname":"m","port":5051}`, "http://m:5051"}, {true, `{"address":{"ip":"::1","port":7}}`, "https://[::1]:7"},
		{false, `{"address":{"ip":"::1"}}`, ""}, {false, `{"port":5050}`, ""}, {false, `info`, ""},
	}
	for _, test := range tests {
		d := Detector{opt: Options{HTTPS: test.https}}
		if got, err := d.address([]byte(test.info)); got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%s: got %q, %v, want %q", test.info, got, err, test.want)
		}
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"http://a/mesos", "zk://a", "zk://a/", "zk:///mesos", "zk://a,/mesos", "zk://u:hunter2@a:x/mesos", "zk://a/mesos?x"} {
		if _, err := New(bad, Options{}); err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "zk://10.0.0.1") {
			t.Errorf("%s: got %v, want an error that says what is wanted, and no password", bad, err)
		}
	}
	if _, err := New("zk://a/mesos", Options{Pause: -1}); err == nil {
		t.Error("got no error for a negative pause")
	}
	if d, err := New("zk://[::1]:2181,h/a/b", Options{}); err != nil || !slices.Equal(d.servers, []string{"[::1]:2181", "h:2181"}) || d.path != "/a/b" {
		t.Errorf("got %+v, %v", d, err)
	}
}

// TestEndsWithoutZooKeeper: requests that wait for a connection end with ctx.
func TestEndsWithoutZooKeeper(t *testing.T) {
	t.Parallel()
	d, err := New("zk://127.0.0.1:1/mesos", Options{})
	if err != nil {
		t.Fatal(err)
	}
	watching(t, d)
}
