"""Everything Soulsmith does, without the page: no gradio, no plotly in here."""
