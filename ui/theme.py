"""The one look: a quiet theme, one accent, the plots' colours, and the style sheet beside it."""

import gradio as gr

from core import paths

# Told apart by all kinds of colour vision: Okabe and Ito, https://jfly.uni-koeln.de/color/, the blue a little lighter,
# so that it keeps a contrast of 3 on the dark ground too.
PALETTE = ("#1F7FC1", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")

# Weights 400 and 700 only: at 600 the bundled fonts lack Cyrillic and the browser would mix families.
# Every pair of text and ground has a contrast of 4.5 or more (WCAG AA): hence 700 and 600 where the base has 500 and 400.
THEME = gr.themes.Base(
    primary_hue="teal",
    neutral_hue="slate",
    radius_size="sm",
    font=[gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "system-ui", "sans-serif"],
    font_mono=[gr.themes.LocalFont("IBM Plex Mono", weights=(400, 700)), "monospace"],
).set(
    button_large_text_weight="700",
    button_small_text_weight="400",
    button_large_text_size="*text_md",
    button_large_padding="8px 18px",
    block_title_text_weight="400",
    block_title_text_color="*neutral_700",
    block_title_text_color_dark="*neutral_200",
    block_label_text_color="*neutral_700",
    block_label_text_color_dark="*neutral_200",
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_400",
    block_info_text_color="*neutral_600",
    block_info_text_color_dark="*neutral_400",
    color_accent="*primary_700",
    link_text_color="*primary_700",
    link_text_color_hover="*primary_800",
    link_text_color_active="*primary_700",
    link_text_color_visited="*primary_700",
    link_text_color_dark="*primary_300",
    link_text_color_hover_dark="*primary_200",
    link_text_color_active_dark="*primary_300",
    link_text_color_visited_dark="*primary_300",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_600",
    button_primary_text_color="white",
    slider_color="*primary_700",
    slider_color_dark="*primary_400",
    checkbox_background_color_selected="*primary_700",
    checkbox_background_color_selected_dark="*primary_600",
    checkbox_border_color_selected="*primary_700",
    checkbox_border_color_selected_dark="*primary_600",
    input_placeholder_color="*neutral_500",
    input_placeholder_color_dark="*neutral_300",
)

STYLE = paths.assets() / "style.css"
