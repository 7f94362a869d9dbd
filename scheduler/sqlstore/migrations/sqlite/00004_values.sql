-- +goose Up

-- Variables, secrets and connections. kind is 'variable', 'secret' or 'connection'. sealed says that text is encrypted; the key is not in here.
CREATE TABLE named_value (
    kind        TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    text        TEXT    NOT NULL,
    sealed      BOOLEAN NOT NULL,
    description TEXT    NOT NULL,
    updated_at  BIGINT  NOT NULL,
    updated_by  TEXT    NOT NULL,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;

-- Who did what to something that is no run; for runs it is transition.
CREATE TABLE audit (
    id     INTEGER PRIMARY KEY,
    at     BIGINT NOT NULL,
    by     TEXT   NOT NULL,
    action TEXT   NOT NULL,
    kind   TEXT   NOT NULL,
    name   TEXT   NOT NULL
);
