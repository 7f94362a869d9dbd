//go:build linux

package dockerexec_test

import (
	"archive/tar"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// archive reads and writes files of a container.
func (e *engine) archive(w http.ResponseWriter, r *http.Request, name string) {
	e.mu.Lock()
	b := e.find(name)
	e.mu.Unlock()
	if b == nil {
		fail(w, http.StatusNotFound, "No such container: "+name)
		return
	}
	path := filepath.Join(b.root, r.URL.Query().Get("path"))
	if !strings.HasPrefix(r.URL.Query().Get("path"), "/millrace/") && r.Method == http.MethodHead {
		path = r.URL.Query().Get("path") // programs are those of the machine
	}
	if r.Method == http.MethodPut {
		if err := extract(r.Body, path); err != nil {
			fail(w, http.StatusInternalServerError, err.Error())
		}
		return
	}
	info, err := os.Lstat(path)
	if err != nil {
		fail(w, http.StatusNotFound, "Could not find the file "+path+" in container "+name)
		return
	}
	w.Header().Set("X-Docker-Container-Path-Stat", statHeader(info))
	if r.Method == http.MethodHead {
		return
	}
	h, err := tar.FileInfoHeader(info, "")
	if err != nil {
		fail(w, http.StatusInternalServerError, err.Error())
		return
	}
	out := tar.NewWriter(w)
	if out.WriteHeader(h) != nil || h.Typeflag != tar.TypeReg {
		return
	}
	if f, err := os.Open(path); err == nil {
		_, _ = io.CopyN(out, f, h.Size)
		_ = f.Close()
	}
	_ = out.Close()
}

func extract(r io.Reader, root string) error {
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		path := filepath.Join(root, h.Name)
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o777)
		} else {
			var body []byte
			if body, err = io.ReadAll(in); err == nil {
				err = errors.Join(os.RemoveAll(path), os.WriteFile(path, body, 0o666))
			}
		}
		if err := errors.Join(err, os.Chmod(path, h.FileInfo().Mode())); err != nil {
			return err
		}
	}
}
