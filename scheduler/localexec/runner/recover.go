//go:build linux

package runner

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"millrace/scheduler"
)

// member is a process that belongs to an attempt.
type member struct {
	pid int
	procStat
}

// recover finds out what became of the attempts that the journal has as not ended. See the package comment for why this is the truth.
func (r *runner) recover() error {
	var open []*attempt
	for _, a := range r.tab.sorted() {
		if a.active() {
			open = append(open, a)
		}
		a.log = r.place.logPath(a.id)
	}
	members, err := r.members(open)
	if err != nil {
		return fmt.Errorf("look for tasks of the runner before: %w", err)
	}
	for _, a := range open {
		r.recoverOne(a, members[a])
	}
	for _, a := range r.tab.sorted() {
		r.news(a)
	}
	left, err := r.leftovers()
	if err != nil {
		return fmt.Errorf("look for left directories: %w", err)
	}
	r.spawn(func() { r.remove(left) })
	return nil
}

func (r *runner) recoverOne(a *attempt, members []member) {
	if a.start == nil {
		// The runner before died between exec and its record. The leader is the first of the members that lead a group.
		if m := leader(members); m != nil {
			start := &process{PID: m.pgid, Start: m.start, Boot: r.boot, At: time.Now().UTC()}
			_ = r.note(record{ID: a.id, Start: start})
		}
	}
	if a.start == nil {
		rep := r.blank(a)
		rep.Outcome, rep.Reason = scheduler.OutcomeLost, "its runner died before it was started"
		r.ended(a, rep)
		return
	}
	pids := []int{a.start.PID}
	for _, m := range members {
		pids = append(pids, m.pid)
	}
	if st, alive := a.start.alive(r.boot); alive {
		err := r.adopt(a, st, pids)
		if err == nil {
			return
		}
		r.log.Warn("task can not be watched", "attempt", a.id, "err", err)
	}
	// The leader is gone, unseen. Its group is ours as far as its processes are marked.
	a.adopted = true
	a.killed = true
	r.resumeMasked(a, pids)
	for _, m := range members {
		if m.pgid == a.start.PID {
			_ = unix.Kill(m.pid, unix.SIGKILL)
		}
	}
	r.gone(a, exitStatus{at: time.Now().UTC()})
}

// leader returns the oldest member that leads a group; or, if the leader is gone, the oldest member: its group is the attempt's.
func leader(members []member) *member {
	var first *member
	for i := range members {
		m := &members[i]
		leads := m.pid == m.pgid
		if first == nil || leads && first.pid != first.pgid || leads == (first.pid == first.pgid) && m.start < first.start {
			first = m
		}
	}
	return first
}

// members finds the processes of the attempts: those with the attempt's MILLRACE_OUTPUT in their environment, and those whose standard
// output or error is its log. A child between its first instruction and its exec has the latter already.
func (r *runner) members(open []*attempt) (map[*attempt][]member, error) {
	out := map[*attempt][]member{}
	if len(open) == 0 {
		return out, nil
	}
	byVar, byLog := map[string]*attempt{}, map[fileID]*attempt{}
	for _, a := range open {
		byVar[r.place.outputVar(a.id)] = a
		out := a.log
		if a.claim.masked() {
			out = r.place.pipePath(a.id)
		}
		if id, ok := identifyFile(out); ok {
			byLog[id] = a
		}
	}
	pids, err := allPIDs()
	if err != nil {
		return nil, err
	}
	for _, p := range pids {
		if p == pid {
			continue
		}
		a := byVar[outputVarOf(p)]
		for fd := 1; fd <= 2 && a == nil; fd++ {
			if id, ok := identifyFile("/proc/" + strconv.Itoa(p) + "/fd/" + strconv.Itoa(fd)); ok {
				a = byLog[id]
			}
		}
		if st, err := readStat(p); a != nil && err == nil && !st.dead() {
			out[a] = append(out[a], member{p, st})
		}
	}
	return out, nil
}

type fileID struct{ dev, ino uint64 }

func identifyFile(path string) (fileID, bool) {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	return fileID{st.Dev, st.Ino}, err == nil
}

// outputVarOf returns the MILLRACE_OUTPUT=… of a process, or "".
func outputVarOf(pid int) string {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return ""
	}
	for kv := range bytes.SplitSeq(data, []byte{0}) {
		if s := string(kv); strings.HasPrefix(s, "MILLRACE_OUTPUT=") {
			return s
		}
	}
	return ""
}

func (r *runner) remove(names []string) {
	for _, name := range names {
		r.removeDir(name)
		select {
		case <-r.done:
			return
		default:
		}
	}
}
