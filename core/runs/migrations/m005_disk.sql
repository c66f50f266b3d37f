-- Disk use of each run; the stamp is cleared so that every run is read again.
ALTER TABLE runs ADD COLUMN disk_bytes INTEGER;
UPDATE runs SET stamp = NULL;
