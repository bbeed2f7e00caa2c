-- From which version on a release may use the schema that a step has made; the steps before
-- this one tell nothing, and stand for themselves.
ALTER TABLE schema_migrations ADD COLUMN compatible_from BIGINT;
