"""What was taught is found again: the most alike first, in any order of rows, whole or not at all."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import Trained
from tl_core.bundle.closeup import features_of
from tl_core.bundle.predictor import Predictor
from tl_core.data.pixels import PixelStore
from tl_core.evaluation import taught
from tl_core.evaluation.taught import FILE, Taught


def some(count: int = 40, width: int = 16, seed: int = 0) -> Taught:
    rng = np.random.default_rng(seed)
    return Taught.of(rng.permutation(1000)[:count].tolist(), rng.normal(3, 1, (count, width)).astype(np.float32))


def test_a_picture_is_most_like_itself_and_then_like_its_kind(trained: Trained) -> None:
    predictor, store = Predictor(trained.bundle), PixelStore(trained.images)
    rows = [i for i, picture in enumerate(trained.images.pictures) if picture.label is not None][::4]
    features = features_of(predictor, [store[row] for row in rows])
    known, alike = Taught.of(rows, features), 0
    for row, own in zip(rows, features, strict=True):
        found = known.nearest(own, k=3)
        similarities = [similarity for _, similarity in found]
        assert found[0][0] == row and found[0][1] == pytest.approx(1, abs=1e-2)
        assert similarities == sorted(similarities, reverse=True)
        label = trained.images.pictures[row].label
        alike += sum(trained.images.pictures[other].label == label for other, _ in found[1:])
    assert alike / (2 * len(rows)) > 0.6  # chance is a half


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 30), st.integers(0, 10), st.integers(0, 100))
def test_it_is_what_the_whole_table_says(count: int, k: int, seed: int) -> None:
    known = some(count, seed=seed)
    asked = np.random.default_rng(seed + 1).normal(3, 1, 16).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(taught, "_CHUNK", 7)
        found = known.nearest(asked, k)
    assert len(found) == min(k, count) and len({row for row, _ in found}) == len(found)
    if count:
        x = known.features.astype(np.float64)
        centred, own = x - x.mean(0), asked - x.mean(0)
        cosine = centred @ own / (np.linalg.norm(centred, axis=1) * np.linalg.norm(own)).clip(1e-9)
        assert [value for _, value in found] == pytest.approx(sorted(cosine, reverse=True)[:k], abs=1e-3)


def test_it_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    known = some()
    known.save(tmp_path)
    some(seed=1).save(tmp_path)
    known.save(tmp_path)
    back = Taught.load(tmp_path)
    assert back is not None and np.array_equal(back.rows, known.rows) and np.array_equal(back.features, known.features)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_features_too_large_for_half_precision_stay_numbers(tmp_path: Path) -> None:
    Taught.of([1, 2], np.array([[1e9, 0], [0, -1e9]], dtype=np.float32)).save(tmp_path)
    back = Taught.load(tmp_path)
    assert back is not None and np.isfinite(back.features).all()
    (nearest, _), *_ = back.nearest(np.array([5e4, 0], dtype=np.float32))
    assert nearest == 1


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1), st.integers(0, 255), st.booleans())
def test_a_damaged_file_is_none_or_whole(at: float, value: int, cut: bool) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        folder, known = Path(scratch), some(5, 4)
        known.save(folder)
        data = bytearray((folder / FILE).read_bytes())
        place = int(at * (len(data) - 1))
        if cut:
            del data[place:]
        else:
            data[place] = value
        (folder / FILE).write_bytes(bytes(data))
        back = Taught.load(folder)
        if cut:
            assert back is None
        assert back is None or (len(back.rows) == len(back.features) and np.isfinite(back.features).all())


def test_what_is_no_such_table_is_none(tmp_path: Path) -> None:
    assert Taught.load(tmp_path) is None and Taught.load(tmp_path / "nowhere") is None
    rows, features = np.arange(3), np.zeros((3, 2), dtype=np.float16)
    wrong = (
        {"rows": rows},
        {"rows": rows[:2], "features": features},
        {"rows": rows, "features": features.astype(np.float32)},
        {"rows": rows.astype(np.float64), "features": features},
        {"rows": rows, "features": np.full((3, 2), np.nan, dtype=np.float16)},
        {"rows": np.array([object()] * 3), "features": features},
    )
    for arrays in wrong:
        np.savez(tmp_path / FILE, **arrays)  # type: ignore[arg-type]
        assert Taught.load(tmp_path) is None
    (tmp_path / FILE).write_bytes(b"not a zip")
    assert Taught.load(tmp_path) is None
