-- +goose Up

-- The try at the last clear, 0 for none: retries count from there.
ALTER TABLE task_instance ADD COLUMN cleared BIGINT NOT NULL DEFAULT 0;
