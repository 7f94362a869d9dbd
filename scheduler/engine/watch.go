package engine

import "sync"

// watchers are those who wait for a change of a run.
type watchers struct {
	mu   sync.Mutex // guards runs
	runs map[string]*watcher
}

type watcher struct {
	ch    chan struct{} // closed by the next change
	users int
}

// Watch implements scheduler.Watcher.
func (e *Engine) Watch(run string) (changed <-chan struct{}, stop func()) { return e.watch.add(run) }

func (w *watchers) add(run string) (<-chan struct{}, func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.runs == nil {
		w.runs = map[string]*watcher{}
	}
	one := w.runs[run]
	if one == nil {
		one = &watcher{ch: make(chan struct{})}
		w.runs[run] = one
	}
	one.users++
	return one.ch, sync.OnceFunc(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if one.users--; one.users == 0 && w.runs[run] == one {
			delete(w.runs, run)
		}
	})
}

func (w *watchers) notify(run string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range []string{run, ""} {
		if one := w.runs[name]; one != nil {
			close(one.ch)
			delete(w.runs, name)
		}
	}
}
