"""All that can reply here behind an interface like OpenAI's: `python -m core.serve`."""
