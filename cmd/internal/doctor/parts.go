package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"millrace/batcher"
	"millrace/ingest/vfs"
)

func checkObjects(ctx context.Context, e *Env) []Finding {
	home, err := e.Objects(ctx)
	if err == nil {
		return []Finding{ok("%s keeps what the chain needs", home)}
	}
	f := Finding{Result: Fail, Why: err.Error()}
	switch {
	case errors.Is(err, batcher.ErrNotSafe) && e.Config.Objects.Kind == "s3":
		f.Fix = "use a store that honours If-None-Match on PUT (AWS S3, MinIO, Ceph, R2, versitygw): without it batches are lost or doubled; a proxy in between may drop the header"
	case errors.Is(err, batcher.ErrNotSafe):
		f.Fix = "set objects.dir.path to a file system with hard links (ext4, xfs, btrfs, zfs)"
	case errors.Is(err, vfs.ErrLocked):
		f.Fix = "another server writes into this directory: end it, or set objects.dir.path elsewhere"
	case e.Config.Objects.Kind == "s3":
		f.Fix = "check objects.s3: endpoint, region, bucket, access_key and secret_key, and that this machine reaches the endpoint"
	default:
		f.Fix = "check that the user who runs the server may write " + e.Config.Data(e.Config.Objects.Dir.Path)
	}
	return []Finding{f}
}

func checkLog(ctx context.Context, e *Env) []Finding {
	damage, err := e.Damage(ctx)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return append([]Finding{{Result: Warn, Why: fmt.Sprintf("no damage in what was read within %v; there is more", perCheck), Fix: "read all of it: millrace log check"}}, checkHome(ctx, e)...)
	case err != nil:
		return []Finding{{Result: Fail, Why: err.Error(), Fix: "restore the log's directory from a good copy; do not remove it, it may hold events that are nowhere else"}}
	case len(damage) > 0:
		return []Finding{{
			Result: Fail, Why: "the log can not be read in places, and nothing behind them is cut: " + strings.Join(damage, "; "),
			Fix: "restore the disk from a good copy; if there is none, 'millrace log check' names the offsets and 'millrace log accept-loss' gives them up",
		}}
	}
	return checkHome(ctx, e)
}

// checkHome compares where the log's chains are with where the objects are.
func checkHome(ctx context.Context, e *Env) []Finding {
	homes, err := e.Homes(ctx)
	if err != nil {
		return []Finding{{Result: Fail, Why: err.Error(), Fix: "see 'millrace log check'"}}
	}
	if len(homes) == 0 {
		return []Finding{ok("no damage; no chain was begun")}
	}
	home, err := e.Objects(ctx)
	if err != nil {
		return []Finding{{Result: Skip, Why: "no damage; where its chain is can not be compared without the object store"}}
	}
	if other := slices.IndexFunc(homes, func(h string) bool { return h != home }); other >= 0 {
		return []Finding{{
			Result: Fail, Why: fmt.Sprintf("the log's chain is in %s, the configuration's objects are in %s: batching does not start", homes[other], home),
			Fix: "set objects back to where they were, or move them: millrace admin move-chain --to NEW-CONFIGURATION",
		}}
	}
	return []Finding{ok("no damage; its chain is in %s", home)}
}

func checkBus(ctx context.Context, e *Env) []Finding {
	if e.Config.Bus.Kind != "nats" {
		return []Finding{ok("embedded")}
	}
	if err := e.Bus(ctx); err != nil {
		return []Finding{{
			Result: Fail, Why: err.Error(),
			Fix: "start NATS with JetStream (nats-server -js), or mend bus.nats.url and bus.nats.creds; until then nothing is lost and batches start runs late, by the reconciler",
		}}
	}
	return []Finding{ok("NATS answers, with JetStream")}
}

func checkDAGs(_ context.Context, e *Env) []Finding {
	if e.Config.DAGs == "" {
		return []Finding{{Result: Skip, Why: "no directory is configured"}}
	}
	dir := e.Config.Path(e.Config.DAGs)
	var files []string
	for _, pattern := range []string{"*.yaml", "*.yml"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return []Finding{{Result: Fail, Why: fmt.Sprintf("dags %s: %v", dir, err), Fix: "set dags to a plain path"}}
		}
		files = append(files, found...)
	}
	slices.Sort(files)
	var out []Finding
	total := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		n := 0
		if err == nil {
			n, err = e.DAGs(file, text)
		}
		total += n
		if err != nil {
			out = append(out, Finding{
				Result: Fail, Why: strings.TrimSpace(err.Error()), Fix: "mend " + file + "; 'millrace dags validate' checks it, and a running server takes it up by itself",
			})
		}
	}
	if len(out) == 0 {
		out = append(out, ok("%d DAGs in %s", total, dir))
	}
	return out
}
