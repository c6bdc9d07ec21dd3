"""What is installed is whole: a wheel, started where the project is not, and what the Dockerfile takes."""

import json
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from gradio_client import Client, handle_file

from tests.browser import CHROMIUM, FLAGS, NEEDS_BROWSER, App, opened, running, train_on_page
from tests.conftest import picture

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKED = PROJECT["tool"]["setuptools"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


# what a wheel is made of


def tracked() -> list[str]:
    """The files of the project as they would be committed: those git knows, and new ones that it does not ignore."""
    asked = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(asked, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    return [name for name in names if name and (ROOT / name).is_file()]


def home_of(file: Path, packages: set[str]) -> str:
    """The nearest package that a file lies in."""
    return next(name for parent in file.parents if (name := ".".join(parent.parts)) in packages)


def test_every_package_is_in_the_wheel() -> None:
    there = {
        ".".join(Path(name).parent.parts) for name in tracked() if re.match(r"tl_(core|ui)/(.*/)?__init__\.py$", name)
    }
    moved = PACKED["package-dir"]
    assert sorted(there | set(moved)) == sorted(PACKED["packages"])
    assert all((ROOT / folder / "__init__.py").is_file() for folder in moved.values())


def test_every_other_file_of_a_package_is_in_the_wheel() -> None:
    packages = set(PACKED["packages"])
    files = [Path(name) for name in tracked() if name.startswith(("tl_core/", "tl_ui/"))]
    others = [file for file in files if file.suffix != ".py" or ".".join(file.parent.parts) not in packages]
    assert len(others) > 30
    for file in others:
        home = home_of(file, packages)
        inside = file.relative_to(home.replace(".", "/"))
        # setuptools' * stops at a /, as one does in a shell; Path.match looks from the end, so depths are compared
        patterns = [Path(pattern) for pattern in PACKED["package-data"].get(home, [])]
        found = [p for p in patterns if len(p.parts) == len(inside.parts) and inside.match(str(p))]
        assert found, f"pyproject.toml: package-data of {home} leaves out {inside}"


# installed


def health_check() -> str:
    """The program that the Dockerfile asks by whether the page is well."""
    (line,) = re.findall(r"^HEALTHCHECK .* CMD (.+)$", DOCKERFILE, re.MULTILINE)
    return str(json.loads(line)[-1])


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel that is made of the project's files, installed without what it needs (this has that)."""
    folder = tmp_path_factory.mktemp("packed")
    for name in tracked():
        if not name.startswith(("tests/", "bench/", "docs/", "tools/")):
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / "source" / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    alone = ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "wheel", *alone, "--wheel-dir", folder, folder / "source"], check=True)
    (wheel,) = folder.glob("transfer_lab-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", folder / "site", wheel], check=True)
    shutil.rmtree(folder / "source")
    return folder / "site"


@pytest.fixture
def away(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, from which Python finds the installed program and not this project."""
    monkeypatch.setenv("PYTHONPATH", str(installed))
    elsewhere = tmp_path / "away"
    elsewhere.mkdir()
    return elsewhere


@pytest.fixture
def app(installed: Path, away: Path, tmp_path: Path) -> Iterator[App]:
    """The page as the installed command serves it."""
    with running(tmp_path, command=[str(installed / "bin" / "transfer-lab"), "--no-open"], cwd=away) as started:
        yield started


def typed(installed: Path, away: Path, *arguments: str | Path) -> str:
    """What the installed command says."""
    command = [installed / "bin" / "transfer-lab", *arguments]
    done = subprocess.run(command, cwd=away, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_installed_command_line_reads_trains_and_predicts(installed: Path, away: Path, tmp_path: Path) -> None:
    code = "import tl_core, tl_ui, tl_ui.data_step as step; print(tl_core.__file__, tl_ui.__file__, step.EXAMPLES)"
    asked = [sys.executable, "-c", code]
    found = subprocess.run(asked, cwd=away, capture_output=True, text=True, check=True).stdout.split()
    assert all(Path(place).is_relative_to(installed) for place in found)
    assert "usage: transfer-lab " in typed(installed, away, "inspect", "--help")
    assert "--no-open" in typed(installed, away, "--help")

    examples = Path(found[-1])
    assert sorted(file.name for file in examples.glob("*.zip")) == sorted(
        file.name for file in (ROOT / "examples").glob("*.zip")
    )
    out = tmp_path / "model"
    typed(installed, away, "train", examples / "shapes.zip", "--out", out)
    (tmp_path / "a.jpg").write_bytes(picture(1))
    assert "%" in typed(installed, away, "predict", out / "bundle", tmp_path / "a.jpg")
    typed(installed, away, "export", out / "bundle", "--to", "script,web", "--out", tmp_path / "forms")
    names = {
        name.rpartition("/")[2] for zipped in (tmp_path / "forms").glob("*.zip") for name in ZipFile(zipped).namelist()
    }
    assert {"predict.py", "index.html"} <= names


@pytest.mark.slow
def test_the_installed_page_reads_and_trains(app: App, installed: Path, tmp_path: Path) -> None:
    with urllib.request.urlopen(app.url, timeout=10) as answer:
        assert answer.status == 200 and b"gradio" in answer.read()
    client = Client(app.url, verbose=False)
    seen: dict[str, Any] = client.predict(
        handle_file(str(installed / "tl_ui" / "examples" / "digits.zip")), api_name="/inspect"
    )
    assert len(seen["classes"]) == 10
    health = health_check().replace("7860", app.url.rstrip("/").rpartition(":")[2])
    subprocess.run([sys.executable, "-c", health], check=True)


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason=NEEDS_BROWSER[1].kwargs["reason"])
def test_an_example_is_trained_on_the_installed_page(app: App) -> None:
    playwright_api = pytest.importorskip("playwright.sync_api")
    with playwright_api.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = opened(chromium.new_context(locale="en-US"), app)
        page.click("#example-shapes")
        train_on_page(page)
        chromium.close()


# the container; it is not built here


def copied() -> list[str]:
    """What the Dockerfile copies from the project."""
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    return [name for line in lines for name in line.split()]


def test_the_dockerfile_copies_what_is_there_and_all_that_a_wheel_needs() -> None:
    let_through = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    known = tracked()
    assert sorted(copied()) == sorted(let_through)
    for name in copied():
        assert any(file == name or file.startswith(f"{name}/") for file in known), name
    needed = {"pyproject.toml", PROJECT["project"]["readme"], *PACKED["dynamic"]["dependencies"]["file"]}
    needed |= {name.split(".")[0] for name in PACKED["packages"]} | set(PACKED["package-dir"].values())
    assert needed <= set(copied())


def test_the_dockerfile_is_what_the_documents_say() -> None:
    (user,) = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    assert user != "root" and f"useradd --create-home --uid 1000 {user}" in DOCKERFILE
    assert "VOLUME /data" in DOCKERFILE and "TL_DATA_DIR=/data " in DOCKERFILE and "EXPOSE 7860" in DOCKERFILE
    for exact in (r"^ENTRYPOINT (.+)$", r"^CMD (.+)$", r"^HEALTHCHECK .* CMD (.+)$"):
        (line,) = re.findall(exact, DOCKERFILE, re.MULTILINE)
        assert json.loads(line), "not by a shell: the program itself gets SIGTERM"
    assert json.loads(re.findall(r"^ENTRYPOINT (.+)$", DOCKERFILE, re.MULTILINE)[0]) == [*PROJECT["project"]["scripts"]]
    front = re.search(r'^python_version: "(.+)"$', (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert front is not None and f"ARG PYTHON={front[1]}\n" in DOCKERFILE


def test_the_health_check_fails_when_nobody_answers() -> None:
    asked = [sys.executable, "-c", health_check().replace("7860", "9")]
    assert b"refused" in subprocess.run(asked, capture_output=True, check=False).stderr


def test_the_dockerfile_takes_the_locks_versions() -> None:
    command = re.search(r"RUN (grep .* > versions\.txt) ", DOCKERFILE)
    assert command is not None
    piped = command[1].replace("> versions.txt", "").strip()
    said = subprocess.run(["bash", "-c", piped], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lock = (ROOT / "requirements-lock.txt").read_text(encoding="utf-8")
    assert said.splitlines() == [line.removesuffix(" \\") for line in lock.splitlines() if re.match(r"\w", line)]
    assert "\ntorch==" in said and "hash" not in said
