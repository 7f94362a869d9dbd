package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"millrace/configs"
	"millrace/ingest/vfs"
)

// places returns the directories that must keep what is written, by the key that names them.
func places(cfg *configs.Loaded) [][2]string {
	out := [][2]string{{"data_dir", cfg.Data(".")}}
	if objects := cfg.Data(cfg.Objects.Dir.Path); cfg.Objects.Kind == "dir" && filepath.IsAbs(cfg.Objects.Dir.Path) {
		out = append(out, [2]string{"objects.dir.path", objects})
	}
	return out
}

// existing returns dir, or the nearest directory above it that exists.
func existing(dir string) string {
	for {
		if _, err := os.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			return dir
		}
		dir = up
	}
}

func checkDataDir(_ context.Context, e *Env) []Finding {
	var out []Finding
	for _, p := range places(e.Config) {
		out = append(out, checkPlace(p[0], p[1]))
	}
	return out
}

func checkPlace(key, dir string) Finding {
	at := existing(dir)
	var st unix.Statfs_t
	if err := unix.Statfs(at, &st); err != nil {
		return Finding{Result: Fail, Why: fmt.Sprintf("%s %s: %v", key, dir, err), Fix: "set " + key + " to a directory that can be had"}
	}
	if kind := volatile[int64(st.Type)]; kind != "" {
		return Finding{
			Result: Fail, Why: fmt.Sprintf("%s %s is on %s: what is acknowledged there is gone with the power", key, dir, kind),
			Fix: "set " + key + " (" + variable(key) + ") to a directory on a disk",
		}
	}
	f, err := os.CreateTemp(at, ".millrace-doctor-*")
	if err == nil {
		_, err = f.WriteString("doctor")
		err = errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name()))
	}
	switch {
	case errors.Is(err, unix.EROFS):
		return Finding{
			Result: Fail, Why: fmt.Sprintf("%s %s is on a read-only file system", key, dir),
			Fix: "mount it for writing (mount -o remount,rw; a disk that failed is remounted read-only: see dmesg), or set " + key + " (" + variable(key) + ") elsewhere",
		}
	case err != nil:
		return Finding{
			Result: Fail, Why: fmt.Sprintf("%s %s can not be written as uid %d: %v", key, dir, os.Geteuid(), err),
			Fix: fmt.Sprintf("give it to the user that runs the server (chown %d %s), or set %s (%s) elsewhere", os.Geteuid(), at, key, variable(key)),
		}
	}
	if at != dir {
		return ok("%s %s will be made, %s can be written", key, dir, at)
	}
	return ok("%s %s can be written", key, dir)
}

// volatile are file systems that forget, by the magic number of statfs(2).
var volatile = map[int64]string{unix.TMPFS_MAGIC: "tmpfs (memory)", unix.RAMFS_MAGIC: "ramfs (memory)"}

// variable is the environment variable of a key, for the text of a fix.
func variable(key string) string {
	if key == "data_dir" {
		return "--data-dir"
	}
	return configs.EnvPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "__"))
}

func checkDisk(_ context.Context, e *Env) []Finding {
	dir := existing(e.Config.Data("."))
	free, total, err := vfs.OS.Free(dir)
	if err != nil {
		return []Finding{{Result: Fail, Why: err.Error(), Fix: "set data_dir to a directory that can be had"}}
	}
	floor := int64(e.Config.Log.WAL.MinFree)
	why := fmt.Sprintf("%s free of %s on the disk of %s; the log leaves %s alone (log.wal.min_free)",
		configs.Size(round(free)), configs.Size(round(total)), dir, e.Config.Log.WAL.MinFree)
	fix := "make room, or move data_dir to a larger disk; lowering log.wal.min_free only puts it off"
	switch {
	case free < floor:
		return []Finding{{Result: Fail, Why: why + ": senders get 503", Fix: fix}}
	case free < 2*floor:
		return []Finding{{Result: Warn, Why: why, Fix: fix}}
	}
	return []Finding{ok("%s", why)}
}

// round makes a size one that reads well.
func round(n int64) int64 {
	unit := int64(1)
	for n/unit >= 10_000 {
		unit <<= 10
	}
	return n / unit * unit
}
