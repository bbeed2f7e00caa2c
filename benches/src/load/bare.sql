-- What a whole cycle changes in the queue's schema, and the indexes that make it dear.
CREATE TABLE workspaces (
    id TEXT PRIMARY KEY, organization TEXT NOT NULL, owner TEXT NOT NULL, name TEXT NOT NULL,
    current_state TEXT, UNIQUE (organization, owner, name)
);
CREATE TABLE jobs (
    row BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id TEXT NOT NULL UNIQUE,
    organization TEXT NOT NULL, kind TEXT NOT NULL, owner TEXT NOT NULL,
    priority TEXT NOT NULL, tagset BIGINT NOT NULL, version TEXT NOT NULL,
    workspace TEXT REFERENCES workspaces (id), parameters BYTEA NOT NULL, trace TEXT NOT NULL,
    created_at BIGINT NOT NULL, state TEXT NOT NULL, attempt INT NOT NULL, cancel TEXT NOT NULL,
    started_at BIGINT, completed_at BIGINT, lease BYTEA, daemon TEXT, expires_at BIGINT,
    update_counter BIGINT NOT NULL DEFAULT 0, last_update_at BIGINT, phase TEXT,
    gate_open_at BIGINT, log_end BIGINT NOT NULL DEFAULT 0, phases BYTEA
) WITH (fillfactor = 70);
CREATE INDEX jobs_ready ON jobs (organization, tagset, kind, priority, owner, row)
    WHERE state = 'pending';
CREATE INDEX jobs_in_hand ON jobs (organization, owner, daemon)
    WHERE state IN ('offered', 'running', 'canceling');
CREATE INDEX jobs_by_organization ON jobs (organization, row);
CREATE INDEX jobs_by_workspace ON jobs (workspace, row) WHERE workspace IS NOT NULL;
CREATE TABLE builds (
    id TEXT PRIMARY KEY, workspace TEXT NOT NULL REFERENCES workspaces (id),
    number BIGINT NOT NULL, job BIGINT NOT NULL REFERENCES jobs (row), created_at BIGINT NOT NULL,
    UNIQUE (workspace, number)
);
CREATE INDEX builds_by_job ON builds (job);
CREATE TABLE attempts (
    job BIGINT NOT NULL REFERENCES jobs (row), attempt INT NOT NULL, lease BYTEA NOT NULL UNIQUE,
    daemon TEXT NOT NULL, offered_at BIGINT NOT NULL, confirmed_at BIGINT, gate_open_at BIGINT,
    ended_at BIGINT, ending TEXT, stored_seq BIGINT NOT NULL DEFAULT 0, PRIMARY KEY (job, attempt)
);
CREATE TABLE log_chunks (
    row BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job BIGINT NOT NULL REFERENCES jobs (row), attempt INT NOT NULL, first_seq BIGINT NOT NULL,
    last_seq BIGINT NOT NULL, lines BYTEA NOT NULL, UNIQUE (job, attempt, first_seq),
    UNIQUE (job, last_seq)
);
CREATE TABLE blobs (
    digest BYTEA PRIMARY KEY, size BIGINT NOT NULL, content BYTEA, created_at BIGINT NOT NULL
);
CREATE INDEX blobs_by_age ON blobs (created_at);
CREATE TABLE states (
    id TEXT PRIMARY KEY, workspace TEXT NOT NULL REFERENCES workspaces (id),
    digest BYTEA NOT NULL REFERENCES blobs (digest), serial BIGINT NOT NULL,
    lineage TEXT NOT NULL, job BIGINT REFERENCES jobs (row), created_at BIGINT NOT NULL
);
CREATE INDEX states_by_workspace ON states (workspace, created_at);
CREATE INDEX states_by_digest ON states (digest);
CREATE TABLE audit (
    row BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at BIGINT NOT NULL,
    organization TEXT NOT NULL, actor TEXT NOT NULL, call TEXT NOT NULL, object TEXT NOT NULL
);
