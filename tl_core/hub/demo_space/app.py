"""A page for one model made with Transfer Lab: drop a picture, see what it is taken for."""

import os

import gradio as gr
from huggingface_hub import hf_hub_download
from predict import Classifier

try:  # a ZeroGPU Space wants to see one function that may use its GPU; this model needs none
    import spaces
except ImportError:
    pass
else:

    @spaces.GPU(duration=1)
    def unused():
        """Nothing."""


MODEL = os.environ.get("MODEL", "OWNER/MODEL")
classifier = Classifier(hf_hub_download(MODEL, "model.onnx"))


def name(picture):
    """What is on a picture, and whether it is like anything that was taught."""
    if picture is None:
        return None, ""
    answer = classifier.predict(picture)
    note = "This does not look like anything I was taught. These are only the nearest names." if answer.strange else ""
    return dict(answer.ranking), note


with gr.Blocks(title=MODEL) as demo:
    gr.Markdown(f"# {MODEL.rpartition('/')[2]}\n[The model and how far to trust it](https://huggingface.co/{MODEL})")
    with gr.Row():
        picture = gr.Image(type="filepath", label="Your picture", sources=["upload", "webcam", "clipboard"])
        with gr.Column():
            note = gr.Textbox(label="Beware", visible=True, interactive=False)
            answer = gr.Label(label="What it sees", num_top_classes=5)
    picture.change(name, picture, [answer, note], api_name="predict")

if __name__ == "__main__":
    demo.launch()
