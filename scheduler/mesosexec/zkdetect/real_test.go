package zkdetect

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
)

// TestRealZooKeeper watches masters in a real ZooKeeper, which is killed and started again.
func TestRealZooKeeper(t *testing.T) {
	t.Parallel()
	jars := os.Getenv("MILLRACE_ZOOKEEPER")
	if jars == "" {
		jars = "/usr/share/java"
	}
	if _, err := os.Stat(filepath.Join(jars, "zookeeper.jar")); err != nil {
		t.Skip("needs ZooKeeper: apt-get install libzookeeper-java default-jre-headless, or MILLRACE_ZOOKEEPER with the folder of its jars")
	}
	dir := t.TempDir()
	port := freePort(t)
	conf := fmt.Sprintf("tickTime=500\ndataDir=%s\nclientPort=%d\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n", dir, port)
	if err := os.WriteFile(filepath.Join(dir, "zoo.cfg"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	start := func() *exec.Cmd {
		c := exec.Command("java", "-cp", jars+"/*", "org.apache.zookeeper.server.quorum.QuorumPeerMain", filepath.Join(dir, "zoo.cfg"))
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	server := start()
	end := func() { _ = server.Process.Kill(); _ = server.Wait() }
	defer func() { end() }()
	address := fmt.Sprintf("127.0.0.1:%d", port)
	conn, _, err := zk.Connect([]string{address}, 4*time.Second, zk.WithLogInfo(false), zk.WithLogger(logger{Options{}.withDefaults().Logger}))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	do := func(what string, f func() error) {
		t.Helper()
		late := time.Now().Add(patience)
		for err := f(); err != nil; err = f() {
			if time.Now().After(late) {
				t.Fatalf("%s: %v", what, err)
			}
			<-time.After(50 * time.Millisecond)
		}
	}
	d, err := New("zk://"+address+"/mesos", Options{})
	if err != nil {
		t.Fatal(err)
	}
	watching(t, d)
	put := func(node string, text string) {
		t.Helper()
		do("create "+node, func() error {
			_, err := conn.Create(node, []byte(text), 0, zk.WorldACL(zk.PermAll))
			if errors.Is(err, zk.ErrNodeExists) {
				return nil
			}
			return err
		})
	}
	put("/mesos", "")
	put("/mesos/log_replicas", "")
	put("/mesos/json.info_0000000002", info("10.0.0.2"))
	put("/mesos/json.info_0000000003", info("10.0.0.3"))
	now, changed := leader(t, d)
	if now != "http://10.0.0.2:5050" {
		t.Fatalf("got %s, want 10.0.0.2", now)
	}
	end()
	if now, _ := leader(t, d); now != "http://10.0.0.2:5050" {
		t.Errorf("got %s without ZooKeeper, want 10.0.0.2", now)
	}
	server = start()
	do("delete", func() error { return conn.Delete("/mesos/json.info_0000000002", -1) })
	expect(t, changed)
	if now, _ := leader(t, d); now != "http://10.0.0.3:5050" {
		t.Errorf("got %s, want 10.0.0.3", now)
	}
}

// freePort returns a port on which nobody listens, below those that Linux gives to outgoing connections: the server has to find it free again.
func freePort(t *testing.T) int {
	t.Helper()
	for range 1000 {
		port := 15_000 + rand.IntN(17_000)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("there is no free port")
	return 0
}
