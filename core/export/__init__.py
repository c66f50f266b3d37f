"""Runs as capsules, PEFT adapters, merged models and GGUF files: `python -m core.export`."""
