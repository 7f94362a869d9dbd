package main

import (
	"compress/gzip"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

const usage = `millrace-task: run a program as one attempt of a millrace task, as the entrypoint of an image or by hand.

usage: millrace-task [flags] -- program [args...]

  --dir DIR          where the files of the attempt are         (MILLRACE_DIR; default $MESOS_SANDBOX, else /millrace)
  --input FILE       the input document, if it is a file        (MILLRACE_INPUT; else MILLRACE_INPUT_DATA has its text,
                     already                                     MILLRACE_INPUT_GZIP as gzip and base64 make it,
                                                                 or MILLRACE_INPUT_0, _1 and so on its pieces)
  --fetch DIR        download the objects of the batches, and   (MILLRACE_FETCH)
                     have MILLRACE_FETCHED name the directory;
                     each is at the key of its batch
  --s3-path-style    the bucket of s3:// is in the path         (MILLRACE_S3_PATH_STYLE=true)
  --grace 10s        from SIGTERM to SIGKILL                    (MILLRACE_GRACE)
  --heartbeat 5m     end the program if it does not change      (MILLRACE_HEARTBEAT_TIMEOUT)
                     MILLRACE_HEARTBEAT for so long
  --mask VAR,VAR     hide the values of these variables in      (MILLRACE_MASK)
                     what the program writes
  --version          say what this is

The program gets MILLRACE_INPUT, MILLRACE_OUTPUT and the environment without MESOS_*, LIBPROCESS_* and the variables above that only millrace-task reads.
Its standard input is empty, its output and errors are one stream. Credentials for s3:// are found as the AWS SDKs do, the endpoint in AWS_ENDPOINT_URL.

Exit codes: the program's; 128+n if signal n ended it; 64 usage, or an object that can never be fetched; 75 an object could not be fetched; 124 no
heartbeat; 125 the machine could not start the program; 127 it can never be started, and DIR/millrace-refused says why.

  millrace-task --dir /tmp/try --input input.json -- ./load --table orders
`

// errHelp: help was asked for.
var errHelp = flag.ErrHelp

// options are what flags and environment say; a flag wins.
type options struct {
	version       bool
	dir           string
	input         string
	data, packed  string // of the input document, as it is or compressed; "" if it is a file
	fetch         string
	pathStyle     bool
	grace         time.Duration
	heartbeat     time.Duration
	heartbeatFile string
	output, state string
	secrets       []string
	argv          []string
	// env is what the program gets, without what task.prepare adds.
	env []string
}

// own are the variables that are for millrace-task alone, besides those that begin with a word of ownPrefixes.
var (
	own = []string{
		"MILLRACE_DIR", "MILLRACE_INPUT", "MILLRACE_OUTPUT", "MILLRACE_STATE", "MILLRACE_HEARTBEAT", "MILLRACE_FETCH", "MILLRACE_FETCHED", "MILLRACE_S3_PATH_STYLE",
		"MILLRACE_GRACE", "MILLRACE_HEARTBEAT_TIMEOUT", "MILLRACE_MASK",
	}
	ownPrefixes = []string{"MESOS_", "LIBPROCESS_", "MILLRACE_INPUT_"}
)

// defaultGrace is that of the scheduler.
const defaultGrace = 10 * time.Second

func parse(args, environ []string) (*options, error) {
	vars := map[string]string{}
	opt := &options{}
	for _, kv := range environ {
		name, val, _ := strings.Cut(kv, "=")
		vars[name] = val
		if !slices.Contains(own, name) && !slices.ContainsFunc(ownPrefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
			opt.env = append(opt.env, kv)
		}
	}
	get := func(name, other string) string {
		if vars[name] != "" {
			return vars[name]
		}
		return other
	}
	var errs []error
	duration := func(name string, other time.Duration) time.Duration {
		d, err := time.ParseDuration(get(name, other.String()))
		errs = append(errs, asError(name, vars[name], err))
		return d
	}
	pathStyle, err := strconv.ParseBool(get("MILLRACE_S3_PATH_STYLE", "false"))
	errs = append(errs, asError("MILLRACE_S3_PATH_STYLE", vars["MILLRACE_S3_PATH_STYLE"], err))

	flags := flag.NewFlagSet("millrace-task", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.BoolVar(&opt.version, "version", false, "")
	flags.StringVar(&opt.dir, "dir", get("MILLRACE_DIR", get("MESOS_SANDBOX", "/millrace")), "")
	flags.StringVar(&opt.input, "input", vars["MILLRACE_INPUT"], "")
	flags.StringVar(&opt.fetch, "fetch", vars["MILLRACE_FETCH"], "")
	flags.BoolVar(&opt.pathStyle, "s3-path-style", pathStyle, "")
	flags.DurationVar(&opt.grace, "grace", duration("MILLRACE_GRACE", defaultGrace), "")
	flags.DurationVar(&opt.heartbeat, "heartbeat", duration("MILLRACE_HEARTBEAT_TIMEOUT", 0), "")
	masked := flags.String("mask", vars["MILLRACE_MASK"], "")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	opt.data, opt.packed = dataOf(vars), vars["MILLRACE_INPUT_GZIP"]
	opt.output, opt.state, opt.heartbeatFile = vars["MILLRACE_OUTPUT"], vars["MILLRACE_STATE"], vars["MILLRACE_HEARTBEAT"]
	opt.argv = flags.Args()
	if len(opt.argv) == 0 && !opt.version {
		errs = append(errs, errors.New("no program is named: write it after --"))
	}
	if opt.grace < 0 || opt.heartbeat < 0 {
		errs = append(errs, errors.New("a duration is negative"))
	}
	for name := range strings.SplitSeq(*masked, ",") {
		if val := vars[name]; val != "" {
			opt.secrets = append(opt.secrets, val)
		}
	}
	return opt, errors.Join(errs...)
}

func asError(name, val string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s is %q: %w", name, val, err)
}

// maxInput bounds an input document that comes compressed.
const maxInput = 256 << 20

// unpack returns what gzip and base64 have made a text of.
func unpack(packed string) (string, error) {
	z, err := gzip.NewReader(base64.NewDecoder(base64.StdEncoding, strings.NewReader(packed)))
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(z, maxInput+1))
	if err == nil && len(text) > maxInput {
		err = fmt.Errorf("it has more than %d bytes", maxInput)
	}
	return string(text), err
}

// dataOf returns the text of the input document: whole, or in pieces because the kernel bounds one variable to 128 KiB.
func dataOf(vars map[string]string) string {
	if whole := vars["MILLRACE_INPUT_DATA"]; whole != "" {
		return whole
	}
	var b strings.Builder
	for i := 0; ; i++ {
		piece, ok := vars["MILLRACE_INPUT_"+strconv.Itoa(i)]
		if !ok {
			return b.String()
		}
		b.WriteString(piece)
	}
}
