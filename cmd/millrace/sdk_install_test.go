package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// sdkKit is where the SDKs are, and what runs them.
type sdkKit struct {
	source   string // testdata/sdks
	node     string
	modules  string // the directory of node_modules
	python   string
	chromium string
}

// newSDKKit installs the SDKs at the versions of testdata/sdks, once for all tests on this machine.
func newSDKKit(t *testing.T) sdkKit {
	t.Helper()
	k := sdkKit{source: filepath.Join(repoRoot(t), "cmd", "millrace", "testdata", "sdks")}
	k.node = findTool(t, "nodejs", "node")
	npm := findTool(t, "npm", "npm")
	python := findTool(t, "python3-venv", "python3")
	k.chromium = findTool(t, "chromium", "chromium", "chromium-browser", "google-chrome")

	k.modules = installed(t, "node", []string{k.source + "/package.json", k.source + "/package-lock.json"}, func(dir string) [][]string {
		return [][]string{
			{"cp", k.source + "/package.json", k.source + "/package-lock.json", dir},
			{npm, "ci", "--prefix", dir, "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"},
		}
	}, func(dir string) []string {
		return []string{k.node, "-e", "require(process.argv[1])", dir + "/node_modules/@segment/analytics-node"}
	})
	venv := installed(t, "python", []string{k.source + "/requirements.txt"}, func(dir string) [][]string {
		return [][]string{
			{python, "-m", "venv", dir},
			{dir + "/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", k.source + "/requirements.txt"},
		}
	}, func(dir string) []string { return []string{dir + "/bin/python", "-c", "import segment.analytics"} })
	k.python = venv + "/bin/python"
	return k
}

// bundles is the directory of analytics-next's scripts for pages.
func (k sdkKit) bundles() string { return k.modules + "/node_modules/@segment/analytics-next/dist/umd" }

// findTool returns the path of the first of names that there is; all belong to the Debian package pkg.
func findTool(t *testing.T, pkg string, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skipf("needs %s: apt-get install %s", names[0], pkg)
	return ""
}

// installing makes the tests of this process install one after the other.
var installing sync.Mutex

// installed returns a directory outside of the tree where install has succeeded with these pins, and where works still does. Processes may install
// at the same time: the last step is a rename, and who comes second takes what the first has left.
func installed(t *testing.T, name string, pins []string, install func(dir string) [][]string, works func(dir string) []string) string {
	t.Helper()
	installing.Lock()
	defer installing.Unlock()
	sum := sha256.New()
	for _, path := range pins {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		sum.Write(text)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = t.TempDir()
	}
	cache = filepath.Join(cache, "millrace-sdks")
	dir := filepath.Join(cache, name+"-"+hex.EncodeToString(sum.Sum(nil)[:8]))
	if _, err := command(works(dir)); err == nil {
		return dir
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	fresh, err := os.MkdirTemp(cache, "new-")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(fresh) }()
	for _, args := range install(fresh) {
		if out, err := command(args); err != nil {
			t.Skipf("install the SDKs of %v: %v: %v\n%s", pins, args, err, out)
		}
	}
	if _, err := command(works(dir)); err == nil {
		return dir
	}
	_ = os.RemoveAll(dir) // one that does not work any more, because its python is gone
	if err := os.Rename(fresh, dir); err != nil {
		t.Fatal(err)
	}
	if out, err := command(works(dir)); err != nil {
		t.Fatalf("%v: %v\n%s", works(dir), err, out)
	}
	return dir
}

func command(args []string) ([]byte, error) {
	var out bytes.Buffer
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.Bytes(), err
}
