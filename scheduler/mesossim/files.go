package mesossim

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"millrace/scheduler/mesos"
)

// agentHandler is the HTTP of an agent. Every path is served under /slave(1) too.
func (c *Cluster) agentHandler(a *agent) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.Path, "/slave(1)")
		c.mu.Lock()
		up := a.up && !c.closed
		c.mu.Unlock()
		file := r.URL.Query().Get("path")
		switch {
		case !up:
			panic(http.ErrAbortHandler) // Nobody is there.
		case path == "/health":
			bare(w, http.StatusOK)
		case path == "/version":
			reply(w, version())
		case path == "/state":
			c.mu.Lock()
			state := a.state()
			c.mu.Unlock()
			packed(w, r, state)
		case path == "/files/read":
			a.serveRead(w, r, file)
		case path == "/files/browse":
			a.browse(w, file)
		case path == "/files/download":
			a.download(w, file)
		case path == "/api/v1":
			a.call(w, r)
		default:
			bare(w, http.StatusNotFound)
		}
	})
}

// state is what an agent tells of itself.
func (a *agent) state() object {
	total := bundleOf(a.opt.Resources)
	return object{"version": Version, "git_tag": Version, "id": a.id, "pid": "slave(1)@" + hostPort(a.port), "hostname": a.opt.Hostname,
		"resources": total.plain(), "resource_providers": []any{}}
}

// resolve finds a file by its path: one of the disk below the agent's directory, or a virtual one, which begins with /frameworks.
func (a *agent) resolve(path string) (string, bool) {
	clean := filepath.Clean("/" + path)
	if parts := strings.Split(clean, "/"); len(parts) >= 7 && parts[1] == "frameworks" && parts[3] == "executors" && parts[5] == "runs" {
		a.c.mu.Lock()
		runs := a.sandboxes(parts[2], parts[4])
		a.c.mu.Unlock()
		return filepath.Join(append([]string{runs}, parts[6:]...)...), true
	}
	return clean, strings.HasPrefix(clean, a.work+"/")
}

// missing answers for a file that is not there.
func missing(w http.ResponseWriter) {
	refuse(w, http.StatusNotFound, "")
}

// readAt returns at most n bytes of a file from an offset on, and its size. Less than nothing is all.
func (a *agent) readAt(path string, offset, n int64) (data []byte, size int64, ok bool) {
	name, ok := a.resolve(path)
	if !ok {
		return nil, 0, false
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.IsDir() {
		return nil, 0, false
	}
	if offset < 0 || offset >= info.Size() {
		return nil, info.Size(), true
	}
	if n < 0 {
		n = info.Size() - offset
	}
	data = make([]byte, min(n, info.Size()-offset))
	got, err := f.ReadAt(data, offset)
	return data[:got], info.Size(), err == nil || err == io.EOF
}

func (a *agent) serveRead(w http.ResponseWriter, r *http.Request, path string) {
	number := func(name string) (int64, bool) {
		text := r.URL.Query().Get(name)
		if text == "" {
			return -1, true
		}
		n, err := strconv.ParseInt(text, 10, 64)
		return n, err == nil
	}
	offset, ok1 := number("offset")
	length, ok2 := number("length")
	if path == "" || !ok1 || !ok2 {
		refuse(w, http.StatusBadRequest, "Expecting 'path=value', and numbers for 'offset' and 'length', in query.\n")
		return
	}
	if length < 0 || length > 16*4096 {
		length = 16 * 4096
	}
	data, size, ok := a.readAt(path, offset, length)
	if !ok {
		missing(w)
		return
	}
	if offset < 0 {
		offset = size
	}
	reply(w, object{"data": string(data), "offset": offset})
}

// entry is a file of a sandbox.
type entry struct {
	path, uid, gid string
	info           fs.FileInfo
	links          uint64
}

func (a *agent) list(path string) ([]entry, bool) {
	name, ok := a.resolve(path)
	if !ok {
		return nil, false
	}
	files, err := os.ReadDir(name)
	if err != nil {
		return nil, false
	}
	out := []entry{}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			continue // It has just been deleted.
		}
		e := entry{path: filepath.Join(path, f.Name()), info: info, links: 1}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			e.links = uint64(st.Nlink)
			e.uid, e.gid = owner(st)
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(x, y entry) int { return strings.Compare(x.path, y.path) })
	return out, true
}

func owner(st *syscall.Stat_t) (uid, gid string) {
	uid, gid = fmt.Sprint(st.Uid), fmt.Sprint(st.Gid)
	if u, err := user.LookupId(uid); err == nil {
		uid = u.Username
	}
	if g, err := user.LookupGroupId(gid); err == nil {
		gid = g.Name
	}
	return uid, gid
}

func (a *agent) browse(w http.ResponseWriter, path string) {
	list, ok := a.list(path)
	if !ok {
		missing(w)
		return
	}
	out := []object{}
	for _, e := range list {
		out = append(out, object{"path": e.path, "size": e.info.Size(), "mtime": float64(e.info.ModTime().Unix()), "mode": modeText(e.info), "nlink": e.links,
			"uid": e.uid, "gid": e.gid})
	}
	reply(w, out)
}

func modeText(info fs.FileInfo) string {
	kind := "-"
	if info.IsDir() {
		kind = "d"
	}
	return kind + info.Mode().Perm().String()[1:]
}

// modeBits is a mode as stat(2) has it.
func modeBits(info fs.FileInfo) uint32 {
	kind := uint32(syscall.S_IFREG)
	if info.IsDir() {
		kind = syscall.S_IFDIR
	}
	return kind | uint32(info.Mode().Perm())
}

func (a *agent) download(w http.ResponseWriter, path string) {
	data, _, ok := a.readAt(path, 0, -1)
	if !ok {
		missing(w)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", "attachment; filename="+filepath.Base(path))
	w.Header().Set("Content-Length", fmt.Sprint(len(data)))
	_, _ = w.Write(data)
}

// call serves the calls of the agent's API about files.
func (a *agent) call(w http.ResponseWriter, r *http.Request) {
	var call struct {
		Type     string `json:"type"`
		ReadFile *struct {
			Path   string `json:"path"`
			Offset int64  `json:"offset"`
			Length *int64 `json:"length"`
		} `json:"read_file"`
		ListFiles *struct {
			Path string `json:"path"`
		} `json:"list_files"`
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil || json.Unmarshal(body, &call) != nil {
		refuse(w, http.StatusBadRequest, "Failed to parse body into JSON: syntax error at line 1 near: "+string(body))
		return
	}
	switch {
	case call.Type == "READ_FILE" && call.ReadFile != nil:
		n := int64(-1)
		if call.ReadFile.Length != nil {
			n = *call.ReadFile.Length
		}
		data, size, ok := a.readAt(call.ReadFile.Path, call.ReadFile.Offset, n)
		if !ok {
			missing(w)
			return
		}
		reply(w, object{"type": call.Type, "read_file": object{"size": size, "data": data}})
	case call.Type == "LIST_FILES" && call.ListFiles != nil:
		list, ok := a.list(call.ListFiles.Path)
		if !ok {
			missing(w)
			return
		}
		infos := []object{}
		for _, e := range list {
			infos = append(infos, object{"path": e.path, "nlink": e.links, "size": e.info.Size(), "uid": e.uid, "gid": e.gid,
				"mtime": mesos.TimeInfo{Nanoseconds: e.info.ModTime().Unix() * 1e9}, "mode": modeBits(e.info)})
		}
		reply(w, object{"type": call.Type, "list_files": object{"file_infos": infos}})
	default:
		refuse(w, http.StatusNotImplemented, "This is a double of Mesos: it does not know the call "+call.Type)
	}
}
