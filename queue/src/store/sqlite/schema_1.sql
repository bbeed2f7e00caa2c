-- The whole schema. Times are the store's clock in Unix milliseconds; ids are UUID text;
-- digests and lease ids are raw bytes; messages are protobuf. `state` words are those of
-- `lifecycle::State`, all others those of `words`.

CREATE TABLE meta (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    -- No time before this one is ever given out again.
    high_water  INTEGER NOT NULL
) STRICT;
INSERT INTO meta VALUES (1, 0);

CREATE TABLE organizations (
    name        TEXT PRIMARY KEY,
    created_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE owners (
    id            TEXT PRIMARY KEY,
    organization  TEXT NOT NULL REFERENCES organizations (name),
    name          TEXT NOT NULL,
    email         TEXT NOT NULL DEFAULT '',
    full_name     TEXT NOT NULL DEFAULT '',
    groups_json   TEXT NOT NULL DEFAULT '[]',
    UNIQUE (organization, name)
) STRICT;

CREATE TABLE keys (
    hash          BLOB PRIMARY KEY,
    organization  TEXT NOT NULL REFERENCES organizations (name),
    name          TEXT NOT NULL,
    tags          TEXT NOT NULL,
    created_at    INTEGER NOT NULL,
    last_used_at  INTEGER,
    UNIQUE (organization, name)
) STRICT;

CREATE TABLE tokens (
    hash          BLOB PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE,
    organization  TEXT REFERENCES organizations (name),
    owner         TEXT NOT NULL,
    role          TEXT NOT NULL,
    created_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE daemons (
    organization     TEXT NOT NULL REFERENCES organizations (name),
    name             TEXT NOT NULL,
    instance         TEXT NOT NULL,
    key              TEXT NOT NULL,
    version          TEXT NOT NULL,
    slots            INTEGER NOT NULL,
    tags             TEXT NOT NULL,
    facts            TEXT NOT NULL,
    draining         INTEGER NOT NULL DEFAULT 0,
    last_seen_at     INTEGER NOT NULL,
    -- Set while its last control stream is gone and nothing was heard since.
    control_lost_at  INTEGER,
    PRIMARY KEY (organization, name)
) STRICT;

CREATE TABLE blobs (
    digest      BLOB PRIMARY KEY,
    size        INTEGER NOT NULL,
    -- zstd; NULL when the bytes are a file.
    content     BLOB,
    created_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE templates (
    id              TEXT PRIMARY KEY,
    organization    TEXT NOT NULL REFERENCES organizations (name),
    name            TEXT NOT NULL,
    active_version  TEXT REFERENCES template_versions (id),
    created_at      INTEGER NOT NULL,
    UNIQUE (organization, name)
) STRICT;

CREATE TABLE template_versions (
    id          TEXT PRIMARY KEY,
    template    TEXT NOT NULL REFERENCES templates (id),
    number      INTEGER NOT NULL,
    archive     BLOB NOT NULL REFERENCES blobs (digest),
    engine      TEXT NOT NULL,
    tags        TEXT NOT NULL,
    -- codec::Variables, sensitive ones in clear.
    variables   BLOB NOT NULL,
    activate    INTEGER NOT NULL,
    import_job  INTEGER NOT NULL REFERENCES jobs (row) DEFERRABLE INITIALLY DEFERRED,
    -- v1.TemplateFacts, once the import succeeded.
    facts       BLOB,
    created_at  INTEGER NOT NULL,
    UNIQUE (template, number)
) STRICT;

CREATE TABLE workspaces (
    id               TEXT PRIMARY KEY,
    organization     TEXT NOT NULL REFERENCES organizations (name),
    owner            TEXT NOT NULL,
    name             TEXT NOT NULL,
    template         TEXT NOT NULL REFERENCES templates (id),
    created_at       INTEGER NOT NULL,
    deleted_at       INTEGER,
    current_state    TEXT REFERENCES states (id) DEFERRABLE INITIALLY DEFERRED,
    -- Start builds are refused until then: an abandoned engine may still run.
    abandoned_job    TEXT,
    abandoned_until  INTEGER
) STRICT;
CREATE UNIQUE INDEX workspaces_living ON workspaces (organization, owner, name)
    WHERE deleted_at IS NULL;
CREATE INDEX workspaces_by_name ON workspaces (organization, owner, name, created_at);
CREATE INDEX workspaces_by_template ON workspaces (template);
CREATE INDEX workspaces_by_state ON workspaces (current_state) WHERE current_state IS NOT NULL;

CREATE TABLE builds (
    id           TEXT PRIMARY KEY,
    workspace    TEXT NOT NULL REFERENCES workspaces (id),
    number       INTEGER NOT NULL,
    transition   TEXT NOT NULL,
    version      TEXT NOT NULL REFERENCES template_versions (id),
    job          INTEGER NOT NULL REFERENCES jobs (row) DEFERRABLE INITIALLY DEFERRED,
    -- What the build starts from; a finish may only replace this.
    state_in     TEXT REFERENCES states (id),
    -- A delete that may drop unconfirmed resources.
    forget       INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    UNIQUE (workspace, number)
) STRICT;
CREATE INDEX builds_by_job ON builds (job);
CREATE INDEX builds_by_state ON builds (state_in) WHERE state_in IS NOT NULL;

-- Each distinct set of tags once: pending jobs are matched by set, not one by one.
CREATE TABLE tagsets (
    id    INTEGER PRIMARY KEY,
    tags  TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE jobs (
    row               INTEGER PRIMARY KEY AUTOINCREMENT,
    id                TEXT NOT NULL UNIQUE,
    organization      TEXT NOT NULL REFERENCES organizations (name),
    kind              TEXT NOT NULL,
    owner             TEXT NOT NULL,
    priority          TEXT NOT NULL,
    tagset            INTEGER NOT NULL REFERENCES tagsets (id),
    version           TEXT NOT NULL REFERENCES template_versions (id),
    workspace         TEXT REFERENCES workspaces (id),
    -- codec::Parameters.
    parameters        BLOB NOT NULL,
    trace             TEXT NOT NULL,
    created_at        INTEGER NOT NULL,

    state             TEXT NOT NULL,
    -- Of the attempt in hand, or the next one while pending; from 1.
    attempt           INTEGER NOT NULL,
    counted           INTEGER NOT NULL,
    uncounted         INTEGER NOT NULL,
    cancel            TEXT NOT NULL,
    started_at        INTEGER,
    completed_at      INTEGER,

    -- The attempt in hand; NULL while pending. They stay after the end.
    lease             BLOB,
    daemon            TEXT,
    -- Of an offer: when it is withdrawn. Of a running job: when it is lost.
    expires_at        INTEGER,
    update_counter    INTEGER NOT NULL DEFAULT 0,
    last_update_at    INTEGER,
    phase             TEXT,
    gate_open_at      INTEGER,

    -- Public sequence of the newest line, over all attempts.
    log_end           INTEGER NOT NULL DEFAULT 0,

    -- What the ending said.
    error             BLOB,
    phases            BLOB,
    unconfirmed       BLOB,
    engine_name       TEXT,
    engine_version    TEXT,
    engine_processes  INTEGER,
    sandbox           TEXT,
    broker            TEXT
) STRICT;
CREATE INDEX jobs_ready ON jobs (organization, tagset, kind, priority, owner, row, created_at)
    WHERE state = 'pending';
CREATE INDEX jobs_in_hand ON jobs (organization, owner, daemon, expires_at)
    WHERE state IN ('offered', 'running', 'canceling');
CREATE INDEX jobs_by_organization ON jobs (organization, row);
CREATE INDEX jobs_by_workspace ON jobs (workspace, row) WHERE workspace IS NOT NULL;

-- v1.Extraction of builds and dry runs: apart, so that lists stay light.
CREATE TABLE extractions (
    job         INTEGER PRIMARY KEY REFERENCES jobs (row),
    extraction  BLOB NOT NULL
) STRICT;

CREATE TABLE attempts (
    job           INTEGER NOT NULL REFERENCES jobs (row),
    attempt       INTEGER NOT NULL,
    lease         BLOB NOT NULL UNIQUE,
    daemon        TEXT NOT NULL,
    instance      TEXT NOT NULL,
    offered_at    INTEGER NOT NULL,
    confirmed_at  INTEGER,
    gate_open_at  INTEGER,
    ended_at      INTEGER,
    -- withdrawn, lost, finished, released, canceled, abandoned
    ending        TEXT,
    -- Highest line sequence stored without holes, and highest stored at all.
    stored_seq    INTEGER NOT NULL DEFAULT 0,
    highest_seq   INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (job, attempt)
) STRICT;

-- Runs of lines as they came: seq counts per attempt, public per job; both unbroken
-- within one row.
CREATE TABLE log_chunks (
    row           INTEGER PRIMARY KEY,
    job           INTEGER NOT NULL REFERENCES jobs (row),
    attempt       INTEGER NOT NULL,
    first_seq     INTEGER NOT NULL,
    last_seq      INTEGER NOT NULL,
    first_public  INTEGER NOT NULL,
    last_public   INTEGER NOT NULL,
    packed        INTEGER NOT NULL,
    lines         BLOB NOT NULL,
    UNIQUE (job, attempt, first_seq),
    UNIQUE (job, last_public)
) STRICT;

CREATE TABLE ledger (
    job      INTEGER NOT NULL REFERENCES jobs (row),
    attempt  INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    entry    BLOB NOT NULL,
    PRIMARY KEY (job, attempt, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE states (
    id          TEXT PRIMARY KEY,
    workspace   TEXT NOT NULL REFERENCES workspaces (id),
    source      TEXT NOT NULL,
    digest      BLOB NOT NULL REFERENCES blobs (digest),
    size        INTEGER NOT NULL,
    serial      INTEGER NOT NULL,
    lineage     TEXT NOT NULL,
    ledger_seq  INTEGER NOT NULL DEFAULT 0,
    job         INTEGER REFERENCES jobs (row),
    attempt     INTEGER,
    -- A late one that waits for adopt or discard.
    waiting     INTEGER NOT NULL DEFAULT 0,
    created_at  INTEGER NOT NULL
) STRICT;
CREATE INDEX states_by_workspace ON states (workspace, created_at);
CREATE INDEX states_waiting ON states (workspace) WHERE waiting = 1;
CREATE INDEX states_of_attempt ON states (job, attempt) WHERE job IS NOT NULL;

-- What jobs of the workspace may have left in the world.
CREATE TABLE unconfirmed (
    workspace  TEXT NOT NULL REFERENCES workspaces (id),
    address    TEXT NOT NULL,
    job        INTEGER NOT NULL REFERENCES jobs (row),
    resource   BLOB NOT NULL,
    PRIMARY KEY (workspace, address)
) STRICT, WITHOUT ROWID;

-- Finishes that another verdict preceded, and those of unknown jobs or leases.
CREATE TABLE finishes (
    row          INTEGER PRIMARY KEY,
    job          TEXT NOT NULL,
    lease        BLOB NOT NULL,
    daemon       TEXT NOT NULL,
    disposition  TEXT NOT NULL,
    report       BLOB NOT NULL,
    received_at  INTEGER NOT NULL,
    UNIQUE (job, lease)
) STRICT;

INSERT INTO organizations VALUES ('default', CAST(unixepoch('subsec') * 1000 AS INTEGER));
