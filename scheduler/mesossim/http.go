package mesossim

import (
	"fmt"
	"io"
	"net/http"
	"strings"

	"millrace/scheduler/mesos"
)

// Version is the Mesos whose double this is.
const Version = "1.11.0"

// masterHandler is the HTTP of a master. Every path is served under /master too.
func (c *Cluster) masterHandler(m *master) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.Path, "/master")
		c.mu.Lock()
		up, leads, named := m.up && !c.closed, c.leading == m.i, c.named
		target := ""
		if named >= 0 && named != m.i {
			target = fmt.Sprintf("//%s/master%s", hostPort(c.masters[named].port), path)
		}
		c.mu.Unlock()
		switch {
		case !up:
			panic(http.ErrAbortHandler) // Nobody is there.
		case path == "/health":
			bare(w, http.StatusOK)
		case path == "/version":
			reply(w, version())
		case path == mesos.SchedulerPath && !c.authentic(r):
			w.Header().Set("WWW-Authenticate", `Basic realm="mesos-master-scheduler"`)
			refuse(w, http.StatusUnauthorized, "401 Unauthorized.")
		case target != "":
			w.Header().Set("Location", target)
			bare(w, http.StatusTemporaryRedirect)
		case named < 0:
			refuse(w, http.StatusServiceUnavailable, "No leader elected") // Unobserved.
		case !leads:
			refuse(w, http.StatusServiceUnavailable, "Master has not finished recovery")
		case path == mesos.SchedulerPath:
			c.scheduler(w, r)
		default:
			c.operator(w, r, path)
		}
	})
}

// bare answers without a body.
func bare(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(status)
}

func accepted(w http.ResponseWriter) { bare(w, http.StatusAccepted) }

// refuse answers with a text.
func refuse(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Length", fmt.Sprint(len(text)))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

// authentic reports whether a call has credentials that are known, if any are needed.
func (c *Cluster) authentic(r *http.Request) bool {
	name, secret, ok := r.BasicAuth()
	want, known := c.opt.Credentials[name]
	return len(c.opt.Credentials) == 0 || ok && known && secret == want
}

// allows reports whether an Accept header takes JSON.
func allows(accept string) bool {
	return accept == "" || strings.Contains(accept, "application/json") || strings.Contains(accept, "*/*") || strings.Contains(accept, "application/*")
}

// scheduler takes a call of a framework.
func (c *Cluster) scheduler(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		refuse(w, http.StatusMethodNotAllowed, fmt.Sprintf("405 Method Not Allowed. Expecting one of { 'POST' }, but received '%s'.", r.Method))
		return
	}
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		refuse(w, http.StatusUnsupportedMediaType, "Expecting 'Content-Type' of application/json or application/x-protobuf")
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, mesos.MaxRecord))
	if err != nil {
		return
	}
	principal := ""
	if len(c.opt.Credentials) > 0 {
		principal, _, _ = r.BasicAuth()
	}
	call, err := decode(body)
	if err == nil {
		err = validate(call, principal)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	done, cut := c.early(w, call)
	if done {
		return
	}
	id := r.Header.Get(mesos.StreamHeader)
	if call.Type == mesos.CallSubscribe {
		c.subscribe(w, r, call, principal)
		return
	}
	c.mu.Lock()
	status, why := c.check(call, principal, id)
	if status == 0 {
		c.lead.do(c.lead.frameworks[call.FrameworkID.Value], call)
	}
	c.mu.Unlock()
	switch {
	case cut:
		panic(http.ErrAbortHandler)
	case status != 0:
		refuse(w, status, why)
	case call.Type == mesos.CallUpdateFramework:
		bare(w, http.StatusOK)
	default:
		accepted(w)
	}
}

func (c *Cluster) subscribe(w http.ResponseWriter, r *http.Request, call *mesos.Call, principal string) {
	if !allows(r.Header.Get("Accept")) {
		refuse(w, http.StatusNotAcceptable, "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'")
		return
	}
	if r.Header.Get(mesos.StreamHeader) != "" {
		refuse(w, http.StatusBadRequest, "Subscribe calls should not include the 'Mesos-Stream-Id' header")
		return
	}
	s := newStream(c)
	c.mu.Lock()
	lead := c.lead
	if lead != nil {
		lead.subscribe(call, principal, s)
	}
	c.mu.Unlock()
	if lead == nil {
		refuse(w, http.StatusServiceUnavailable, "Master has not finished recovery")
		return
	}
	s.serve(w, r)
}

// check returns why a call that is well-formed is not taken.
func (c *Cluster) check(call *mesos.Call, principal, stream string) (status int, why string) {
	if c.lead == nil {
		return http.StatusServiceUnavailable, "Master has not finished recovery"
	}
	f := c.lead.frameworks[call.FrameworkID.Value]
	switch {
	case f == nil:
		return http.StatusBadRequest, "Framework cannot be found"
	case principal != "" && f.info.Principal != "" && principal != f.info.Principal:
		return http.StatusBadRequest, fmt.Sprintf("Authenticated principal '%s' does not match principal '%s' set in `FrameworkInfo`", principal, f.info.Principal)
	case f.stream == nil:
		return http.StatusForbidden, "Framework is not subscribed"
	case c.opt.Easy.StreamIDs:
	case stream == "":
		return http.StatusBadRequest, "All non-subscribe calls should include the 'Mesos-Stream-Id' header"
	case stream != f.stream.id:
		return http.StatusBadRequest,
			fmt.Sprintf("The stream ID '%s' included in this request didn't match the stream ID currently associated with framework ID %s", stream, f.id)
	}
	return 0, ""
}

// do does what a call asks. MESSAGE, REQUEST and the calls about operations change nothing.
func (l *leader) do(f *framework, call *mesos.Call) {
	switch call.Type {
	case mesos.CallTeardown:
		l.remove(f)
	case mesos.CallAccept:
		l.accept(f, call.Accept)
	case mesos.CallDecline:
		l.decline(f, call.Decline)
	case mesos.CallAcceptInverse:
		l.answerInverse(f, call.AcceptInverse, true)
	case mesos.CallDeclineInverse:
		l.answerInverse(f, call.DeclineInverse, false)
	case mesos.CallRevive:
		l.revive(f, call.Revive)
	case mesos.CallSuppress:
		l.suppress(f, call.Suppress)
	case mesos.CallKill:
		l.kill(f, call.Kill)
	case mesos.CallShutdown:
		l.shutdown(f, call.Shutdown)
	case mesos.CallAcknowledge:
		l.acknowledge(f, call.Acknowledge)
	case mesos.CallReconcile:
		l.reconcile(f, call.Reconcile)
	case mesos.CallUpdateFramework:
		f.update(call.UpdateFramework)
	}
}
