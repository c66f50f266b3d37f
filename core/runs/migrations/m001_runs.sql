-- Runs, and the two series that are plotted.
CREATE TABLE runs (
    id TEXT PRIMARY KEY, name TEXT, note TEXT, state TEXT, base_model TEXT, corpus TEXT, corpus_hash TEXT, method TEXT,
    config TEXT, stage TEXT, device TEXT, precision TEXT, attention TEXT, trouble TEXT, message TEXT,
    trouble_values TEXT, rows_left_out TEXT, created REAL, started REAL, ended REAL, seconds REAL, loss REAL,
    base_eval_loss REAL, eval_loss REAL, best_eval_loss REAL, tokens_per_second REAL, seconds_left REAL,
    memory_gib REAL, stage_done REAL, stage_total REAL, "offset" INTEGER, step INTEGER, max_steps INTEGER,
    best_step INTEGER, rows_train INTEGER, rows_eval INTEGER, tokens_train INTEGER, tokens_learned INTEGER,
    parameters INTEGER, trainable_parameters INTEGER
);
CREATE TABLE steps (
    run TEXT, step INTEGER, loss REAL, grad_norm REAL, learning_rate REAL, tokens_per_second REAL, memory_gib REAL,
    PRIMARY KEY (run, step)
);
CREATE TABLE evals (run TEXT, step INTEGER, eval_loss REAL, PRIMARY KEY (run, step));
