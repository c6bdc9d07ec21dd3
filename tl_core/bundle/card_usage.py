"""How to run a model, as a card says it: only what is true of this one. The tests run these programs."""

from tl_core.bundle.card_facts import CardFacts, Publication, Words
from tl_core.bundle.markdown import markdown_text

ONNX, SCRIPT = "model.onnx", "predict.py"

TIMM = """\
import timm
import torch
from PIL import Image, ImageOps

model = timm.create_model("{place}", pretrained=True).eval()
prepare = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
picture = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")
with torch.inference_mode():
    chances = model(prepare(picture)[None]).softmax(1)[0]
for name, chance in zip(model.pretrained_cfg["label_names"], chances.tolist()):
    print(name, round(chance, 3))
"""
TRANSFORMERS = """\
from transformers import pipeline

classify = pipeline("image-classification", model="{place}")
print(classify("photo.jpg"))
"""
FETCH = "hf download {repo} --local-dir {folder}\n"
OURS = "python -m tl_core predict {folder} photo.jpg\n"
RUN_SCRIPT = """\
cd {folder}
python -m pip install -r requirements.txt
python predict.py photo.jpg
"""


def usage(facts: CardFacts, words: Words, published: Publication) -> str:
    """The section's text, paragraphs and programs."""
    repo = published.repo_id
    folder = repo.rpartition("/")[2] or "FOLDER"
    fetch = FETCH.format(repo=repo, folder=folder) if repo else ""
    parts = _timm(facts, words, repo, published.files) if facts.expressible else [_why_not(facts, words)]
    if SCRIPT in published.files:
        parts += [words("use.script"), _block("bash", fetch + RUN_SCRIPT.format(folder=folder))]
    if ONNX in published.files:
        parts.append(words("use.onnx"))
        if (checked := published.checked) is not None:
            key = "use.checked" if checked.yours else "use.checked_drawn"
            values = {"compared": f"{checked.compared:d}", "agree": f"{checked.agree:d}"}
            parts.append(words(key, **values, largest=f"{max(checked.largest, 1e-4):.2g}"))
    parts += [words("use.ours"), _block("bash", fetch + OURS.format(folder=folder))]
    return "\n\n".join(parts)


def _timm(facts: CardFacts, words: Words, repo: str, files: frozenset[str]) -> list[str]:
    here, there = (f"hf-hub:{repo}", repo) if repo else ("local-dir:FOLDER", "FOLDER")
    parts = [words("use.timm"), _block("python", TIMM.format(place=here))]
    parts += [words("use.transformers"), _block("python", TRANSFORMERS.format(place=there)), words("use.close")]
    if facts.info.unknown is not None:
        parts.append(words("use.strange_onnx" if ONNX in files else "use.strange"))
    return parts


def _why_not(facts: CardFacts, words: Words) -> str:
    if facts.head != "linear":
        kind = words(f"kind.{facts.head}") if f"kind.{facts.head}" in words else markdown_text(facts.head, 20)
        return words("use.not_timm_head", kind=kind)
    return words("use.not_timm_network", title=facts.info.backbone.title)


def _block(language: str, code: str) -> str:
    return f"```{language}\n{code}```"
