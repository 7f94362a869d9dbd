package webhook

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"millrace/ingest"
)

// Reply is an answer, ready to be sent. Its body may repeat what the sender said, so send it with X-Content-Type-Options: nosniff.
type Reply struct {
	Status int
	Type   string
	Body   string
}

// reply is a compiled [ingest.Reply].
type reply struct {
	status int
	typ    string
	body   template
}

// handshake is a compiled [ingest.Handshake].
type handshake struct {
	method string
	signed bool
	when   []condition
	reply  reply
}

// condition says that a place must have a value, and which, unless it is "".
type condition struct {
	place place
	want  string
	token bool // want is the source's verify token
}

var success = reply{status: http.StatusOK, typ: "application/json", body: template{literal(`{"success":true}`)}}

func compileReply(r *ingest.Reply) (reply, error) {
	if *r == (ingest.Reply{}) {
		return success, nil
	}
	body, err := parseTemplate(r.Body)
	out := reply{status: r.Status, typ: r.Type, body: body}
	if out.status == 0 {
		out.status = http.StatusOK
	}
	if out.typ == "" {
		out.typ = "text/plain; charset=utf-8"
	}
	if err == nil && (out.status < 200 || out.status > 299) {
		err = fmt.Errorf("status is %d, and senders take only 2xx for success", out.status)
	}
	return out, err
}

func (v *Verifier) compileHandshakes() error {
	var errs []error
	for _, def := range v.scheme.Handshakes {
		h := handshake{method: def.Method, signed: def.Signed}
		for at, want := range def.When {
			p, err := parsePlace(at)
			c := condition{place: p, want: want}
			if want == "{verify_token}" {
				c.want, c.token = v.verifyToken, true
			}
			h.when = append(h.when, c)
			errs = append(errs, err)
		}
		if h.method == "" && len(h.when) == 0 {
			errs = append(errs, errors.New("has neither method nor when, so every request would be one"))
		}
		var err error
		h.reply, err = compileReply(&def.Reply)
		errs = append(errs, err)
		v.handshakes = append(v.handshakes, h)
	}
	return errors.Join(errs...)
}

// Greet returns the answer to d if it is a handshake: before the signature was checked those that need none, else all. Such a request is not
// stored.
func (v *Verifier) Greet(d *Delivery, verified bool) (Reply, bool) {
	if len(v.handshakes) == 0 {
		return Reply{}, false
	}
	r := &request{Delivery: d, v: v}
	for i := range v.handshakes {
		h := &v.handshakes[i]
		if (verified || !h.signed) && (h.method == "" || h.method == d.Method) && r.meets(h.when) {
			return h.reply.render(r), true
		}
	}
	return Reply{}, false
}

func (r *request) meets(when []condition) bool {
	for _, c := range when {
		got := r.value(c.place)
		if got == "" || c.token && c.want == "" {
			return false
		}
		if c.want != "" && subtle.ConstantTimeCompare([]byte(got), []byte(c.want)) == 0 {
			return false
		}
	}
	return true
}

// Reply is the answer to a delivery that was stored.
func (v *Verifier) Reply(d *Delivery) Reply {
	return v.reply.render(&request{Delivery: d, v: v})
}

func (p *reply) render(r *request) Reply {
	return Reply{Status: p.status, Type: p.typ, Body: p.body.text(r, strings.HasPrefix(p.typ, "application/json"))}
}
