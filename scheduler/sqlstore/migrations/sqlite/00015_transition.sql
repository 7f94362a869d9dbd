-- Ids of runs are in no order, so each index of the audit trail costs a page of its own for each transaction of a run. A line is in one of two now, and
-- was in one or in both.

-- +goose Up

DROP INDEX transition_by_run;
CREATE INDEX transition_mapped ON transition (run, id) WHERE map_index >= 0;
