-- How many runs there are by state, which the status shows: counting a million of them takes a second.

-- +goose Up

CREATE TABLE run_count (
    state TEXT   NOT NULL PRIMARY KEY,
    n     BIGINT NOT NULL
) WITHOUT ROWID;
INSERT INTO run_count SELECT state, COUNT(*) FROM run GROUP BY state;

-- +goose StatementBegin
CREATE TRIGGER run_count_insert AFTER INSERT ON run BEGIN
    INSERT INTO run_count VALUES (NEW.state, 1) ON CONFLICT (state) DO UPDATE SET n = n + 1;
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER run_count_update AFTER UPDATE OF state ON run WHEN OLD.state <> NEW.state BEGIN
    UPDATE run_count SET n = n - 1 WHERE state = OLD.state;
    INSERT INTO run_count VALUES (NEW.state, 1) ON CONFLICT (state) DO UPDATE SET n = n + 1;
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER run_count_delete AFTER DELETE ON run BEGIN
    UPDATE run_count SET n = n - 1 WHERE state = OLD.state;
END;
-- +goose StatementEnd
