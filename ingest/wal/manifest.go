package wal

import (
	"bytes"
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"slices"
	"strings"

	"millrace/ingest"
	"millrace/ingest/vfs"
)

const (
	manifestName    = "MANIFEST"
	lockName        = "LOCK"
	ballastName     = "BALLAST"
	segmentSuffix   = ".wal"
	manifestVersion = 1
	manifestMagic   = "millrace-wal-manifest"
	logVersion      = 1
)

// manifest is what the directory holds, according to the last durable decision about it. Values are never changed once they are shared: a
// change clones, edits, stores and then publishes.
type manifest struct {
	Log          string        `json:"log"`
	Partition    int           `json:"partition"`
	Incarnations []incarnation `json:"incarnations"`
	Segments     []segment     `json:"segments"`
	Lost         []Damage      `json:"lost,omitempty"`
	// Discard names files of segments that nobody needs any more. A name stands here before its file is removed.
	Discard []string `json:"discard,omitempty"`
}

type incarnation struct {
	ID    string `json:"id"`
	Salt  uint32 `json:"salt"`
	First int64  `json:"first"`
	// Next is -1 while the incarnation is written.
	Next int64 `json:"next"`
	// Home and Seq are the ingest.ChainHint.
	Home string `json:"home,omitempty"`
	Seq  int64  `json:"seq,omitempty"`
}

type segment struct {
	Incarnation string `json:"incarnation"`
	First       int64  `json:"first"`
	// Next and Bytes are where the segment ends, or -1 for the one that is written.
	Next  int64 `json:"next"`
	Bytes int64 `json:"bytes"`
	// Size is the least that the file had when the segment was begun.
	Size int64 `json:"size"`
}

func (s segment) open() bool { return s.Next < 0 }

func (s segment) name() string { return segmentName(s.First) }

func segmentName(first int64) string { return fmt.Sprintf("%020d%s", first, segmentSuffix) }

func (m *manifest) clone() *manifest {
	c := *m
	c.Incarnations = slices.Clone(m.Incarnations)
	c.Segments = slices.Clone(m.Segments)
	c.Lost = slices.Clone(m.Lost)
	c.Discard = slices.Clone(m.Discard)
	return &c
}

func (m *manifest) incarnation(id string) *incarnation {
	for i := range m.Incarnations {
		if m.Incarnations[i].ID == id {
			return &m.Incarnations[i]
		}
	}
	return nil
}

// live returns the incarnation that is written, which is always the last one.
func (m *manifest) live() *incarnation { return &m.Incarnations[len(m.Incarnations)-1] }

// lastSegment returns the segment with the highest offsets, or nil.
func (m *manifest) lastSegment() *segment {
	if len(m.Segments) == 0 {
		return nil
	}
	return &m.Segments[len(m.Segments)-1]
}

// end returns one past the last offset of all that is closed.
func (m *manifest) end() int64 {
	var end int64
	for _, inc := range m.Incarnations {
		end = max(end, inc.First, inc.Next)
	}
	for _, s := range m.Segments {
		end = max(end, s.Next)
	}
	for _, d := range m.Lost {
		end = max(end, d.Next)
	}
	return end
}

func (m *manifest) stream(id string) ingest.Stream {
	return ingest.Stream{Log: m.Log, Incarnation: id, Partition: m.Partition}
}

// lostIn returns the accepted damage of one segment.
func (m *manifest) lostIn(seg segment) []Damage {
	var out []Damage
	for _, d := range m.Lost {
		if d.Segment == seg.name() {
			out = append(out, d)
		}
	}
	return out
}

func (m *manifest) encode() []byte {
	body, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		panic(err) // Strings and numbers only.
	}
	body = append(body, '\n')
	return append(manifestHead(fmt.Sprint(manifestVersion), body), body...)
}

// manifestHead returns the first line: its checksum covers itself and the body.
func manifestHead(version string, body []byte) []byte {
	head := manifestMagic + " " + version
	return fmt.Appendf(nil, "%s %08x\n", head, crc32.Update(crc32.Checksum(body, castagnoli), castagnoli, []byte(head)))
}

func decodeManifest(data []byte) (*manifest, error) {
	head, body, _ := bytes.Cut(data, []byte("\n"))
	fields := strings.Fields(string(head))
	if len(fields) != 3 || !bytes.HasPrefix(data, manifestHead(fields[1], body)) {
		return nil, fmt.Errorf("%w: checksum does not fit bytes 0–%d", ingest.ErrCorrupt, len(data)-1)
	}
	if fields[1] != fmt.Sprint(manifestVersion) {
		return nil, fmt.Errorf("version %s is not known to this program, which knows %d", fields[1], manifestVersion)
	}
	m := &manifest{}
	if err := json.Unmarshal(body, m); err != nil {
		return nil, fmt.Errorf("%w: %w", ingest.ErrCorrupt, err)
	}
	return m, nil
}

func readManifest(fsys vfs.FS, dir string) (*manifest, error) {
	name := filepath.Join(dir, manifestName)
	data, err := vfs.ReadFile(fsys, name)
	if err != nil {
		return nil, err
	}
	m, err := decodeManifest(data)
	if err != nil {
		return nil, fmt.Errorf("read manifest %q: %w", name, err)
	}
	return m, nil
}

// randomID returns n random bytes in lower-case base32.
func randomID(n int) string {
	b := make([]byte, n)
	rand.Read(b) // Never fails.
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))
}

func randomSalt() uint32 {
	var b [4]byte
	rand.Read(b[:])
	return binary.LittleEndian.Uint32(b[:])
}

func newManifest(partition int) *manifest {
	return &manifest{Log: randomID(16), Partition: partition}
}

// begin closes the incarnation that was written, drops incarnations and segments that hold nothing, and adds a new one at the end. All segments
// must be closed.
func (m *manifest) begin() {
	end := m.end()
	for i := range m.Incarnations {
		if inc := &m.Incarnations[i]; inc.Next < 0 {
			inc.Next = end
		}
	}
	m.Incarnations = slices.DeleteFunc(m.Incarnations, func(inc incarnation) bool { return inc.Next == inc.First })
	m.Incarnations = append(m.Incarnations, incarnation{ID: randomID(10), Salt: randomSalt(), First: end, Next: -1})
	m.drop(func(seg segment) bool { return seg.Next == seg.First })
}

// drop takes segments out and leaves their names in Discard.
func (m *manifest) drop(gone func(segment) bool) (dropped []segment) {
	m.Segments = slices.DeleteFunc(m.Segments, func(seg segment) bool {
		if !gone(seg) {
			return false
		}
		dropped = append(dropped, seg)
		m.Discard = append(m.Discard, seg.name())
		return true
	})
	return dropped
}

// add puts a new, open segment at the end. A file that was to be removed may have had the same name.
func (m *manifest) add(seg segment) {
	m.Segments = append(m.Segments, seg)
	m.kept(seg.name())
}

// kept takes names out of Discard: they are used again, or gone.
func (m *manifest) kept(names ...string) {
	m.Discard = slices.DeleteFunc(m.Discard, func(n string) bool { return slices.Contains(names, n) })
}

// headSize is the size of the head of a segment. Every byte of it follows from the manifest: so it is compared, not parsed. It is there for
// people, and for files that got into the wrong directory.
const headSize = 256

func (m *manifest) head(seg segment) []byte {
	text := fmt.Sprintf("millrace-wal %d\nlog %s\nincarnation %s\npartition %d\nfirst %d\n",
		logVersion, m.Log, seg.Incarnation, m.Partition, seg.First)
	head := make([]byte, headSize)
	copy(head, text)
	return head
}
