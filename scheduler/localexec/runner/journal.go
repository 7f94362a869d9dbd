//go:build linux

package runner

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"millrace/ingest/vfs"
	"millrace/scheduler"
)

// record is one fact about one attempt. Later records of the same attempt add to what earlier ones said.
type record struct {
	ID    string            `json:"id"`
	Claim *claim            `json:"claim,omitempty"`
	Start *process          `json:"start,omitempty"`
	Stop  *stop             `json:"stop,omitempty"`
	End   *scheduler.Report `json:"end,omitempty"`
	// Taken says that the client has committed the end.
	Taken bool `json:"taken,omitempty"`
}

// claim is the decision that the attempt will be executed here, once. It has what a later runner needs to look after the process.
type claim struct {
	At      time.Time     `json:"at"`
	Timeout time.Duration `json:"timeout,omitempty"`
	Grace   time.Duration `json:"grace,omitempty"`
	// Heartbeat came later; a runner that does not know it does not watch for it.
	Heartbeat time.Duration `json:"heartbeat,omitempty"`
	// Secrets say where in its environment the attempt has what its log must not have, see masked.go; Unplaced that one of them is not there.
	Secrets  []SecretPlace `json:"secrets,omitempty"`
	Unplaced bool          `json:"unplaced,omitempty"`
}

// process names a process for as long as the machine is up: a pid alone is reused.
type process struct {
	PID int `json:"pid"`
	// Start is the time of its start in clock ticks after the boot, as in /proc/<pid>/stat.
	Start uint64    `json:"start"`
	Boot  string    `json:"boot"`
	At    time.Time `json:"at"`
}

// journal is the file of records.
//
//	file   = magic "MRXJ" · version u32 · base u64 · frames
//	frame  = length u32 · crc u32 · durable u64 · JSON of a record        little endian; the CRC-32C is over durable and the JSON
//
// The first base bytes were synced before the file got its name, and when a frame was written, the first durable bytes were on the disk. A
// frame that does not check is the torn tail of a crash, and is cut off with all that follows, unless base or a later frame says that it
// was durable: then the disk has damaged it, claims may be missing, and open refuses.
//
// All methods are for one goroutine, but file.Sync may run beside append.
type journal struct {
	fsys    vfs.FS
	path    string
	file    vfs.File
	end     int64 // where the next frame goes
	durable int64 // the first bytes that are known to be on the disk
	base    int64 // the size after the last rewrite
	// broken: a write, a sync or a rewrite has failed, so that the file's content is not known. Only a rewrite, into a new file, ends this.
	broken bool
}

const (
	journalMagic = "MRXJ"
	headerSize   = 16
	frameHead    = 16
	maxRecord    = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	// errDamaged: the journal has lost records that were durable.
	errDamaged = errors.New("journal is damaged")
	errBroken  = errors.New("journal waits to be rewritten after an error")
)

// openJournal reads the journal at path, or makes an empty one, and rewrites it, so that it starts out durable and without a tail.
func openJournal(fsys vfs.FS, path string) (*journal, *table, error) {
	if err := vfs.MkdirAllSync(fsys, filepath.Dir(path)); err != nil {
		return nil, nil, err
	}
	data, err := vfs.ReadFile(fsys, path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("read journal: %w", err)
	}
	tab := newTable()
	if err == nil {
		if err := decodeJournal(data, tab.apply); err != nil {
			return nil, nil, fmt.Errorf("read journal %q: %w", path, err)
		}
	}
	j := &journal{fsys: fsys, path: path}
	if err := j.rewrite(tab.records()); err != nil {
		return nil, nil, err
	}
	return j, tab, nil
}

func decodeJournal(data []byte, apply func(record)) error {
	if len(data) < headerSize || string(data[:4]) != journalMagic {
		return fmt.Errorf("%w: no header", errDamaged) // The name appears with a synced header only.
	}
	if v := binary.LittleEndian.Uint32(data[4:]); v != JournalVersion {
		return fmt.Errorf("has version %d, want %d: use the millrace that wrote it", v, JournalVersion)
	}
	base := int64(binary.LittleEndian.Uint64(data[8:]))
	at := headerSize
	for at < len(data) {
		body, _, ok := frameAt(data, at)
		var rec record
		if !ok || json.Unmarshal(body, &rec) != nil {
			break
		}
		apply(rec)
		at += frameHead + len(body)
	}
	if int64(at) < max(base, durableAfter(data, at)) {
		return fmt.Errorf("%w at offset %d of %d", errDamaged, at, len(data))
	}
	return nil
}

// frameAt returns the frame at an offset if it checks.
func frameAt(data []byte, at int) (body []byte, durable int64, ok bool) {
	if len(data)-at < frameHead {
		return nil, 0, false
	}
	head := data[at : at+frameHead]
	n := int(binary.LittleEndian.Uint32(head))
	if n == 0 || n > maxRecord || n > len(data)-at-frameHead {
		return nil, 0, false
	}
	body = data[at+frameHead : at+frameHead+n]
	sum := crc32.Update(crc32.Checksum(head[8:], castagnoli), castagnoli, body)
	return body, int64(binary.LittleEndian.Uint64(head[8:])), sum == binary.LittleEndian.Uint32(head[4:])
}

// durableAfter returns the largest durable of the frames behind a bad one, wherever they begin.
func durableAfter(data []byte, at int) int64 {
	var most int64
	for i := at + 1; i+frameHead <= len(data); i++ {
		if binary.LittleEndian.Uint64(data[i+8:]) > uint64(len(data)) {
			continue // Cheap: spares the checksum of nearly all offsets.
		}
		if _, durable, ok := frameAt(data, i); ok {
			most = max(most, durable)
		}
	}
	return most
}

func appendFrame(buf []byte, rec record, durable int64) ([]byte, error) {
	body, err := json.Marshal(rec)
	if err != nil {
		return buf, fmt.Errorf("encode record of %s: %w", rec.ID, err)
	}
	var head [frameHead]byte
	binary.LittleEndian.PutUint32(head[:], uint32(len(body)))
	binary.LittleEndian.PutUint64(head[8:], uint64(durable))
	sum := crc32.Update(crc32.Checksum(head[8:], castagnoli), castagnoli, body)
	binary.LittleEndian.PutUint32(head[4:], sum)
	return append(append(buf, head[:]...), body...), nil
}

// append writes records: they survive this process now, and the machine after the next sync.
func (j *journal) append(recs ...record) error {
	if j.broken {
		return errBroken
	}
	var buf []byte
	for _, rec := range recs {
		var err error
		if buf, err = appendFrame(buf, rec, j.durable); err != nil {
			return err
		}
	}
	if _, err := j.file.WriteAt(buf, j.end); err != nil {
		j.broken = true // Some of the frames may be there.
		return fmt.Errorf("append to journal: %w", err)
	}
	j.end += int64(len(buf))
	return nil
}

// rewrite replaces the file by one with just these records, durably.
func (j *journal) rewrite(recs []record) error {
	j.broken = true
	buf := make([]byte, headerSize, 4096)
	for _, rec := range recs {
		var err error
		if buf, err = appendFrame(buf, rec, 0); err != nil {
			return err
		}
	}
	copy(buf, journalMagic)
	binary.LittleEndian.PutUint32(buf[4:], JournalVersion)
	binary.LittleEndian.PutUint64(buf[8:], uint64(len(buf)))
	if _, err := vfs.WriteFileSync(j.fsys, j.path, buf); err != nil {
		return fmt.Errorf("rewrite journal: %w", err)
	}
	file, err := j.fsys.OpenFile(j.path, os.O_RDWR)
	if err != nil {
		return fmt.Errorf("rewrite journal: %w", err)
	}
	if j.file != nil {
		_ = j.file.Close() // It has no name any more.
	}
	j.file, j.end = file, int64(len(buf))
	j.durable, j.base = j.end, j.end
	j.broken = false
	return nil
}

func (j *journal) close() error { return j.file.Close() }
