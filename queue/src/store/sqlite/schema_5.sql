-- Without the expiry, which each update moves: it would have to be taken out of the index
-- and put in again each time. Few jobs are in hand, and all of them are looked at together.
DROP INDEX jobs_in_hand;
CREATE INDEX jobs_in_hand ON jobs (organization, owner, daemon)
    WHERE state IN ('offered', 'running', 'canceling');
