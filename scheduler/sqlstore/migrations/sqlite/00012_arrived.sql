-- +goose Up

-- When the batch came to the ledger, and which of that moment's it was: decisions can be made again in the order in which they were made.
-- Of batches that are there already only the time of the cut is known.
ALTER TABLE batch ADD COLUMN arrived_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE batch ADD COLUMN arrived_n BIGINT NOT NULL DEFAULT 0;
UPDATE batch SET arrived_at = created_at;
CREATE INDEX batch_by_arrival ON batch (arrived_at, arrived_n);
