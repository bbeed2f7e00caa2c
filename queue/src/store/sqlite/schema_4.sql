-- Scheduling, presence, settling, records of who did what. One section each; a section
-- brings forward what older rows need.

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
