package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"

	"millrace/batcher"
	"millrace/batcher/s3store"
)

// stores opens objects by the scheme of their address.
type stores struct {
	pathStyle bool
	mu        sync.Mutex // guards buckets
	buckets   map[string]*s3store.Store
}

func (s *stores) open(ctx context.Context, uri *url.URL, offset int64, tag string) (io.ReadCloser, string, error) {
	switch uri.Scheme {
	case "file", "":
		return openFile(uri, offset)
	case "http", "https":
		return openHTTP(ctx, uri, offset, tag)
	case "s3":
		return s.openS3(ctx, uri, offset, tag)
	}
	return nil, "", fmt.Errorf("%w: no way is known to fetch %s://; file, http, https and s3 are", errNever, uri.Scheme)
}

func openFile(uri *url.URL, offset int64) (io.ReadCloser, string, error) {
	if uri.Host != "" && uri.Host != "localhost" {
		return nil, "", fmt.Errorf("%w: it names another machine, %s", errNever, uri.Host)
	}
	f, err := os.Open(uri.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", fmt.Errorf("%w: %w: is the directory of the object store mounted here?", errNever, err)
	}
	if err != nil {
		return nil, "", err
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, "", errors.Join(err, f.Close())
	}
	return f, "", nil
}

func openHTTP(ctx context.Context, uri *url.URL, offset int64, tag string) (io.ReadCloser, string, error) {
	if offset > 0 && tag == "" {
		return nil, "", errAgain // nothing would tell whether the rest is of the same object
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri.String(), nil)
	if err != nil {
		return nil, "", fmt.Errorf("%w: its address can not be read", errNever)
	}
	req.Header.Set("Accept-Encoding", "identity") // the object as it is stored, whose size and checksum are known
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
		req.Header.Set("If-Range", tag)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err // the text around it has the whole address, which may be signed
		}
		return nil, "", err
	}
	want := http.StatusOK
	if offset > 0 {
		want = http.StatusPartialContent
	}
	newTag := resp.Header.Get("ETag")
	if strings.HasPrefix(newTag, "W/") {
		newTag = ""
	}
	switch code := resp.StatusCode; {
	case code == want && (offset == 0 || strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", offset))):
		return resp.Body, newTag, nil
	case code == http.StatusOK, code == http.StatusPartialContent, code == http.StatusRequestedRangeNotSatisfiable:
		err = errAgain
	case code == http.StatusNotFound, code == http.StatusGone, code == http.StatusForbidden, code == http.StatusUnauthorized, code == http.StatusBadRequest:
		err = fmt.Errorf("%w: the server says %s", errNever, resp.Status)
	default:
		err = fmt.Errorf("the server says %s", resp.Status)
	}
	return nil, "", errors.Join(err, resp.Body.Close())
}

func (s *stores) openS3(ctx context.Context, uri *url.URL, offset int64, tag string) (io.ReadCloser, string, error) {
	store, err := s.bucket(ctx, uri.Host)
	if err != nil {
		return nil, "", err
	}
	part, err := store.GetFrom(ctx, strings.TrimPrefix(uri.Path, "/"), offset, tag)
	switch {
	case errors.Is(err, batcher.ErrNotFound):
		return nil, "", fmt.Errorf("%w: %w", errNever, err)
	case errors.Is(err, batcher.ErrExists), errors.Is(err, batcher.ErrRefused):
		return nil, "", fmt.Errorf("%w: %w", errAgain, err)
	case err != nil:
		return nil, "", err
	}
	return part.ReadCloser, part.Tag, nil
}

func (s *stores) bucket(ctx context.Context, name string) (*s3store.Store, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if store := s.buckets[name]; store != nil {
		return store, nil
	}
	store, err := s3store.Open(ctx, s3store.Options{Bucket: name, PathStyle: s.pathStyle})
	if err != nil {
		return nil, err
	}
	if s.buckets == nil {
		s.buckets = map[string]*s3store.Store{}
	}
	s.buckets[name] = store
	return store, nil
}
