package app

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"millrace/batcher"
	"millrace/batcher/dirstore"
	"millrace/batcher/s3store"
	"millrace/configs"
	"millrace/ingest"
	"millrace/scheduler"
	"millrace/scheduler/engine"
	"millrace/scheduler/operator"
)

// objectsAt is where the object store is, for a process that has no configuration: a task that waits for an object. It travels in the
// environment of that process alone, with the keys of the bucket if the configuration has any. Dir is set, or Bucket.
type objectsAt struct {
	Dir       string `json:"dir,omitempty"`
	Bucket    string `json:"bucket,omitempty"`
	Prefix    string `json:"prefix,omitempty"`
	Region    string `json:"region,omitempty"`
	Endpoint  string `json:"endpoint,omitempty"`
	PathStyle bool   `json:"path_style,omitempty"`
	AccessKey string `json:"access_key,omitempty"`
	SecretKey string `json:"secret_key,omitempty"`
	Checksums string `json:"checksums,omitempty"`
}

// packObjects writes down where the objects of a configuration are.
func packObjects(cfg *configs.Loaded) (json.RawMessage, error) {
	at := objectsAt{}
	if cfg.Objects.Kind == "s3" {
		o, err := s3Options(cfg)
		if err != nil {
			return nil, err
		}
		at = objectsAt{
			Bucket: o.Bucket, Prefix: o.Prefix, Region: o.Region, Endpoint: o.Endpoint, PathStyle: o.PathStyle,
			AccessKey: o.AccessKey.Reveal(), SecretKey: o.SecretKey.Reveal(), Checksums: o.Checksums,
		}
	} else {
		dir, err := filepath.Abs(cfg.Data(cfg.Objects.Dir.Path)) // tasks start in a directory of their own
		if err != nil {
			return nil, fmt.Errorf("find the objects: %w", err)
		}
		at.Dir = dir
	}
	raw, err := json.Marshal(at)
	if err != nil {
		return nil, fmt.Errorf("write down where the objects are: %w", err)
	}
	return raw, nil
}

// OperatorStore opens, for reading, the object store that a task was told of.
func OperatorStore(ctx context.Context, told json.RawMessage) (batcher.ObjectStore, error) {
	var at objectsAt
	if err := json.Unmarshal(told, &at); err != nil {
		return nil, fmt.Errorf("read where the objects are: %w", err)
	}
	if at.Bucket == "" {
		return dirstore.Open(at.Dir, dirstore.Options{ReadOnly: true})
	}
	return s3store.Open(ctx, s3store.Options{
		Bucket: at.Bucket, Prefix: at.Prefix, Region: at.Region, Endpoint: at.Endpoint, PathStyle: at.PathStyle,
		AccessKey: ingest.Secret(at.AccessKey), SecretKey: ingest.Secret(at.SecretKey), Checksums: at.Checksums,
	})
}

// operators are those of this installation.
func (a *app) operators() (map[string]scheduler.Operator, error) {
	objects, err := packObjects(a.cfg)
	if err != nil {
		return nil, err
	}
	opts := operator.Options{AllowPrivate: a.cfg.Executors.Local.AllowPrivate, Objects: objects}
	if len(a.opts.Runner) > 0 {
		opts.Program = a.opts.Runner[0]
	}
	for _, kv := range a.opts.Environ {
		if a.cfg.Objects.Kind == "s3" && strings.HasPrefix(kv, "AWS_") { // where the SDK looks if the configuration has no keys
			opts.ObjectsEnv = append(opts.ObjectsEnv, kv)
		}
	}
	return operator.All(opts), nil
}

// taskEnv is what tasks get of the server's environment: what every program needs, and what the configuration names.
func (a *app) taskEnv() []string {
	var env []string
	for _, name := range append(engine.Inherited(), a.cfg.Executors.Local.Env...) {
		if i := slices.IndexFunc(a.opts.Environ, func(kv string) bool { return strings.HasPrefix(kv, name+"=") }); i >= 0 {
			env = append(env, a.opts.Environ[i])
		}
	}
	return env
}
