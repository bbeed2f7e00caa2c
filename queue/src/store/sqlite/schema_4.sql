-- Scheduling, presence, settling, records of who did what. One section each; a section
-- brings forward what older rows need.

-- Settling. What jobs may have left in the world, each deed of each job by itself: two
-- builds may have made something at one address.
CREATE TABLE doubts (
    workspace  TEXT NOT NULL REFERENCES workspaces (id),
    job        INTEGER NOT NULL REFERENCES jobs (row),
    address    TEXT NOT NULL,
    -- v1.LedgerAction; 0 in what came from the table before.
    action     INTEGER NOT NULL,
    -- v1.UnconfirmedResource.
    resource   BLOB NOT NULL,
    PRIMARY KEY (workspace, job, address, action)
) STRICT, WITHOUT ROWID;
INSERT INTO doubts SELECT workspace, job, address, 0, resource FROM unconfirmed;
DROP TABLE unconfirmed;
-- What an attempt's plan was going to change, stored as its gate opened.
CREATE TABLE intended (
    job       INTEGER NOT NULL REFERENCES jobs (row),
    attempt   INTEGER NOT NULL,
    -- codec::Intended.
    changes   BLOB NOT NULL,
    -- Further changes, without a name.
    left_out  INTEGER NOT NULL,
    PRIMARY KEY (job, attempt)
) STRICT, WITHOUT ROWID;
ALTER TABLE finishes ADD COLUMN organization TEXT;
UPDATE finishes SET organization = (SELECT j.organization FROM jobs j WHERE j.id = finishes.job);

-- Scheduling. A job names what decides who may take it and whose turn it is: the engine
-- of its version ('' for any), its template, and when it was last handed out. The index
-- of pending jobs is in the order of lanes: jobs that differ in age alone.
ALTER TABLE jobs ADD COLUMN engine TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN template TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN offered_at INTEGER;
UPDATE jobs SET
    engine = (SELECT v.engine FROM template_versions v WHERE v.id = jobs.version),
    template = (SELECT v.template FROM template_versions v WHERE v.id = jobs.version),
    offered_at = (SELECT MAX(a.offered_at) FROM attempts a WHERE a.job = jobs.row);
DROP INDEX jobs_ready;
CREATE INDEX jobs_ready
    ON jobs (organization, tagset, engine, kind, priority, owner, template, row)
    WHERE state = 'pending';
CREATE INDEX jobs_served ON jobs (organization, owner, offered_at) WHERE offered_at IS NOT NULL;

-- Deadlines of a job. The queue's is kept for a retry also once the job has begun; that
-- of the run is of the attempt in hand. `overdue`: its cancel was asked for by that one.
ALTER TABLE jobs ADD COLUMN queue_deadline_at INTEGER;
ALTER TABLE jobs ADD COLUMN run_deadline_ms INTEGER;
ALTER TABLE jobs ADD COLUMN run_deadline_at INTEGER;
ALTER TABLE jobs ADD COLUMN overdue INTEGER NOT NULL DEFAULT 0;
CREATE INDEX jobs_wait_ends ON jobs (queue_deadline_at)
    WHERE state = 'pending' AND queue_deadline_at IS NOT NULL;
CREATE INDEX jobs_run_ends ON jobs (run_deadline_at)
    WHERE state = 'running' AND run_deadline_at IS NOT NULL;

-- Presence. A daemon whose control stream stands at a replica is as alive as the replica:
-- one row tells it for all of them.
CREATE TABLE replicas (
    id       TEXT PRIMARY KEY,
    seen_at  INTEGER NOT NULL
) STRICT;
-- The replica that holds its newest control stream.
ALTER TABLE daemons ADD COLUMN held_by TEXT;
CREATE INDEX daemons_held ON daemons (held_by) WHERE held_by IS NOT NULL;
CREATE INDEX daemons_control_lost ON daemons (control_lost_at) WHERE control_lost_at IS NOT NULL;
