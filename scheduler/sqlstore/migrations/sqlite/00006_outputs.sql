-- Outputs in the object store, outputs that are taken from earlier tasks, and history that moves to an archive.

-- +goose Up

-- Where the output is, if it is too large for a row; '' is nowhere.
ALTER TABLE task_instance ADD COLUMN output_ref TEXT NOT NULL DEFAULT '';
ALTER TABLE task_instance ADD COLUMN output_sha TEXT NOT NULL DEFAULT '';
ALTER TABLE task_instance ADD COLUMN output_bytes BIGINT NOT NULL DEFAULT 0;
CREATE INDEX task_by_output ON task_instance (output_ref) WHERE output_ref <> '';

-- The task and try whose output it took, and whether a person wants it executed.
ALTER TABLE task_instance ADD COLUMN cached_from TEXT NOT NULL DEFAULT '';
ALTER TABLE task_instance ADD COLUMN no_cache BOOLEAN NOT NULL DEFAULT 0;

CREATE TABLE output_cache (
    id           TEXT   NOT NULL PRIMARY KEY,
    dag          TEXT   NOT NULL,
    task         TEXT   NOT NULL,
    source       TEXT   NOT NULL, -- the task that was executed
    try          BIGINT NOT NULL,
    output       TEXT   NOT NULL,
    output_ref   TEXT   NOT NULL,
    output_sha   TEXT   NOT NULL,
    output_bytes BIGINT NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL
) WITHOUT ROWID;
CREATE INDEX cache_by_end ON output_cache (expires_at);
CREATE INDEX cache_by_output ON output_cache (output_ref) WHERE output_ref <> '';

-- Runs that have left the table run. object is where they are archived, '' if they are not. While open is true there are rows of theirs to be
-- removed in other tables.
CREATE TABLE archived_run (
    id     TEXT    NOT NULL PRIMARY KEY,
    object TEXT    NOT NULL,
    open   BOOLEAN NOT NULL
) WITHOUT ROWID;
CREATE INDEX archived_open ON archived_run (id) WHERE open;

CREATE INDEX run_by_end ON run (ended_at, id) WHERE state IN ('success', 'failed', 'cancelled');
