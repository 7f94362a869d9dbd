package configs

import (
	"time"

	"millrace/batcher"
	"millrace/ingest"
)

// Config is everything that can be configured. The zero value of a field that [Default] does not set is its default. What each key means is
// said in millrace.yaml, whose comments are the reference; tags say what else is checked:
//
//	enum     the values of text, or of the elements of a list
//	min, max the bounds of a number, a size or a duration
//	reload   a change takes effect on SIGHUP: for the key and all below it
type Config struct {
	DataDir   string              `yaml:"data_dir"`
	Roles     []string            `yaml:"roles" enum:"ingest,batch,schedule"`
	Ingest    Ingest              `yaml:"ingest"`
	Console   Console             `yaml:"console"`
	Log       Log                 `yaml:"log"`
	Objects   Objects             `yaml:"objects"`
	Bus       Bus                 `yaml:"bus"`
	Store     Store               `yaml:"store"`
	Executors Executors           `yaml:"executors"`
	Images    Images              `yaml:"images"`
	Pools     map[string]int      `yaml:"pools" reload:"yes"`
	Notify    map[string]Notifier `yaml:"notify" reload:"yes"`
	// Variables, Secrets and Connections are for DAGs. Secrets are references, Connections URIs, or references to one.
	Variables   map[string]string    `yaml:"variables" reload:"yes"`
	Secrets     map[string]string    `yaml:"secrets" reload:"yes"`
	Connections map[string]SecretRef `yaml:"connections" reload:"yes"`
	// SecretKey has the keys with which secrets are encrypted in the store; "": secrets.key in the data directory.
	SecretKey SecretRef         `yaml:"secret_key"`
	Vault     Vault             `yaml:"vault"`
	Batch     Batch             `yaml:"batch" reload:"yes"`
	Batcher   Batcher           `yaml:"batcher"`
	Sources   map[string]Source `yaml:"sources" reload:"yes"`
	DAGs      string            `yaml:"dags" reload:"yes"`
	Shutdown  Shutdown          `yaml:"shutdown"`
}

// Ingest is the public listener.
type Ingest struct {
	Listen         string `yaml:"listen"`
	TLS            TLS    `yaml:"tls" reload:"yes"`
	TrustedProxies int    `yaml:"trusted_proxies" min:"0" max:"32"`
	// PublicURL is where SDKs reach the listener; "": what their requests say.
	PublicURL string `yaml:"public_url"`
	// Scripts is a directory with the files of @segment/analytics-next; "": none.
	Scripts    string `yaml:"scripts"`
	MaxEvent   Size   `yaml:"max_event" min:"1KiB" max:"10MiB" reload:"yes"`
	MaxRequest Size   `yaml:"max_request" max:"1GiB" reload:"yes"`
	// MaxCompressed is the longest compressed body as it is sent. 0: MaxRequest.
	MaxCompressed  Size          `yaml:"max_compressed" reload:"yes"`
	MaxRatio       int           `yaml:"max_ratio" min:"2" reload:"yes"`
	MaxBulk        Size          `yaml:"max_bulk" reload:"yes"`
	MaxHeaderBytes Size          `yaml:"max_header_bytes" min:"1KiB" max:"1MiB" reload:"yes"`
	MaxHeaders     int           `yaml:"max_headers" min:"10" reload:"yes"`
	HeaderTimeout  time.Duration `yaml:"header_timeout" min:"1ms" max:"1h" reload:"yes"`
	BodyTimeout    time.Duration `yaml:"body_timeout" min:"1ms" max:"1h" reload:"yes"`
	MinBodyRate    Size          `yaml:"min_body_rate" min:"1" max:"1GiB" reload:"yes"`
	IdleTimeout    time.Duration `yaml:"idle_timeout" min:"1ms" max:"1d" reload:"yes"`
	MaxConns       int           `yaml:"max_conns" min:"1" reload:"yes"`
	MaxConnsPerIP  int           `yaml:"max_conns_per_ip" min:"0" reload:"yes"`
	// MaxInflight bounds the bytes of bodies that are read but not yet answered.
	MaxInflight Size `yaml:"max_inflight" reload:"yes"`
	// SourceRate and TenantRate are events a second. 0: no bound.
	SourceRate int `yaml:"source_rate" min:"0" max:"100000000" reload:"yes"`
	TenantRate int `yaml:"tenant_rate" min:"0" max:"100000000" reload:"yes"`
	// UnknownKeyRate is how many bytes a second of events with unknown write keys go to quarantine. 0: none.
	UnknownKeyRate Size `yaml:"unknown_key_rate" max:"1GiB" reload:"yes"`
}

// TLS are the files of a certificate chain and its key, in PEM. Both empty: no TLS.
type TLS struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// On reports whether there is a certificate.
func (t TLS) On() bool { return t.Cert != "" }

// Console is the private listener: page, API and metrics.
type Console struct {
	Listen   string `yaml:"listen"`
	TLS      TLS    `yaml:"tls" reload:"yes"`
	BasePath string `yaml:"base_path"`
	// PublicURL is where people reach the console; "": where it listens.
	PublicURL string   `yaml:"public_url" reload:"yes"`
	Hosts     []string `yaml:"hosts"`
	Insecure  bool     `yaml:"insecure"`
	Redact    []string `yaml:"redact"`
	Pprof     bool     `yaml:"pprof"`
}

// Log is where events wait for the batcher.
type Log struct {
	Kind string `yaml:"kind" enum:"wal"`
	WAL  WAL    `yaml:"wal"`
}

// WAL is the embedded log.
type WAL struct {
	Segment  Size          `yaml:"segment" min:"1MiB" max:"1GiB"`
	MaxDelay time.Duration `yaml:"max_delay" min:"0s" max:"1s"`
	MaxBytes Size          `yaml:"max_bytes"`
	// MinFree is the room on the disk that the log leaves alone.
	MinFree Size `yaml:"min_free"`
}

// Objects is where batches are kept.
type Objects struct {
	Kind string `yaml:"kind" enum:"dir,s3"`
	Dir  Dir    `yaml:"dir"`
	S3   S3     `yaml:"s3"`
}

// Dir is a directory store; a relative path is below DataDir.
type Dir struct {
	Path string `yaml:"path"`
}

// S3 is a bucket of any store that honours If-None-Match.
type S3 struct {
	Bucket    string `yaml:"bucket"`
	Prefix    string `yaml:"prefix"`
	Region    string `yaml:"region"`
	Endpoint  string `yaml:"endpoint"`
	PathStyle bool   `yaml:"path_style"`
	// AccessKey and SecretKey are optional: without them the SDK looks in its usual places.
	AccessKey SecretRef `yaml:"access_key"`
	SecretKey SecretRef `yaml:"secret_key"`
	Checksums string    `yaml:"checksums" enum:"when_supported,when_required"`
}

// Bus carries triggers.
type Bus struct {
	Kind string `yaml:"kind" enum:"embedded,nats"`
	NATS NATS   `yaml:"nats"`
}

// NATS is an external server or cluster. Its URL may have credentials in it, so it is a secret.
type NATS struct {
	URL   SecretRef `yaml:"url"`
	Creds string    `yaml:"creds"`
}

// Store keeps runs and the trigger ledger.
type Store struct {
	Kind string `yaml:"kind" enum:"sqlite"`
	// Retention is how long runs are kept after their end, and batches after their cut. 0: for ever.
	Retention time.Duration `yaml:"retention" max:"3650d" reload:"yes"`
	// Archive puts runs into the object store before they are forgotten.
	Archive bool `yaml:"archive" reload:"yes"`
}

// Executors run tasks.
type Executors struct {
	Local  LocalExecutor  `yaml:"local"`
	Mesos  MesosExecutor  `yaml:"mesos"`
	Docker DockerExecutor `yaml:"docker"`
}

// DockerExecutor runs tasks as containers of a Docker engine.
type DockerExecutor struct {
	// Host is where the engine listens, unix:///path or tcp://host:port; "": there is no such executor.
	Host string `yaml:"host"`
	// CA, Cert and Key are files for an engine that is reached by TLS: all or none.
	CA    string `yaml:"ca"`
	Cert  string `yaml:"cert"`
	Key   string `yaml:"key"`
	Slots int    `yaml:"slots" min:"1" max:"100000"`
	// Network is that of tasks which name none.
	Network    string `yaml:"network"`
	Privileged bool   `yaml:"privileged"`
	MaxLog     Size   `yaml:"max_log"`
}

// On reports whether there is such an executor.
func (d *DockerExecutor) On() bool { return d.Host != "" }

// MesosExecutor runs tasks on the agents of a Mesos cluster.
type MesosExecutor struct {
	// Masters are URLs of masters, or one zk:// URL; none: there is no such executor.
	Masters []string `yaml:"masters"`
	Slots   int      `yaml:"slots" min:"1" max:"100000"`
	Roles   []string `yaml:"roles"`
	// Principal and Secret are for Mesos's own authentication, Token for those by a token.
	Principal string    `yaml:"principal"`
	Secret    SecretRef `yaml:"secret"`
	Token     SecretRef `yaml:"token"`
	// CA is a file of certificates that masters and agents may have theirs from.
	CA            string `yaml:"ca"`
	User          string `yaml:"user"`
	Containerizer string `yaml:"containerizer" enum:"mesos,docker"`
	Secrets       string `yaml:"secrets" enum:"plain,secret"`
	DockerOptions bool   `yaml:"docker_options"`
	GPU           bool   `yaml:"gpu"`
	// FailoverTimeout is how long tasks live on without the framework.
	FailoverTimeout time.Duration `yaml:"failover_timeout" min:"1m" max:"365d"`
	// Hold and Warm say how long, and how many, offers are kept that nothing needs.
	Hold time.Duration `yaml:"hold" min:"0s" max:"1h"`
	Warm int           `yaml:"warm" min:"0" max:"10000"`
	// Settle is after which time a task that the cluster does not know is lost.
	Settle time.Duration `yaml:"settle" min:"1s" max:"1d"`
	MaxLog Size          `yaml:"max_log"`
}

// On reports whether there is such an executor.
func (m *MesosExecutor) On() bool { return len(m.Masters) > 0 }

// LocalExecutor runs tasks as processes of this machine.
type LocalExecutor struct {
	Slots  int  `yaml:"slots" min:"1" max:"100000"`
	MaxLog Size `yaml:"max_log"`
	// AllowPrivate lets http tasks reach addresses that are not public.
	AllowPrivate bool `yaml:"allow_private"`
	// Env names variables of the server's environment that tasks get.
	Env []string `yaml:"env"`
}

// Notifier is who is told of runs, by the name that DAG files use.
type Notifier struct {
	Kind string `yaml:"kind" enum:"http,slack,command"`
	// URL is that of the kinds http and slack.
	URL SecretRef `yaml:"url"`
	// Headers and Secret are for the kind http.
	Headers map[string]SecretRef `yaml:"headers"`
	Secret  SecretRef            `yaml:"secret"`
	// Run is argv of the kind command.
	Run     []string      `yaml:"run"`
	Timeout time.Duration `yaml:"timeout" min:"0s" max:"10m"`
}

// Images is how the registries of container images are asked which digests tags stand for.
type Images struct {
	// Insecure are registries, host and port, that may be spoken to without TLS.
	Insecure []string      `yaml:"insecure"`
	Timeout  time.Duration `yaml:"timeout" min:"10ms" max:"1m"`
}

// Vault is where references vault:path#key lead: HashiCorp Vault, or what speaks its API.
type Vault struct {
	// Address is that of the server; "": there is none.
	Address   string    `yaml:"address"`
	Token     SecretRef `yaml:"token"`
	Namespace string    `yaml:"namespace"`
	Mount     string    `yaml:"mount"`
	// Path is where secrets are looked for that are not in Secrets; "": nowhere.
	Path    string        `yaml:"path"`
	Timeout time.Duration `yaml:"timeout" min:"10ms" max:"1m"`
	Cache   time.Duration `yaml:"cache" min:"0s" max:"1h"`
}

// Batch says when a lane is cut. In a source, a zero value takes that of the top level.
type Batch struct {
	MaxEvents    int64         `yaml:"max_events" min:"1"`
	MaxBytes     Size          `yaml:"max_bytes" min:"1KiB" max:"1GiB"`
	MaxAge       time.Duration `yaml:"max_age" min:"1ms" max:"1h"`
	Format       string        `yaml:"format" enum:"ndjson"`
	Compression  string        `yaml:"compression" enum:"gzip,zstd"`
	DedupeWindow time.Duration `yaml:"dedupe_window" min:"0s" max:"30d" reload:"no"`
}

// Policy returns b as the batcher takes it.
func (b Batch) Policy() batcher.Policy {
	return batcher.Policy{
		MaxEvents: b.MaxEvents, MaxBytes: int64(b.MaxBytes), MaxAge: b.MaxAge,
		Format: b.Format, Compression: b.Compression, Window: b.DedupeWindow,
	}.WithDefaults()
}

// over returns b with its zero values taken from base.
func (b Batch) over(base Batch) Batch {
	pick := func(own, other string) string {
		if own != "" {
			return own
		}
		return other
	}
	if b.MaxEvents == 0 {
		b.MaxEvents = base.MaxEvents
	}
	if b.MaxBytes == 0 {
		b.MaxBytes = base.MaxBytes
	}
	if b.MaxAge == 0 {
		b.MaxAge = base.MaxAge
	}
	if b.DedupeWindow == 0 {
		b.DedupeWindow = base.DedupeWindow
	}
	b.Format, b.Compression = pick(b.Format, base.Format), pick(b.Compression, base.Compression)
	return b
}

// Batcher bounds the worker.
type Batcher struct {
	// Memory bounds rows that wait for their cut, DedupeMemory the index of recent ids.
	Memory       Size `yaml:"memory" min:"1MiB"`
	DedupeMemory Size `yaml:"dedupe_memory"`
}

// Source is one webhook endpoint or one SDK app.
type Source struct {
	Kind      ingest.Kind `yaml:"kind" enum:"clickstream,webhook,events"`
	Tenant    string      `yaml:"tenant"`
	WriteKeys []string    `yaml:"write_keys"`
	Scheme    string      `yaml:"scheme"`
	Secrets   []SecretRef `yaml:"secrets"`
	// Verify has the fields in which the verification differs from Scheme.
	Verify      ingest.Scheme     `yaml:"verify"`
	VerifyToken SecretRef         `yaml:"verify_token"`
	PublicURL   string            `yaml:"public_url"`
	Tokens      []SecretRef       `yaml:"tokens"`
	Origins     []string          `yaml:"origins"`
	IP          ingest.IPPolicy   `yaml:"ip" enum:"keep,anonymize,drop,"`
	Lanes       map[string]string `yaml:"lanes"`
	MaxLanes    int               `yaml:"max_lanes" min:"0" max:"10000"`
	Batch       Batch             `yaml:"batch"`
}

// Shutdown bounds the drain after SIGTERM.
type Shutdown struct {
	// Delay is how long the process goes on accepting after SIGTERM, while it says that it is not ready.
	Delay   time.Duration `yaml:"delay" min:"0s" max:"10m"`
	Timeout time.Duration `yaml:"timeout" min:"0s" max:"1h"`
}

// Default returns the configuration that works without any file.
func Default() Config {
	return Config{
		DataDir: "./.millrace",
		Ingest: Ingest{
			Listen: "127.0.0.1:8080", MaxEvent: 1 << 20, MaxRequest: 4 << 20, MaxRatio: 100, MaxBulk: 1 << 30, MaxHeaderBytes: 64 << 10,
			MaxHeaders: 100, HeaderTimeout: 5 * time.Second, BodyTimeout: 30 * time.Second, MinBodyRate: 1 << 10,
			IdleTimeout: 2 * time.Minute, MaxConns: 10_000, MaxInflight: 64 << 20, UnknownKeyRate: 8 << 10,
		},
		Console: Console{Listen: "127.0.0.1:8081", BasePath: "/"},
		Log:     Log{Kind: "wal", WAL: WAL{Segment: 64 << 20, MaxDelay: 2 * time.Millisecond, MaxBytes: 10 << 30, MinFree: 1 << 30}},
		Objects: Objects{Kind: "dir", Dir: Dir{Path: "objects"}, S3: S3{Checksums: "when_supported"}},
		Bus:     Bus{Kind: "embedded"},
		Store:   Store{Kind: "sqlite", Retention: 30 * 24 * time.Hour, Archive: true},
		Executors: Executors{
			Local: LocalExecutor{Slots: 8, MaxLog: 1 << 30},
			Mesos: MesosExecutor{
				Slots: 500, Roles: []string{"*"}, User: "root", Containerizer: "mesos", Secrets: "plain", FailoverTimeout: 7 * 24 * time.Hour,
				Hold: 30 * time.Second, Settle: 11 * time.Minute, MaxLog: 1 << 30,
			},
			Docker: DockerExecutor{Slots: 8, Network: "host", MaxLog: 1 << 30},
		},
		Batch: Batch{
			MaxEvents: 50_000, MaxBytes: 64 << 20, MaxAge: 10 * time.Second,
			Format: "ndjson", Compression: "gzip", DedupeWindow: 24 * time.Hour,
		},
		Images:   Images{Timeout: 10 * time.Second},
		Vault:    Vault{Mount: "secret", Timeout: 5 * time.Second, Cache: 30 * time.Second},
		Batcher:  Batcher{Memory: 128 << 20, DedupeMemory: 64 << 20},
		DAGs:     "./dags",
		Shutdown: Shutdown{Timeout: 20 * time.Second},
	}
}

// Dev returns the configuration of `millrace dev`: Default with short batches and sources to play with.
func Dev() Config {
	c := Default()
	c.Batch.MaxAge = time.Second
	c.Sources = map[string]Source{
		"web":    {Kind: ingest.KindClickstream, WriteKeys: []string{"dev"}},
		"demo":   {Kind: ingest.KindWebhook, Scheme: "none"},
		"stripe": {Kind: ingest.KindWebhook, Scheme: "stripe", Secrets: []SecretRef{"whsec_dev"}},
	}
	return c
}
