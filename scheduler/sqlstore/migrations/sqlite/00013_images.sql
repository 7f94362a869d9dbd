-- The images of a run's tasks with their digests, a JSON list; '' for none. A run that was made before has its images open when it is loaded.

-- +goose Up

ALTER TABLE run ADD COLUMN images TEXT NOT NULL DEFAULT '';
