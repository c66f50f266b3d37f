BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'soulsmith','m001_runs','2026-11-29 19:22:51.175941+00:00');
INSERT INTO "_sqlite_migrations" VALUES(2,'soulsmith','m002_forecast','2026-11-29 19:22:51.176269+00:00');
INSERT INTO "_sqlite_migrations" VALUES(3,'soulsmith','m003_watching','2026-11-29 19:22:51.180748+00:00');
INSERT INTO "_sqlite_migrations" VALUES(4,'soulsmith','m004_votes','2026-11-29 19:22:51.181015+00:00');
INSERT INTO "_sqlite_migrations" VALUES(5,'soulsmith','m005_disk','2026-11-29 19:22:51.182649+00:00');
INSERT INTO "_sqlite_migrations" VALUES(6,'soulsmith','m006_skipped','2026-11-29 19:22:51.182850+00:00');
CREATE TABLE "evals" (
   "run" TEXT,
   "step" INTEGER,
   "eval_loss" REAL,
   PRIMARY KEY ("run", "step")
);
CREATE TABLE "forgetting" (
   "run" TEXT,
   "step" INTEGER,
   "score" REAL,
   "foreign" REAL,
   "parts" TEXT,
   PRIMARY KEY ("run", "step")
);
CREATE TABLE "marks" (
   "run" TEXT,
   "mark" INTEGER,
   "count" INTEGER,
   "total" REAL,
   "low" TEXT,
   "high" TEXT,
   "steep" TEXT,
   "last" TEXT,
   PRIMARY KEY ("run", "mark")
);
CREATE TABLE "runs" (
   "id" TEXT PRIMARY KEY,
   "name" TEXT,
   "note" TEXT,
   "state" TEXT,
   "base_model" TEXT,
   "corpus" TEXT,
   "corpus_hash" TEXT,
   "method" TEXT,
   "config" TEXT,
   "stage" TEXT,
   "device" TEXT,
   "precision" TEXT,
   "attention" TEXT,
   "trouble" TEXT,
   "message" TEXT,
   "trouble_values" TEXT,
   "rows_left_out" TEXT,
   "created" REAL,
   "started" REAL,
   "ended" REAL,
   "seconds" REAL,
   "loss" REAL,
   "base_eval_loss" REAL,
   "eval_loss" REAL,
   "best_eval_loss" REAL,
   "tokens_per_second" REAL,
   "seconds_left" REAL,
   "memory_gib" REAL,
   "stage_done" REAL,
   "stage_total" REAL,
   "offset" INTEGER,
   "step" INTEGER,
   "max_steps" INTEGER,
   "best_step" INTEGER,
   "rows_train" INTEGER,
   "rows_eval" INTEGER,
   "tokens_train" INTEGER,
   "tokens_learned" INTEGER,
   "parameters" INTEGER,
   "trainable_parameters" INTEGER
, "predicted_bytes" REAL, "predicted_seconds" REAL, "tags" TEXT, "request" TEXT, "waiting" TEXT, "stamp" TEXT, "changes" TEXT, "asked" REAL, "heard" REAL, "event_at" REAL, "step_seconds" REAL, "step_tokens" REAL, "peak_memory_gib" REAL, "mark_width" INTEGER, "checkpoint_step" INTEGER, "heard_step" INTEGER, "longest" INTEGER, "kept_step" INTEGER, "stopped_early" INTEGER, "disk_bytes" INTEGER, "skipped" TEXT);
INSERT INTO "runs" VALUES('20260101-000000-old','старый запуск',NULL,'finished','starter',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE "samples" (
   "run" TEXT,
   "step" INTEGER,
   "number" INTEGER,
   "prompt" TEXT,
   "reply" TEXT,
   PRIMARY KEY ("run", "step", "number")
);
CREATE TABLE "steps" (
   "run" TEXT,
   "step" INTEGER,
   "loss" REAL,
   "grad_norm" REAL,
   "learning_rate" REAL,
   "tokens_per_second" REAL,
   "memory_gib" REAL,
   PRIMARY KEY ("run", "step")
);
INSERT INTO "steps" VALUES('20260101-000000-old',1,3.5,NULL,NULL,NULL,NULL);
CREATE TABLE "votes" (
   "match" TEXT,
   "voter" TEXT,
   "topic" TEXT,
   "question" TEXT,
   "system" TEXT,
   "verdict" TEXT,
   "left" TEXT,
   "a" TEXT,
   "b" TEXT,
   "text_a" TEXT,
   "text_b" TEXT,
   "note" TEXT,
   "prompt" INTEGER,
   "created" REAL,
   PRIMARY KEY ("match", "prompt", "voter")
);
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
COMMIT;
