package sqlstore

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"millrace/scheduler"
)

// mappedArgs are the columns of mapped tasks, and of those that stand for them.
func mappedArgs(t *scheduler.TaskRun) (item, key, mapping string) {
	if t.Item != nil {
		item, key = string(t.Item.Value), t.Item.Key
	}
	if t.Map != nil {
		doc, _ := json.Marshal(t.Map) // numbers and a string
		mapping = string(doc)
	}
	return item, key, mapping
}

// mappedScan reads what mappedArgs wrote.
type mappedScan struct{ item, key, doc string }

func (m *mappedScan) fill(t *scheduler.TaskRun) error {
	if m.item != "" {
		t.Item = &scheduler.Item{Value: json.RawMessage(m.item), Key: m.key}
	}
	if m.doc == "" {
		return nil
	}
	t.Map = &scheduler.Mapping{}
	if err := json.Unmarshal([]byte(m.doc), t.Map); err != nil {
		return fmt.Errorf("read map_doc of task %s: %w", t.ID(), err)
	}
	return nil
}

// addTasks inserts rows into runs that exist, many with one statement: a list of items may have thousands.
func (t *tx) addTasks(tasks []scheduler.TaskRun) error {
	for len(tasks) > 0 {
		n := 1
		if len(tasks) >= 32 {
			n = 32
		}
		args := make([]any, 0, n*len(taskColumns))
		for i := range tasks[:n] {
			args = append(args, taskArgs(&tasks[i], lateTask, 1)...)
		}
		added, err := t.exec(insertSQL("task_instance", taskColumns, n, keep), args...)
		if err != nil {
			return err
		}
		if added != int64(n) {
			return fmt.Errorf("task %s, or one of the %d after it, is there already: %w", tasks[0].ID(), n-1, scheduler.ErrConflict)
		}
		tasks = tasks[n:]
	}
	return nil
}

// Rows implements scheduler.MappedStore.
func (s *Store) Rows(ctx context.Context, id string) (*scheduler.RunDetail, scheduler.Ended, error) {
	var as scheduler.Ended
	d, err := s.detail(ctx, "rows", id, func(v view, d *scheduler.RunDetail, id string) (err error) {
		if as, err = v.asOf(id); err == nil {
			err = v.tasks(d, id)
		}
		return err
	})
	return d, as, err
}

// AsOf implements scheduler.MappedStore.
func (s *Store) AsOf(ctx context.Context, id string) (as scheduler.Ended, err error) {
	err = s.read(ctx, "as_of", func(v view) (err error) {
		as, err = v.asOf(id)
		return err
	})
	return as, err
}

func (v view) asOf(id string) (scheduler.Ended, error) {
	as, err := one(v, scanEnded, "SELECT id, ended_at, rev, "+lastMove("run.id")+" FROM run WHERE id=?", id)
	if err != nil {
		err = fmt.Errorf("find run %q: %w", id, err)
	}
	return as, err
}

// Look implements scheduler.MappedStore.
func (s *Store) Look(ctx context.Context, id string) (*scheduler.RunDetail, error) {
	return s.detail(ctx, "look", id, view.own)
}

// own reads what a run has of tasks that are not mapped, without a pass over all that it has.
func (v view) own(d *scheduler.RunDetail, id string) error {
	type count struct {
		task  string
		state scheduler.State
		n     int
	}
	counts, err := all(v, func(row scanner) (c count, err error) {
		err = row.Scan(&c.task, &c.state, &c.n)
		return c, err
	}, "SELECT task, state, COUNT(*) FROM task_instance WHERE run=? AND map_index >= 0 GROUP BY task, state", id)
	if err != nil {
		return err
	}
	for _, c := range counts {
		if d.Mapped == nil {
			d.Mapped = map[string]map[scheduler.State]int{}
		}
		if d.Mapped[c.task] == nil {
			d.Mapped[c.task] = map[scheduler.State]int{}
		}
		d.Mapped[c.task][c.state] = c.n
	}
	d.Tasks, err = all(v, scanTask, hopTasks+"SELECT "+list("t.", taskColumns)+` FROM hop JOIN task_instance t ON t.run=?1 AND t.task=hop.task
		AND t.map_index=-1 ORDER BY t.n, t.task`, id)
	if err != nil {
		return err
	}
	d.Attempts, err = all(v, scanAttempt, hopTasks+"SELECT "+list("a.", attemptColumns)+` FROM hop JOIN attempt a ON a.run=?1
		AND a.id >= ?1 || '.' || hop.task || '.-1.' AND a.id < ?1 || '.' || hop.task || '.-1/'
		ORDER BY a.created_at, a.task, a.try`, id)
	if err != nil {
		return err
	}
	d.Moves, err = all(v, scanMove, movesSQL("< 0")+" ORDER BY id", id)
	return err
}

// hopTasks finds the names of a run's tasks, hopping from one to the next in the index: what is mapped is not read.
const hopTasks = `WITH RECURSIVE hop (task) AS (
	SELECT MIN(task) FROM task_instance WHERE run=?1
	UNION ALL SELECT (SELECT MIN(task) FROM task_instance WHERE run=?1 AND task > hop.task) FROM hop WHERE hop.task IS NOT NULL
) `

// Mapped implements scheduler.MappedStore.
func (s *Store) Mapped(ctx context.Context, q scheduler.MappedQuery) ([]scheduler.TaskRun, string, error) {
	f := filter{}
	f.add("run=? AND task=? AND map_index >= 0", q.Run, q.Task)
	f.given("state=?", string(q.State))
	if q.After != "" {
		n, err := strconv.Atoi(q.After)
		if err != nil {
			return nil, "", fmt.Errorf("read mapped tasks after %q: %w: not a cursor", q.After, scheduler.ErrInvalid)
		}
		f.add("map_index > ?", n)
	}
	n := limit(q.Limit)
	var rows []scheduler.TaskRun
	next := ""
	err := s.read(ctx, "mapped", func(v view) error {
		var err error
		rows, err = all(v, scanTask, "SELECT "+list("", taskColumns)+" FROM task_instance"+f.sql()+" ORDER BY map_index LIMIT "+strconv.Itoa(n+1), f.args...)
		if err != nil {
			return err
		}
		var last *scheduler.TaskRun
		if rows, last = cut(rows, n); last != nil {
			next = strconv.Itoa(last.MapIndex)
		}
		return nil
	})
	return rows, next, err
}

// Task implements scheduler.MappedStore.
func (s *Store) Task(ctx context.Context, run, task string, index int) (*scheduler.TaskDetail, error) {
	d := &scheduler.TaskDetail{}
	err := s.read(ctx, "task", func(v view) error {
		var err error
		const where = " WHERE run=? AND task=? AND map_index=?"
		if d.Task, err = one(v, scanTask, "SELECT "+list("", taskColumns)+" FROM task_instance"+where, run, task, index); err != nil {
			return fmt.Errorf("find task %q of run %q: %w", scheduler.TaskName(task, index), run, err)
		}
		// Its attempts have ids that follow from its tries; those of others are not read.
		ids := []any{run}
		marks := ""
		for try := 1; try <= d.Task.Try; try++ {
			ids = append(ids, d.Task.AttemptID(try))
			marks += ",?"
		}
		if marks != "" && len(ids) < 1000 {
			d.Attempts, err = all(v, scanAttempt, "SELECT "+list("", attemptColumns)+" FROM attempt WHERE run=? AND id IN ("+marks[1:]+") ORDER BY try", ids...)
		} else if marks != "" {
			d.Attempts, err = all(v, scanAttempt, "SELECT "+list("", attemptColumns)+" FROM attempt"+where+" ORDER BY try", run, task, index)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}
