"""The one look: a quiet theme, and the style sheet beside it."""

import gradio as gr

from core import paths

# Weights 400 and 700 only: at 600 the bundled fonts lack Cyrillic and the browser would mix families.
THEME = gr.themes.Base(
    primary_hue="teal",
    neutral_hue="slate",
    radius_size="sm",
    font=[gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "system-ui", "sans-serif"],
    font_mono=[gr.themes.LocalFont("IBM Plex Mono", weights=(400, 700)), "monospace"],
).set(button_large_text_weight="700", button_small_text_weight="400", block_title_text_weight="400")

STYLE = paths.assets() / "style.css"
