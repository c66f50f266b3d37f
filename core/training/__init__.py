"""A config and a corpus in, an adapter out. This package is copied into every exported run: it imports nothing of ours."""
