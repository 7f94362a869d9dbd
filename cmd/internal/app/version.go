package app

import (
	"runtime"
	"runtime/debug"
)

// version is set by the linker.
var version = "dev"

// Version says what was built.
type Version struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Go       string `json:"go"`
}

// BuildVersion returns the version of this binary.
func BuildVersion() Version {
	v := Version{Version: version, Revision: "unknown", Go: runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v.Revision = s.Value
			}
		}
	}
	return v
}
