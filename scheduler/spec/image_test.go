package spec

import (
	"strings"
	"testing"
)

func TestImageFaults(t *testing.T) {
	t.Parallel()
	for task, want := range map[string]string{
		"{image: Load}":                                "is no reference of an image",
		"{image: 'a b'}":                               "is no reference of an image",
		"{image: \"load:${{ params.x }}\"}":            "could choose what is run",
		"{image: load, args: [a], run: [x]}":           "write the arguments into run",
		"{run: x, args: [a]}":                          "has args, and no image",
		"{run: x, pull: always}":                       "has pull, and no image",
		"{image: load, pull: never}":                   `pull "never" is not known`,
		"{image: load, args: [-c, \"${{ run.id }}\"]}": "might be read as code",
		"{image: load, http: {url: http://a/}}":        "has",
	} {
		_, err := Compile("f.yaml", []byte("dag: d\nparams: {x: {type: string, default: y}}\ntasks: {a: "+task+"}\n"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", task, err, want)
		}
	}
	for _, image := range []string{
		"load", "load:1.4", "team/load", "localhost:5000/team/load_x:v-1", "registry.example/a/b/c@sha256:" + strings.Repeat("0a", 32),
	} {
		if _, err := Compile("f.yaml", []byte("dag: d\ntasks: {a: {image: \""+image+"\"}}\n")); err != nil {
			t.Errorf("%s: %v", image, err)
		}
	}
}
