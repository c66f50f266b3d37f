"""Runs and all of their life: the queue, its worker, the trainer, events in SQLite, what is said of a run afterwards."""
