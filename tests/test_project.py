"""The project's own rules: layers, sizes, names, versions and documents that stay true."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import SHARED
from tl_core import errors

ROOT = Path(__file__).parents[1]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
CODE = sorted(
    path.relative_to(ROOT)
    for folder in ("tl_core", "tl_ui", "examples", "tools", "bench")
    for path in (ROOT / folder).rglob("*.py")
) + [Path("app.py")]


def layers() -> list[str]:
    """The layers from the top, as the architecture notes list them."""
    block = ARCHITECTURE.split("## Layers")[1].split("```")[1]
    return [line.split()[0] for line in block.strip().splitlines()]


def layer_of(module: str) -> int | None:
    found = [i for i, layer in enumerate(layers()) if module == layer or module.startswith(layer + ".")]
    return found[0] if found else None


def imports(path: Path) -> set[str]:
    """Modules of ours that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("path", [p for p in CODE if p.parts[0] in ("app.py", "tl_core", "tl_ui")], ids=str)
def test_imports_only_go_down(path: Path) -> None:
    module = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    own = layer_of(module)
    if own is None:  # tl_core/__init__ and __main__ stand above all
        assert module in ("tl_core", "tl_core.__main__")
        return
    for name in imports(path):
        other = layer_of(name)
        assert other is None or other >= own, f"{module} imports {name}, which is above it"
    if module.startswith("tl_core"):
        assert not any(name.split(".")[0] == "gradio" for name in imports(path))


def test_the_file_tree_in_the_docs_is_the_real_one() -> None:
    block = ARCHITECTURE.split("## Files")[1].split("```")[1]
    told = {line.split()[0] for line in block.strip().splitlines()}
    plain = {str(p) for p in CODE if p.name != "__init__.py"} | {"tl_ui/words/__init__.py"}
    assert told == plain
    assert all(len(line.split(maxsplit=1)) == 2 for line in block.strip().splitlines())


@pytest.mark.parametrize("path", CODE, ids=str)
def test_a_file_is_one_idea_with_its_purpose_on_top(path: Path) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    assert text.count("\n") <= 400
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None and node.end_lineno - node.lineno < 60, f"{path}: {node.name}"
    assert path.stem not in ("utils", "helpers", "manager")


def test_uploads_are_never_unpickled_or_evaluated() -> None:
    for path in CODE:
        if path.parts[0] == "tools":
            continue
        text = (ROOT / path).read_text(encoding="utf-8")
        for banned in ("torch.load(", "pickle.load", "joblib.", "yaml.load(", " eval(", "extractall", "shell=True"):
            assert banned not in text, f"{path}: {banned}"


def test_gradio_has_one_version() -> None:
    required = re.search(r"gradio\[oauth\]==([\d.]+)", (ROOT / "requirements.txt").read_text())
    front = re.search(r"sdk_version: ([\d.]+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert required is not None and front is not None and required[1] == front[1]


def test_the_readme_links_to_what_is_there() -> None:
    for document in ("README.md", "Spaces.md", "CONTRIBUTING.md", "tl_core/models/weights/README.md"):
        text = (ROOT / document).read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            assert ((ROOT / document).parent / target).exists(), f"{document}: {target}"


def test_every_error_says_what_to_do_next() -> None:
    def leaves(kind: type[errors.TLError]) -> list[type[errors.TLError]]:
        below = kind.__subclasses__()
        return [leaf for sub in below for leaf in leaves(sub)] if below else [kind]

    found = leaves(errors.TLError)
    assert len({kind.code for kind in found}) == len(found) > 25
    for kind in found:
        assert kind.sentence[0].isupper() or kind.sentence[0] in "“{"
        if kind is not errors.OptionError:
            assert kind.sentence.count(".") + kind.sentence.count("?") >= 2, kind.code
    drawn = re.findall(r"\b(\w+Error)\b", errors.__doc__ or "")
    assert {kind.__name__ for kind in found} <= set(drawn)


def test_examples_are_what_the_script_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from examples import make_data

    monkeypatch.setattr(make_data, "HERE", tmp_path)
    make_data.main()
    for name in ("shapes.zip", "digits.zip"):
        assert (tmp_path / name).stat().st_size == pytest.approx((ROOT / "examples" / name).stat().st_size, rel=0.02)


def test_nothing_of_the_shared_data_is_in_the_project() -> None:
    if not SHARED.exists():
        pytest.skip(f"{SHARED} is not on this machine")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    shared_sizes = {path.stat().st_size: path for path in SHARED.rglob("*") if path.is_file()}
    for name in tracked:
        file = ROOT / name
        twin = shared_sizes.get(file.stat().st_size) if file.exists() else None
        assert twin is None or file.read_bytes() != twin.read_bytes()
