"""Corpora: files in, immutable rows on disk, what is in them and what a model will learn: `python -m core.corpus`."""
