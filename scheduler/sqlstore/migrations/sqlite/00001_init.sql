-- Times are microseconds since 1970 in UTC, 0 is none. Documents are JSON in TEXT. Columns that may be NULL are for parts to come.

-- +goose Up

CREATE TABLE dag (
    id         TEXT    NOT NULL PRIMARY KEY,
    version    TEXT    NOT NULL,
    file       TEXT    NOT NULL,
    error      TEXT    NOT NULL,
    paused     BOOLEAN NOT NULL,
    removed    BOOLEAN NOT NULL,
    updated_at BIGINT  NOT NULL
) WITHOUT ROWID;

-- Never changed, never removed: a run may pin it.
CREATE TABLE dag_version (
    version    TEXT   NOT NULL PRIMARY KEY,
    dag        TEXT   NOT NULL,
    canonical  TEXT   NOT NULL,
    created_at BIGINT NOT NULL
) WITHOUT ROWID;

-- doc is the whole batch; the columns are what is asked for. width is last_offset - first_offset: its maximum bounds the search by offset.
CREATE TABLE batch (
    id           TEXT   NOT NULL PRIMARY KEY,
    tenant       TEXT   NOT NULL,
    source       TEXT   NOT NULL,
    stream       TEXT   NOT NULL,
    seq          BIGINT NOT NULL,
    first_offset BIGINT NOT NULL,
    last_offset  BIGINT NOT NULL,
    width        BIGINT NOT NULL,
    created_at   BIGINT NOT NULL,
    doc          TEXT   NOT NULL
) WITHOUT ROWID;
CREATE INDEX batch_by_source ON batch (source, id);
CREATE INDEX batch_by_seq ON batch (stream, seq);
CREATE INDEX batch_by_offset ON batch (stream, first_offset);
CREATE INDEX batch_by_width ON batch (stream, width);

-- One line for each batch and each rule that was active when the batch came. grp keeps its value when the group becomes a run.
CREATE TABLE disposition (
    batch  TEXT   NOT NULL,
    rule   TEXT   NOT NULL,
    fate   TEXT   NOT NULL,
    reason TEXT   NOT NULL,
    run    TEXT   NOT NULL,
    grp    TEXT   NOT NULL,
    at     BIGINT NOT NULL,
    PRIMARY KEY (batch, rule)
) WITHOUT ROWID;
CREATE INDEX disposition_open ON disposition (rule, grp, batch) WHERE fate IN ('held', 'coalesced');

-- Open groups; their members are the dispositions with their id in grp.
CREATE TABLE coalesce_group (
    rule      TEXT   NOT NULL,
    id        TEXT   NOT NULL,
    lane_key  TEXT   NOT NULL,
    opened_at BIGINT NOT NULL,
    last_at   BIGINT NOT NULL,
    events    BIGINT NOT NULL,
    bytes     BIGINT NOT NULL,
    PRIMARY KEY (rule, id)
) WITHOUT ROWID;

-- Every batch of the stream's entries up to seq is, or was until it was pruned, in the table batch.
CREATE TABLE cursor (
    stream TEXT   NOT NULL PRIMARY KEY,
    seq    BIGINT NOT NULL
) WITHOUT ROWID;

CREATE TABLE tick (
    rule TEXT   NOT NULL PRIMARY KEY,
    at   BIGINT NOT NULL
) WITHOUT ROWID;

-- The id is a pure function of DAG, rule, trigger key and replay number, so that its being primary makes the run the only one for these.
CREATE TABLE run (
    id             TEXT   NOT NULL PRIMARY KEY,
    dag            TEXT   NOT NULL,
    version        TEXT   NOT NULL,
    state          TEXT   NOT NULL,
    trigger_doc    TEXT   NOT NULL,
    params         TEXT   NOT NULL,
    replay         BIGINT NOT NULL,
    replay_of      TEXT   NOT NULL,
    events         BIGINT NOT NULL,
    bytes          BIGINT NOT NULL,
    interval_start BIGINT NOT NULL,
    interval_end   BIGINT NOT NULL,
    watermark      BIGINT NOT NULL,
    reason         TEXT   NOT NULL,
    trace          TEXT   NOT NULL,
    created_at     BIGINT NOT NULL,
    started_at     BIGINT NOT NULL,
    ended_at       BIGINT NOT NULL,
    rev            BIGINT NOT NULL,
    priority       BIGINT
) WITHOUT ROWID;
CREATE INDEX run_by_time ON run (created_at, id);
CREATE INDEX run_by_dag ON run (dag, created_at, id);
CREATE INDEX run_by_state ON run (state, created_at, id);

-- The inputs of a run, in their order; frozen when the run is created.
CREATE TABLE run_input (
    run   TEXT   NOT NULL,
    n     BIGINT NOT NULL,
    batch TEXT   NOT NULL,
    PRIMARY KEY (run, n)
) WITHOUT ROWID;
CREATE INDEX run_input_by_batch ON run_input (batch, run);

CREATE TABLE task_instance (
    run         TEXT   NOT NULL,
    task        TEXT   NOT NULL,
    map_index   BIGINT NOT NULL,
    n           BIGINT NOT NULL, -- place in the DAG
    state       TEXT   NOT NULL,
    try         BIGINT NOT NULL,
    lost        BIGINT NOT NULL,
    executor    TEXT   NOT NULL,
    external_id TEXT   NOT NULL,
    retry_at    BIGINT NOT NULL,
    kill_reason TEXT   NOT NULL,
    exit_code   BIGINT NOT NULL,
    reason      TEXT   NOT NULL,
    output      TEXT   NOT NULL,
    started_at  BIGINT NOT NULL,
    ended_at    BIGINT NOT NULL,
    rev         BIGINT NOT NULL,
    priority    BIGINT,
    pool        TEXT,
    pool_slots  BIGINT,
    lease_until BIGINT,
    PRIMARY KEY (run, task, map_index)
) WITHOUT ROWID;

CREATE TABLE attempt (
    run        TEXT   NOT NULL,
    id         TEXT   NOT NULL,
    task       TEXT   NOT NULL,
    map_index  BIGINT NOT NULL,
    try        BIGINT NOT NULL,
    executor   TEXT   NOT NULL,
    state      TEXT   NOT NULL,
    exit_code  BIGINT NOT NULL,
    reason     TEXT   NOT NULL,
    log        TEXT   NOT NULL,
    node       TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    ended_at   BIGINT NOT NULL,
    PRIMARY KEY (run, id)
) WITHOUT ROWID;

-- The audit trail. task is '' for the run itself.
CREATE TABLE transition (
    id         INTEGER PRIMARY KEY,
    run        TEXT   NOT NULL,
    task       TEXT   NOT NULL,
    map_index  BIGINT NOT NULL,
    try        BIGINT NOT NULL,
    from_state TEXT   NOT NULL,
    to_state   TEXT   NOT NULL,
    reason     TEXT   NOT NULL,
    at         BIGINT NOT NULL
);
CREATE INDEX transition_by_run ON transition (run, id);

-- Who may write. SQLite has one process by its lock and leaves this empty.
CREATE TABLE scheduler_lease (
    name       TEXT   NOT NULL PRIMARY KEY,
    holder     TEXT   NOT NULL,
    epoch      BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
) WITHOUT ROWID;
