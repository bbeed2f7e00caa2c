-- Records of who did what, and what keeps a long history from growing without end. Nothing
-- of it is known to replicas of the release before.

-- Who did what. Refusals come in batches; everything else stands in the transaction of what
-- it tells.
CREATE TABLE audit (
    row           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at            BIGINT NOT NULL,
    -- '' for calls of nobody known.
    organization  TEXT COLLATE "C" NOT NULL,
    -- token, key, queue, unknown
    actor_kind    TEXT COLLATE "C" NOT NULL,
    -- Name of the token or key.
    actor         TEXT COLLATE "C" NOT NULL,
    -- Owner of the token; name of the daemon.
    owner         TEXT COLLATE "C" NOT NULL,
    call          TEXT COLLATE "C" NOT NULL,
    object        TEXT COLLATE "C" NOT NULL,
    -- The job that it made or ended.
    job           TEXT COLLATE "C",
    peer          TEXT COLLATE "C" NOT NULL,
    outcome       TEXT COLLATE "C" NOT NULL,
    times         BIGINT NOT NULL
);
CREATE INDEX audit_by_organization ON audit (organization, row);

-- Retention. Who prunes, so that one replica does it at a time.
CREATE TABLE duties (
    name     TEXT COLLATE "C" PRIMARY KEY,
    replica  TEXT COLLATE "C" NOT NULL,
    until    BIGINT NOT NULL
);
-- The id of the job that a state was of, once the job is gone.
ALTER TABLE states ADD COLUMN of_job TEXT COLLATE "C";
-- What a row that goes is looked for by, to see that nothing needs it. Jobs have no index by
-- tags: it would be written with every change of a job, and is looked for seldom.
CREATE INDEX versions_by_import ON template_versions (import_job);
CREATE INDEX doubts_by_job ON doubts (job);
-- What the release before notes goes with its job; all of it stands in `doubts` as well.
ALTER TABLE unconfirmed DROP CONSTRAINT unconfirmed_job_fkey,
    ADD CONSTRAINT unconfirmed_job_fkey FOREIGN KEY (job) REFERENCES jobs (row)
        ON DELETE CASCADE,
    DROP CONSTRAINT unconfirmed_workspace_fkey,
    ADD CONSTRAINT unconfirmed_workspace_fkey FOREIGN KEY (workspace)
        REFERENCES workspaces (id) ON DELETE CASCADE;
-- Ended jobs by how they ended, for lists.
CREATE INDEX jobs_ended ON jobs (organization, state, row)
    WHERE state IN ('succeeded', 'canceled', 'failed');
