"""Base models: ready on this disk, their files, their tokenizers."""
