"""The model as a folder that is a web page: it classifies in the browser, with no server, opened from disk or hosted.

Browsers let a page from disk read no file but scripts, styles and pictures. So the model and the runtime
(onnxruntime-web, MIT, vendored by `tools/vendor_onnxruntime_web.py`) are text inside of scripts.
"""

import base64
import gzip
import hashlib
import json
import lzma
import shutil
from pathlib import Path

PAGE = Path(__file__).parent / "web_page"
RUNTIME = PAGE / "runtime"
_FILES = ("index.html", "style.css", "picture.js", "app.js", "README.txt")
_API, _GLUE, _WASM = "ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"


def write_web_page(model: Path, into: Path) -> Path:
    """Make the ONNX file `model` a page in the folder `into`; gives the folder. Names and limits are its metadata."""
    import onnx

    facts = {entry.key: entry.value for entry in onnx.load(model, load_external_data=False).metadata_props}
    known = {
        "classes": json.loads(facts["classes"]),
        "threshold": float(facts["unknown_threshold"]) if facts["unknown_threshold"] else None,
        "short": int(facts["stored_short_side"]),
        "long": int(facts["stored_long_side"]),
    }
    into.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        shutil.copyfile(PAGE / name, into / name)
    shutil.copyfile(RUNTIME / "LICENSE.txt", into / "LICENSE-onnxruntime.txt")
    (into / "onnxruntime.js").write_bytes(runtime(_API))
    _write_script(into / "runtime.js", "TL_RUNTIME", {"glue": _packed(runtime(_GLUE)), "wasm": _packed(runtime(_WASM))})
    onnx_text = base64.b64encode(model.read_bytes()).decode("ascii")
    _write_script(into / "model.js", "TL_MODEL", {"facts": known, "onnx": onnx_text})
    return into


def runtime(name: str) -> bytes:
    """A file of the vendored runtime. Raises ValueError when it is not the one that was vendored."""
    record = json.loads((RUNTIME / "runtime.json").read_text(encoding="utf-8"))
    data = lzma.decompress((RUNTIME / f"{name}.xz").read_bytes())
    if hashlib.sha256(data).hexdigest() != record["sha256"][name]:
        raise ValueError(f"{name} is not the file of {record['package']} {record['version']}")
    return data


def _packed(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode("ascii")


def _write_script(file: Path, name: str, value: object) -> None:
    """A script that sets `window.<name>`: JSON in ASCII is JavaScript in which no text can end anything early."""
    text = json.dumps(value, ensure_ascii=True).replace("<", "\\u003c")
    file.write_text(f'"use strict";\nwindow.{name} = {text};\n', encoding="ascii")
