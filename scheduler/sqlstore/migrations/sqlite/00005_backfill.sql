-- Replays are found by the run that they replay, and know the backfill that started them.

-- +goose Up

ALTER TABLE run ADD COLUMN backfill TEXT NOT NULL DEFAULT '';
ALTER TABLE run ADD COLUMN no_emit BOOLEAN NOT NULL DEFAULT FALSE;
CREATE INDEX run_by_original ON run (replay_of, created_at, id) WHERE replay_of <> '';
CREATE INDEX run_by_backfill ON run (backfill, created_at, id) WHERE backfill <> '';

-- doc is what was asked for.
CREATE TABLE backfill (
    id         TEXT   NOT NULL PRIMARY KEY,
    dag        TEXT   NOT NULL,
    state      TEXT   NOT NULL,
    doc        TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    ended_at   BIGINT NOT NULL
) WITHOUT ROWID;
CREATE INDEX backfill_by_time ON backfill (created_at, id);

-- One run, or the plan of it. run is '' while there is none; state stays when the run is pruned.
CREATE TABLE backfill_item (
    backfill TEXT   NOT NULL,
    n        BIGINT NOT NULL,
    state    TEXT   NOT NULL,
    run      TEXT   NOT NULL,
    reason   TEXT   NOT NULL,
    doc      TEXT   NOT NULL,
    PRIMARY KEY (backfill, n)
) WITHOUT ROWID;
CREATE INDEX backfill_item_by_run ON backfill_item (run) WHERE run <> '';
CREATE INDEX backfill_item_by_state ON backfill_item (backfill, state, n);

-- The batches of items, which are in their documents too, by batch. One that is named here is not pruned.
CREATE TABLE backfill_input (
    backfill TEXT   NOT NULL,
    n        BIGINT NOT NULL,
    i        BIGINT NOT NULL,
    batch    TEXT   NOT NULL,
    PRIMARY KEY (backfill, n, i)
) WITHOUT ROWID;
CREATE INDEX backfill_input_by_batch ON backfill_input (batch);
