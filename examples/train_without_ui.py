"""The whole job without the page, in one screen: a zip of class folders in, a model and its predictions out.

python -m examples.train_without_ui [ZIP]
"""

import sys
import tempfile
from pathlib import Path

from tl_core.bundle.predictor import Predictor
from tl_core.data.intake import decode_files, prepare
from tl_core.data.understand import load
from tl_core.events import Finished, Notice
from tl_core.models.availability import local_rows
from tl_core.settings import Settings
from tl_core.training.plan import Facts, Machine, Wishes, make_plan
from tl_core.training.run import train

source = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("shapes.zip")
settings, work = Settings.from_environment(), Path(tempfile.mkdtemp(prefix="transfer-lab-"))

for _ in prepare(source, work / "set", settings):
    pass
images = load(work / "set")
print(dict(zip(images.class_names, images.counts(), strict=True)))

plan = make_plan(Wishes(), Facts.of(images), local=local_rows(), machine=Machine(settings))
for event in train(images, work, plan=plan, settings=settings):
    if isinstance(event, Notice):
        print(event.text)
    elif isinstance(event, Finished):
        print(f"right {event.accuracy:.0%} of the time on pictures kept aside; the model is in {event.bundle}")

predictor = Predictor(work / "bundle")
for file in [Path(name) for name in sys.argv[2:]]:
    pixels = decode_files([file], settings)[0]
    print(file, pixels if isinstance(pixels, str) else predictor.predict([pixels])[0].ranking[0])
