package configs

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
)

// schemaNode is a part of a JSON Schema.
type schemaNode map[string]any

// Schema returns the JSON Schema (2020-12) of a configuration file, for editors: types and bounds from [Config], descriptions from the comments
// of [Example]. It refuses what decoding refuses; what can not work together is for [Loaded.Validate].
func Schema() ([]byte, error) {
	keys := map[string]*Key{}
	for _, k := range Keys() {
		keys[k.Path] = &k
	}
	root := objectSchema(reflect.TypeFor[Config](), "", keys)
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "millrace configuration"
	out, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write schema: %w", err)
	}
	return append(out, '\n'), nil
}

// objectSchema describes a struct.
func objectSchema(t reflect.Type, path string, keys map[string]*Key) schemaNode {
	properties := schemaNode{}
	for i := range t.NumField() {
		f := t.Field(i)
		at := join(path, f.Tag.Get("yaml"))
		k := keys[at]
		node := typeSchema(f.Type, at, keys)
		if k.Doc != "" {
			node["description"] = k.Doc
		}
		if k.Default != "" && !strings.HasPrefix(at, "sources.") {
			node["default"] = defaultOf(k)
		}
		leaf := node
		if items, ok := node["items"].(schemaNode); ok {
			leaf = items
		}
		if len(k.Enum) > 0 {
			leaf["enum"] = k.enum()
		}
		if leaf["type"] == "integer" && !strings.HasPrefix(at, "sources.*.batch.") { // where 0 is as at the top
			bound(leaf, "minimum", k.Min)
			bound(leaf, "maximum", k.Max)
		}
		properties[f.Tag.Get("yaml")] = node
	}
	return schemaNode{"type": "object", "properties": properties, "additionalProperties": false}
}

// enum returns the permitted values; a source's own batch policy may leave any to the top.
func (k *Key) enum() []string {
	if strings.HasPrefix(k.Path, "sources.*.batch.") {
		return append([]string{""}, k.Enum...)
	}
	return k.Enum
}

func bound(node schemaNode, name, text string) {
	if text != "" {
		node[name] = json.Number(text)
	}
}

func defaultOf(k *Key) any {
	var v any
	if err := yaml.Unmarshal([]byte(k.Default), &v); err != nil {
		return k.Default
	}
	return v
}

// typeSchema describes values of a type.
func typeSchema(t reflect.Type, path string, keys map[string]*Key) schemaNode {
	switch {
	case t == sizeType:
		return schemaNode{"anyOf": []schemaNode{
			{"type": "integer", "minimum": 0}, {"type": "string", "pattern": `^[0-9]+ *(B|KiB|MiB|GiB|TiB)?$`},
		}}
	case t == durationType:
		return schemaNode{"anyOf": []schemaNode{
			{"type": "string", "pattern": `^([0-9]+d)?([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))*$`}, {"type": "integer", "enum": []int{0}},
		}}
	case t.Kind() == reflect.Struct:
		return objectSchema(t, path, keys)
	case t.Kind() == reflect.Map:
		elem := typeSchema(t.Elem(), path+".*", keys)
		return schemaNode{"type": "object", "additionalProperties": elem}
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		return schemaNode{"type": "array", "items": typeSchema(t.Elem(), path+"[]", keys)}
	case t.Kind() == reflect.Slice && t.Name() != "": // takes one value, too
		one := typeSchema(t.Elem(), path, keys)
		return schemaNode{"anyOf": []schemaNode{one, {"type": "array", "items": one}}}
	case t.Kind() == reflect.Slice:
		return schemaNode{"type": "array", "items": typeSchema(t.Elem(), path, keys)}
	case t == secretType:
		return schemaNode{"type": "string", "description": "a literal, env:NAME or file:PATH"}
	case t.Kind() == reflect.String:
		return schemaNode{"type": "string"}
	case t.Kind() == reflect.Bool:
		return schemaNode{"type": "boolean"}
	}
	return schemaNode{"type": "integer"}
}
