-- Measurements that were skipped for lack of memory, and at which step: {"film_strip": 40}.
ALTER TABLE runs ADD COLUMN skipped TEXT;
UPDATE runs SET stamp = NULL;
