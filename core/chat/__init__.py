"""Chat with bases, adapters, checkpoints, profiles and merged models, side by side: `python -m core.chat`."""
