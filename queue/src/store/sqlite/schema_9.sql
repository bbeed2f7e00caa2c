-- Indexes of jobs in hand, each led by what it is asked for, so that no query can take
-- another one. Their conditions have no list: SQLite makes a table in memory of each list
-- that a change of a job meets, which takes longer than the change itself.
DROP INDEX jobs_in_hand;
DROP INDEX jobs_in_hand_by_template;
DROP INDEX jobs_ended;
CREATE INDEX jobs_in_hand ON jobs (organization, daemon)
    WHERE state = 'offered' OR state = 'running' OR state = 'canceling';
CREATE INDEX jobs_in_hand_by_owner ON jobs (owner)
    WHERE state = 'offered' OR state = 'running' OR state = 'canceling';
CREATE INDEX jobs_in_hand_by_template ON jobs (template)
    WHERE state = 'offered' OR state = 'running' OR state = 'canceling';
CREATE INDEX jobs_ended ON jobs (organization, state, row)
    WHERE state = 'succeeded' OR state = 'canceled' OR state = 'failed';
