package schedulertest

import (
	"bytes"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// PostgresPatience is how long [Postgres] waits for its server; it only ends the wait for one that never comes up.
const PostgresPatience = 3 * time.Minute

// Postgres returns the URL of an empty PostgreSQL database, of a server that is started here and ends with the test. Without PostgreSQL on the
// machine the test is skipped. The server listens on a socket in a directory of its own only, so that
// tests do not meet; as root it is run as the user postgres, since it refuses to be root.
func Postgres(t *testing.T) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		t.Skip("needs PostgreSQL: apt-get install postgresql")
	}
	bin := filepath.Dir(found[len(found)-1])
	dir, err := os.MkdirTemp("", "millrace-pg-") // short, since the path of a socket is
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	as := &syscall.SysProcAttr{}
	if os.Getuid() == 0 {
		as.Credential = become(t, "postgres")
		if err := os.Chown(dir, int(as.Credential.Uid), int(as.Credential.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	command := func(name string, args ...string) *exec.Cmd {
		c := exec.Command(filepath.Join(bin, name), args...)
		c.Dir, c.SysProcAttr = dir, as
		return c
	}
	data := filepath.Join(dir, "data")
	if out, err := command("initdb", "-D", data, "-A", "trust", "-U", "millrace", "-E", "UTF8", "--locale=C", "--no-sync").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	server := command("postgres", "-D", data, "-k", dir, "-c", "listen_addresses=", "-F")
	var log bytes.Buffer
	server.Stdout, server.Stderr = &log, &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = server.Wait(); close(ended) }() // ends with the server, which the cleanup ends
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGQUIT) // at once, without a checkpoint
		<-ended
	})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(PostgresPatience); command("pg_isready", "-q", "-h", dir).Run() != nil; {
		select {
		case <-tick.C:
		case <-ended:
			t.Fatalf("postgres ended:\n%s", &log)
		}
		if time.Now().After(deadline) {
			t.Fatal("postgres does not get ready")
		}
	}
	return "postgres://millrace@/postgres?host=" + dir
}

// become returns what a process needs to be another user.
func become(t *testing.T, name string) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}
