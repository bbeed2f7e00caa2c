-- Who put a blob within the age of the sweep, and may therefore name it: an owner among
-- the clients, or a daemon's lease. What a job or a workspace names already is reached
-- through those, so these rows only span the time from a put to its naming.
CREATE TABLE blob_claims (
    digest        BYTEA NOT NULL REFERENCES blobs (digest) ON DELETE CASCADE,
    organization  TEXT NOT NULL,
    -- `model::Holder::mark`.
    holder        TEXT NOT NULL,
    -- The key whose allowance it uses; set when the lease was not known.
    unknown_of    TEXT,
    size          BIGINT NOT NULL,
    put_at        BIGINT NOT NULL,
    PRIMARY KEY (digest, organization, holder)
);
CREATE INDEX blob_claims_by_age ON blob_claims (put_at);
CREATE INDEX blob_claims_unknown ON blob_claims (organization, unknown_of, size)
    WHERE unknown_of IS NOT NULL;
