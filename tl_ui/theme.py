"""How the page looks: Gradio's theme variables, and the styles of our own figures (page.css). Works in light and dark:
warm paper and ink, one deep green, and amber where something wants to be looked at."""

from pathlib import Path

import gradio as gr

_PAPER = gr.themes.Color(
    name="paper",
    c50="#faf8f4",
    c100="#f3efe7",
    c200="#e6e0d5",
    c300="#d3cbbd",
    c400="#98938a",
    c500="#716e68",
    c600="#55544f",
    c700="#2c3633",
    c800="#1a2422",
    c900="#131b19",
    c950="#0d1413",
)

THEME = gr.themes.Soft(
    primary_hue="teal",
    secondary_hue="teal",
    neutral_hue=_PAPER,
    text_size=gr.themes.sizes.text_lg,
    radius_size=gr.themes.sizes.radius_lg,
    font=["system-ui", "-apple-system", "Segoe UI", "Noto Sans", "Noto Sans CJK SC", "PingFang SC", "sans-serif"],
    font_mono=["ui-monospace", "Consolas", "monospace"],
).set(
    body_background_fill="*neutral_50",
    body_background_fill_dark="*neutral_950",
    body_text_color="#1c2725",
    body_text_color_dark="#edf2ef",
    body_text_color_subdued="#56605d",
    body_text_color_subdued_dark="#a9b7b2",
    background_fill_primary="white",
    background_fill_primary_dark="*neutral_900",
    background_fill_secondary="white",
    background_fill_secondary_dark="*neutral_800",
    block_background_fill="white",
    block_background_fill_dark="*neutral_900",
    border_color_primary="*neutral_200",
    border_color_primary_dark="*neutral_700",
    block_shadow="none",
    # Dark enough for white text (at least 4.5:1) and for borders one can see.
    color_accent="*primary_700",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_600",
    button_secondary_border_color="*neutral_300",
    button_secondary_background_fill="white",
    button_secondary_background_fill_dark="*neutral_800",
    button_secondary_background_fill_hover="*neutral_100",
    button_secondary_background_fill_hover_dark="*neutral_700",
    block_label_background_fill="*neutral_100",
    block_label_text_color="#3c4643",
    block_label_background_fill_dark="*neutral_700",
    block_label_text_color_dark="*neutral_100",
    block_title_background_fill="none",
    block_title_text_color="*body_text_color",
    block_title_text_color_dark="*body_text_color",
    block_title_padding="0",
    checkbox_label_background_fill_selected="*primary_700",
    checkbox_label_background_fill_selected_dark="*primary_700",
    checkbox_label_text_color_selected="white",
    checkbox_border_color="*neutral_500",
    input_border_width="1px",
    input_border_color="*neutral_400",
    input_border_color_dark="*neutral_500",
    input_background_fill="white",
    input_background_fill_dark="*neutral_900",
)

# In the page's head before anything is drawn, so that nothing moves when the rest arrives.
FIRST_CSS = """
.gradio-container { max-width: 1040px !important; width: 100% !important; margin: 0 auto !important; }
.gradio-container .html-container { padding: 0 !important; }
main.contain { padding-top: 4.2rem !important; }
#top-bar { position: absolute !important; top: -4.1rem !important; left: 0 !important; right: 0 !important; }
#steps .stepper-wrapper { min-height: 99px !important; align-items: flex-start !important; }
body:not(:has(#sources, #start, #headline, #download)) #your-data { visibility: hidden; }
#opening .tl-hero > .column:first-child { justify-content: flex-start !important; padding-top: 2.4rem !important; }
#data-how { min-height: 3.4rem !important; }
#opening { min-height: 27rem !important; }
#opening .tl-alive { min-height: 22.5rem !important; }
#draw { min-height: 16.5rem !important; }
#examples { min-height: 18rem !important; }
#folder { min-height: 170px !important; }
@media (max-width: 767px) {
  #opening { min-height: 47rem !important; }
  #opening .tl-hero > .column:first-child { min-height: 22.8rem !important; padding-top: 0 !important; }
  #examples { min-height: 50rem !important; }
}
"""

CSS = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
