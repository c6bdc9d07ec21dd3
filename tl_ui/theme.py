"""How the page looks: Gradio's theme variables, and the few styles our own figures need. Works in light and dark."""

import gradio as gr

THEME = gr.themes.Soft(
    primary_hue="teal",
    secondary_hue="teal",
    neutral_hue="slate",
    font=["system-ui", "-apple-system", "Segoe UI", "Noto Sans", "Noto Sans CJK SC", "PingFang SC", "sans-serif"],
    font_mono=["ui-monospace", "Consolas", "monospace"],
).set(
    # Dark enough for white text (at least 4.5:1) and for borders one can see.
    color_accent="*primary_700",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_600",
    button_secondary_border_color="*neutral_300",
    button_secondary_background_fill_hover="*neutral_100",
    button_secondary_background_fill_hover_dark="*neutral_600",
    block_label_background_fill="*neutral_100",
    block_label_text_color="*neutral_700",
    block_label_background_fill_dark="*neutral_700",
    block_label_text_color_dark="*neutral_100",
    checkbox_border_color="*neutral_500",
    input_border_color="*neutral_400",
    input_background_fill="white",
)

CSS = """
.gradio-container { max-width: 960px !important; width: 100% !important; margin: 0 auto !important; }
.gradio-container .main, .gradio-container .column { width: 100%; min-width: 0; }
#steps .step-label { color: var(--body-text-color) !important; opacity: 1; }
.gradio-container .file-preview, .gradio-container .upload-container, #upload .wrap { color: var(--body-text-color); }
.tl-classes { list-style: none; padding: 0; margin: .5rem 0; max-height: 22rem; overflow-y: auto; }
.tl-classes li { display: grid; grid-template-columns: minmax(6rem, 1fr) 2fr auto; gap: .75rem; align-items: center;
  padding: .15rem 0; }
.tl-name { overflow-wrap: anywhere; }
.tl-bar { background: var(--border-color-primary); border-radius: 99px; height: .6rem; overflow: hidden; }
.tl-bar i { display: block; height: 100%; background: var(--color-accent); border-radius: 99px; }
.tl-count, .tl-quiet { color: var(--body-text-color-subdued); }
.tl-count { white-space: nowrap; }
.tl-message { border-radius: 8px; padding: .7rem 1rem; margin: .6rem 0; border: 1px solid var(--border-color-primary);
  border-left-width: 5px; background: var(--background-fill-secondary); overflow-wrap: anywhere; }
.tl-message.tl-good { border-left-color: #0d9488; }
.tl-message.tl-info { border-left-color: #3b82f6; }
.tl-message.tl-warn { border-left-color: #d97706; }
.tl-message.tl-bad { border-left-color: #dc2626; }
.tl-progress { height: .8rem; border-radius: 99px; overflow: hidden; background: var(--border-color-primary);
  margin-top: .5rem; }
.tl-progress div { height: 100%; background: var(--color-accent); border-radius: 99px; transition: width .4s; }
.tl-progress-label { margin: .3rem 0 .8rem; font-variant-numeric: tabular-nums; }
.tl-mirror { display: flex; gap: 1rem; flex-wrap: wrap; }
.tl-mirror figure { margin: 0; }
.tl-mirror img { max-height: 110px; border-radius: 6px; display: block; }
.tl-mirror img.flipped { transform: scaleX(-1); }
.tl-frames { list-style: none; padding: 0; margin: .5rem 0; }
.tl-frames li { margin-bottom: .8rem; }
.tl-frames div { display: grid; grid-template-columns: repeat(3, minmax(0, 160px)); gap: .6rem; }
.tl-frames figure { margin: 0; min-width: 0; }
.tl-frames img { width: 100%; height: auto; border-radius: 6px; display: block; }
.tl-frames figcaption { font-size: .8rem; overflow-wrap: anywhere; }
.tl-curve { width: 100%; height: 4rem; border: 1px solid var(--border-color-primary); border-radius: 6px; }
.tl-curve polyline { fill: none; stroke: var(--color-accent); stroke-width: 2; vector-effect: non-scaling-stroke; }
.tl-stages { list-style: none; padding: 0; margin: .5rem 0; }
.tl-stages li { padding: .2rem 0 .2rem 1.8rem; position: relative; }
.tl-stages li::before { content: "○"; position: absolute; left: .3rem; color: var(--body-text-color-subdued); }
.tl-stages li.done::before { content: "✓"; color: #0d9488; font-weight: 700; }
.tl-stages li.now::before { content: "●"; color: var(--color-accent); }
.tl-stages li.now { font-weight: 600; }
.tl-stages li.later { color: var(--body-text-color-subdued); }
.tl-headline { font-size: 1.9rem; font-weight: 700; line-height: 1.2; margin: .2rem 0 .6rem; }
.tl-scroll { overflow-x: auto; contain: inline-size; }
.tl-confusion, .tl-table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.tl-confusion th, .tl-table th, .tl-table td { padding: .3rem .6rem; text-align: left; font-weight: 500; }
.tl-confusion thead th span { writing-mode: vertical-rl; max-height: 9rem; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; }
.tl-confusion tbody th { max-width: 10rem; overflow-wrap: anywhere; }
.tl-confusion td { min-width: 2.6rem; height: 2.6rem; text-align: center; border: 2px solid var(--body-background-fill);
  border-radius: 6px; }
.tl-confusion td.hit { --tone: #14b8a6; }
.tl-confusion td.miss { --tone: #f97316; }
.tl-confusion td { background:
  color-mix(in srgb, var(--tone) calc(var(--share) * 80%), var(--background-fill-secondary)); }
.tl-confusion td:has(.tl-cell) { padding: 0; }
.tl-cell { width: 100%; min-height: 2.6rem; background: none !important; border: 0 !important; cursor: pointer;
  color: var(--body-text-color); font: inherit; text-decoration: underline dotted; text-underline-offset: 3px; }
.tl-cell:hover, .tl-cell[aria-pressed=true] { outline: 3px solid var(--color-accent); outline-offset: -3px;
  border-radius: 6px; }
li .tl-cell { text-align: left; min-height: 0; padding: .3rem 0; }
.tl-chart { margin: .6rem 0; max-width: 30rem; }
.tl-chart svg { width: 100%; height: auto; display: block; overflow: visible; }
.tl-chart text { font-size: 11px; fill: var(--body-text-color); }
.tl-chart .grid { stroke: var(--border-color-primary); }
.tl-chart .honest { stroke: var(--body-text-color-subdued); stroke-dasharray: 5 4; }
.tl-chart circle { fill: var(--color-accent); }
.tl-chart polyline { fill: none; stroke: var(--color-accent); stroke-width: 2; }
.tl-chart polyline.forecast { stroke-dasharray: 5 4; }
.tl-chart circle.forecast { fill: var(--background-fill-primary); stroke: var(--color-accent); stroke-width: 2; }
.tl-chart .likely { stroke: var(--color-accent); stroke-width: 3; opacity: .5; }
.dark .tl-chart circle, .dark .tl-bar i, .dark .tl-range i { fill: var(--primary-400); background: var(--primary-400); }
.dark .tl-chart :is(polyline, .likely, circle.forecast) { stroke: var(--primary-400); }
.tl-chart figcaption { font-size: .85rem; color: var(--body-text-color-subdued); }
.tl-scores { list-style: none; padding: 0; margin: .5rem 0; }
.tl-scores li { display: grid; grid-template-columns: minmax(8rem, 1fr) 1fr auto; gap: .75rem; align-items: center;
  padding: .3rem 0; }
.tl-range { position: relative; height: .6rem; border-radius: 99px; background: var(--border-color-primary); }
.tl-range i { display: block; height: 100%; background: var(--color-accent); border-radius: 99px; opacity: .55; }
.tl-range u { position: absolute; top: calc(50% - 1.5px); height: 3px; background: var(--body-text-color); }
.tl-judged { list-style: none; padding: 0; margin: .6rem 0; display: grid; gap: .8rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(46%, 12.5rem), 1fr)); }
.tl-judged li { border: 1px solid var(--border-color-primary); border-radius: 10px; overflow: hidden; min-width: 0;
  background: var(--background-fill-secondary); }
.tl-judged img { width: 100%; aspect-ratio: 4 / 3; object-fit: cover; display: block; }
.tl-judged .tl-told { padding: .4rem .6rem 0; font-size: .85rem; line-height: 1.35; overflow-wrap: anywhere; }
.tl-judged small { display: block; white-space: nowrap; overflow: hidden; text-overflow: ellipsis;
  color: var(--body-text-color-subdued); }
.tl-judged .tl-row { padding: 0 .6rem .6rem; gap: .35rem; }
#details .tl-judged .tl-row :is(button, select) { font-size: .82rem; padding: .2rem .5rem; min-height: 2.2rem;
  max-width: 100%; }
.tl-table, .tl-confusion, .tl-table :is(tr, thead), .tl-confusion thead { border: 0 !important; }
#details details > summary, #compared details > summary { cursor: pointer; padding: .4rem 0; font-weight: 500; }
#one-answer { overflow-wrap: anywhere; }
#upload, #one-upload, #many-upload { border: 2px dashed var(--neutral-400); border-radius: 10px; }
.gradio-container button.secondary { border: 1px solid var(--neutral-400); }
.tl-confusion th, .tl-confusion tr, .tl-table th, .tl-table td { border: 0 !important; }
.tl-table tbody tr { border-top: 1px solid var(--border-color-primary) !important; }
.tl-answers { max-height: 26rem; overflow: auto; }
.tl-table td { white-space: nowrap; }
.tl-skipped summary { cursor: pointer; padding: .3rem 0; }
.tl-skipped ul { max-height: 16rem; overflow: auto; overflow-wrap: anywhere; }
.tl-cards { list-style: none; padding: 0; margin: .6rem 0; display: grid; gap: .7rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); align-items: start; }
.tl-cards > li { border: 1px solid var(--border-color-primary); border-radius: 10px; padding: .6rem .7rem;
  background: var(--background-fill-secondary); display: flex; flex-direction: column; gap: .45rem; min-width: 0; }
.tl-card-head { display: flex; justify-content: space-between; gap: .6rem; align-items: baseline; }
.tl-cards > li > img { width: 100%; height: auto; border-radius: 6px; }
.tl-cards > .tl-opened { grid-column: 1 / -1; padding: 0; border: 0; background: none; }
.tl-cards details form, .tl-cards details [data-fields] { display: flex; flex-wrap: wrap; gap: .4rem;
  align-items: center; }
[data-arrive] { scroll-margin-top: 1rem; }
.tl-cards details > * { margin: .35rem 0; }
.tl-field { display: inline-flex; flex-wrap: wrap; gap: .4rem; align-items: center; }
.tl-field select { appearance: auto; }
.tl-field input, .tl-field select { max-width: 14rem; min-width: 0; color: var(--body-text-color); padding: .3rem .5rem;
  background: var(--input-background-fill); border: 1px solid var(--input-border-color); border-radius: 6px; }
.tl-row { display: flex; flex-wrap: wrap; gap: .5rem; align-items: center; margin-top: .5rem; }
.tl-row:empty { display: none; }
.tl-row button { margin: 0; }
.tl-pick:not(:has(input:checked)) :is([data-act=drop], [data-act=move]) { opacity: .45; pointer-events: none; }
.tl-pick, .tl-behind { border: 1px solid var(--border-color-primary); border-radius: 10px; padding: .7rem;
  margin: .6rem 0; }
.tl-ticks { display: grid; gap: .4rem; grid-template-columns: repeat(auto-fill, minmax(92px, 1fr)); max-height: 30rem;
  overflow-y: auto; }
.tl-tick { position: relative; cursor: pointer; aspect-ratio: 1; }
.tl-tick img { width: 100%; height: 100%; object-fit: cover; border-radius: 6px; }
.tl-tick input { position: absolute; top: 5px; left: 5px; width: 20px; height: 20px;
  accent-color: var(--color-accent); }
.tl-tick:has(input:checked) img { outline: 3px solid var(--color-accent); opacity: .65; }
.tl-tick:has(input:focus-visible) img { outline: 3px solid var(--color-accent); }
.tl-cases { list-style: none; padding: 0; margin: .6rem 0 0; display: grid; gap: .8rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }
.dark #sources button[role=tab][aria-selected=true] { color: var(--primary-300); }
#to-train { position: sticky; bottom: .5rem; z-index: 5; }
.tl-sides { display: flex; flex-wrap: wrap; gap: .6rem; }
.tl-cases figure { margin: 0; max-width: 160px; }
.tl-cases figure img { max-width: 100%; height: 110px; object-fit: contain; border-radius: 6px; }
.tl-cases figcaption { font-size: .85rem; overflow-wrap: anywhere; }
@media (prefers-reduced-motion: reduce) { .tl-progress div { transition: none; } }
@media (max-width: 480px) { .tl-headline { font-size: 1.5rem; }
  .tl-table th:nth-child(5), .tl-table td:nth-child(5) { display: none; }
  .tl-classes li { grid-template-columns: minmax(5rem, 1fr) 1fr auto; } }
.tl-checklist { list-style: none; padding: 0; margin: 0.5rem 0; }
.tl-checklist li::before { content: "✓ "; color: var(--primary-600); font-weight: 700; }
.tl-code pre { overflow-x: auto; padding: 0.6rem 0.8rem; border-radius: 0.5rem; font-size: 0.8rem;
  background: var(--background-fill-secondary); border: 1px solid var(--border-color-primary); margin: 0.4rem 0; }
"""
