package spec

import (
	"encoding/json"
	"fmt"
	"strings"
)

// node is a part of a JSON Schema.
type node map[string]any

// Schema returns the JSON Schema (2020-12) of a DAG file, for editors. It takes whatever [Compile] takes, but for keys without a value, and
// refuses unknown keys and values of a wrong type; what can not work together is for Compile.
func Schema() ([]byte, error) {
	root := mappingSchema("")
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "millrace DAG"
	root["description"] = "One DAG; a file may have several, with --- between them."
	root["required"] = []string{"dag", "tasks"}
	root["patternProperties"] = node{"^x-": node{"description": "Whatever is to be named by an anchor; not read."}}
	out, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write schema: %w", err)
	}
	return append(out, '\n'), nil
}

// mappingSchema describes the mapping at a path.
func mappingSchema(path string) node {
	out := node{"type": "object", "additionalProperties": false}
	properties := node{}
	for i := range allKeys {
		k := &allKeys[i]
		if k.parent() != path {
			continue
		}
		if k.name() == "*" {
			out["propertyNames"] = node{"pattern": idRule.String()}
			out["additionalProperties"] = described(k, valueSchema(k))
			continue
		}
		properties[k.name()] = described(k, valueSchema(k))
	}
	if len(properties) > 0 {
		out["properties"] = properties
	}
	return out
}

// valueSchema describes what may stand behind a key: what it is alone, a mapping if there are keys below it, or both.
func valueSchema(k *Key) node {
	var deep node
	switch one, several := hasKeys(k.Path+"."), hasKeys(k.Path+"[]."); {
	case one && several:
		deep = node{"anyOf": []node{mappingSchema(k.Path), {"type": "array", "items": mappingSchema(k.Path + "[]")}}}
	case several:
		items := mappingSchema(k.Path + "[]")
		if k.item != nil {
			items = node{"anyOf": []node{k.item, items}}
		}
		deep = node{"type": "array", "items": items}
	case one:
		deep = mappingSchema(k.Path)
	}
	switch {
	case deep == nil:
		return k.schema
	case k.schema == nil:
		return deep
	}
	return node{"anyOf": []node{k.schema, deep}}
}

func hasKeys(prefix string) bool {
	for i := range allKeys {
		if strings.HasPrefix(allKeys[i].Path, prefix) {
			return true
		}
	}
	return false
}

// described returns a copy of n with the text of the key.
func described(k *Key, n node) node {
	out := node{"description": k.Doc}
	for name, v := range n {
		out[name] = v
	}
	return out
}
