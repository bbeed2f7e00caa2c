-- Limits, forecasts, affinity. A release before this one hands out without limits: they
-- hold once its last replica is gone.

-- How many jobs of an owner or a template may be in daemons' hands at once. A hand-out
-- holds the rows that apply to its job, and nothing else does.
CREATE TABLE limits (
    organization  TEXT COLLATE "C" NOT NULL REFERENCES organizations (name),
    -- words::LimitOf.
    kind          TEXT COLLATE "C" NOT NULL,
    -- The owner's name, or the template's id.
    subject       TEXT COLLATE "C" NOT NULL,
    most          BIGINT NOT NULL,
    PRIMARY KEY (organization, kind, subject)
);
CREATE INDEX jobs_in_hand_by_template ON jobs (organization, template)
    WHERE state IN ('offered', 'running', 'canceling');

-- Forecasts. How long a template's jobs ran lately is read off the jobs themselves.
CREATE INDEX jobs_ran ON jobs (organization, template, kind, row) WHERE state = 'succeeded';

-- Affinity. proto::affinity names the providers that a version's lock file selects; empty
-- before its import has ended, and for versions that were imported before this.
ALTER TABLE template_versions ADD COLUMN providers TEXT COLLATE "C" NOT NULL DEFAULT '';
