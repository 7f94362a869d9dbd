package mesossim

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"millrace/scheduler/mesos"
)

// differences is the written list of what is not compared, or not as it is.
//   - Ids of frameworks, agents, offers, masters, containers and streams, uuids, and ports, in values and in texts: another, but everywhere the same other.
//   - Times, process ids, owners of files: that they are there.
//   - Date, Connection, and how long a body is: that they are there, but for Connection.
//   - The place of a record among those of other kinds and other tasks: what the master did first depended on its luck.
//   - The lines of Mesos's own executor in stderr, and therefore its size.
//   - Which of a group's statuses have networks and a pid of the executor: the agent asks its containers for them at the same time.
//   - /state and /frameworks: what the double says must be there and of that type; a real one says more.
//   - An update that comes between the last call of a stream and its end.
//   - The agent's directory, in whose place there is another.
var differences = []string{"timestamp", "nanoseconds", "executor_pid", "mtime", "uid", "gid"}

// compare returns how a value of the double differs from one of the trace.
func (r *replay) compare(path string, want, got any, trace string) []string {
	last := path[strings.LastIndex(path, ".")+1:]
	if slices.Contains(differences, last) || strings.Contains(path, "mtime.") {
		if (want == nil) != (got == nil) {
			return []string{fmt.Sprintf("%s: got %v, want %v", path, got, want)}
		}
		return nil
	}
	switch want := want.(type) {
	case map[string]any:
		got, ok := got.(map[string]any)
		if !ok {
			return []string{fmt.Sprintf("%s: got %v, want %v", path, got, want)}
		}
		return r.compareObject(path, want, got, trace)
	case []any:
		got, ok := got.([]any)
		if !ok || len(got) != len(want) {
			return []string{fmt.Sprintf("%s: got %v, want %v", path, got, want)}
		}
		var out []string
		for i := range want {
			out = append(out, r.compare(fmt.Sprintf("%s[%d]", path, i), want[i], got[i], trace)...)
		}
		return out
	case string:
		got, ok := got.(string)
		if !ok || !r.same(last, want, got) {
			return []string{fmt.Sprintf("%s: got %q, want %q", path, got, want)}
		}
		return nil
	case float64:
		if last == "port" && r.bind(fmt.Sprintf("127.0.0.1:%v", want), fmt.Sprintf("127.0.0.1:%v", got)) {
			return nil
		}
	}
	if want != got {
		return []string{fmt.Sprintf("%s: got %v, want %v", path, got, want)}
	}
	return nil
}

func (r *replay) compareObject(path string, want, got map[string]any, trace string) []string {
	keys := map[string]bool{}
	for k := range want {
		keys[k] = true
	}
	for k := range got {
		keys[k] = true
	}
	stderr := strings.HasSuffix(fmt.Sprint(want["path"]), "/stderr")
	nested := dig(want, "container_id", "parent") != nil
	var out []string
	for k := range keys {
		if stderr && k == "size" || nested && (k == "network_infos" || k == "executor_pid") {
			continue
		}
		w, inWant := want[k]
		g, inGot := got[k]
		if inWant != inGot {
			out = append(out, fmt.Sprintf("%s.%s: got %v, want %v", path, k, g, w))
			continue
		}
		out = append(out, r.compare(path+"."+k, w, g, trace)...)
	}
	return out
}

// same compares texts but for the ids in them.
func (r *replay) same(field, want, got string) bool {
	if field == "uuid" {
		return len(want) == len(got) && r.bind(want, got)
	}
	want = strings.ReplaceAll(want, traceWork+"/", r.c.agents[0].work+"/")
	if strings.Contains(want, "exec.cpp:") {
		want, got = withoutLog(want), withoutLog(got)
	}
	theirs, ours := tokens.FindAllString(want, -1), tokens.FindAllString(got, -1)
	if len(theirs) != len(ours) || tokens.ReplaceAllString(want, "#") != tokens.ReplaceAllString(got, "#") {
		return false
	}
	for i := range theirs {
		if !r.bind(theirs[i], ours[i]) {
			return false
		}
	}
	return true
}

// withoutLog drops the lines of the executor.
func withoutLog(text string) string {
	var out []string
	for line := range strings.Lines(text) {
		if len(line) < 5 || line[0] != 'I' || line[1] < '0' || line[1] > '9' {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

// head compares the status and the headers of an answer.
func (r *replay) head(l traceLine, status int, res *http.Response) {
	if res.StatusCode != status {
		r.t.Errorf("%s: got status %d, want %d", l.at(), res.StatusCode, status)
	}
	seen := map[string]bool{"Connection": true, "Date": true}
	for _, h := range l.Headers {
		seen[http.CanonicalHeaderKey(h[0])] = true
		got := res.Header.Get(h[0])
		switch h[0] {
		case "Date", "Content-Length":
			if got == "" {
				r.t.Errorf("%s: got no header %s", l.at(), h[0])
			}
		case "Transfer-Encoding":
			if len(res.TransferEncoding) != 1 || res.TransferEncoding[0] != h[1] {
				r.t.Errorf("%s: got encoding %v, want %s", l.at(), res.TransferEncoding, h[1])
			}
		default:
			if !r.same("", h[1], got) {
				r.t.Errorf("%s: got header %s: %q, want %q", l.at(), h[0], got, h[1])
			}
		}
	}
	for name := range res.Header {
		if !seen[name] {
			r.t.Errorf("%s: got header %s: %q, want none", l.at(), name, res.Header.Get(name))
		}
	}
}

// answer compares a whole answer.
func (r *replay) answer(l traceLine, path string) {
	a := r.answers[l.conn()]
	r.replies++
	r.head(l, l.Status, a.res)
	r.body(l, path, a.body)
}

func (r *replay) body(l traceLine, path string, body []byte) {
	var want, got any
	if len(l.JSON) > 0 && string(l.JSON) != "null" {
		if err := json.Unmarshal(l.JSON, &want); err != nil {
			r.t.Fatal(err)
		}
		if err := json.Unmarshal(body, &got); err != nil {
			r.t.Errorf("%s: got %q: %v", l.at(), body, err)
			return
		}
		if path == "/state" || path == "/frameworks" {
			for _, d := range within("", got, want) {
				r.t.Errorf("%s: %s", l.at(), d)
			}
			return
		}
		for _, d := range r.compare("", want, got, l.trace) {
			r.t.Errorf("%s: %s", l.at(), d)
		}
		return
	}
	if l.Body != nil && l.header("Content-Encoding") == "" && !r.same("", *l.Body, string(body)) {
		r.t.Errorf("%s: got body %q, want %q", l.at(), body, *l.Body)
	}
}

// within returns what is in one value that is not in the other, or of another type. Of lists, the first items are held against one another.
func within(path string, got, want any) []string {
	switch got := got.(type) {
	case map[string]any:
		want, ok := want.(map[string]any)
		if !ok {
			return []string{fmt.Sprintf("%s: got an object, want %T", path, want)}
		}
		var out []string
		for k, v := range got {
			w, there := want[k]
			if !there {
				out = append(out, fmt.Sprintf("%s.%s: not in the trace", path, k))
				continue
			}
			out = append(out, within(path+"."+k, v, w)...)
		}
		return out
	case []any:
		want, ok := want.([]any)
		if !ok {
			return []string{fmt.Sprintf("%s: got a list, want %T", path, want)}
		}
		if len(got) > 0 && len(want) > 0 {
			return within(path+"[0]", got[0], want[0])
		}
		return nil
	}
	if fmt.Sprintf("%T", got) != fmt.Sprintf("%T", want) {
		return []string{fmt.Sprintf("%s: got %T, want %T", path, got, want)}
	}
	return nil
}

// closed waits for the end of a stream, or ends it if the trace's probe did.
func (r *replay) closed(l traceLine) {
	conn := r.conns[l.conn()]
	reason := strings.Trim(string(l.Reason), `"`)
	conn.closed = true
	if strings.Contains(reason, "last chunk") || strings.Contains(reason, "eof") && !conn.left(r) {
		waitFor(r.t, l.at()+": end of the stream", func() bool { conn.drain(); return conn.ended })
		if clean := conn.err == io.EOF; clean != strings.Contains(reason, "last chunk") {
			r.t.Errorf("%s: got %v, want %s", l.at(), conn.err, reason)
		}
	} else {
		r.leave(conn)
		return
	}
	for _, ev := range conn.queue {
		if ev["type"] == mesos.EventUpdate && conn.err == io.EOF {
			continue
		}
		r.t.Errorf("%s: got %v, which the trace does not have", l.at(), ev)
	}
}

// left reports whether it was the probe that closed the connection: then the master still has the stream.
func (c *replayConn) left(r *replay) bool {
	c.drain()
	return !c.ended && r.holds(c.stream)
}

func (r *replay) holds(stream string) bool {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	if r.c.lead == nil {
		return false
	}
	for _, f := range r.c.lead.order {
		if f.stream != nil && f.stream.id == stream {
			return true
		}
	}
	return false
}

// leave closes a stream and waits until the master has noticed.
func (r *replay) leave(conn *replayConn) {
	conn.drain()
	conn.stop()
	waitFor(r.t, "disconnection of a framework", func() bool { return !r.holds(conn.stream) })
}
