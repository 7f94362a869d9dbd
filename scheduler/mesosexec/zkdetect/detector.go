// Package zkdetect finds the Mesos master that leads by ZooKeeper, where masters that stand for election each keep a node: the one with the lowest
// sequence leads. [Detector] is a mesosexec.Detector.
//
//	/mesos/json.info_0000000007   {"address":{"ip":"10.0.0.1","port":5050}, …}   leads
//	/mesos/json.info_0000000009   {"address":{"ip":"10.0.0.2","port":5050}, …}
//	/mesos/log_replicas/…                                                         is something else
//
// It only reads. While ZooKeeper can not be reached, the leader that was known last stays known: a framework needs ZooKeeper to find a master, not to
// keep the one that it has. It remembers nothing over a restart, so there is nothing for a crash to spoil.
package zkdetect

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"

	"millrace/scheduler/mesos"
)

// Options tune a [Detector]. The zero value works.
type Options struct {
	// HTTPS says that the masters speak TLS; then they are called by their hostnames, which their certificates have, else by their addresses.
	HTTPS bool
	// SessionTimeout is for how long ZooKeeper keeps our session while it does not hear from us; default 10 s.
	SessionTimeout time.Duration
	// Pause is between an error and the next try; default 1 s.
	Pause time.Duration
	// Logger may be nil.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.SessionTimeout == 0 {
		o.SessionTimeout = 10 * time.Second
	}
	if o.Pause == 0 {
		o.Pause = time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Validate reports all that is wrong with o.
func (o Options) Validate() error {
	if o.SessionTimeout < 0 || o.Pause < 0 {
		return errors.New("a duration is negative")
	}
	return nil
}

// Detector watches who leads, while it runs.
type Detector struct {
	servers []string
	path    string
	auth    string // user:password, or ""
	opt     Options
	connect func() (session, error)

	mu      sync.Mutex    // guards the rest
	last    string        // the leader that was known last, "" before the first
	leads   bool          // it still does
	known   chan struct{} // closed when there is a leader again
	changed chan struct{} // closed when another than last leads
}

// session is what is used of a connection to ZooKeeper. Safe for concurrent use.
type session interface {
	ChildrenW(path string) ([]string, *zk.Stat, <-chan zk.Event, error)
	ExistsW(path string) (bool, *zk.Stat, <-chan zk.Event, error)
	Get(path string) ([]byte, *zk.Stat, error)
	AddAuth(scheme string, auth []byte) error
	Close()
}

// New reads an address such as zk://10.0.0.1:2181,10.0.0.2:2181/mesos; user:password@ may come before the hosts, and 2181 may be left out.
func New(address string, opt Options) (*Detector, error) {
	if err := opt.Validate(); err != nil {
		return nil, err
	}
	const want = "want one like zk://10.0.0.1:2181,10.0.0.2:2181/mesos"
	d := &Detector{opt: opt.withDefaults(), known: make(chan struct{}), changed: make(chan struct{})}
	rest, ok := strings.CutPrefix(address, "zk://")
	if !ok {
		return nil, fmt.Errorf("the address in ZooKeeper does not begin with zk://; %s", want)
	}
	hosts, path, _ := strings.Cut(rest, "/")
	if at := strings.LastIndex(hosts, "@"); at >= 0 { // Errors below do not show what stands before it.
		d.auth, hosts = hosts[:at], hosts[at+1:]
	}
	if d.path = strings.Trim(path, "/"); d.path == "" || strings.ContainsAny(d.path, "?#") {
		return nil, fmt.Errorf("the address in ZooKeeper has the path %q; %s", path, want)
	}
	d.path = "/" + d.path
	for host := range strings.SplitSeq(hosts, ",") {
		u, err := url.Parse("zk://" + host)
		if err != nil || u.Hostname() == "" || u.Host != host {
			return nil, fmt.Errorf("the address in ZooKeeper has the host %q; %s", host, want)
		}
		d.servers = append(d.servers, net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "2181")))
	}
	d.connect = d.dial
	return d, nil
}

// maxNode bounds what is read of ZooKeeper at once, in bytes; it has itself a bound of 1 MiB.
const maxNode = 4 << 20

func (d *Detector) dial() (session, error) {
	// Its events are those of the watches, too, which we have.
	conn, _, err := zk.Connect(d.servers, d.opt.SessionTimeout, zk.WithLogger(logger{d.opt.Logger}), zk.WithLogInfo(false), zk.WithMaxBufferSize(maxNode))
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// logger passes on what the client of ZooKeeper has to say.
type logger struct{ to *slog.Logger }

// Printf implements zk.Logger.
func (l logger) Printf(format string, args ...any) {
	l.to.Warn("zookeeper", "detail", fmt.Sprintf(format, args...))
}

// Masters implements mesosexec.Detector: it waits until a master leads. changed is closed when another one does.
func (d *Detector) Masters(ctx context.Context) ([]string, <-chan struct{}, error) {
	for {
		d.mu.Lock()
		last, leads, known, changed := d.last, d.leads, d.known, d.changed
		d.mu.Unlock()
		if leads {
			return []string{last}, changed, nil
		}
		select {
		case <-known:
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("no master leads, by what ZooKeeper has at %s: %w", d.path, ctx.Err())
		}
	}
}

// Run watches until ctx ends, and returns nil then. Call it once at a time.
func (d *Detector) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := d.watch(ctx); err != nil && ctx.Err() == nil {
			d.opt.Logger.Warn("the leading mesos master can not be watched, the one that was known stays", "err", err)
			t := time.NewTimer(d.opt.Pause)
			select {
			case <-t.C:
			case <-ctx.Done():
			}
			t.Stop()
		}
	}
	return nil
}

// watch watches with one session, which reconnects by itself, until ctx ends or something fails.
func (d *Detector) watch(ctx context.Context) error {
	s, err := d.connect()
	if err != nil {
		return fmt.Errorf("connect to ZooKeeper: %w", err)
	}
	stop := context.AfterFunc(ctx, s.Close) // Requests wait for a connection, else for ever.
	defer func() {
		stop()
		s.Close()
	}()
	if d.auth != "" {
		if err := s.AddAuth("digest", []byte(d.auth)); err != nil {
			return fmt.Errorf("authenticate at ZooKeeper: %w", err)
		}
	}
	for {
		again, err := d.look(s)
		if err != nil {
			return err
		}
		select {
		case e := <-again:
			if e.Err != nil {
				return fmt.Errorf("watch %s: %w", d.path, e.Err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// look reads who leads. The channel says when to look again.
func (d *Detector) look(s session) (<-chan zk.Event, error) {
	nodes, _, again, err := s.ChildrenW(d.path)
	if errors.Is(err, zk.ErrNoNode) { // No master has ever been there.
		there, _, again, err := s.ExistsW(d.path)
		if err != nil {
			return nil, fmt.Errorf("watch %s: %w", d.path, err)
		}
		if !there {
			d.set("")
			return again, nil
		}
		return d.look(s)
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", d.path, err)
	}
	first := lowest(nodes)
	if first == "" {
		d.set("")
		return again, nil
	}
	data, _, err := s.Get(d.path + "/" + first)
	if errors.Is(err, zk.ErrNoNode) { // It has just gone, of which again tells.
		return again, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s/%s: %w", d.path, first, err)
	}
	leader, err := d.address(data)
	if err != nil {
		d.opt.Logger.Error("what the leading mesos master says of itself can not be read", "node", first, "err", err)
	}
	d.set(leader)
	return again, nil
}

// nodePrefix is that of the nodes of masters, before the ten digits of their sequence.
const nodePrefix = "json.info_"

// lowest returns the node with the lowest sequence, "" if there is none.
func lowest(nodes []string) string {
	type node struct {
		name     string
		sequence int64
	}
	var masters []node
	for _, name := range nodes {
		digits, ok := strings.CutPrefix(name, nodePrefix)
		if sequence, err := strconv.ParseInt(digits, 10, 64); ok && err == nil {
			masters = append(masters, node{name, sequence})
		}
	}
	if len(masters) == 0 {
		return ""
	}
	return slices.MinFunc(masters, func(a, b node) int { return cmp.Compare(a.sequence, b.sequence) }).name
}

// address returns the base address of a master by what it says of itself.
func (d *Detector) address(data []byte) (string, error) {
	var info mesos.MasterInfo
	if err := json.Unmarshal(data, &info); err != nil {
		return "", err
	}
	host, ip, port := info.Hostname, "", int(info.Port)
	if a := info.Address; a != nil {
		host, ip, port = cmp.Or(a.Hostname, host), a.IP, a.Port
	}
	scheme := "http"
	if d.opt.HTTPS {
		scheme, ip, host = "https", host, ip
	}
	if host = cmp.Or(ip, host); host == "" || port <= 0 {
		return "", fmt.Errorf("it has the host %q and the port %d", host, port)
	}
	return scheme + "://" + net.JoinHostPort(host, strconv.Itoa(port)), nil
}

// set notes who leads, "" for nobody. Nobody is no reason to leave a master: perhaps it is elected again.
func (d *Detector) set(leader string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if leader == "" {
		if d.leads {
			d.leads, d.known = false, make(chan struct{})
		}
		return
	}
	if leader != d.last {
		d.opt.Logger.Info("a mesos master leads", "master", leader)
		close(d.changed)
		d.last, d.changed = leader, make(chan struct{})
	}
	if !d.leads {
		d.leads = true
		close(d.known)
	}
}
