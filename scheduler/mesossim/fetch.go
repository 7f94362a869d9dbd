package mesossim

import (
	"archive/tar"
	"archive/zip"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"millrace/scheduler/mesos"
)

// fetch brings what a URI names into a sandbox, as Mesos's fetcher does. That a URI which can not be fetched fails the task was observed; the rest is unobserved, as in
// src/launcher/fetcher.cpp: a program is made executable, an archive is unpacked beside itself, into the sandbox, and anything else is left as it came.
func fetch(uri mesos.URI, dir string) error {
	name := uri.OutputFile
	if name == "" {
		name = path.Base(uri.Value) // with what is behind a question mark
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	in, err := open(uri.Value)
	if err != nil {
		return err
	}
	defer in.Close()
	mode := fs.FileMode(0o644)
	if uri.Executable {
		mode = 0o755
	}
	if err := put(root, name, mode, in); err != nil || uri.Executable || uri.Extract != nil && !*uri.Extract {
		return err
	}
	return extract(root, name)
}

// put writes a file below root, and makes the directories that it is in.
func put(root *os.Root, name string, mode fs.FileMode, from io.Reader) error {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	out, err := root.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, from)
	return errors.Join(err, out.Chmod(mode), out.Close())
}

func open(uri string) (io.ReadCloser, error) {
	if !strings.HasPrefix(uri, "http://") && !strings.HasPrefix(uri, "https://") {
		return os.Open(strings.TrimPrefix(uri, "file://"))
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", uri, res.Status)
	}
	return io.NopCloser(strings.NewReader(string(body))), err
}

// extract unpacks a file, if it is an archive by its name. Of those that Mesos knows, xz is missing here.
func extract(root *os.Root, name string) error {
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	has := func(ends ...string) bool {
		for _, end := range ends {
			if strings.HasSuffix(name, end) {
				return true
			}
		}
		return false
	}
	switch {
	case has(".zip"):
		return unzip(root, f)
	case has(".tar"):
		return untar(root, f)
	case has(".tbz2", ".tar.bz2"):
		return untar(root, bzip2.NewReader(f))
	case has(".txz", ".tar.xz"):
		return fmt.Errorf("unpack %s: this double can not read xz", name)
	case !has(".tgz", ".gz"):
		return nil
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("unpack %s: %w", name, err)
	}
	if has(".tgz", ".tar.gz") {
		return untar(root, z)
	}
	return put(root, path.Base(strings.TrimSuffix(name, ".gz")), 0o644, z)
}

func untar(root *os.Root, r io.Reader) error {
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil && h.Typeflag == tar.TypeReg {
			err = put(root, filepath.Clean(h.Name), h.FileInfo().Mode().Perm(), archive)
		}
		if err != nil {
			return fmt.Errorf("unpack an archive: %w", err)
		}
	}
}

func unzip(root *os.Root, f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	archive, err := zip.NewReader(f, info.Size())
	if err != nil {
		return fmt.Errorf("unpack an archive: %w", err)
	}
	for _, one := range archive.File {
		if !one.Mode().IsRegular() {
			continue
		}
		r, err := one.Open()
		if err == nil {
			err = errors.Join(put(root, filepath.Clean(one.Name), one.Mode().Perm(), r), r.Close())
		}
		if err != nil {
			return fmt.Errorf("unpack an archive: %w", err)
		}
	}
	return nil
}
