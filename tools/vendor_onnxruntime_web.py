"""Fetches the parts of onnxruntime-web that the web page export carries.

    python -m tools.vendor_onnxruntime_web 1.30.0

From the npm registry into `tl_core/exports/web_page/runtime/`, packed by LZMA, with their SHA-256 in `runtime.json`.
"""

import hashlib
import io
import json
import lzma
import sys
import tarfile
import urllib.request
from pathlib import Path

HERE = Path(__file__).parents[1] / "tl_core" / "exports" / "web_page" / "runtime"
REGISTRY = "https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{version}.tgz"
FILES = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


def main() -> None:
    """Replace what is there by the version on the command line."""
    version = sys.argv[1]
    with urllib.request.urlopen(REGISTRY.format(version=version)) as answer:
        packed = io.BytesIO(answer.read())
    HERE.mkdir(exist_ok=True)
    digests = {}
    with tarfile.open(fileobj=packed) as package:
        for name in FILES:
            member = package.extractfile(f"package/dist/{name}")
            assert member is not None
            data = member.read()
            digests[name] = hashlib.sha256(data).hexdigest()
            (HERE / f"{name}.xz").write_bytes(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))
    record = {"package": "onnxruntime-web", "version": version, "licence": "MIT", "sha256": digests}
    (HERE / "runtime.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
