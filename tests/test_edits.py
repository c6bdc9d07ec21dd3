"""What a person changes about a set: each step does what it says, in any order, and nothing is ever lost for good."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tl_core.data.edits import Accept, Drop, Edit, LeaveOut, Move, Relabel, Rename, from_record, to_record
from tl_core.data.findings import findings
from tl_core.data.imageset import Classes, Reading, Stored
from tl_core.data.quality import Pair
from tl_core.data.understand import trouble, unconfirmed, understand, way_of
from tl_core.errors import NothingLeftError, OneClassError, TooFewPicturesError
from tl_core.settings import Settings

FOLDERS = ("cats", "cats", "cats", "dogs", "dogs", "dogs", None)
TABLE = ("big", "small", "big", "small", "big", "small", "big")


def reading(*, guess: bool = False) -> Reading:
    """Seven pictures: three cats, three dogs, one in no folder; a table says big or small of each."""
    stored = tuple(Stored(f"{i}.jpg", f"digest {i}", 0, 40, 40) for i in range(7))
    parts = ("",) * 7
    ways = (
        Classes("folders", "folders", {}, guess, FOLDERS, parts, ("birds",), ()),
        Classes("table:t.csv:size", "table", {"file": "t.csv", "column": "size"}, False, TABLE, parts, (), ()),
    )
    return Reading(Path(), "pets.zip", stored, ways, (), 0)


def classes(*edits: Edit) -> dict[str, int]:
    images = understand(reading(), edits)
    return dict(zip(images.class_names, images.counts(), strict=True))


def test_each_step_does_what_it_says() -> None:
    assert classes() == {"birds": 0, "cats": 3, "dogs": 3}
    assert classes(LeaveOut("birds")) == {"cats": 3, "dogs": 3}
    assert classes(LeaveOut("dogs"), LeaveOut("birds")) == {"cats": 3}
    assert classes(Drop((0, 3))) == {"birds": 0, "cats": 2, "dogs": 2}
    assert classes(Move((0, 1), "dogs")) == {"birds": 0, "cats": 1, "dogs": 5}
    assert classes(Move((0,), "birds")) == {"birds": 1, "cats": 2, "dogs": 3}
    assert classes(Move((0,), "Lions ")) == {"birds": 0, "cats": 2, "dogs": 3, "Lions": 1}
    assert classes(Rename("cats", "Cats")) == {"birds": 0, "Cats": 3, "dogs": 3}
    assert classes(Rename("birds", "eagles")) == {"cats": 3, "dogs": 3, "eagles": 0}
    assert classes(Relabel("table:t.csv:size")) == {"big": 4, "small": 3}


def test_renaming_to_a_name_that_is_there_merges() -> None:
    assert classes(Rename("cats", "DOGS")) == {"birds": 0, "dogs": 6}
    assert classes(Rename("birds", "dogs")) == {"cats": 3, "dogs": 3}
    assert classes(Rename("cats", "birds")) == {"birds": 3, "dogs": 3}


def test_steps_build_on_each_other() -> None:
    assert classes(Rename("cats", "lions"), Move((3,), "lions"), LeaveOut("cats")) == {
        "birds": 0,
        "dogs": 2,
        "lions": 4,
    }
    assert classes(LeaveOut("cats"), Relabel("table:t.csv:size")) == {"big": 4, "small": 3}


def test_pictures_keep_their_rows_and_pixels_whatever_is_changed() -> None:
    images = understand(reading(), (Drop((0,)), Rename("dogs", "a")))
    assert images.rows == (1, 2, 3, 4, 5) and images.stored == 7
    assert [images.class_names[p.label] for p in images.pictures] == ["cats", "cats", "a", "a", "a"]


def test_what_was_dropped_stays_out_whatever_way_the_classes_are_read() -> None:
    assert classes(Drop((0, 1)), Relabel("table:t.csv:size")) == {"big": 3, "small": 2}
    assert classes(Drop((0,)), Relabel("table:t.csv:size"), Relabel("folders")) == {"birds": 0, "cats": 2, "dogs": 3}


def test_everything_left_out_is_said_and_can_be_undone() -> None:
    nothing = (LeaveOut("birds"), LeaveOut("cats"), LeaveOut("dogs"))
    images = understand(reading(), nothing)
    assert images.class_names == () and isinstance(trouble(images, Settings()), NothingLeftError)
    assert findings(images, Settings()) == ()
    assert classes(*nothing[:-1]) == {"dogs": 3}


rows = st.lists(st.integers(-2, 9), max_size=4).map(tuple)
names = st.sampled_from(["cats", "dogs", "birds", "Cats", "new", "", " ", "\u202ecats", "big", "x" * 100, "no such"])
steps = st.one_of(
    st.builds(Relabel, st.sampled_from(["folders", "table:t.csv:size", "no such"])),
    st.builds(Drop, rows),
    st.builds(Move, rows, names),
    st.builds(Rename, names, names),
    st.builds(LeaveOut, names),
    st.builds(Accept, names, rows),
)


@hypothesis_settings(deadline=None)
@given(st.lists(steps, max_size=8))
def test_any_steps_give_a_sound_set_and_survive_being_written_down(edits: list[Edit]) -> None:
    again = from_record(json.loads(json.dumps(to_record(edits))))
    assert again == tuple(edits)
    images = understand(reading(), edits, [Pair(0, 1, True), Pair(2, 5, False)])
    assert images == understand(reading(), again, [Pair(0, 1, True), Pair(2, 5, False)])
    assert len(set(images.rows)) == len(images.rows) <= 7
    assert len({name.casefold() for name in images.class_names}) == len(images.class_names)
    assert all(0 < len(name) <= 64 and name.isprintable() for name in images.class_names)
    assert sum(images.counts()) == len(images.pictures)
    trouble(images, Settings())


def test_what_stands_in_the_way_of_training_is_named() -> None:
    settings = Settings()
    few = trouble(understand(reading()), settings)
    assert isinstance(few, TooFewPicturesError) and few.values["label"] == "birds"
    assert trouble(understand(reading(), (LeaveOut("birds"),)), settings) is None
    assert isinstance(trouble(understand(reading(), (LeaveOut("birds"), LeaveOut("cats"))), settings), OneClassError)


def test_a_guess_is_confirmed_by_saying_so() -> None:
    assert unconfirmed(reading(guess=True), ())
    assert not unconfirmed(reading(guess=True), (Relabel("folders"),))
    assert not unconfirmed(reading(guess=True), (Relabel("table:t.csv:size"),))
    assert not unconfirmed(reading(), ())
    assert way_of(reading(), (Relabel("table:t.csv:size"), Relabel("folders"))) == "folders"


def test_near_copies_hang_together_within_a_class_and_sure_ones_between() -> None:
    loose, sure = [Pair(0, 1, False), Pair(2, 3, False)], [Pair(2, 3, True)]
    big = reading()
    groups = {p.row: p.group for p in understand(big, (), loose).pictures}
    assert groups[2] != groups[3], "two classes: not enough to say so"
    groups = {p.row: p.group for p in understand(big, (), sure).pictures}
    assert groups[2] == groups[3]
