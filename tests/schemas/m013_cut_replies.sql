BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'soulsmith','m001_runs','2026-11-30 18:17:36.367552+00:00');
INSERT INTO "_sqlite_migrations" VALUES(2,'soulsmith','m002_forecast','2026-11-30 18:17:36.368862+00:00');
INSERT INTO "_sqlite_migrations" VALUES(3,'soulsmith','m003_watching','2026-11-30 18:17:36.391873+00:00');
INSERT INTO "_sqlite_migrations" VALUES(4,'soulsmith','m004_votes','2026-11-30 18:17:36.392579+00:00');
INSERT INTO "_sqlite_migrations" VALUES(5,'soulsmith','m005_disk','2026-11-30 18:17:36.393264+00:00');
INSERT INTO "_sqlite_migrations" VALUES(6,'soulsmith','m006_skipped','2026-11-30 18:17:36.393909+00:00');
INSERT INTO "_sqlite_migrations" VALUES(7,'soulsmith','m007_described','2026-11-30 18:17:36.454212+00:00');
INSERT INTO "_sqlite_migrations" VALUES(8,'soulsmith','m008_eval_samples','2026-11-30 18:17:36.454728+00:00');
INSERT INTO "_sqlite_migrations" VALUES(9,'soulsmith','m009_preferences','2026-11-30 18:17:36.455198+00:00');
INSERT INTO "_sqlite_migrations" VALUES(10,'soulsmith','m010_starts_and_shares','2026-11-30 18:17:36.472330+00:00');
INSERT INTO "_sqlite_migrations" VALUES(11,'soulsmith','m011_recall','2026-11-30 18:17:36.473125+00:00');
INSERT INTO "_sqlite_migrations" VALUES(12,'soulsmith','m012_chats','2026-11-30 18:17:36.473616+00:00');
INSERT INTO "_sqlite_migrations" VALUES(13,'soulsmith','m013_cut_replies','2026-11-30 18:17:36.474632+00:00');
CREATE TABLE chats (  -- conversations of the Playground: kept until a person deletes them, and nothing can rebuild them
    id TEXT PRIMARY KEY,  -- time of the first message and four characters, which the page's address shows
    name TEXT,  -- what a person calls it; until then the first words of the first message
    history TEXT,  -- what was said, JSON: {"branches": [[{"prompt", "replies": {column: reply}, "who": {column: model}}]], "current"}
    columns TEXT,  -- who replied last, JSON: [id of a chat model], one a column
    titles TEXT,  -- what the models were called, JSON: {id: title}
    settings TEXT,  -- system prompt and sampling of the latest reply, JSON: {name: value}
    words TEXT,  -- the name and all that was said in small letters, for the search
    created_at REAL,  -- seconds since 1970
    updated_at REAL  -- when something was said last, seconds since 1970
);
CREATE TABLE curve_buckets (  -- steps thinned out for drawing: one row a stretch of runs.bucket_steps steps
    run_id TEXT REFERENCES runs (id) ON DELETE CASCADE,  -- the run
    bucket INTEGER,  -- step divided by runs.bucket_steps, rounded down
    loss_count INTEGER,  -- steps with a loss
    loss_sum REAL,  -- sum of their losses
    lowest_loss TEXT,  -- the step with the lowest loss, JSON: [step, loss, grad_norm, learning_rate, tokens_per_second, memory_gib]
    highest_loss TEXT,  -- the step with the highest loss, likewise
    highest_grad_norm TEXT,  -- the step with the highest grad_norm, likewise
    last_step TEXT,  -- the last step, likewise
    PRIMARY KEY (run_id, bucket)
) WITHOUT ROWID;
CREATE TABLE evals (  -- one row an evaluation
    run_id TEXT REFERENCES runs (id) ON DELETE CASCADE,  -- the run
    step INTEGER,  -- after which step; 0: the base
    eval_loss REAL, by_corpus /* loss of each corpus where there are several, in the config's order, JSON: [nats a token or null] */ TEXT, recall_loss /* loss over ten rows that are trained on, nats a token */ REAL,  -- loss on the rows held out, nats a token
    PRIMARY KEY (run_id, step)
);
CREATE TABLE forgetting (  -- the forgetting meter: one row a measurement
    run_id TEXT REFERENCES runs (id) ON DELETE CASCADE,  -- the run
    step INTEGER,  -- after which step; 0: the base
    score REAL,  -- mean log-probability of answers that the base knows, nats a token
    foreign_share REAL,  -- share of letters in Russian replies that are not Cyrillic
    score_parts TEXT,  -- the score by language and kind of question, JSON
    PRIMARY KEY (run_id, step)
);
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
CREATE TABLE runs (  -- one row a run; rebuilt from the run's directory
    id TEXT PRIMARY KEY,  -- name of the directory in runs/
    name TEXT,  -- what a person calls the run
    note TEXT,  -- a person's note
    tags TEXT,  -- a person's tags, separated by spaces
    state TEXT,  -- queued, held, running, stopping, pausing, paused, finished, stopped, failed or lost
    base_model TEXT,  -- the model that is trained: "starter", a directory or a hub id
    corpus TEXT,  -- id of the corpus, or an absolute path
    corpus_hash TEXT,  -- SHA-256 of the corpus when it was loaded
    method TEXT,  -- lora, qlora or full
    config TEXT,  -- all settings (TrainConfig), JSON
    config_changes TEXT,  -- settings changed after the run was created, JSON: [{"time", "changed": {field: [old, new]}}]
    stage TEXT,  -- what the trainer does now: starting, download, convert, loading, tokens, training; else NULL
    stage_done REAL,  -- progress of the stage: bytes of download and convert, rows of tokens
    stage_total REAL,  -- where stage_done ends
    device TEXT,  -- name of the card, or cpu
    precision TEXT,  -- number format of the computation: fp32, fp16 or bf16
    attention TEXT,  -- attention implementation of the model
    parameters INTEGER,  -- of the model
    trainable_parameters INTEGER,  -- of the adapter; of the whole model where it is trained in full
    created_at REAL,  -- seconds since 1970
    started_at REAL,  -- of the latest process, seconds since 1970
    ended_at REAL,  -- of the latest process, seconds since 1970
    duration_seconds REAL,  -- from started_at to ended_at
    last_event_at REAL,  -- when the trainer last wrote an event, seconds since 1970
    error TEXT,  -- class of the error that ended a failed run
    error_values TEXT,  -- what goes into the sentence of that error, JSON
    error_message TEXT,  -- the sentence in English
    request TEXT,  -- latest request that the trainer took up: stop, pause, save or sample
    requested_at REAL,  -- when a person made that request, seconds since 1970
    request_seen_at REAL,  -- when the trainer took it up, seconds since 1970
    request_seen_step INTEGER,  -- after which step
    disk_shortage TEXT,  -- while the run waits for disk space, JSON: {"needed", "free"} in bytes
    disk_bytes INTEGER,  -- size of the run's directory
    skipped TEXT,  -- measurements that memory did not suffice for, JSON: {"film_strip" or "forgetting_meter": step}
    rows_train INTEGER,  -- rows of the corpus to learn from
    rows_eval INTEGER,  -- rows held out for evaluation
    rows_left_out TEXT,  -- rows that cannot be trained on, JSON: {reason: count}
    tokens_train INTEGER,  -- tokens of rows_train
    tokens_learned INTEGER,  -- those of them that count in the loss
    longest_row_tokens INTEGER,  -- tokens of the longest row
    step INTEGER,  -- optimizer steps taken
    max_steps INTEGER,  -- optimizer steps of the whole run
    loss REAL,  -- training loss of the latest step, nats a token
    base_eval_loss REAL,  -- loss on the rows held out before training, nats a token
    eval_loss REAL,  -- the same at the latest evaluation
    best_eval_loss REAL,  -- the lowest so far
    best_step INTEGER,  -- step of best_eval_loss
    stopped_early INTEGER,  -- 1 if early stopping ended the run
    adapter_step INTEGER,  -- step whose weights were saved as the result; NULL: the last one
    checkpoint_step INTEGER,  -- step of the newest checkpoint
    tokens_per_second REAL,  -- at the latest step
    seconds_left REAL,  -- until the end of the training
    memory_gib REAL,  -- highest memory until the latest step, GiB: of the card, or of the process on a CPU
    peak_memory_gib REAL,  -- highest memory of the latest process, GiB
    seconds_per_step REAL,  -- mean of the latest process, without its first step
    tokens_per_step REAL,  -- mean of the latest process, without its first step
    predicted_memory_bytes REAL,  -- the calculator's forecast of the peak
    predicted_seconds_per_step REAL,  -- the calculator's forecast for a step of the longest rows
    bucket_steps INTEGER,  -- steps in a row of curve_buckets
    events_offset INTEGER,  -- bytes of events.jsonl that are in this database
    files_fingerprint TEXT  -- sizes and times of the files that this row was made from; NULL: look again
, start /* what the run goes on from: run:ID, run:ID/checkpoint-N, a folder or a hub id; NULL: its base */ TEXT, start_name /* what that was called when the run was created */ TEXT);
INSERT INTO "runs" VALUES('20260101-000000-old','старый запуск',NULL,NULL,'finished','starter',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE samples (  -- the film strip: one row a reply to a fixed prompt
    run_id TEXT REFERENCES runs (id) ON DELETE CASCADE,  -- the run
    step INTEGER,  -- after which step; 0: the base
    prompt_index INTEGER,  -- place of the prompt in the list, from 0
    prompt TEXT,  -- what the model was asked
    reply TEXT,  -- what it answered
    PRIMARY KEY (run_id, step, prompt_index)
);
CREATE TABLE steps (  -- one row a logged step
    run_id TEXT REFERENCES runs (id) ON DELETE CASCADE,  -- the run
    step INTEGER,  -- optimizer step, from 1
    loss REAL,  -- training loss, nats a token
    grad_norm REAL,  -- norm of the gradient before clipping
    learning_rate REAL,  -- of this step
    tokens_per_second REAL,  -- of this step
    memory_gib REAL,  -- highest memory until this step, GiB
    PRIMARY KEY (run_id, step)
) WITHOUT ROWID;
INSERT INTO "steps" VALUES('20260101-000000-old',1,3.5,NULL,NULL,NULL,NULL);
CREATE TABLE votes (  -- votes of the arena: kept when a run is deleted, and nothing can rebuild them
    match_id TEXT,  -- name of the match's directory in arena/
    prompt_index INTEGER,  -- place of the prompt in the match, from 0
    voter TEXT,  -- person, or judge:MODEL
    topic TEXT,  -- topic of the prompt
    question TEXT,  -- text of the prompt
    system TEXT,  -- system prompt
    model_a TEXT,  -- id of side a: base:MODEL, run:ID or run:ID/checkpoint-N
    model_b TEXT,  -- id of side b
    text_a TEXT,  -- reply of side a
    text_b TEXT,  -- reply of side b
    left_side TEXT,  -- side that was shown on the left: a or b
    verdict TEXT,  -- a, b, tie, bad, or split: a judge changed its mind when the sides changed places
    note TEXT,  -- reason that was given
    created_at REAL, finish_a /* why the reply of side a ended: stop, length or context; NULL: not known */ TEXT, finish_b /* why the reply of side b ended: stop, length or context; NULL: not known */ TEXT,  -- seconds since 1970
    PRIMARY KEY (match_id, prompt_index, voter)
);
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
COMMIT;
