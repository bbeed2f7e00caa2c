-- The whole schema, the same tables as SQLite's. Times are the server's clock in Unix
-- milliseconds; ids are UUID text; digests and lease ids are raw bytes; messages are
-- protobuf; truth is 0 or 1. `state` words are those of `lifecycle::State`, all others
-- those of `words`. Text is compared by its bytes, whatever the database's collation.

-- Marks of transactions that must not be run twice, for an hour. A server that crashed
-- gives transaction ids out again, so those tell nothing.
CREATE TABLE commits (
    id      TEXT COLLATE "C" PRIMARY KEY,
    -- 1 when it was found not to be committed: now it cannot be any more.
    fenced  BIGINT NOT NULL,
    at      TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX commits_by_age ON commits (at);

-- Which directory of blobs belongs to these rows, once one does.
CREATE TABLE blob_place (
    one  BIGINT PRIMARY KEY CHECK (one = 1),
    id   TEXT COLLATE "C" NOT NULL
);

CREATE TABLE organizations (
    name        TEXT COLLATE "C" PRIMARY KEY,
    created_at  BIGINT NOT NULL
);

CREATE TABLE owners (
    id            TEXT COLLATE "C" PRIMARY KEY,
    organization  TEXT COLLATE "C" NOT NULL REFERENCES organizations (name),
    name          TEXT COLLATE "C" NOT NULL,
    email         TEXT COLLATE "C" NOT NULL DEFAULT '',
    full_name     TEXT COLLATE "C" NOT NULL DEFAULT '',
    groups_json   TEXT COLLATE "C" NOT NULL DEFAULT '[]',
    UNIQUE (organization, name)
);

CREATE TABLE keys (
    hash          BYTEA PRIMARY KEY,
    organization  TEXT COLLATE "C" NOT NULL REFERENCES organizations (name),
    name          TEXT COLLATE "C" NOT NULL,
    tags          TEXT COLLATE "C" NOT NULL,
    created_at    BIGINT NOT NULL,
    last_used_at  BIGINT,
    UNIQUE (organization, name)
);

CREATE TABLE tokens (
    hash          BYTEA PRIMARY KEY,
    name          TEXT COLLATE "C" NOT NULL UNIQUE,
    organization  TEXT COLLATE "C" REFERENCES organizations (name),
    owner         TEXT COLLATE "C" NOT NULL,
    role          TEXT COLLATE "C" NOT NULL,
    created_at    BIGINT NOT NULL
);

CREATE TABLE daemons (
    organization     TEXT COLLATE "C" NOT NULL REFERENCES organizations (name),
    name             TEXT COLLATE "C" NOT NULL,
    instance         TEXT COLLATE "C" NOT NULL,
    key              TEXT COLLATE "C" NOT NULL,
    version          TEXT COLLATE "C" NOT NULL,
    slots            BIGINT NOT NULL,
    tags             TEXT COLLATE "C" NOT NULL,
    facts            TEXT COLLATE "C" NOT NULL,
    draining         BIGINT NOT NULL DEFAULT 0,
    last_seen_at     BIGINT NOT NULL,
    -- Set while its last control stream is gone and nothing was heard since.
    control_lost_at  BIGINT,
    PRIMARY KEY (organization, name)
);

CREATE TABLE blobs (
    digest      BYTEA PRIMARY KEY,
    size        BIGINT NOT NULL,
    -- zstd; NULL when the bytes are a file.
    content     BYTEA,
    created_at  BIGINT NOT NULL
);

CREATE TABLE templates (
    id              TEXT COLLATE "C" PRIMARY KEY,
    organization    TEXT COLLATE "C" NOT NULL REFERENCES organizations (name),
    name            TEXT COLLATE "C" NOT NULL,
    active_version  TEXT COLLATE "C",
    created_at      BIGINT NOT NULL,
    UNIQUE (organization, name)
);

CREATE TABLE template_versions (
    id          TEXT COLLATE "C" PRIMARY KEY,
    template    TEXT COLLATE "C" NOT NULL REFERENCES templates (id),
    number      BIGINT NOT NULL,
    archive     BYTEA NOT NULL REFERENCES blobs (digest),
    engine      TEXT COLLATE "C" NOT NULL,
    tags        TEXT COLLATE "C" NOT NULL,
    -- codec::Variables, sensitive ones in clear.
    variables   BYTEA NOT NULL,
    activate    BIGINT NOT NULL,
    import_job  BIGINT NOT NULL,
    -- v1.TemplateFacts, once the import succeeded.
    facts       BYTEA,
    created_at  BIGINT NOT NULL,
    UNIQUE (template, number)
);

CREATE TABLE workspaces (
    id               TEXT COLLATE "C" PRIMARY KEY,
    organization     TEXT COLLATE "C" NOT NULL REFERENCES organizations (name),
    owner            TEXT COLLATE "C" NOT NULL,
    name             TEXT COLLATE "C" NOT NULL,
    template         TEXT COLLATE "C" NOT NULL REFERENCES templates (id),
    created_at       BIGINT NOT NULL,
    deleted_at       BIGINT,
    current_state    TEXT COLLATE "C",
    -- Start builds are refused until then: an abandoned engine may still run.
    abandoned_job    TEXT COLLATE "C",
    abandoned_until  BIGINT
);
CREATE UNIQUE INDEX workspaces_living ON workspaces (organization, owner, name)
    WHERE deleted_at IS NULL;
CREATE INDEX workspaces_by_name ON workspaces (organization, owner, name, created_at);
CREATE INDEX workspaces_by_template ON workspaces (template);
CREATE INDEX workspaces_by_state ON workspaces (current_state) WHERE current_state IS NOT NULL;

CREATE TABLE builds (
    id           TEXT COLLATE "C" PRIMARY KEY,
    workspace    TEXT COLLATE "C" NOT NULL REFERENCES workspaces (id),
    number       BIGINT NOT NULL,
    transition   TEXT COLLATE "C" NOT NULL,
    version      TEXT COLLATE "C" NOT NULL REFERENCES template_versions (id),
    job          BIGINT NOT NULL,
    -- What the build starts from; a finish may only replace this.
    state_in     TEXT COLLATE "C",
    -- A delete that may drop unconfirmed resources.
    forget       BIGINT NOT NULL,
    created_at   BIGINT NOT NULL,
    UNIQUE (workspace, number)
);
CREATE INDEX builds_by_job ON builds (job);
CREATE INDEX builds_by_state ON builds (state_in) WHERE state_in IS NOT NULL;

-- Each distinct set of tags once: pending jobs are matched by set, not one by one.
CREATE TABLE tagsets (
    id    BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tags  TEXT COLLATE "C" NOT NULL UNIQUE
);

CREATE TABLE jobs (
    row               BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id                TEXT COLLATE "C" NOT NULL UNIQUE,
    organization      TEXT COLLATE "C" NOT NULL REFERENCES organizations (name),
    kind              TEXT COLLATE "C" NOT NULL,
    owner             TEXT COLLATE "C" NOT NULL,
    priority          TEXT COLLATE "C" NOT NULL,
    tagset            BIGINT NOT NULL REFERENCES tagsets (id),
    version           TEXT COLLATE "C" NOT NULL REFERENCES template_versions (id),
    workspace         TEXT COLLATE "C" REFERENCES workspaces (id),
    -- codec::Parameters.
    parameters        BYTEA NOT NULL,
    trace             TEXT COLLATE "C" NOT NULL,
    created_at        BIGINT NOT NULL,

    state             TEXT COLLATE "C" NOT NULL,
    -- Of the attempt in hand, or the next one while pending; from 1.
    attempt           BIGINT NOT NULL,
    counted           BIGINT NOT NULL,
    uncounted         BIGINT NOT NULL,
    cancel            TEXT COLLATE "C" NOT NULL,
    started_at        BIGINT,
    completed_at      BIGINT,

    -- The attempt in hand; NULL while pending. They stay after the end.
    lease             BYTEA,
    daemon            TEXT COLLATE "C",
    -- Of an offer: when it is withdrawn. Of a running job: when it is lost.
    expires_at        BIGINT,
    update_counter    BIGINT NOT NULL DEFAULT 0,
    last_update_at    BIGINT,
    phase             TEXT COLLATE "C",
    gate_open_at      BIGINT,

    -- Public sequence of the newest line, over all attempts.
    log_end           BIGINT NOT NULL DEFAULT 0,

    -- What the ending said.
    error             BYTEA,
    phases            BYTEA,
    unconfirmed       BYTEA,
    engine_name       TEXT COLLATE "C",
    engine_version    TEXT COLLATE "C",
    engine_processes  BIGINT,
    sandbox           TEXT COLLATE "C",
    broker            TEXT COLLATE "C"
);
CREATE INDEX jobs_ready ON jobs (organization, tagset, kind, priority, owner, row, created_at)
    WHERE state = 'pending';
-- Without the expiry, which each update moves: it would cost those their cheap way
-- (a new row version on the same page, no index touched).
CREATE INDEX jobs_in_hand ON jobs (organization, daemon, owner)
    WHERE state IN ('offered', 'running', 'canceling');
CREATE INDEX jobs_by_organization ON jobs (organization, row);
CREATE INDEX jobs_by_workspace ON jobs (workspace, row) WHERE workspace IS NOT NULL;

-- v1.Extraction of builds and dry runs: apart, so that lists stay light.
CREATE TABLE extractions (
    job         BIGINT PRIMARY KEY REFERENCES jobs (row),
    extraction  BYTEA NOT NULL
);

CREATE TABLE attempts (
    job           BIGINT NOT NULL REFERENCES jobs (row),
    attempt       BIGINT NOT NULL,
    lease         BYTEA NOT NULL UNIQUE,
    daemon        TEXT COLLATE "C" NOT NULL,
    instance      TEXT COLLATE "C" NOT NULL,
    offered_at    BIGINT NOT NULL,
    confirmed_at  BIGINT,
    gate_open_at  BIGINT,
    ended_at      BIGINT,
    -- withdrawn, lost, finished, released, canceled, abandoned
    ending        TEXT COLLATE "C",
    -- Highest line sequence stored without holes, and highest stored at all.
    stored_seq    BIGINT NOT NULL DEFAULT 0,
    highest_seq   BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (job, attempt)
);

-- Runs of lines as they came: seq counts per attempt, public per job; both unbroken
-- within one row.
CREATE TABLE log_chunks (
    row           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job           BIGINT NOT NULL REFERENCES jobs (row),
    attempt       BIGINT NOT NULL,
    first_seq     BIGINT NOT NULL,
    last_seq      BIGINT NOT NULL,
    first_public  BIGINT NOT NULL,
    last_public   BIGINT NOT NULL,
    packed        BIGINT NOT NULL,
    lines         BYTEA NOT NULL,
    UNIQUE (job, attempt, first_seq),
    UNIQUE (job, last_public)
);

CREATE TABLE ledger (
    job      BIGINT NOT NULL REFERENCES jobs (row),
    attempt  BIGINT NOT NULL,
    seq      BIGINT NOT NULL,
    entry    BYTEA NOT NULL,
    PRIMARY KEY (job, attempt, seq)
);

CREATE TABLE states (
    id          TEXT COLLATE "C" PRIMARY KEY,
    workspace   TEXT COLLATE "C" NOT NULL REFERENCES workspaces (id),
    source      TEXT COLLATE "C" NOT NULL,
    digest      BYTEA NOT NULL REFERENCES blobs (digest),
    size        BIGINT NOT NULL,
    serial      BIGINT NOT NULL,
    lineage     TEXT COLLATE "C" NOT NULL,
    ledger_seq  BIGINT NOT NULL DEFAULT 0,
    job         BIGINT REFERENCES jobs (row),
    attempt     BIGINT,
    -- A late one that waits for adopt or discard.
    waiting     BIGINT NOT NULL DEFAULT 0,
    created_at  BIGINT NOT NULL
);
CREATE INDEX states_by_workspace ON states (workspace, created_at);
CREATE INDEX states_waiting ON states (workspace) WHERE waiting = 1;
CREATE INDEX states_of_attempt ON states (job, attempt) WHERE job IS NOT NULL;

-- What jobs of the workspace may have left in the world.
CREATE TABLE unconfirmed (
    workspace  TEXT COLLATE "C" NOT NULL REFERENCES workspaces (id),
    address    TEXT COLLATE "C" NOT NULL,
    job        BIGINT NOT NULL REFERENCES jobs (row),
    resource   BYTEA NOT NULL,
    PRIMARY KEY (workspace, address)
);

-- Finishes that another verdict preceded, and those of unknown jobs or leases.
CREATE TABLE finishes (
    row          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job          TEXT COLLATE "C" NOT NULL,
    lease        BYTEA NOT NULL,
    daemon       TEXT COLLATE "C" NOT NULL,
    disposition  TEXT COLLATE "C" NOT NULL,
    report       BYTEA NOT NULL,
    received_at  BIGINT NOT NULL,
    UNIQUE (job, lease)
);

-- Rows that name each other.
ALTER TABLE templates ADD FOREIGN KEY (active_version)
    REFERENCES template_versions (id);
ALTER TABLE template_versions ADD FOREIGN KEY (import_job)
    REFERENCES jobs (row) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE workspaces ADD FOREIGN KEY (current_state)
    REFERENCES states (id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE builds ADD FOREIGN KEY (job)
    REFERENCES jobs (row) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE builds ADD FOREIGN KEY (state_in)
    REFERENCES states (id);

-- What the sweep of blobs and the count of unclaimed finishes look up.
CREATE INDEX blobs_by_age ON blobs (created_at);
CREATE INDEX states_by_digest ON states (digest);
CREATE INDEX versions_by_archive ON template_versions (archive);
CREATE INDEX finishes_unclaimed ON finishes (row) WHERE disposition = 'unclaimed';

-- Rows that change often keep room on their page, and their dead versions go early.
ALTER TABLE jobs SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_analyze_scale_factor = 0.05);
ALTER TABLE attempts SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE daemons SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);

INSERT INTO organizations
    VALUES ('default', CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT));
