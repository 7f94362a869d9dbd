-- +goose Up

-- What executors have to know after a restart. over_at is 0 as long as a record is needed.
CREATE TABLE executor_record (
    executor TEXT   NOT NULL,
    name     TEXT   NOT NULL,
    over_at  BIGINT NOT NULL,
    body     BLOB   NOT NULL,
    PRIMARY KEY (executor, name)
) WITHOUT ROWID;

CREATE INDEX executor_record_over ON executor_record (executor, over_at) WHERE over_at > 0;
