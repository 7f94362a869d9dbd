package marathon

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"path"
	"regexp"
	"slices"
	"strings"

	"millrace/configs"
)

// The applications of a group.
const (
	Ingest   = "ingest"
	Schedule = "schedule"
	Postgres = "postgres"
)

var apps = []string{Ingest, Schedule, Postgres}

// Options are what a configuration does not say.
type Options struct {
	// ID is the group's, an absolute path of at least one name.
	ID string
	// Image is that of millrace; PostgresImage that of Postgres.
	Image, PostgresImage string
	// Instances is how many ingest.
	Instances int
	// CPUs, Mem and Volume are by application, where they are not to be what is worked out; Mem and Volume in MiB.
	CPUs        map[string]float64
	Mem, Volume map[string]int
	// HostDirs are directories of the agents that the containers see at the same place, and can not write to.
	HostDirs []string
	// ConfigPath is where the configuration is within the containers; "": it goes along as variables.
	ConfigPath string
	// Postgres adds one that listens at PostgresPort, whose superuser's password is in the file PasswordFile.
	Postgres     bool
	PostgresPort int
	PasswordFile string
}

// DefaultOptions returns those of a group without Postgres.
func DefaultOptions() Options {
	return Options{
		ID: "/millrace", Image: "millrace", PostgresImage: "postgres:17", PostgresPort: 5432, Instances: 1, PasswordFile: "/etc/millrace/postgres.password",
	}
}

// groupID is what Marathon takes for a path that is absolute.
var groupID = regexp.MustCompile(`^(/[a-z0-9]([a-z0-9.-]*[a-z0-9])?)+$`)

// Validate reports all that is wrong with o.
func (o *Options) Validate() error {
	var errs []error
	if !groupID.MatchString(o.ID) {
		errs = append(errs, fmt.Errorf("the group's id is %q: want a path of names of a-z, 0-9, - and ., like /millrace", o.ID))
	}
	if o.Image == "" || o.Postgres && o.PostgresImage == "" {
		errs = append(errs, errors.New("an image has no name"))
	}
	if o.Instances < 1 {
		errs = append(errs, fmt.Errorf("%d instances of ingest: want at least one", o.Instances))
	}
	if o.PostgresPort < 1 || o.PostgresPort > 65535 {
		errs = append(errs, fmt.Errorf("the port of Postgres is %d: want 1 to 65535", o.PostgresPort))
	}
	for _, p := range append(slices.Clone(o.HostDirs), o.ConfigPath, o.PasswordFile) {
		if p != "" && (!path.IsAbs(p) || path.Clean(p) != p || p == "/") {
			errs = append(errs, fmt.Errorf("the path %q: want an absolute one, without . and .., below /", p))
		}
	}
	for app, n := range o.CPUs {
		errs = append(errs, amount("CPUs", app, n))
	}
	for app, n := range o.Mem {
		errs = append(errs, amount("memory", app, float64(n)))
	}
	for app, n := range o.Volume {
		errs = append(errs, amount("volume", app, float64(n)))
	}
	return errors.Join(errs...)
}

func amount(what, app string, n float64) error {
	if !slices.Contains(apps, app) {
		return fmt.Errorf("%s of %q: there are %s", what, app, strings.Join(apps, ", "))
	}
	if !(n > 0 && n <= math.MaxInt32) {
		return fmt.Errorf("%s of %s is %v: want more than nothing", what, app, n)
	}
	return nil
}

// seen reports whether the containers see a file of the agents.
func (o *Options) seen(file string) bool {
	return slices.ContainsFunc(o.HostDirs, func(dir string) bool { return strings.HasPrefix(file, dir+"/") || file == dir })
}

const mib = 1 << 20

// worked are the amounts that follow from a configuration: what docs/limits.md says that the parts need at most, and a quarter of a GiB for the rest.
func worked(cfg *configs.Config) (mem, volume map[string]int) {
	up := func(bytes configs.Size) int { return int((bytes + mib - 1) / mib) }
	mem = map[string]int{Ingest: up(cfg.Batcher.Memory+cfg.Batcher.DedupeMemory+4*cfg.Ingest.MaxInflight) + 256, Schedule: 1024, Postgres: 1024}
	return mem, map[string]int{Ingest: minVolume(cfg) + 1024, Schedule: 10 << 10, Postgres: 10 << 10}
}

// minVolume is what the log may take, in MiB, with the room that it leaves.
func minVolume(cfg *configs.Config) int {
	return int((cfg.Log.WAL.MaxBytes + cfg.Log.WAL.MinFree + mib - 1) / mib)
}

// amounts fills in what o does not say.
func (o *Options) amounts(cfg *configs.Config) error {
	cpus := map[string]float64{Ingest: 1, Schedule: 1, Postgres: 1}
	mem, volume := worked(cfg)
	maps.Copy(cpus, o.CPUs)
	maps.Copy(mem, o.Mem)
	maps.Copy(volume, o.Volume)
	o.CPUs, o.Mem, o.Volume = cpus, mem, volume
	if least := minVolume(cfg); volume[Ingest] < least {
		return fmt.Errorf("the volume of ingest has %d MiB, and log.wal.max_bytes with log.wal.min_free takes %d: make the volume larger, or max_bytes smaller", volume[Ingest], least)
	}
	return nil
}
