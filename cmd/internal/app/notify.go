package app

import (
	"context"
	"maps"
	"slices"
	"strings"

	"millrace/scheduler/notify"
	"millrace/scheduler/spec"
)

// buildNotify adds what sends notices.
func (a *app) buildNotify(s *scheduling) error {
	notifiers, err := a.cfg.Notifiers(a.cfg.Dir())
	if err != nil {
		return err
	}
	s.notify, err = notify.New(s.store, notifiers, notify.Options{
		Console: a.consoleURL, Env: a.taskEnv(), Agent: "millrace/" + version, Named: s.named, Logger: a.log, Registerer: a.metrics,
	})
	if err != nil {
		return err
	}
	a.back("notify", s.notify.Run)
	return nil
}

// consoleURL is where people reach the console.
func (a *app) consoleURL() string {
	base := "/" + strings.Trim(a.cfg.Console.BasePath, "/")
	if public := a.live.Load().Console.PublicURL; public != "" {
		return strings.TrimRight(public, "/") + base
	}
	return a.consoleAt + base
}

// named returns which DAGs name a notifier, by its name.
func (s *scheduling) named(ctx context.Context) (map[string][]string, error) {
	heads, err := s.engine.DAGs(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string][]string{}
	for i := range heads {
		_, dag, err := s.engine.DAG(ctx, heads[i].ID)
		if err != nil || dag == nil || heads[i].Removed {
			continue
		}
		for _, name := range dag.Notifiers() {
			out[name] = append(out[name], dag.ID)
		}
	}
	return out, nil
}

// takeDAGs puts DAG files into force, and says which notifiers they name in vain. That is no fault of theirs: the configuration is deployed apart,
// and what there is to tell waits for it in the outbox.
func (a *app) takeDAGs(warned *[]string) func(context.Context, spec.Set) error {
	return func(ctx context.Context, set spec.Set) error {
		if err := a.schedule.engine.SetDAGs(ctx, set); err != nil {
			return err
		}
		missing, err := a.schedule.notify.Missing(ctx)
		if err != nil {
			return err
		}
		names := slices.Sorted(maps.Keys(missing))
		for _, name := range names {
			if !slices.Contains(*warned, name) {
				a.log.Warn("dags name a notifier that the configuration does not have: its notices wait for a day, then they are given up",
					"notifier", name, "dags", strings.Join(missing[name], ", "), "next", "add notify."+name+" and reload")
			}
		}
		*warned = names
		return nil
	}
}
