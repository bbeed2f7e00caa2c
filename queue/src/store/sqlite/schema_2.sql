-- What the sweep of blobs and the count of unclaimed finishes look up.
CREATE INDEX blobs_by_age ON blobs (created_at);
CREATE INDEX states_by_digest ON states (digest);
CREATE INDEX versions_by_archive ON template_versions (archive);
CREATE INDEX finishes_unclaimed ON finishes (row) WHERE disposition = 'unclaimed';
