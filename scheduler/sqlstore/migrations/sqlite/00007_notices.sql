-- What notifiers are to be told of, and until when runs are to be successful.

-- +goose Up

-- deadlines is a JSON list, '' if there is none. deadline_at is the first that is open, 0 if none is.
ALTER TABLE run ADD COLUMN deadlines TEXT NOT NULL DEFAULT '';
ALTER TABLE run ADD COLUMN deadline_at BIGINT NOT NULL DEFAULT 0;
CREATE INDEX run_by_deadline ON run (deadline_at, id) WHERE deadline_at > 0;

-- The outbox: one line for each thing that happened and each notifier that is to be told. seq is their order.
CREATE TABLE notice (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT    NOT NULL UNIQUE,
    notifier   TEXT    NOT NULL,
    event      TEXT    NOT NULL,
    dag        TEXT    NOT NULL,
    run        TEXT    NOT NULL,
    task       TEXT    NOT NULL,
    state      TEXT    NOT NULL,
    tries      BIGINT  NOT NULL,
    next_at    BIGINT  NOT NULL,
    error      TEXT    NOT NULL,
    created_at BIGINT  NOT NULL,
    since      BIGINT  NOT NULL,
    ended_at   BIGINT  NOT NULL,
    body       TEXT    NOT NULL
);
CREATE INDEX notice_pending ON notice (notifier, run, seq) WHERE state = 'pending';
CREATE INDEX notice_by_run ON notice (run, seq);
CREATE INDEX notice_by_notifier ON notice (notifier, seq);
CREATE INDEX notice_by_state ON notice (state, seq);

-- Runs that are still to come and have missed a deadline.
CREATE TABLE overdue (
    rule      TEXT   NOT NULL,
    run_key   TEXT   NOT NULL,
    n         BIGINT NOT NULL,
    at        BIGINT NOT NULL,
    missed_at BIGINT NOT NULL,
    PRIMARY KEY (rule, run_key, n)
) WITHOUT ROWID;
