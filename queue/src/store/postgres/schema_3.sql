-- Scheduling, presence, settling, records of who did what. One section each; a section
-- brings forward what older rows need, and leaves what the release before does working.

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
