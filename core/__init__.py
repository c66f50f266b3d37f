"""Everything Soulsmith does, without the page: no gradio, no plotly in here."""

VERSION = "0.9.0"  # of Soulsmith: CHANGELOG.md; runs and capsules record it
