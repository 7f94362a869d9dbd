-- +goose Up

-- What a mapped task is about, and its name for people; of a task that stands for mapped tasks, what it knows of them.
ALTER TABLE task_instance ADD COLUMN item TEXT NOT NULL DEFAULT '';
ALTER TABLE task_instance ADD COLUMN map_key TEXT NOT NULL DEFAULT '';
ALTER TABLE task_instance ADD COLUMN map_doc TEXT NOT NULL DEFAULT '';

-- Mapped tasks by state, to count and to page them. Tasks that are not mapped are not in it.
CREATE INDEX task_mapped ON task_instance (run, task, state, map_index) WHERE map_index >= 0;

-- The audit trail of what is not mapped: a run with 100,000 mapped tasks has half a million other lines.
CREATE INDEX transition_own ON transition (run, id) WHERE map_index < 0;
