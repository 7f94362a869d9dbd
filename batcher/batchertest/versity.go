package batchertest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// VersityInstall is the command that installs the S3 server of [StartVersity].
const VersityInstall = "go install github.com/versity/versitygw/cmd/versitygw@v1.8.0"

// Versity is a running versitygw: a real S3 server that keeps objects as files. It honours If-None-Match and checks checksums.
type Versity struct {
	// Endpoint is the URL for clients, who must use path style.
	Endpoint string
	// AccessKey and SecretKey are root's.
	AccessKey, SecretKey string
	// Dir has one directory for each bucket, in it one file for each object: for tests that damage objects.
	Dir string

	bin     string
	sidecar string
	addr    string
	cmd     *exec.Cmd
	exited  chan struct{} // closed when the process has ended
}

// StartVersity starts a server with an empty directory; it ends with the test. Without the binary (in PATH, in GOPATH/bin, or named by the
// environment variable MILLRACE_VERSITYGW) the test is skipped, or fails with CI=true.
func StartVersity(t testing.TB) *Versity {
	t.Helper()
	v := &Versity{AccessKey: "millrace", SecretKey: "millrace-secret", Dir: t.TempDir(), bin: findVersity(t)}
	if unix.Setxattr(v.Dir, "user.millrace", []byte("x"), 0) != nil {
		v.sidecar = t.TempDir() // a file system without extended attributes
	}
	t.Cleanup(func() { v.Stop(t) })
	for range 5 { // the port is free when it is picked, and may be taken when the server comes to it
		v.addr = freePort(t)
		v.Endpoint = "http://" + v.addr
		if v.start(t) {
			return v
		}
	}
	t.Fatal("start versitygw: it ended at once, five times")
	return nil
}

func findVersity(t testing.TB) string {
	t.Helper()
	if bin := os.Getenv("MILLRACE_VERSITYGW"); bin != "" {
		return bin
	}
	if bin, err := exec.LookPath("versitygw"); err == nil {
		return bin
	}
	if gopath, err := exec.Command("go", "env", "GOPATH").Output(); err == nil {
		bin := filepath.Join(strings.TrimSpace(string(gopath)), "bin", "versitygw")
		if _, err := os.Stat(bin); err == nil {
			return bin
		}
	}
	msg := "needs an S3 server: " + VersityInstall + " (or set MILLRACE_VERSITYGW to the binary)"
	if os.Getenv("CI") == "true" {
		t.Fatal(msg)
	}
	t.Skip(msg)
	return ""
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start starts the process and returns true when it answers, false when it ended instead.
func (v *Versity) start(t testing.TB) bool {
	t.Helper()
	args := []string{"--access", v.AccessKey, "--secret", v.SecretKey, "--port", v.addr, "--health", "/health", "--keep-alive", "--quiet", "posix"}
	if v.sidecar != "" {
		args = append(args, "--sidecar", v.sidecar)
	}
	v.cmd = exec.Command(v.bin, append(args, v.Dir)...)
	v.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + v.Dir} // nothing of the tester's own VGW_… or AWS_…
	v.exited = make(chan struct{})
	if err := v.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", v.bin, err)
	}
	go func(cmd *exec.Cmd, exited chan struct{}) { // ends with the process, which Stop kills; Stop waits for it
		_ = cmd.Wait()
		close(exited)
	}(v.cmd, v.exited)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !v.healthy(ctx) {
		select {
		case <-v.exited:
			return false
		case <-ctx.Done():
			t.Fatal("start versitygw: not ready after 20 s")
		case <-tick.C:
		}
	}
	return true
}

func (v *Versity) healthy(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.Endpoint+"/health", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// Stop kills the server, as kill -9 does, and waits until it has ended.
func (v *Versity) Stop(t testing.TB) {
	t.Helper()
	if v.cmd == nil || v.cmd.Process == nil {
		return
	}
	_ = v.cmd.Process.Kill() // it may have ended by itself
	<-v.exited
}

// Restart starts the server again at the same address, over the same objects.
func (v *Versity) Restart(t testing.TB) {
	t.Helper()
	v.Stop(t)
	if !v.start(t) {
		t.Fatalf("restart versitygw at %s: it ended at once", v.addr)
	}
}

// NewBucket makes an empty bucket with a name of its own.
func (v *Versity) NewBucket(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("b-%s", strings.ToLower(rand.Text()[:12]))
	if err := os.Mkdir(filepath.Join(v.Dir, name), 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}
