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
