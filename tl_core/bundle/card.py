"""The model card: the README.md inside a bundle, which the Hub shows. Class names in it are hostile text."""

from collections.abc import Sequence
from typing import Any

from huggingface_hub import ModelCardData

from tl_core.errors import plain
from tl_core.evaluation.metrics import Evaluation
from tl_core.models.catalogue import Backbone

_SHOWN_CLASSES = 200


def card(class_names: Sequence[str], evaluation: Evaluation, backbone: Backbone, training: dict[str, Any]) -> str:
    """Markdown with YAML front matter (written by huggingface_hub, never by hand: names come from users)."""
    data = ModelCardData(
        library_name="timm",
        pipeline_tag="image-classification",
        tags=["image-classification", "timm", "transformers", "transfer-lab"],
    )
    low, high = evaluation.interval
    rows = "\n".join(
        f"| {markdown_text(s.name)} | {s.support} | {s.precision:.2f} | {s.recall:.2f} | {s.f1:.2f} |"
        for s in evaluation.per_class[:_SHOWN_CLASSES]
    )
    more = len(evaluation.per_class) - _SHOWN_CLASSES
    rest = f"\n\nand {more} more classes, in `bundle.json`." if more > 0 else ""
    return f"""---
{data.to_yaml()}
---

# Image classifier with {len(class_names)} classes

Trained with Transfer Lab on {training["train_pictures"]} pictures and tested on {evaluation.tested} others that took
no part in training.

**Right {evaluation.accuracy:.1%} of the time on the test pictures** (95 % interval {low:.1%} to {high:.1%}).
Always guessing the commonest class would be right {evaluation.majority:.1%} of the time.

| Class | Test pictures | Precision | Recall | F1 |
|---|---|---|---|---|
{rows}{rest}

## Limits

It names one of the classes above for any picture, also for things it was never shown. Pictures taken in other places,
with other cameras or of other kinds than the training pictures may score lower than the figure above.

## How it was made

The pretrained backbone {backbone.title} ({backbone.url}; weights: {backbone.weights_licence}) {_how_made(training)}
The licence of the training pictures is for their owner to state.

## How to use it

{_USE_TIMM if _plain(backbone, training) else _USE_OURS}"""


_USE_TIMM = """```python
import timm
model = timm.create_model("local-dir:FOLDER", pretrained=True).eval()  # or "hf-hub:USER/NAME"
transform = timm.data.create_transform(**timm.data.resolve_data_config(model.pretrained_cfg))
```
"""
_USE_OURS = """`python -m tl_core predict FOLDER photo.jpg` (Transfer Lab). timm and transformers know no such network:
what they load of it is the backbone at most.
"""
_HEADS = {
    "linear": "linear head was solved on its features",
    "mlp": "head with one hidden layer was trained on its features",
    "gru": "GRU that reads its feature map as a sequence was trained",
    "lstm": "LSTM that reads its feature map as a sequence was trained",
    "forest": "random forest was grown on its features",
    "boosting": "boosted forest was grown on its features",
    "ensemble": "linear head, an MLP and a random forest were fitted to its features and averaged",
}


def _plain(backbone: Backbone, training: dict[str, Any]) -> bool:
    return backbone.library == "timm" and training.get("head", "linear") == "linear"


def _how_made(training: dict[str, Any]) -> str:
    head = _HEADS[training.get("head", "linear")]
    if training.get("strategy", "frozen") == "frozen":
        return f"stayed as it was; a {head}."
    part = "the last blocks" if training["strategy"] == "last" else "the whole network"
    return (
        f"was fine-tuned ({part}): a {head}, then both were trained with gradients; {training['share']:.0%} of the "
        "way from the start to the end of that training did best on training pictures held out."
    )


def markdown_text(text: str) -> str:
    """`text` from a stranger as literal Markdown: nothing in it becomes a tag, a link, an image or a table cell."""
    line = plain(text, 200)
    return "".join(f"&#{ord(c)};" if c in "&<>|`[](){}*_#!~$\\:" else c for c in line)
