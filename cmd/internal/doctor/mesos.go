package doctor

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"millrace/configs"
	"millrace/scheduler/mesos"
	"millrace/scheduler/mesosexec"
	"millrace/scheduler/mesosexec/zkdetect"
)

// leastMesos is the oldest Mesos of which the client knows all that it is told.
var leastMesos = [2]int{1, 9}

// cluster is a Mesos cluster as somebody sees it who only asks.
type cluster struct {
	conf  *configs.MesosExecutor
	http  *http.Client
	auth  func(*http.Request)
	who   string // who we are there, for people
	https bool
}

// checkMesos asks the masters that are configured, and the agents that they name. It registers no framework.
func checkMesos(ctx context.Context, e *Env) []Finding {
	conf := &e.Config.Executors.Mesos
	if !conf.On() {
		return []Finding{{Result: Skip, Why: "no masters are configured"}}
	}
	c, err := openCluster(conf, e.Config.Dir(), e.Config.Path(conf.CA))
	if err != nil {
		return []Finding{{Result: Fail, Why: err.Error(), Fix: "mend executors.mesos: principal with secret, or token, as env:NAME or file:PATH; ca is a file in PEM"}}
	}
	defer c.http.CloseIdleConnections()
	masters, out := c.find(ctx)
	if len(masters) == 0 {
		return out
	}
	leader, found := c.leader(ctx, masters)
	if out = append(out, found...); leader == "" {
		return out
	}
	if f, accepted := c.checkPrincipal(ctx, leader); !accepted {
		return append(out, f)
	} else {
		out = append(out, f)
	}
	out = append(out, c.checkFlags(ctx, leader)...)
	out = append(out, c.checkRoles(ctx, leader)...)
	return append(out, c.checkAgents(ctx, leader)...)
}

// openCluster reads secrets and certificates; ca is the path of conf.CA.
func openCluster(conf *configs.MesosExecutor, dir, ca string) (*cluster, error) {
	c := &cluster{conf: conf, auth: func(*http.Request) {}, who: "somebody without credentials", https: conf.CA != ""}
	switch {
	case conf.Token != "":
		token, err := conf.Token.Resolve(dir)
		if err != nil {
			return nil, fmt.Errorf("executors.mesos.token: %w", err)
		}
		c.auth, c.who = func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token.Reveal()) }, "who has the token"
	case conf.Secret != "":
		secret, err := conf.Secret.Resolve(dir)
		if err != nil {
			return nil, fmt.Errorf("executors.mesos.secret: %w", err)
		}
		c.auth, c.who = func(r *http.Request) { r.SetBasicAuth(conf.Principal, secret.Reveal()) }, "the principal "+conf.Principal
	}
	var conn *tls.Config
	if conf.CA != "" {
		var err error
		if conn, err = mesosexec.TrustAlso(ca); err != nil {
			return nil, fmt.Errorf("executors.mesos.ca: %w", err)
		}
	}
	c.http = &http.Client{
		Timeout: 5 * time.Second,
		Transport: &http.Transport{
			DialContext: (&net.Dialer{Timeout: 3 * time.Second}).DialContext, TLSClientConfig: conn, TLSHandshakeTimeout: 3 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // Where one is sent is what is to be found out.
	}
	return c, nil
}

// maxSaid bounds what is read of an answer, in bytes: a cluster of thousands of agents has tens of MiB to say.
const maxSaid = 64 << 20

// ask sends a request to a master or an agent. into may be nil. The error is nil for every answer.
func (c *cluster) ask(ctx context.Context, method, address, body string, into any) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader([]byte(body)))
	if err != nil {
		return nil, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	c.auth(req)
	resp, err := c.http.Do(req)
	if err != nil {
		if inner := (*url.Error)(nil); errors.As(err, &inner) {
			err = inner.Err // Without the address, which is said anyway.
		}
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxSaid))
	if err == nil && into != nil && resp.StatusCode == http.StatusOK {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return nil, fmt.Errorf("the answer can not be read: %w", err)
	}
	return resp, nil
}

// find returns where masters are: those that are configured, or the one that ZooKeeper names.
func (c *cluster) find(ctx context.Context) ([]string, []Finding) {
	if !strings.HasPrefix(c.conf.Masters[0], "zk://") {
		list, err := mesosexec.NewList(c.conf.Masters...)
		if err != nil {
			return nil, []Finding{{Result: Fail, Why: err.Error(), Fix: "mend executors.mesos.masters"}}
		}
		return list, nil
	}
	out, up := checkServers(ctx, c.conf.Masters[0])
	if !up {
		return nil, out
	}
	d, err := zkdetect.New(c.conf.Masters[0], zkdetect.Options{HTTPS: c.https})
	if err != nil {
		return nil, append(out, Finding{Result: Fail, Why: err.Error(), Fix: "mend executors.mesos.masters"})
	}
	ctx, cancel := context.WithTimeout(ctx, 8*time.Second)
	defer cancel()
	ended := make(chan struct{})
	go func() { // It ends with ctx, and is waited for below.
		defer close(ended)
		_ = d.Run(ctx)
	}()
	masters, _, err := d.Masters(ctx)
	cancel()
	<-ended
	if err != nil {
		return nil, append(out, Finding{
			Result: Fail, Why: err.Error(),
			Fix: "compare the path with the --zk of the masters; if it is theirs, none is elected: start them, or look at their logs. A ZooKeeper with ACLs wants user:password@ before its hosts",
		})
	}
	return masters, append(out, ok("ZooKeeper says that %s leads", masters[0]))
}

// checkServers connects to the servers of an address in ZooKeeper.
func checkServers(ctx context.Context, address string) (out []Finding, up bool) {
	rest := strings.TrimPrefix(address, "zk://")
	hosts, _, _ := strings.Cut(rest[strings.LastIndex(rest, "@")+1:], "/")
	const fix = "start ZooKeeper, or mend executors.mesos.masters; a framework that knows its master goes on without it, and does not find the next one"
	for host := range strings.SplitSeq(hosts, ",") {
		if _, _, err := net.SplitHostPort(host); err != nil {
			host = net.JoinHostPort(strings.Trim(host, "[]"), "2181")
		}
		conn, err := (&net.Dialer{Timeout: 3 * time.Second}).DialContext(ctx, "tcp", host)
		if err != nil {
			out = append(out, Finding{Result: Warn, Why: "ZooKeeper: " + err.Error(), Fix: fix})
			continue
		}
		_ = conn.Close()
		up = true
	}
	for i := range out {
		if !up {
			out[i].Result = Fail
		}
	}
	return out, up
}

// leader asks each master what it is, and who leads. Without one, the last finding says why.
func (c *cluster) leader(ctx context.Context, masters []string) (leader string, out []Finding) {
	leads := map[string][]string{}
	for _, m := range masters {
		f, version := c.checkMaster(ctx, m)
		out = append(out, f...)
		if !version {
			continue
		}
		switch who, refused, err := c.leadsAt(ctx, m); {
		case refused:
			return m, out // Why is found out next; a follower, too, asks first who we are.
		case err != nil:
			out = append(out, Finding{Result: Warn, Why: fmt.Sprintf("%s does not know who leads: %v", m, err), Fix: "wait for the election; if it lasts, look at the masters' logs: is there a quorum?"})
		default:
			leader = cmp.Or(leader, who)
			leads[who] = append(leads[who], m)
		}
	}
	switch len(leads) {
	case 0:
		return "", append(out, Finding{Result: Fail, Why: "no master that leads was found", Fix: "see above; executors.mesos.masters names " + strings.Join(c.conf.Masters, ", ")})
	case 1:
		return leader, append(out, ok("%s leads", leader))
	}
	var told []string
	for who, by := range leads {
		told = append(told, fmt.Sprintf("%s by %s", who, strings.Join(by, ", ")))
	}
	slices.Sort(told)
	return leader, append(out, Finding{
		Result: Warn, Why: "the masters do not agree on who leads: " + strings.Join(told, "; "),
		Fix: "if it lasts longer than an election, they are not of one cluster: compare their --zk and --cluster, and executors.mesos.masters",
	})
}

// checkMaster asks a master for its version, which all may know, and looks at its clock.
func (c *cluster) checkMaster(ctx context.Context, master string) (out []Finding, isMaster bool) {
	var said struct {
		Version string `json:"version"`
	}
	begin := time.Now()
	resp, err := c.ask(ctx, http.MethodGet, master+"/version", "", &said)
	if err != nil {
		return []Finding{{
			Result: Warn, Why: fmt.Sprintf("%s can not be reached: %v", master, err),
			Fix: "check address, port and firewall from this machine: curl " + master + "/version",
		}}, false
	}
	number, err := parseVersion(said.Version)
	switch {
	case resp.StatusCode != http.StatusOK || err != nil:
		return []Finding{{
			Result: Fail, Why: fmt.Sprintf("what answers at %s is no Mesos master: %s to /version", master, resp.Status),
			Fix: "give the masters' own addresses, usually port 5050; not that of an agent, of a proxy or of Marathon",
		}}, false
	case number[0] < leastMesos[0] || number[0] == leastMesos[0] && number[1] < leastMesos[1]:
		out = append(out, Finding{
			Result: Warn, Why: fmt.Sprintf("%s is Mesos %s; millrace knows what %d.%d and later say", master, said.Version, leastMesos[0], leastMesos[1]),
			Fix: "upgrade the cluster; until then, limits of tasks and constraints on offers are not kept by it",
		})
	default:
		out = append(out, ok("%s is Mesos %s", master, said.Version))
	}
	if off, _ := skew(begin, resp); off.Abs() >= skewWarn {
		out = append(out, Finding{
			Result: Warn, Why: fmt.Sprintf("the clock is %v %s that of %s: tasks seem to start and end at other times than they do", off.Abs(), side(off), master), Fix: setClock,
		})
	}
	return out, true
}

func parseVersion(text string) (n [2]int, err error) {
	parts := strings.SplitN(text, ".", 3)
	if len(parts) < 2 {
		return n, fmt.Errorf("%q is no version", text)
	}
	for i := range n {
		if n[i], err = strconv.Atoi(parts[i]); err != nil {
			return n, err
		}
	}
	return n, nil
}

// leadsAt returns who leads by what a master says: itself, or whom it sends to. refused says that it does not talk with us.
func (c *cluster) leadsAt(ctx context.Context, master string) (who string, refused bool, err error) {
	resp, err := c.ask(ctx, http.MethodPost, master+mesos.SchedulerPath, "{}", nil) // It is no call, and changes nothing.
	if err != nil {
		return "", false, err
	}
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return "", true, nil
	case http.StatusServiceUnavailable:
		return "", false, errors.New(resp.Status)
	case http.StatusTemporaryRedirect:
	default:
		return master, false, nil
	}
	to, err := resp.Location()
	if err != nil {
		return "", false, fmt.Errorf("it sends on: %w", err)
	}
	if to.Scheme != resp.Request.URL.Scheme {
		return "", false, fmt.Errorf("it sends on from %s to %s, where credentials are not sent", resp.Request.URL.Scheme, to.Scheme)
	}
	return to.Scheme + "://" + to.Host, false, nil
}

// checkPrincipal asks whether the leader takes our credentials: what it is sent is no call, and is refused for that, but only from those that it knows.
func (c *cluster) checkPrincipal(ctx context.Context, leader string) (f Finding, accepted bool) {
	resp, err := c.ask(ctx, http.MethodPost, leader+mesos.SchedulerPath, "{}", nil)
	switch {
	case err != nil:
		return Finding{Result: Fail, Why: fmt.Sprintf("%s, which leads, can not be reached: %v", leader, err), Fix: "masters send frameworks to the leader by its own address: it must be reachable from this machine"}, false
	case resp.StatusCode == http.StatusUnauthorized:
		return Finding{
			Result: Fail, Why: fmt.Sprintf("%s does not know %s: %s", leader, c.who, resp.Status),
			Fix: "set executors.mesos.principal and secret, or token, to what is in the masters' --credentials or their authenticator; it wants " + cmp.Or(resp.Header.Get("WWW-Authenticate"), "it does not say what"),
		}, false
	case resp.StatusCode == http.StatusForbidden:
		return Finding{
			Result: Fail, Why: fmt.Sprintf("%s knows %s, and refuses frameworks of it: %s", leader, c.who, resp.Status),
			Fix: "let the principal register frameworks: register_frameworks in the masters' --acls",
		}, false
	}
	return ok("%s takes calls of %s; which roles it may register for is known only when it does", leader, c.who), true
}
