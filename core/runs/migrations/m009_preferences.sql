-- Training on preference pairs: what the logged steps and the evaluations measured.
CREATE TABLE preferences (  -- one row a logged step and one an evaluation
    run_id TEXT REFERENCES runs (id) ON DELETE CASCADE,  -- the run
    part TEXT,  -- train: means of the batches of the logged steps; eval: of the pairs held out
    step INTEGER,  -- optimizer step; 0: the start
    margin REAL,  -- how much more the chosen reply has gained over the start than the rejected one, nats times beta
    accuracy REAL,  -- share of pairs whose chosen reply has gained more
    chosen_logp REAL,  -- log-probability of the chosen reply, nats
    rejected_logp REAL,  -- log-probability of the rejected reply, nats
    PRIMARY KEY (run_id, part, step)
) WITHOUT ROWID;
