"""Runs: the queue, its worker, the trainer, events in SQLite, metrics, alerts and diagnosis."""
