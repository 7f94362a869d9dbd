package bench

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
)

// RunBare serves, until ctx ends, what nothing that answers over net/http can be faster than: it reads the body, keeps nothing, answers 200.
func RunBare(ctx context.Context, addr string) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	ok := []byte(`{"success":true}`)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(ok)
	})}
	var wg sync.WaitGroup
	wg.Add(1)
	go func() { // ends with ctx; waited for below
		defer wg.Done()
		<-ctx.Done()
		_ = srv.Close()
	}()
	err = srv.Serve(ln)
	wg.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}
