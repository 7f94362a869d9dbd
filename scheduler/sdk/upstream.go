package sdk

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
)

// far is an output that is not in the input document.
type far struct {
	URI  string `json:"uri"`
	Path string `json:"path"`
}

// filesOf returns where the outputs are: a path, or, if the executor gave none, a URI that only a program with a client for it can open.
func filesOf(refs map[string]far) map[string]string {
	files := map[string]string{}
	for task, ref := range refs {
		files[task] = ref.Path
		if ref.Path != "" {
			continue
		}
		files[task] = ref.URI
		if u, err := url.Parse(ref.URI); err == nil && u.Scheme == "file" {
			files[task] = u.Path
		}
	}
	if len(files) == 0 {
		return nil
	}
	return files
}

// output returns the output of a parent as JSON.
func (a *Attempt) output(task string) (json.RawMessage, error) {
	if raw, ok := a.Upstream[task]; ok {
		return raw, nil
	}
	file, ok := a.UpstreamFiles[task]
	if !ok {
		return nil, NoRetry(fmt.Errorf("take output of task %q: it is no parent of this task; add sdk.Needs", task))
	}
	if u, err := url.Parse(file); err == nil && u.Scheme != "" {
		return nil, NoRetry(fmt.Errorf("take output of task %q: it is at %s, which this executor has not fetched; "+
			"open Attempt.UpstreamFiles[%q] with a client for it", task, file, task))
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("take output of task %q: %w", task, err)
	}
	return raw, nil
}
