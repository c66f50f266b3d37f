"""Everything Soulsmith does, without the page: no gradio, no plotly in here."""

import os

VERSION = "0.9.0"  # of Soulsmith: CHANGELOG.md; runs and capsules record it

if os.environ.get("SOULSMITH_OFFLINE"):  # every process of ours comes by here
    from core.process import stay_offline

    stay_offline()
