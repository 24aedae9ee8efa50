from __future__ import annotations

import ctypes
import fcntl
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robot_rlpd import editing, store_arrays, store_lock
from robot_rlpd.episode import Ended, Episode, EpisodeInfo
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import ConfigError, StoreError
from robot_rlpd.frames import Frames
from robot_rlpd.specs import ActionComponent, ActionSpec, ArraySpec, RobotSpec
from robot_rlpd.store_compact import compact

if TYPE_CHECKING:
    from collections.abc import Callable

SPEC = RobotSpec(
    name="counter",
    observation=(
        ArraySpec(name="count", shape=()),
        ArraySpec(name="camera", shape=(8, 8, 1), dtype="uint8", is_image=True),
    ),
    action=ActionSpec(components=(ActionComponent(name="a", low=0.0, high=1000.0),)),
    control_rate_hz=10.0,
)


def make_episode(
    number: int, steps: int, *, final: bool = True, dropped: tuple[int, ...] = (), success: bool | None = True
) -> Episode:
    """Observation t is 100 number + t, and so is the camera's brightness (times 8), the action of step t too."""
    rows = steps + int(final)
    count = (100 * number + np.arange(rows)).astype(np.float32)
    bright = np.arange(rows) * 8
    gone = np.isin(np.arange(rows), dropped)
    for row in np.flatnonzero(gone):
        bright[row] = bright[row - 1] if row else bright[row]
    times = np.arange(rows) / 10.0
    frames = Frames(robot_times_s=times, wall_times_s=times, dropped=gone)
    return Episode(
        spec=SPEC,
        observations={
            "count": count,
            "camera": np.broadcast_to(bright[:, None, None, None], (rows, 8, 8, 1)).astype(np.uint8),
        },
        actions=count[:steps, None],
        executed_actions=count[:steps, None],
        signals={},
        sources=np.ones(steps, np.uint8),
        robot_times_s=times,
        wall_times_s=times,
        info=EpisodeInfo(uuid=f"e{number}", ended=Ended.TERMINATED, success=success),
        frames={"camera": frames},
    )


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with EpisodeStore.create(tmp_path / "store", SPEC, lossless=True) as opened:
        opened.extend([make_episode(number, 6, dropped=(3, 4)) for number in range(4)])
        yield opened


def seen(store: EpisodeStore) -> list[tuple[str, list[float]]]:
    """UUID and actions of every episode, as read in each of the three ways."""
    columns = store.load_columns()
    bounds = zip(columns.first_rows, columns.num_steps, columns.end_rows, strict=True)
    for (first, steps, end), episode, other in zip(bounds, store, store.load_all(), strict=True):
        np.testing.assert_array_equal(columns.values["action"][first : first + steps], episode.actions)
        np.testing.assert_array_equal(columns.values["observation/count"][first:end], episode.observations["count"])
        np.testing.assert_array_equal(episode.observations["camera"], other.observations["camera"])
        assert other.info == episode.info
        episode.validate()
    return [(episode.info.uuid, episode.actions[:, 0].tolist()) for episode in store]


def test_a_trimmed_episode_has_the_steps_that_were_kept_and_the_observation_after_them(store: EpisodeStore) -> None:
    editing.trim(store, store.infos()[1], 2, 5)
    episode = store.read(1)
    assert episode.actions[:, 0].tolist() == [102, 103, 104]
    assert episode.observations["count"].tolist() == [102, 103, 104, 105]
    assert episode.has_final_observation
    assert store.infos()[1].is_trimmed
    assert store.num_steps == 21
    seen(store)


def test_an_episode_trimmed_twice_counts_from_what_was_left(store: EpisodeStore) -> None:
    editing.trim(store, store.infos()[0], 1, 5)
    editing.trim(store, store.infos()[0], 1, 3)
    assert seen(store)[0] == ("e0", [2, 3])
    editing.undo(store)
    assert seen(store)[0] == ("e0", [1, 2, 3, 4])


def test_an_episode_that_loses_its_end_is_truncated_and_one_that_keeps_it_stays(store: EpisodeStore) -> None:
    editing.trim(store, store.infos()[0], 0, 5)
    editing.trim(store, store.infos()[1], 3, 6)
    assert [stored.info.ended for stored in store.infos()[:2]] == [Ended.TRUNCATED, Ended.TERMINATED]


@pytest.mark.parametrize(("start", "shown"), [(2, [2, 2, 2, 5, 6]), (3, [2, 2, 5, 6]), (4, [2, 5, 6]), (5, [5, 6])])
def test_an_episode_trimmed_amid_dropped_frames_shows_the_image_before_them(
    store: EpisodeStore, start: int, shown: list[int]
) -> None:
    editing.trim(store, store.infos()[2], start, 6)
    camera = store.read(2).observations["camera"][:, 0, 0, 0] // 8
    assert camera.tolist() == shown
    compact_and_compare(store)


def compact_and_compare(store: EpisodeStore) -> None:
    before = list(store)
    store.close()
    compact(Path(store.path))
    with EpisodeStore.open(store.path) as fresh:
        assert fresh.edits == []
        for found, wanted in zip(fresh, before, strict=True):
            assert found.info == wanted.info
            np.testing.assert_array_equal(found.observations["camera"], wanted.observations["camera"])
            np.testing.assert_array_equal(found.actions, wanted.actions)
            np.testing.assert_array_equal(found.frames["camera"].rows(), wanted.frames["camera"].rows())


def test_deleted_episodes_are_out_of_sight_and_the_others_stay(store: EpisodeStore) -> None:
    editing.delete(store, [store.infos()[0], store.infos()[2]])
    assert [uuid for uuid, _ in seen(store)] == ["e1", "e3"]
    assert "e0" in store
    assert not store.append(make_episode(0, 6))
    editing.undo(store)
    assert [uuid for uuid, _ in seen(store)] == ["e0", "e1", "e2", "e3"]


def test_relabelling_changes_what_is_said_and_undoing_brings_it_back(store: EpisodeStore) -> None:
    editing.relabel(store, store.infos()[:2], {"success": False, "notes": "dropped it"})
    editing.relabel(store, store.infos()[:1], {"success": None})
    assert [stored.info.success for stored in store.infos()] == [None, False, True, True]
    assert [stored.info.notes for stored in store.infos()] == ["dropped it", "dropped it", "", ""]
    assert [stored.is_relabelled for stored in store.infos()] == [True, True, False, False]
    editing.undo(store, 1)
    assert [stored.info.success for stored in store.infos()] == [None, True, True, True]
    assert [stored.info.notes for stored in store.infos()] == ["", "", "", ""]


def test_an_undoing_can_be_undone(store: EpisodeStore) -> None:
    deleted = editing.delete(store, store.infos()[:1])
    assert editing.undo(store) == deleted
    with pytest.raises(ConfigError, match="nothing to undo"):
        editing.undo(store)
    with pytest.raises(ConfigError, match="edit 1: is undone already"):
        editing.undo(store, 1)
    editing.undo(store, 2)
    assert [uuid for uuid, _ in seen(store)] == ["e1", "e2", "e3"]
    assert editing.undo(store) == deleted
    assert len(store) == 4


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (2, 2), (4, 2), (0, 7)])
def test_a_range_outside_the_episode_is_refused(store: EpisodeStore, start: int, stop: int) -> None:
    with pytest.raises(ConfigError, match=f"steps: found {start}:{stop}; .*STOP <= 6"):
        editing.trim(store, store.infos()[0], start, stop)
    assert store.edits == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "nothing to change"),
        ({"uuid": "x"}, "uuid: cannot"),
        ({"success": "yes"}, "success"),
        ({"notes": 3}, "notes"),
    ],
)
def test_what_cannot_be_relabelled_is_refused(store: EpisodeStore, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        editing.relabel(store, store.infos()[:1], changes)
    assert store.edits == []


def test_edits_survive_and_are_seen_by_a_reader_that_refreshes(store: EpisodeStore) -> None:
    reader = EpisodeStore.open(store.path)
    editing.delete(store, store.infos()[:1])
    editing.trim(store, store.infos()[0], 1, 4)
    assert [uuid for uuid, _ in seen(reader)] == ["e0", "e1", "e2", "e3"]
    assert reader.refresh() == -1
    assert seen(reader) == seen(store)
    store.append(make_episode(7, 2))
    assert reader.refresh() == 1
    assert seen(EpisodeStore.open(store.path)) == seen(reader) == seen(store)
    assert seen(store)[-1] == ("e7", [700, 701])


def test_the_recorded_data_are_the_same_before_and_after_edits(store: EpisodeStore) -> None:
    data = {path: path.read_bytes() for path in Path(store.path).rglob("c/**/*") if path.is_file()}
    editing.trim(store, store.infos()[1], 2, 5)
    editing.relabel(store, store.infos(), {"success": False})
    editing.delete(store, store.infos()[:1])
    assert [path for path, found in data.items() if path.read_bytes() != found] == []
    assert [(stored.info.uuid, stored.num_steps) for stored in store.recorded()] == [(f"e{i}", 6) for i in range(4)]


def test_a_store_opened_for_reading_cannot_be_edited(store: EpisodeStore) -> None:
    reader = EpisodeStore.open(store.path)
    with pytest.raises(StoreError, match="reading only"):
        editing.delete(reader, reader.infos())


def test_compacting_gives_back_the_space_and_ends_what_can_be_undone(
    store: EpisodeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_arrays, "CHUNK_BYTES", 64)
    editing.delete(store, store.infos()[:3])
    editing.trim(store, store.infos()[0], 1, 3)
    store.close()
    report = compact(Path(store.path))
    assert (report.episodes, report.removed_episodes, report.removed_steps, report.edits) == (1, 3, 22, 2)
    assert report.bytes_after < report.bytes_before
    with EpisodeStore.open(store.path, "a") as fresh:
        assert seen(fresh) == [("e3", [301, 302])]
        with pytest.raises(ConfigError, match="nothing to undo"):
            editing.undo(fresh)
        assert fresh.append(make_episode(0, 6))
    assert [path.name for path in Path(store.path).parent.iterdir()] == ["store"]


def test_a_reader_of_a_compacted_store_is_told_and_goes_on_after_a_refresh(store: EpisodeStore) -> None:
    reader = EpisodeStore.open(store.path)
    reader.infos()
    editing.delete(store, store.infos()[:1])
    store.close()
    compact(Path(store.path))
    with pytest.raises(StoreError, match=r"was replaced meanwhile.*open it again"):
        reader.read(0)
    assert reader.refresh() == -1
    assert [uuid for uuid, _ in seen(reader)] == ["e1", "e2", "e3"]


def test_a_store_that_somebody_writes_to_is_not_compacted(store: EpisodeStore) -> None:
    with pytest.raises(StoreError, match="another process is writing"):
        compact(Path(store.path))
    assert [path.name for path in Path(store.path).parent.iterdir()] == ["store"]


def test_a_writer_that_opened_a_directory_which_is_exchanged_before_it_locks_is_refused(
    store: EpisodeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.close()
    path = Path(store.path)
    shutil.copytree(path, path.with_name("other"))
    locked = fcntl.flock

    def exchange_first(descriptor: int, how: int) -> None:
        store_lock.exchange(path.with_name("other"), path)
        locked(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", exchange_first)
    with pytest.raises(StoreError, match="another process is writing"):
        EpisodeStore.open(path, "a")
    monkeypatch.undo()
    EpisodeStore.open(path, "a").close()


class NoExchange:
    """A C library without `renameat2`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        del args, kwargs


@pytest.mark.parametrize("library", [ctypes.CDLL, NoExchange])
def test_two_directories_change_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: Callable[..., Any]
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", library)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    store_lock.exchange(tmp_path / "a", tmp_path / "b")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*/*")) == ["a/b", "b/a"]
    with pytest.raises(StoreError, match="cannot be replaced"):
        store_lock.exchange(tmp_path / "absent", tmp_path / "b")
    assert (tmp_path / "b" / "a").exists()


Seen = list[tuple[str, list[float], bool | None]]


def state_of(store: EpisodeStore) -> Seen:
    return [(e.info.uuid, e.actions[:, 0].tolist(), e.info.success) for e in store.load_all()]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_sequence_of_edits_and_undoings_is_what_a_list_would_make_of_it(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder, EpisodeStore.create(Path(folder, "store"), SPEC) as recorded:
        recorded.extend([make_episode(number, 5, final=number != 1) for number in range(3)])
        model: Seen = [(f"e{n}", [100.0 * n + t for t in range(5)], True) for n in range(3)]
        history = [model]
        for _ in range(data.draw(st.integers(1, 6))):
            kind = data.draw(st.sampled_from(["trim", "relabel", "delete", "undo"]))
            if kind == "undo" and len(history) > 1:
                editing.undo(recorded)
                history.pop()
                model = history[-1]
            elif kind != "undo" and model:
                place = data.draw(st.integers(0, len(model) - 1))
                uuid, actions, success = model[place]
                stored, model = recorded.infos()[place], list(model)
                if kind == "trim":
                    start = data.draw(st.integers(0, len(actions) - 1))
                    stop = data.draw(st.integers(start + 1, len(actions)))
                    editing.trim(recorded, stored, start, stop)
                    model[place] = (uuid, actions[start:stop], success)
                elif kind == "relabel":
                    success = data.draw(st.sampled_from([True, False, None]))
                    editing.relabel(recorded, [stored], {"success": success})
                    model[place] = (uuid, actions, success)
                else:
                    editing.delete(recorded, [stored])
                    del model[place]
                history.append(model)
            assert state_of(recorded) == model
        recorded.close()
        compact(Path(folder, "store"))
        with EpisodeStore.open(Path(folder, "store")) as compacted:
            assert state_of(compacted) == model
            assert len(list(compacted)) == len(model)
