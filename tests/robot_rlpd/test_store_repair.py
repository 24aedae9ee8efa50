"""Whatever is cut off a store, what is left of it comes back, and nothing that cannot be read."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robot_rlpd import editing, store_arrays
from robot_rlpd.episode import Ended, Episode, EpisodeInfo
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import StoreError
from robot_rlpd.frames import Frames
from robot_rlpd.robot import Source
from robot_rlpd.specs import ArraySpec
from robot_rlpd.spool import EpisodeWriter
from robot_rlpd.store_check import check_episodes
from robot_rlpd.store_lock import exchange
from robot_rlpd.store_repair import repair
from robot_rlpd.testing import FakeRobot, fake_spec

if TYPE_CHECKING:
    from collections.abc import Iterator

CAMERA = ArraySpec(name="front", shape=(8, 8, 3), dtype="uint8", is_image=True)
SPEC = replace(fake_spec(), observation=(*fake_spec().observation, CAMERA))
STEPS = (6, 9, 4, 12, 7)


def make_episode(number: int, steps: int) -> Episode:
    rng = np.random.default_rng(number)
    rows = steps + (number != 1)
    times = number * 100.0 + np.arange(rows) / 10.0
    images = rng.integers(0, 256, (rows, *CAMERA.shape), np.uint8)
    dropped = np.arange(rows) % 4 == 3
    images[dropped] = images[np.flatnonzero(dropped) - 1]
    actions = rng.random((steps, 2), np.float32)
    return Episode(
        spec=SPEC,
        observations={
            "position": rng.random((rows, 2), np.float32),
            "target": rng.random((rows, 2), np.float32),
            "front": images,
        },
        actions=actions,
        executed_actions=actions,
        signals={
            "reward": rng.random(steps, np.float32),
            "terminated": np.arange(steps) == steps - 1,
            "success": np.arange(steps) == steps - 1,
        },
        sources=np.ones(steps, np.uint8),
        robot_times_s=times,
        wall_times_s=times + 1e9,
        info=EpisodeInfo(uuid=f"e{number}", ended=Ended.TERMINATED, success=True),
        frames={"front": Frames(robot_times_s=times, wall_times_s=times + 1e9, dropped=dropped)},
    )


RECORDED = [make_episode(number, steps) for number, steps in enumerate(STEPS)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store of five episodes in small chunks; the second is trimmed to steps 2 to 8, the third deleted."""
    path = tmp_path_factory.mktemp("whole") / "store"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_arrays, "CHUNK_BYTES", 512)
        with EpisodeStore.create(path, SPEC, lossless=True) as store:
            store.append(RECORDED[0])
            store.extend(RECORDED[1:])
            editing.trim(store, store.infos()[1], 2, 8)
            editing.delete(store, [store.infos()[2]])
        yield path


def is_beginning(found: Episode, wanted: Episode) -> bool:
    """Whether `found` is `wanted`, or its first steps."""
    rows, steps = len(found.robot_times_s), len(found)
    for name, array in wanted.observations.items():
        np.testing.assert_array_equal(found.observations[name], array[:rows])
    np.testing.assert_array_equal(found.actions, wanted.actions[:steps])
    np.testing.assert_array_equal(found.executed_actions, wanted.executed_actions[:steps])
    for name, array in wanted.signals.items():
        np.testing.assert_array_equal(found.signals[name], array[:steps])
    np.testing.assert_array_equal(found.frames["front"].rows(), wanted.frames["front"].rows()[:rows])
    return True


def touched(store: EpisodeStore, file: Path, size: int) -> set[int]:
    """Numbers of the episodes that had bytes in a file that was cut to `size`."""
    if "c" not in file.parts or file.parts[0] == "edits" or file.parts[1] in ("index", "check"):
        return set()  # metadata, and what is there twice
    key = "/".join(file.parts[: file.parts.index("c")])
    metadata = json.loads((Path(store.path) / key / "zarr.json").read_bytes())
    shape = metadata["chunk_grid"]["configuration"]["chunk_shape"]
    row_bytes = np.dtype(metadata["data_type"]).itemsize * int(np.prod(shape[1:]))
    chunk = int(file.parts[file.parts.index("c") + 1])
    first, last = chunk * shape[0] + size // row_bytes, (chunk + 1) * shape[0]
    if key == "episodes/info":
        ends = store._arrays.read("episodes/index", 0, len(RECORDED))[:, 2]
        bounds = list(zip([0, *ends[:-1]], ends, strict=True))
    elif key.endswith("zstd"):
        blobs = store._arrays.read("images/front/ends", 0, store.recorded()[-1].end_row)
        bounds = [(blobs[e.first_row - 1] if e.first_row else 0, blobs[e.end_row - 1]) for e in store.recorded()]
    elif key.endswith("ends"):  # the first image of an episode begins where the one before it ends
        bounds = [(max(0, e.first_row - 1), e.end_row) for e in store.recorded()]
    else:
        bounds = [(e.first_row, e.end_row) for e in store.recorded()]
    return {number for number, (begin, end) in enumerate(bounds) if begin < last and end > first}


def check_repaired(path: Path, spared: set[int], report: Any) -> dict[str, Episode]:
    """The recorded episodes after a repair, all of them readable and true."""
    assert {place.name for place in path.parent.iterdir()} <= {"store", "store.damaged"}
    with EpisodeStore.open(path, "a") as store:
        assert set(check_episodes(store)) <= {None}
        assert (report.episodes, report.steps) == (len(store), store.num_steps)
        list(store)
        found = {stored.info.uuid: store.decode(store.read_encoded(stored)) for stored in store.recorded()}
    by_first_time = {episode.robot_times_s[0]: episode for episode in RECORDED}
    for episode in found.values():
        wanted = by_first_time[episode.robot_times_s[0]]
        assert is_beginning(episode, wanted)
        if len(episode.robot_times_s) < len(wanted.robot_times_s):
            assert (episode.info.ended, episode.info.success) == (Ended.INTERRUPTED, None)
    for number in spared:
        assert found[f"e{number}"].info == RECORDED[number].info
        assert len(found[f"e{number}"].robot_times_s) == len(RECORDED[number].robot_times_s)
    return found


def cut_copy(whole: Path, folder: str, cuts: list[tuple[Path, int]]) -> Path:
    path = Path(folder, "store")
    shutil.copytree(whole, path)
    for file, size in cuts:
        with (path / file).open("r+b") as opened:
            opened.truncate(min(size, (path / file).stat().st_size))
    return path


def draw_cut(data: st.DataObject, whole: Path) -> tuple[Path, int]:
    files = sorted(file.relative_to(whole) for file in whole.rglob("*") if file.is_file())
    file = data.draw(st.sampled_from(files), label="file")
    return file, data.draw(st.integers(0, (whole / file).stat().st_size - 1), label="bytes left")


def check_one_cut(whole: Path, data: st.DataObject) -> None:
    file, size = draw_cut(data, whole)
    with EpisodeStore.open(whole) as store, tempfile.TemporaryDirectory() as folder:
        hit = touched(store, file, size)
        path = cut_copy(whole, folder, [(file, size)])
        report = repair(path)
        found = check_repaired(path, set(range(len(RECORDED))) - hit, report)
        assert len(found) == len(RECORDED) - report.lost
        assert report.lost <= len(hit)
        assert {problem.number for problem in report.problems} <= hit
        if file.parts[0] != "edits":
            with EpisodeStore.open(path) as repaired:
                seen = [stored.info.uuid for stored in repaired.infos()]
                assert "e2" not in seen
                if not hit:
                    assert seen == ["e0", "e1", "e3", "e4"]
                    assert repaired.infos()[1].num_steps == 6


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_after_any_cut_everything_that_is_left_comes_back(data: st.DataObject, whole: Path) -> None:
    check_one_cut(whole, data)


@pytest.mark.slow
@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_after_any_of_many_cuts_everything_that_is_left_comes_back(data: st.DataObject, whole: Path) -> None:
    check_one_cut(whole, data)


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_after_several_cuts_nothing_comes_back_that_was_not_recorded(data: st.DataObject, whole: Path) -> None:
    cuts = [draw_cut(data, whole) for _ in range(data.draw(st.integers(2, 4)))]
    with tempfile.TemporaryDirectory() as folder:
        path = cut_copy(whole, folder, cuts)
        descriptions = {Path("zarr.json"), Path("episodes/zarr.json")}
        if descriptions <= {file for file, _ in cuts}:
            with pytest.raises(StoreError, match="neither of the two files"):
                repair(path)
            return
        check_repaired(path, set(), repair(path))


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_changed_byte_is_never_taken_for_data(data: st.DataObject, whole: Path) -> None:
    files = sorted(file.relative_to(whole) for file in whole.rglob("c/**/*") if file.is_file())
    file = data.draw(st.sampled_from(files))
    with tempfile.TemporaryDirectory() as folder:
        path = cut_copy(whole, folder, [])
        content = bytearray((path / file).read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        (path / file).write_bytes(content)
        report = repair(path)
        found = check_repaired(path, set(), report)
        assert len(found) == len(RECORDED) - report.lost
        assert report.lost <= 2  # two where the place is hit at which one ends and the next begins


@pytest.mark.parametrize(("byte", "value"), [(4, 1), (7, 0x80)], ids=["far too many rows", "a negative row"])
def test_rows_that_only_a_damaged_index_knows_are_not_asked_for(
    byte: int, value: int, whole: Path, tmp_path: Path
) -> None:
    path = cut_copy(whole, str(tmp_path), [])
    (index,) = (path / "episodes/index/c").rglob("0/0")
    content = bytearray(index.read_bytes())
    content[byte] ^= value  # the first number is the row after the first episode's last, an int64
    index.write_bytes(content)
    with EpisodeStore.open(path) as store:
        with pytest.raises(StoreError, match="no such rows: the index is damaged"):
            store.read(0)
        for load in (store.load_all, store.load_columns):
            with pytest.raises(StoreError, match=r"episode 0: damaged index; found \d+ steps in rows 0 to .*repair"):
                load()
    assert check_repaired(path, set(), repair(path))


def test_a_whole_store_stays_as_it_is(whole: Path, tmp_path: Path) -> None:
    path = cut_copy(whole, str(tmp_path), [])
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    report = repair(path)
    assert (report.episodes, report.lost, report.damaged, report.problems) == (4, 0, "", [])
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


def test_the_damaged_store_is_kept_each_time(whole: Path, tmp_path: Path) -> None:
    path = cut_copy(whole, str(tmp_path), [(Path("steps/float32/c/0/0"), 100)])
    damaged = {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    report = repair(path)
    kept = Path(report.damaged)
    assert {file.relative_to(kept): file.read_bytes() for file in kept.rglob("*") if file.is_file()} == damaged
    assert report.cut == 1
    assert report.problems[0].problem.startswith("cut after 1 of 6 steps")
    (path / "steps/float32/c/0/0").write_bytes(b"")
    assert Path(repair(path).damaged).name == "store.damaged-2"


def test_the_steps_before_a_cut_come_back(whole: Path, tmp_path: Path) -> None:
    row_bytes = 4 * 9  # two fields of 2, two actions of 2, the reward
    path = cut_copy(whole, str(tmp_path), [(Path("steps/float32/c/0/0"), 5 * row_bytes + 3)])
    assert repair(path).cut == 1
    with EpisodeStore.open(path) as store:
        assert len(store.read(0)) == 4
        assert store.read(0).has_final_observation


def test_what_was_running_is_recovered_into_a_damaged_store(whole: Path, tmp_path: Path) -> None:
    path = cut_copy(whole, str(tmp_path), [(Path("zarr.json"), 10)])
    robot = FakeRobot()
    first = robot.reset(seed=0)
    front = np.zeros(CAMERA.shape, np.uint8)
    first = replace(first, observation={**first.observation, "front": front})
    spool = path.with_name("store-spool") / "running.spool"
    writer = EpisodeWriter(spool, SPEC, EpisodeInfo(uuid="running"), first, 0.0)
    result = robot.step(np.zeros(2, np.float32))
    result = replace(result, observation={**result.observation, "front": front})
    writer.step(np.zeros(2, np.float32), Source.HUMAN, result, 0.1)
    writer.close()
    report = repair(path)
    assert report.recovered == 1
    with EpisodeStore.open(path) as store:
        assert store.infos()[-1].info.uuid == "running"
        assert len(store.read(4)) == 1


def test_a_store_that_somebody_writes_to_is_not_repaired(whole: Path, tmp_path: Path) -> None:
    path = cut_copy(whole, str(tmp_path), [])
    with EpisodeStore.open(path, "a"), pytest.raises(StoreError, match="another process is writing"):
        repair(path)


def test_what_is_no_store_is_not_repaired(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="neither of the two files that describe it"):
        repair(tmp_path / "empty")
    with pytest.raises(StoreError, match="no such store"):
        repair(tmp_path / "absent")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_compaction_killed_between_two_renames_is_finished(whole: Path, tmp_path: Path) -> None:
    path = cut_copy(whole, str(tmp_path), [])
    path.rename(tmp_path / ".store.compacting.aside")
    assert repair(path).episodes == 4
    assert [place.name for place in tmp_path.iterdir()] == ["store"]
    with pytest.raises(StoreError):
        exchange(tmp_path / "absent", path)
