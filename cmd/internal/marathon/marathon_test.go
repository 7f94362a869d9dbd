package marathon

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"millrace/configs"
)

// local finds a schema beside the one that refers to it.
type local struct{}

// Load implements jsonschema.URLLoader.
func (local) Load(url string) (any, error) {
	f, err := os.Open(filepath.Join("testdata", "schema", path.Base(url)))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	doc, err := jsonschema.UnmarshalJSON(f)
	if err == nil {
		// They name the newest draft, which was 4 at their time.
		doc.(map[string]any)["$schema"] = "http://json-schema.org/draft-04/schema#"
	}
	return doc, err
}

// schema is Marathon's own of a group; testdata/schema/README.md says where it is from.
func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.UseLoader(local{})
	s, err := c.Compile("https://example.com/schema/Group.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// text is a configuration whose processes can be apart.
const text = `objects: {kind: s3, s3: {bucket: events, region: eu-west-1, access_key: "file:/etc/millrace/key", secret_key: "env:S3_SECRET"}}
bus: {kind: nats, nats: {url: "nats://a:4222,nats://b:4222", creds: /etc/millrace/nats.creds}}
log: {wal: {max_bytes: 4GiB}}
batch: {max_age: 3s, max_events: 777}
pools: {redshift: 4}
variables: {region: eu-west-1}
connections: {warehouse: "file:/etc/millrace/warehouse"}
executors: {local: {env: [PGPASSWORD]}, mesos: {masters: ["zk://a:2181,b:2181/mesos"], principal: millrace, secret: "file:/etc/millrace/mesos", ca: /etc/millrace/ca.pem}}
sources:
  web: {kind: clickstream, write_keys: [wk_web, wk_app], ip: drop, lanes: {country: context.location.country}}
  stripe: {kind: webhook, scheme: stripe, secrets: ["file:/etc/millrace/stripe"]}
dags: /etc/millrace/dags
`

func load(t *testing.T, text string, environ ...string) *configs.Loaded {
	t.Helper()
	file := ""
	if text != "" {
		file = filepath.Join(t.TempDir(), "millrace.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := configs.Load(configs.Default(), file, environ)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func options(set func(*Options)) Options {
	o := DefaultOptions()
	if set != nil {
		set(&o)
	}
	return o
}

func built(t *testing.T, l *configs.Loaded, o Options) (*Group, []string) {
	t.Helper()
	g, notices, err := Build(l, o)
	if err != nil {
		t.Fatal(err)
	}
	return g, notices
}

// TestSchema holds groups against Marathon's schema, and shows that the schema refuses.
func TestSchema(t *testing.T) {
	t.Parallel()
	s := schema(t)
	check := func(g *Group) error {
		text, err := json.Marshal(g)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		return s.Validate(doc)
	}
	for name, set := range map[string]func(*Options){
		"plain": nil,
		"all": func(o *Options) {
			o.ID, o.Instances, o.Postgres, o.HostDirs = "/data/millrace", 3, true, []string{"/etc/millrace"}
			o.CPUs, o.Mem, o.Volume = map[string]float64{Ingest: 0.5}, map[string]int{Postgres: 4096}, map[string]int{Ingest: 8192}
		},
		"config path": func(o *Options) { o.ConfigPath = "/etc/millrace/millrace.yaml" },
	} {
		g, _ := built(t, load(t, text), options(set))
		if err := check(g); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, spoil := range map[string]func(*App){
		"constraint": func(a *App) { a.Constraints = [][]string{{"hostname", "UNIQ"}} },
		"capacity":   func(a *App) { a.Upgrade.MaximumOver = 2 },
		"id":         func(a *App) { a.ID = "/Millrace" },
		"check":      func(a *App) { a.HealthChecks[0].Protocol = "MESOS_GRPC" },
		"variable":   func(a *App) { a.Env["X"] = 1 },
		"volume":     func(a *App) { a.Container.Volumes[0].Persistent.Type = "disk" },
	} {
		g, _ := built(t, load(t, text), options(nil))
		spoil(&g.Apps[0])
		if check(g) == nil {
			t.Errorf("%s: a group that is wrong passes", name)
		}
	}
}

// TestVariables: the variables say what the configuration says.
func TestVariables(t *testing.T) {
	t.Parallel()
	want := load(t, text)
	g, notices := built(t, want, options(nil))
	for _, app := range g.Apps {
		var environ []string
		for name, v := range app.Env {
			if text, ok := v.(string); ok {
				environ = append(environ, name+"="+text)
			}
		}
		got := load(t, "", environ...)
		if wantArgs := []string{"serve", "--roles", strings.Join(roles[path.Base(app.ID)], ",")}; !slices.Equal(app.Args, wantArgs) {
			t.Errorf("%s: arguments: got %q, want %q", app.ID, app.Args, wantArgs)
		}
		if got.DataDir != "/var/lib/millrace" {
			t.Errorf("%s: data_dir: got %s", app.ID, got.DataDir)
		}
		got.DataDir, got.Ingest.Listen, got.Console.Listen = want.DataDir, want.Ingest.Listen, want.Console.Listen
		if diff := cmp.Diff(want.Config, got.Config, cmp.Comparer(func(a, b configs.SecretRef) bool { return a == b })); diff != "" {
			t.Errorf("%s: what the variables say (-want +got):\n%s", app.ID, diff)
		}
		if diff := cmp.Diff(map[string]Source{"s3-secret": {"millrace/s3-secret"}, "pgpassword": {"millrace/pgpassword"}}, app.Secrets); diff != "" {
			t.Errorf("%s: secrets (-want +got):\n%s", app.ID, diff)
		}
		if app.Env["S3_SECRET"] != (Secret{"s3-secret"}) || app.Env["PGPASSWORD"] != (Secret{"pgpassword"}) {
			t.Errorf("%s: got %v", app.ID, app.Env)
		}
	}
	for _, file := range []string{"key", "nats.creds", "warehouse", "stripe", "mesos", "ca.pem", "dags"} {
		if !slices.ContainsFunc(notices, func(n string) bool { return strings.Contains(n, "/etc/millrace/"+file+",") }) {
			t.Errorf("nothing says how the containers come by %s: %q", file, notices)
		}
	}
	if _, notices = built(t, want, options(func(o *Options) { o.HostDirs = []string{"/etc/millrace"} })); len(notices) != 1 || !strings.Contains(notices[0], "pgpassword, s3-secret") {
		t.Errorf("with the directory: got %q, want one notice, of the secrets", notices)
	}
}

// TestShape: what keeps two schedulers from running, and the log from being lost.
func TestShape(t *testing.T) {
	t.Parallel()
	g, _ := built(t, load(t, text), options(func(o *Options) { o.Instances, o.Postgres, o.PostgresPort = 3, true, 31432 }))
	ids := map[string]App{}
	for _, a := range g.Apps {
		ids[a.ID] = a
		volume := a.Container.Volumes[0]
		if a.Unreachable != "disabled" || a.Residency.TaskLost != "WAIT_FOREVER" || a.Upgrade.MaximumOver != 0 || volume.Persistent == nil || strings.Contains(volume.ContainerPath, "/") {
			t.Errorf("%s: Marathon would start another beside it, or without its volume: %+v", a.ID, a)
		}
		if a.Container.Volumes[1].HostPath != volume.ContainerPath {
			t.Errorf("%s: the volume is not where the image wants it: %+v", a.ID, a.Container.Volumes)
		}
	}
	if want := []string{"/millrace/ingest", "/millrace/postgres", "/millrace/schedule"}; !slices.Equal(slices.Sorted(maps.Keys(ids)), want) {
		t.Fatalf("got %v, want %v", slices.Sorted(maps.Keys(ids)), want)
	}
	ingest, schedule, postgres := ids["/millrace/ingest"], ids["/millrace/schedule"], ids["/millrace/postgres"]
	if schedule.Labels[single] != "true" || postgres.Labels[single] != "true" || ingest.Labels[single] != "" || schedule.Instances != 1 || schedule.Upgrade != (Upgrade{}) || !slices.Equal(schedule.Dependencies, []string{"/millrace/postgres"}) {
		t.Errorf("schedule: got %+v", schedule)
	}
	if ingest.Instances != 3 || ingest.Upgrade.MinimumHealth != 0.5 || !slices.EqualFunc(ingest.Constraints, [][]string{{"hostname", "UNIQUE"}}, slices.Equal) || len(ingest.Dependencies) > 0 {
		t.Errorf("ingest: got %+v", ingest)
	}
	if v := ingest.Container.Volumes[0].Persistent.Size; v < 5<<10 {
		t.Errorf("the volume of a log of 4 GiB that leaves 1 GiB has %d MiB", v)
	}
	ports := map[int]string{}
	for _, a := range g.Apps {
		for _, p := range a.Ports {
			if ports[p.Port] != "" {
				t.Errorf("port %d is that of %s and of %s: they can not be on one agent", p.Port, ports[p.Port], a.ID)
			}
			ports[p.Port] = a.ID
		}
	}
	if postgres.Ports[0].Port != 31432 || postgres.Env["PGPORT"] != "31432" {
		t.Errorf("postgres: got %+v", postgres)
	}
}

// TestConfigPath: a configuration that the containers find goes along in no other way.
func TestConfigPath(t *testing.T) {
	t.Parallel()
	l := load(t, text+"notify: {ops: {kind: slack, url: \"https://hooks.example.com/x\"}}\n")
	g, notices := built(t, l, options(func(o *Options) { o.ConfigPath, o.HostDirs = "/etc/millrace/m.yaml", []string{"/etc/millrace"} }))
	a := g.Apps[1]
	if !slices.Equal(a.Args, []string{"serve", "--roles", "schedule", "--config", "/etc/millrace/m.yaml"}) {
		t.Errorf("arguments: got %q", a.Args)
	}
	for name := range a.Env {
		if !slices.Contains([]string{"MILLRACE_DATA_DIR", "MILLRACE_CONSOLE__LISTEN", "S3_SECRET", "PGPASSWORD"}, name) {
			t.Errorf("the variable %s is set", name)
		}
	}
	if len(notices) != 1 {
		t.Errorf("got %q", notices)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		set  func(*Options)
		want []string
	}{
		"one process":         {"dags: /d\n", nil, []string{"bus.kind", "objects.kind s3"}},
		"secret":              {text + "notify: {ops: {kind: slack, url: \"https://hooks.example.com/x\"}}\n", nil, []string{"notify.ops.url is a secret"}},
		"credentials in url":  {strings.Replace(text, "nats://a:4222", "nats://me:pw@a:4222", 1), nil, []string{"bus.nats.url has credentials"}},
		"list of mappings":    {strings.Replace(text, "dags:", "  h: {kind: webhook, scheme: hmac, secrets: [\"file:/s\"], verify: {handshakes: [{when: {\"query:challenge\": \"\"}, reply: {body: x}}]}}\ndags:", 1), nil, []string{"sources.h.verify.handshakes can not be set"}},
		"upper case":          {strings.Replace(text, "redshift", "Redshift", 1), nil, []string{"pools.Redshift can not be set by a variable", "--config-path"}},
		"relative file":       {strings.Replace(text, "dags: /etc/millrace/dags", "dags: dags", 1), nil, []string{"names dags, which is relative"}},
		"console of one host": {text + "console: {listen: \"10.1.2.3:8081\", insecure: true}\n", nil, []string{"console.listen is on 10.1.2.3 alone"}},
		"any port":            {text + "console: {listen: \"127.0.0.1:0\"}\n", nil, []string{`console.listen has the port "0"`}},
		"volume":              {text, func(o *Options) { o.Volume = map[string]int{Ingest: 100} }, []string{"has 100 MiB", "takes 5120"}},
		"options": {text, func(o *Options) {
			o.ID, o.Image, o.Instances, o.PostgresPort = "Millrace", "", 0, 0
			o.HostDirs, o.CPUs, o.Mem = []string{"etc"}, map[string]float64{"web": 1}, map[string]int{Schedule: -1}
		}, []string{`id is "Millrace"`, "no name", "0 instances", "port of Postgres is 0", `path "etc"`, `CPUs of "web"`, "memory of schedule is -1"}},
	} {
		l := load(t, c.text)
		_, _, err := Build(l, options(c.set))
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want %q in it", name, err, want)
			}
		}
		if strings.Contains(err.Error(), "pw@") || strings.Contains(err.Error(), "hooks.example") {
			t.Errorf("%s: the error shows a secret: %v", name, errors.Unwrap(err))
		}
	}
}
