-- Votes of the arena with the texts they were cast on: the one table that no run directory can rebuild.
CREATE TABLE votes (
    "match" TEXT, voter TEXT, topic TEXT, question TEXT, system TEXT, verdict TEXT, "left" TEXT, a TEXT, b TEXT,
    text_a TEXT, text_b TEXT, note TEXT, prompt INTEGER, created REAL,
    PRIMARY KEY ("match", prompt, voter)
);
