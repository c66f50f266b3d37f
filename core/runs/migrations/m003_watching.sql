-- Thinned curves, replies and scores of every evaluation, tags, and the last request to the trainer.
ALTER TABLE runs ADD COLUMN tags TEXT;
ALTER TABLE runs ADD COLUMN request TEXT;
ALTER TABLE runs ADD COLUMN waiting TEXT;
ALTER TABLE runs ADD COLUMN stamp TEXT;
ALTER TABLE runs ADD COLUMN changes TEXT;
ALTER TABLE runs ADD COLUMN asked REAL;
ALTER TABLE runs ADD COLUMN heard REAL;
ALTER TABLE runs ADD COLUMN event_at REAL;
ALTER TABLE runs ADD COLUMN step_seconds REAL;
ALTER TABLE runs ADD COLUMN step_tokens REAL;
ALTER TABLE runs ADD COLUMN peak_memory_gib REAL;
ALTER TABLE runs ADD COLUMN mark_width INTEGER;
ALTER TABLE runs ADD COLUMN checkpoint_step INTEGER;
ALTER TABLE runs ADD COLUMN heard_step INTEGER;
ALTER TABLE runs ADD COLUMN longest INTEGER;
ALTER TABLE runs ADD COLUMN kept_step INTEGER;
ALTER TABLE runs ADD COLUMN stopped_early INTEGER;
CREATE TABLE marks (
    run TEXT, mark INTEGER, count INTEGER, total REAL, low TEXT, high TEXT, steep TEXT, last TEXT,
    PRIMARY KEY (run, mark)
);
CREATE TABLE samples (
    run TEXT, step INTEGER, number INTEGER, prompt TEXT, reply TEXT,
    PRIMARY KEY (run, step, number)
);
CREATE TABLE forgetting (
    run TEXT, step INTEGER, score REAL, "foreign" REAL, parts TEXT,
    PRIMARY KEY (run, step)
);
UPDATE runs SET "offset" = 0;  -- all events are read once more, for the new tables
