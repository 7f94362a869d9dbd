-- +goose Up

-- Of a batch that is held: the value of the rule's key, and the sides of a join that wanted it, by id and with commas between them.
ALTER TABLE disposition ADD COLUMN lane_key TEXT NOT NULL DEFAULT '';
ALTER TABLE disposition ADD COLUMN sides TEXT NOT NULL DEFAULT '';
