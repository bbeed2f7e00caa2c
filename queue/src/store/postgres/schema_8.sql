-- Indexes of jobs in hand, each led by what it is asked for: of several that begin with the
-- organization PostgreSQL takes any one, as long as it has no statistics.
DROP INDEX jobs_in_hand;
DROP INDEX jobs_in_hand_by_owner;
DROP INDEX jobs_in_hand_by_template;
CREATE INDEX jobs_in_hand ON jobs (organization, daemon)
    WHERE state IN ('offered', 'running', 'canceling');
CREATE INDEX jobs_in_hand_by_owner ON jobs (owner)
    WHERE state IN ('offered', 'running', 'canceling');
CREATE INDEX jobs_in_hand_by_template ON jobs (template)
    WHERE state IN ('offered', 'running', 'canceling');
