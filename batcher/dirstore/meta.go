package dirstore

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"millrace/batcher"
)

// metaVersion is the version of metadata files written here.
const metaVersion = 1

// metaFile is the metadata of one object, as JSON.
type metaFile struct {
	V   int    `json:"v"`
	Key string `json:"key"`
	// Size is the object's: metadata of another size is not of this object.
	Size int64 `json:"size"`
	// At is when the object was put: file times are not durable, and copies change them.
	At   time.Time         `json:"at"`
	Meta map[string]string `json:"meta"`
}

// metaPath returns the file of a key's metadata. Names are hashes, so that a new hour of a lane needs no new directories here.
func (s *Store) metaPath(key string) string {
	sum := sha256.Sum256([]byte(key))
	name := hex.EncodeToString(sum[:])
	return s.path(metaDir + name[:2] + "/" + name[2:])
}

// putMeta makes the metadata of an object that is about to be linked durable. The caller is alone with the key, and the key has no object.
func (s *Store) putMeta(key string, size int64, meta map[string]string) error {
	name := s.metaPath(key)
	if len(meta) == 0 {
		return s.dropMeta(name)
	}
	data, err := json.Marshal(metaFile{V: metaVersion, Key: key, Size: size, At: now(), Meta: meta})
	if err != nil {
		return fmt.Errorf("encode metadata: %w: %w", batcher.ErrRefused, err)
	}
	dir := filepath.Dir(name)
	if err := s.ensureDir(dir); err != nil {
		return err
	}
	temp, err := s.writeTemp(data)
	if err != nil {
		return err
	}
	if err := s.fs.Rename(temp, name); err != nil {
		s.removeTemp(temp)
		return err
	}
	return s.syncDir(dir)
}

// dropMeta removes what an unfinished put of the key has left.
func (s *Store) dropMeta(name string) error {
	if _, err := s.fs.Stat(name); isAbsent(err) {
		return nil
	} else if err != nil {
		return err
	}
	if err := s.fs.Remove(name); err != nil {
		return err
	}
	return s.syncDir(filepath.Dir(name))
}

// readMeta returns the metadata of a key, or nil if there is none; ErrDamaged, ErrUnknownVersion.
func (s *Store) readMeta(key string) (*metaFile, error) {
	b, err := s.readFile(s.metaPath(key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var m metaFile
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("decode metadata of %q: %w: %w", key, batcher.ErrDamaged, err)
	}
	switch {
	case m.V != metaVersion:
		return nil, fmt.Errorf("metadata of %q has version %d: %w", key, m.V, batcher.ErrUnknownVersion)
	case m.Key != key:
		return nil, fmt.Errorf("metadata of %q is of key %q: %w", key, m.Key, batcher.ErrDamaged)
	}
	return &m, nil
}
