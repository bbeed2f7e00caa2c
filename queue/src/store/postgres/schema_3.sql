-- Scheduling, presence, settling, records of who did what. One section each; a section
-- brings forward what older rows need, and leaves what the release before does working.

-- Settling. What jobs may have left in the world, each deed of each job by itself: two
-- builds may have made something at one address.
CREATE TABLE doubts (
    workspace  TEXT COLLATE "C" NOT NULL REFERENCES workspaces (id),
    job        BIGINT NOT NULL REFERENCES jobs (row),
    address    TEXT COLLATE "C" NOT NULL,
    -- v1.LedgerAction; 0 in what came from the table before.
    action     BIGINT NOT NULL,
    -- v1.UnconfirmedResource.
    resource   BYTEA NOT NULL,
    PRIMARY KEY (workspace, job, address, action)
);
INSERT INTO doubts SELECT workspace, job, address, 0, resource FROM unconfirmed;
-- Replicas of the release before go on to note theirs in the table before, which goes with
-- a later release. They do not see what is noted here: until they are gone, one of them may
-- take a delete that the others would refuse.
CREATE FUNCTION note_doubt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO doubts VALUES (NEW.workspace, NEW.job, NEW.address, 0, NEW.resource)
        ON CONFLICT (workspace, job, address, action) DO UPDATE SET resource = excluded.resource;
    RETURN NULL;
END $$;
CREATE TRIGGER note_doubt AFTER INSERT OR UPDATE ON unconfirmed
    FOR EACH ROW EXECUTE FUNCTION note_doubt();
-- What an attempt's plan was going to change, stored as its gate opened.
CREATE TABLE intended (
    job       BIGINT NOT NULL REFERENCES jobs (row),
    attempt   BIGINT NOT NULL,
    -- codec::Intended.
    changes   BYTEA NOT NULL,
    -- Further changes, without a name.
    left_out  BIGINT NOT NULL,
    PRIMARY KEY (job, attempt)
);
ALTER TABLE finishes ADD COLUMN organization TEXT COLLATE "C";
UPDATE finishes SET organization = (SELECT j.organization FROM jobs j WHERE j.id = finishes.job);

-- Scheduling. A job names what decides who may take it and whose turn it is: the engine
-- of its version ('' for any), its template, and when it was last handed out. The index
-- of pending jobs is in the order of lanes: jobs that differ in age alone.
ALTER TABLE jobs ADD COLUMN engine TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN template TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN offered_at BIGINT;
UPDATE jobs SET engine = v.engine, template = v.template
    FROM template_versions v WHERE v.id = jobs.version;
UPDATE jobs SET offered_at = a.at
    FROM (SELECT job, MAX(offered_at) AS at FROM attempts GROUP BY job) a WHERE a.job = jobs.row;
DROP INDEX jobs_ready;
CREATE INDEX jobs_ready
    ON jobs (organization, tagset, engine, kind, priority, owner, template, row)
    WHERE state = 'pending';
CREATE INDEX jobs_served ON jobs (organization, owner, offered_at) WHERE offered_at IS NOT NULL;
CREATE INDEX jobs_in_hand_by_owner ON jobs (organization, owner)
    WHERE state IN ('offered', 'running', 'canceling');

-- Deadlines of a job. The queue's is kept for a retry also once the job has begun; that
-- of the run is of the attempt in hand. `overdue`: its cancel was asked for by that one.
ALTER TABLE jobs ADD COLUMN queue_deadline_at BIGINT;
ALTER TABLE jobs ADD COLUMN run_deadline_ms BIGINT;
ALTER TABLE jobs ADD COLUMN run_deadline_at BIGINT;
ALTER TABLE jobs ADD COLUMN overdue BIGINT NOT NULL DEFAULT 0;
CREATE INDEX jobs_wait_ends ON jobs (queue_deadline_at)
    WHERE state = 'pending' AND queue_deadline_at IS NOT NULL;
CREATE INDEX jobs_run_ends ON jobs (run_deadline_at)
    WHERE state = 'running' AND run_deadline_at IS NOT NULL;

-- Presence. A daemon whose control stream stands at a replica is as alive as the replica:
-- one row tells it for all of them.
CREATE TABLE replicas (
    id       TEXT COLLATE "C" PRIMARY KEY,
    seen_at  BIGINT NOT NULL
);
-- The replica that holds its newest control stream.
ALTER TABLE daemons ADD COLUMN held_by TEXT COLLATE "C";
CREATE INDEX daemons_held ON daemons (held_by) WHERE held_by IS NOT NULL;
CREATE INDEX daemons_control_lost ON daemons (control_lost_at) WHERE control_lost_at IS NOT NULL;
