package sdk

import (
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
)

// TestPythonPackage runs the Python package's own tests, with nothing but the interpreter.
func TestPythonPackage(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("needs python3, at least 3.9")
	}
	cmd := exec.Command(python, "-W", "error", "-m", "unittest", "discover", "-s", "tests", "-t", ".")
	cmd.Dir = "python"
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// An interpreter that finds no test ends well, too.
	if m := regexp.MustCompile(`Ran (\d+) tests`).FindSubmatch(out); m == nil || atoi(t, m[1]) < 20 {
		t.Errorf("ran fewer than 20 tests:\n%s", out)
	}
}

func atoi(t *testing.T, text []byte) int {
	t.Helper()
	n, err := strconv.Atoi(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
