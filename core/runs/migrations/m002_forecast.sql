-- What the calculator expected: reserved bytes at the peak, seconds of a step of the longest rows.
ALTER TABLE runs ADD COLUMN predicted_bytes REAL;
ALTER TABLE runs ADD COLUMN predicted_seconds REAL;
