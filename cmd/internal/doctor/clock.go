package doctor

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// skewFail is how far off the clock may be. Providers' signatures and S3's requests have tolerances of 5 and 15 minutes; the hours that objects are
	// filed under, and the dedupe window, suffer sooner.
	skewFail = time.Minute
	skewWarn = 5 * time.Second
)

const setClock = "set the clock and keep it: timedatectl set-ntp true, or chronyd; in a container, on its host"

func checkClock(ctx context.Context, e *Env) []Finding {
	out := []Finding{checkFuture(e.Config.Data("."))}
	if url := timeURL(e); url != "" {
		out = append(out, checkDate(ctx, url))
	}
	if f, told := checkKernel(); told {
		out = append(out, f)
	}
	return out
}

// timeURL is whose Date header counts: the object store's is the one that requests are signed for.
func timeURL(e *Env) string {
	s3 := e.Config.Objects.S3
	switch {
	case e.TimeURL != "":
		return e.TimeURL
	case e.Config.Objects.Kind != "s3":
		return ""
	case s3.Endpoint != "":
		return s3.Endpoint
	}
	return "https://s3." + s3.Region + ".amazonaws.com"
}

// checkDate compares with a server's clock. Any answer has the header, refusals too.
func checkDate(ctx context.Context, url string) Finding {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
	if err != nil {
		return Finding{Result: Fail, Why: err.Error(), Fix: "give a URL of a server that is right"}
	}
	begin := time.Now()
	resp, err := (&http.Client{Timeout: 5 * time.Second}).Do(req)
	if err != nil {
		return Finding{Result: Skip, Why: "no clock to compare with: " + err.Error()}
	}
	_ = resp.Body.Close()
	off, told := skew(begin, resp)
	if !told {
		return Finding{Result: Skip, Why: url + " does not say what time it is"}
	}
	if off.Abs() < skewWarn {
		return ok("within %v of %s", skewWarn, url)
	}
	f := Finding{Result: Warn, Why: fmt.Sprintf("the clock is %v %s that of %s", off.Abs(), side(off), url), Fix: setClock}
	if off.Abs() >= skewFail {
		f.Result = Fail
		f.Why += ": signatures are refused, hours of objects are wrong"
	}
	return f
}

// skew returns how far our clock is ahead of the one of who answers, to a request that was sent at begin.
func skew(begin time.Time, resp *http.Response) (ahead time.Duration, told bool) {
	theirs, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return 0, false
	}
	took := time.Since(begin)
	return begin.Add(took / 2).Sub(theirs.Add(500 * time.Millisecond)).Round(time.Second), true // the header has whole seconds
}

func side(ahead time.Duration) string {
	if ahead > 0 {
		return "ahead of"
	}
	return "behind"
}

// checkFuture looks for what was written later than now: the clock went back since.
func checkFuture(dataDir string) Finding {
	now := time.Now()
	var newest time.Time
	var where string
	for _, pattern := range []string{"*", "log/*", "objects/*"} {
		files, _ := filepath.Glob(filepath.Join(dataDir, pattern)) // the pattern is good; a strange directory finds nothing
		for _, file := range files {
			if info, err := os.Stat(file); err == nil && info.ModTime().After(newest) {
				newest, where = info.ModTime(), file
			}
		}
	}
	if ahead := newest.Sub(now); ahead > skewFail {
		return Finding{
			Result: Fail, Why: fmt.Sprintf("%s was written %v from now: the clock was ahead then, or is behind now", where, ahead.Round(time.Second)), Fix: setClock,
		}
	}
	return ok("it is %s; nothing in the data directory is newer", now.UTC().Format(time.RFC3339))
}

// checkKernel asks whether somebody keeps the clock; told is false where the kernel does not say.
func checkKernel() (f Finding, told bool) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	const unsynchronised = 5 // TIME_ERROR, adjtimex(2)
	switch {
	case err != nil:
		return f, false
	case state == unsynchronised:
		return Finding{Result: Warn, Why: "the kernel says that nothing keeps the clock right", Fix: setClock}, true
	}
	return ok("the kernel says that the clock is kept"), true
}
