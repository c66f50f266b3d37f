"""Watching a run: what happens beside the training itself, and what can be read from it afterwards.

room: space on the disk · film: the person's prompts, answered again and again · forgetting: what was known before ·
alerts: what its curves say · doctor: why it failed and what would help · comparing: several runs side by side
choosing: the checkpoint that is to be the result
"""

from core.watching.observer import Observer

__all__ = ["Observer"]
