package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"millrace/scheduler"
	"millrace/scheduler/expr"
	"millrace/scheduler/output"
)

// Bounds of cache.ttl.
const (
	defaultCacheTTL = 7 * 24 * time.Hour
	minCacheTTL     = time.Second
	maxCacheTTL     = 365 * 24 * time.Hour
)

// readNamed reads a file that a DAG file names, by its path relative to that.
type readNamed func(path string) ([]byte, error)

// ReadLocal is [ReadFile] for a file at the path name, with the files that it names. ReadFile does not check what is in those, and its DAG takes
// whatever they would refuse: so it is for files that are not put into force.
func ReadLocal(name string, src []byte) File { return read(name, src, reading{files: beside(name)}) }

// LintLocal is [Lint] in the same way.
func LintLocal(name string, src []byte) File {
	return read(name, src, reading{lints: true, files: beside(name)})
}

func beside(file string) readNamed {
	return func(path string) ([]byte, error) {
		if !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(file), path)
		}
		return readSchemaFile(path)
	}
}

// ofProgram is for what a program describes: it has the schema at hand itself.
func ofProgram(string) ([]byte, error) {
	return nil, errors.New("a program writes the schema itself into its description")
}

// readSchemaFile reads a schema, and no more of a file than a schema may have.
func readSchemaFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		if fault, ok := errors.AsType[*fs.PathError](err); ok {
			err = fault.Err
		}
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(errors.New("it is no file"), err)
	}
	return io.ReadAll(io.LimitReader(f, output.MaxSchema+1))
}

// outputFields are the keys of a task about what it puts out.
func (b *builder) outputFields(t *scheduler.Task) fields {
	return fields{
		"output": func(v ast.Node) { b.output(v, t) },
		"cache":  func(v ast.Node) { b.cache(v, t) },
	}
}

func (b *builder) output(n ast.Node, t *scheduler.Task) {
	var schema json.RawMessage
	b.mapping(n, "output", fields{"schema": func(v ast.Node) { schema = b.outputSchema(v) }})
	if schema != nil {
		t.Output = &scheduler.Output{Schema: schema}
	}
}

// outputSchema reads a schema that stands in the DAG file, or in a file that is named there. The compiled form has the schema itself.
func (b *builder) outputSchema(n ast.Node) json.RawMessage {
	var text []byte
	switch b.resolve(n).(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		text = b.json(n, "schema", "")
	default:
		path := b.str(n, "schema")
		if path == "" {
			b.errorf(n, "write schema: file.json, or the schema itself", "schema is empty")
			return nil
		}
		if b.files == nil {
			return json.RawMessage("true")
		}
		var err error
		if text, err = b.files(path); err != nil {
			b.errorf(n, "the path is relative to this file", "schema %s can not be read: %v", path, err)
			return nil
		}
	}
	if text == nil {
		return nil // told already
	}
	if _, err := output.CompileSchema(text); err != nil {
		b.errorf(n, "", "schema: %v", err)
		return nil
	}
	var tight bytes.Buffer
	if err := json.Compact(&tight, text); err != nil {
		b.errorf(n, "", "schema: %v", err)
		return nil
	}
	return tight.Bytes()
}

func (b *builder) cache(n ast.Node, t *scheduler.Task) {
	c := &scheduler.Cache{TTL: defaultCacheTTL}
	t.Cache = c
	var ttl ast.Node
	b.mapping(n, "cache", fields{
		"key": func(v ast.Node) { c.Key = b.cacheKey(v, t.ID) },
		"ttl": func(v ast.Node) { ttl, c.TTL = v, b.duration(v, "ttl") },
	})
	if c.Key == "" && !b.faultAt(n) {
		b.errorf(n, "add key: inputs.digest", "cache has no key")
	}
	if ttl != nil && (c.TTL < minCacheTTL || c.TTL > maxCacheTTL) {
		b.errorf(ttl, "", "ttl is %v, want %v to %v", c.TTL, minCacheTTL, maxCacheTTL)
	}
}

func (b *builder) cacheKey(n ast.Node, task string) string {
	text := b.expression(n, "key")
	if text == "" {
		return ""
	}
	prg, err := expr.CompileKey(b.scope(), text)
	if err != nil {
		b.exprErrors(n, "key", err)
		return text
	}
	b.exprs = append(b.exprs, usedExpr{at: n, task: task, what: "cache.key", refs: prg.Refs()})
	return text
}

// namedFile is a file that a DAG file names, as it was when it was read.
type namedFile struct {
	path string
	size int64 // -1: it could not be read
	time time.Time
	// fresh: it was so young that its time proves nothing.
	fresh bool
}

// filesOf reads, for the DAG file at path, what it names, from the directory of DAG files alone, and notes what that was.
func (d *Dir) filesOf(path string, seen *[]namedFile) readNamed {
	return func(rel string) ([]byte, error) {
		full := filepath.Join(filepath.Dir(path), rel)
		if in, err := filepath.Rel(d.path, full); filepath.IsAbs(rel) || err != nil || in == ".." || strings.HasPrefix(in, "../") {
			return nil, fmt.Errorf("it is outside the directory of DAG files")
		}
		*seen = append(*seen, look(full))
		return readSchemaFile(full)
	}
}

func look(path string) namedFile {
	info, err := os.Stat(path)
	if err != nil {
		return namedFile{path: path, size: -1}
	}
	return namedFile{path: path, size: info.Size(), time: info.ModTime(), fresh: time.Since(info.ModTime()) < racy}
}

// others reports whether one of the files that a DAG file names may have changed.
func (e *entry) others() bool {
	for _, old := range e.names {
		if now := look(old.path); old.fresh || now.size != old.size || !now.time.Equal(old.time) {
			return true
		}
	}
	return false
}
