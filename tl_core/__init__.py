"""Transfer Lab's library: a zip of class folders becomes an honest, shareable image classifier. Knows no web page.

Importing this package is cheap; torch is imported by the modules that compute.
"""

import os
import sys

__version__ = "0.1.0"

# Before the libraries that read these. Nobody's use of this is counted by anyone: OpenVINO would tell Google of every
# network it converts, and has no switch but doing without the module that does so.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
