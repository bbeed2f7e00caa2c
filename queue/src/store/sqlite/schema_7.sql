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

-- Retention. Who prunes, so that one replica does it at a time.
CREATE TABLE duties (
    name     TEXT PRIMARY KEY,
    replica  TEXT NOT NULL,
    until    INTEGER NOT NULL
) STRICT;
-- The id of the job that a state was of, once the job is gone.
ALTER TABLE states ADD COLUMN of_job TEXT;
-- What a row that goes is looked for by, to see that nothing needs it.
CREATE INDEX versions_by_import ON template_versions (import_job);
CREATE INDEX doubts_by_job ON doubts (job);
CREATE INDEX jobs_by_tagset ON jobs (tagset);
-- Ended jobs by how they ended, for lists.
CREATE INDEX jobs_ended ON jobs (organization, state, row)
    WHERE state IN ('succeeded', 'canceled', 'failed');
