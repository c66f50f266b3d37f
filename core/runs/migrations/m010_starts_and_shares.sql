-- What a run goes on from, and the loss of each corpus of a run that has several.
ALTER TABLE runs ADD COLUMN start /* what the run goes on from: run:ID, run:ID/checkpoint-N, a folder or a hub id; NULL: its base */ TEXT;
ALTER TABLE runs ADD COLUMN start_name /* what that was called when the run was created */ TEXT;
ALTER TABLE evals ADD COLUMN by_corpus /* loss of each corpus where there are several, in the config's order, JSON: [nats a token or null] */ TEXT;
