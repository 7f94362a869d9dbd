-- Since when a task is in its state, so that its waits go on after a restart where they were; 0 where it was not written.

-- +goose Up

ALTER TABLE task_instance ADD COLUMN since BIGINT NOT NULL DEFAULT 0;
