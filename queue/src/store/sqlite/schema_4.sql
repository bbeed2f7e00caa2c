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
