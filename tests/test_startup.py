"""The page starts without what only editors of code want of Gradio."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_gradio_is_imported_without_writing_stubs_and_is_itself_again() -> None:
    code = (
        "import ast, inspect, sys; parse, tell, asked = ast.parse, inspect.getfile, []\n"
        "def watched(*given, **named):\n"
        "    asked.append(sys._getframe(1).f_globals['__name__']); return parse(*given, **named)\n"
        "ast.parse = watched; import app\n"
        "assert 'gradio.component_meta' not in asked and inspect.getfile is tell\n"
        "from gradio.component_meta import extract_class_source_code; extract_class_source_code('class A: pass', 'A')\n"
        "assert 'gradio.component_meta' in asked, 'stubs are written otherwise by now'"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
