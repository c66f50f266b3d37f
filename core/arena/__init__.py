"""The blind arena: two chat models, a set of prompts, hidden sides, votes, and what the votes say.

Run it: `python -m core.arena new --a ID --b ID --prompts en`, `list`, `show MATCH`, `pairs`, `judge MATCH`.
"""
