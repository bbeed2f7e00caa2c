-- Endings that no job took count in the allowance of the key that brought them, with their
-- states. Those that an older release kept count for nobody.
ALTER TABLE finishes ADD COLUMN unknown_of TEXT COLLATE "C";
ALTER TABLE finishes ADD COLUMN size BIGINT;
CREATE INDEX finishes_unknown ON finishes (organization, unknown_of, size)
    WHERE unknown_of IS NOT NULL;
