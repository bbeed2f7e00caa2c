-- Records of who did what, and what keeps a long history from growing without end.

-- Who did what. Refusals come in batches; everything else stands in the transaction of what
-- it tells.
CREATE TABLE audit (
    row           INTEGER PRIMARY KEY,
    at            INTEGER NOT NULL,
    -- '' for calls of nobody known.
    organization  TEXT NOT NULL,
    -- token, key, queue, unknown
    actor_kind    TEXT NOT NULL,
    -- Name of the token or key.
    actor         TEXT NOT NULL,
    -- Owner of the token; name of the daemon.
    owner         TEXT NOT NULL,
    call          TEXT NOT NULL,
    object        TEXT NOT NULL,
    -- The job that it made or ended.
    job           TEXT,
    peer          TEXT NOT NULL,
    outcome       TEXT NOT NULL,
    times         INTEGER NOT NULL
) STRICT;
CREATE INDEX audit_by_organization ON audit (organization, row);
