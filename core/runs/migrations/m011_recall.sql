-- The loss over a few training rows beside the held-out loss.
ALTER TABLE evals ADD COLUMN recall_loss /* loss over ten rows that are trained on, nats a token */ REAL;
