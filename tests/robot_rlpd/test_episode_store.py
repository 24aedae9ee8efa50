from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import zarr.storage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robot_rlpd import store_arrays
from robot_rlpd.episode import Ended, Episode, EpisodeInfo
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import DataError, MismatchError, StoreError
from robot_rlpd.robot import RandomPolicy
from robot_rlpd.rollout import rollout
from robot_rlpd.specs import DTYPES, ActionComponent, ActionSpec, ArraySpec, RobotSpec
from robot_rlpd.testing import FakeRobot, FakeTask, fake_spec

if TYPE_CHECKING:
    from pathlib import Path

SPEC = fake_spec()


def make_episode(seed: int, steps: int = 5) -> Episode:
    policy = RandomPolicy(SPEC, np.random.default_rng(seed))
    return rollout(FakeRobot(), policy, FakeTask(max_episode_steps=steps), seed=seed)


def assert_same(found: Episode, wanted: Episode) -> None:
    assert found.info == wanted.info
    assert len(found) == len(wanted)
    found.validate()
    for name in ("actions", "executed_actions", "sources", "robot_times_s", "wall_times_s"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
    for name in ("observations", "signals"):
        for field, array in getattr(wanted, name).items():
            assert getattr(found, name)[field].dtype == array.dtype
            np.testing.assert_array_equal(getattr(found, name)[field], array)


@st.composite
def array_specs(draw: st.DrawFn, names: str) -> tuple[ArraySpec, ...]:
    count = draw(st.integers(1, 3))
    shapes = st.lists(st.integers(1, 3), max_size=2).map(tuple)
    return tuple(
        ArraySpec(name=f"{names}{i}", shape=draw(shapes), dtype=draw(st.sampled_from(DTYPES))) for i in range(count)
    )


@st.composite
def episodes(draw: st.DrawFn) -> list[Episode]:
    """A few episodes of one random spec; empty ones and ones without a final observation among them."""
    size = draw(st.integers(1, 3))
    spec = RobotSpec(
        name="any",
        observation=draw(array_specs("o/")),
        signals=draw(array_specs("s")),
        action=ActionSpec(components=tuple(ActionComponent(name=str(i)) for i in range(size))),
        control_rate_hz=draw(st.sampled_from([10.0, 12.5])),
    )
    return [draw(episode_of(spec)) for _ in range(draw(st.integers(1, 4)))]


@st.composite
def episode_of(draw: st.DrawFn, spec: RobotSpec) -> Episode:
    steps = draw(st.integers(0, 4))
    rows = steps + draw(st.integers(0, 1))

    def array(dtype: str, *shape: int) -> Any:
        finite = hnp.from_dtype(np.dtype(dtype), allow_nan=False, allow_infinity=False)
        return draw(hnp.arrays(dtype, shape, elements=finite))

    return Episode(
        spec=spec,
        observations={s.name: array(s.dtype, rows, *s.shape) for s in spec.observation},
        actions=array("float32", steps, spec.action.size),
        executed_actions=array("float32", steps, spec.action.size),
        signals={s.name: array(s.dtype, steps, *s.shape) for s in spec.signals},
        sources=array("uint8", steps),
        robot_times_s=array("float64", rows),
        wall_times_s=array("float64", rows),
        info=EpisodeInfo(
            ended=draw(st.sampled_from(Ended)),
            success=draw(st.sampled_from([None, True, False])),
            seed=draw(st.none() | st.integers(0, 2**62)),
            notes=draw(st.text(max_size=5)),
            randomization=draw(st.dictionaries(st.text(max_size=3), st.floats(-1, 1), max_size=2)),
        ),
    )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batch=episodes())
def test_any_episode_is_read_back_as_it_was_written(batch: list[Episode], tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("any") / "store"
    with EpisodeStore.create(path, batch[0].spec) as store:
        for episode in batch[:2]:
            assert store.append(episode)
        assert store.extend(batch[2:]) == len(batch[2:])
    for read in (EpisodeStore.open(path), EpisodeStore.open(path).load_all()):
        for found, wanted in zip(read, batch, strict=True):
            assert_same(found, wanted)
    assert EpisodeStore.open(path).num_steps == sum(len(episode) for episode in batch)


def test_the_index_tells_lengths_and_infos_without_the_columns(tmp_path: Path) -> None:
    recorded = [make_episode(seed, steps=seed + 1) for seed in range(3)]
    with EpisodeStore.create(tmp_path / "store", SPEC) as store:
        store.extend(recorded)
    shutil.rmtree(tmp_path / "store/steps/float32/c")
    infos = EpisodeStore.open(tmp_path / "store").infos()
    assert [stored.info for stored in infos] == [episode.info for episode in recorded]
    assert [stored.num_steps for stored in infos] == [1, 2, 3]
    assert all(stored.has_final_observation for stored in infos)


def test_an_episode_appended_twice_is_stored_once(tmp_path: Path) -> None:
    episode = make_episode(0)
    with EpisodeStore.create(tmp_path / "store", SPEC) as store:
        assert store.append(episode)
        assert not store.append(episode)
        assert store.extend([episode, make_episode(1), make_episode(2)]) == 2
        assert episode.info.uuid in store
        assert len(store) == 3
    with EpisodeStore.open(tmp_path / "store", "a") as store:
        assert not store.append(episode)


def test_images_come_back_close_and_others_exact(tmp_path: Path) -> None:
    cameras = (
        ArraySpec(name="front", shape=(24, 32, 3), dtype="uint8", is_image=True),
        ArraySpec(name="depth", shape=(24, 32, 1), dtype="uint8", is_image=True),
        ArraySpec(name="stack", shape=(4, 4, 6), dtype="uint8", is_image=True),
    )
    spec = replace(SPEC, observation=(*SPEC.observation, *cameras))
    rows = np.arange(6)[:, None, None, None]
    pixels = {s.name: np.broadcast_to(rows * 30, (6, *s.shape)).astype(np.uint8) for s in cameras}
    plain = [make_episode(seed) for seed in range(3)]
    recorded = [replace(e, spec=spec, observations={**e.observations, **pixels}) for e in plain]
    with EpisodeStore.create(tmp_path / "store", spec) as store:
        store.append(recorded[0])
        store.extend(recorded[1:])
    for read in (EpisodeStore.open(tmp_path / "store"), EpisodeStore.open(tmp_path / "store").load_all()):
        for episode in read:
            episode.validate()
            np.testing.assert_array_equal(episode.observations["stack"], pixels["stack"])
            for name in ("front", "depth"):
                assert np.abs(episode.observations[name].astype(int) - pixels[name]).max() <= 4


@pytest.mark.parametrize("field", ["actions", "executed_actions", "wall_times_s"])
def test_nan_is_refused_naming_the_field_and_the_step(tmp_path: Path, field: str) -> None:
    episode = make_episode(0)
    getattr(episode, field)[3] = np.nan
    with EpisodeStore.create(tmp_path / "store", SPEC) as store, pytest.raises(DataError, match=f"{field}, step 3"):
        store.append(episode)
    assert len(EpisodeStore.open(tmp_path / "store")) == 0


def test_nan_in_the_randomization_is_refused(tmp_path: Path) -> None:
    episode = make_episode(0)
    episode = replace(episode, info=replace(episode.info, randomization={"mass": float("nan")}))
    with EpisodeStore.create(tmp_path / "store", SPEC) as store, pytest.raises(DataError, match=r"randomization\.mass"):
        store.append(episode)


def test_a_second_writer_is_refused_until_the_first_closes(tmp_path: Path) -> None:
    with EpisodeStore.create(tmp_path / "store", SPEC):
        with pytest.raises(StoreError, match="another process is writing"):
            EpisodeStore.open(tmp_path / "store", "a")
        program = (
            f"from robot_rlpd.episode_store import EpisodeStore; EpisodeStore.open({str(tmp_path / 'store')!r}, 'a')"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert "another process is writing" in done.stderr
        EpisodeStore.open(tmp_path / "store").close()
    EpisodeStore.open(tmp_path / "store", "a").close()


def test_a_reader_sees_new_episodes_when_it_refreshes(tmp_path: Path) -> None:
    recorded = [make_episode(seed) for seed in range(3)]
    with EpisodeStore.create(tmp_path / "store", SPEC) as store:
        reader = EpisodeStore.open(tmp_path / "store")
        store.append(recorded[0])
        assert len(reader) == 0
        assert reader.refresh() == 1
        store.extend(recorded[1:])
        assert reader.refresh() == 2
        assert reader.refresh() == 0
        for found, wanted in zip(reader, recorded, strict=True):
            assert_same(found, wanted)
        assert reader.num_steps == store.num_steps


def test_a_store_opened_for_reading_refuses_to_append(tmp_path: Path) -> None:
    EpisodeStore.create(tmp_path / "store", SPEC).close()
    with pytest.raises(StoreError, match="reading only"):
        EpisodeStore.open(tmp_path / "store").append(make_episode(0))


def test_a_closed_store_refuses_to_append(tmp_path: Path) -> None:
    store = EpisodeStore.create(tmp_path / "store", SPEC)
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.append(make_episode(0))


def test_an_existing_store_is_kept_unless_it_may_exist(tmp_path: Path) -> None:
    with EpisodeStore.create(tmp_path / "store", SPEC) as store:
        store.append(make_episode(0))
    with pytest.raises(StoreError, match="exists already"):
        EpisodeStore.create(tmp_path / "store", SPEC)
    with EpisodeStore.create(tmp_path / "store", SPEC, exist_ok=True) as store:
        assert len(store) == 1


def test_bounds_and_metadata_may_differ_but_no_field_or_signal(tmp_path: Path) -> None:
    position, target = SPEC.observation
    EpisodeStore.create(tmp_path / "store", SPEC).close()
    fitting = replace(SPEC, metadata={"serial": "7"}, observation=(replace(position, high=(9.0,)), target))
    EpisodeStore.open(tmp_path / "store", spec=fitting)
    for spec, named in (
        (replace(SPEC, control_rate_hz=20.0), "control_rate_hz"),
        (replace(SPEC, observation=(position,)), "observation.target"),
        (replace(SPEC, observation=(position, target, replace(target, name="more"))), "observation.more"),
        (replace(SPEC, signals=SPEC.signals[:1]), "signals.success"),
    ):
        with pytest.raises(MismatchError, match=named):
            EpisodeStore.open(tmp_path / "store", spec=spec)


def test_an_episode_of_another_spec_is_refused(tmp_path: Path) -> None:
    other = replace(make_episode(0), spec=replace(SPEC, control_rate_hz=5.0))
    with EpisodeStore.create(tmp_path / "store", SPEC) as store, pytest.raises(MismatchError, match="control_rate_hz"):
        store.append(other)


def test_what_is_not_a_store_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("text")
    (tmp_path / "json").mkdir()
    (tmp_path / "json/zarr.json").write_text("{")
    zarr.create_group(tmp_path / "group")
    for name, message in (
        ("absent", "no such store"),
        ("empty", "not a store"),
        ("file", "not a store|cannot open"),
        ("json", "damaged metadata"),
        ("group", "not an episode store"),
    ):
        for mode in ("r", "a"):
            with pytest.raises(StoreError, match=message) as caught:
                EpisodeStore.open(tmp_path / name, mode)
            assert str(caught.value).startswith(str(tmp_path / name))
            assert "\n" not in str(caught.value)


def test_another_version_is_refused_naming_what_is_allowed(tmp_path: Path) -> None:
    EpisodeStore.create(tmp_path / "store", SPEC).close()
    metadata = json.loads((tmp_path / "store/zarr.json").read_text())
    metadata["attributes"]["version"] = 99
    (tmp_path / "store/zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(StoreError, match=r"version: .* found 99; allowed: 1, 2"):
        EpisodeStore.open(tmp_path / "store")


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_a_damaged_chunk_is_an_error_and_never_zeros(tmp_path: Path, damage: str) -> None:
    with EpisodeStore.create(tmp_path / "store", SPEC) as store:
        store.append(make_episode(0))
    chunk = tmp_path / "store/steps/float32/c/0/0"
    if damage == "missing":
        chunk.unlink()
    else:
        chunk.write_bytes(chunk.read_bytes()[:50])
    with pytest.raises(StoreError, match="steps/float32"):
        EpisodeStore.open(tmp_path / "store").read(0)


def test_a_store_is_read_through_a_url(tmp_path: Path) -> None:
    episode = make_episode(0)
    with EpisodeStore.create(tmp_path / "store", SPEC) as store:
        store.append(episode)
    url = f"file://{tmp_path}/store"
    assert_same(EpisodeStore.open(url).read(0), episode)
    with pytest.raises(StoreError, match="only be read"):
        EpisodeStore.open(url, "a")


class Crash(BaseException):
    """The process dies here."""


def test_a_crash_at_any_write_leaves_an_episode_whole_or_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = [make_episode(seed) for seed in range(3)]
    with EpisodeStore.create(tmp_path / "before", SPEC) as store:
        store.append(recorded[0])
    written = zarr.storage.LocalStore.set
    seen = set()
    for allowed in range(100):
        path = tmp_path / f"store{allowed}"
        shutil.copytree(tmp_path / "before", path)
        left = allowed

        async def set_until_crash(self: Any, key: str, value: Any) -> None:
            nonlocal left
            if left == 0:
                raise Crash
            left -= 1
            await written(self, key, value)

        store = EpisodeStore.open(path, "a")
        with monkeypatch.context() as patch:
            patch.setattr(zarr.storage.LocalStore, "set", set_until_crash)
            try:
                store.append(recorded[1])
                crashed = False
            except Crash:
                crashed = True
        store.close()
        visible = list(EpisodeStore.open(path))
        seen.add(len(visible))
        for found, wanted in zip(visible, recorded, strict=False):
            assert_same(found, wanted)
        with EpisodeStore.open(path, "a") as store:
            assert store.extend(recorded) == 3 - len(visible)
        for found, wanted in zip(EpisodeStore.open(path).load_all(), recorded, strict=True):
            assert_same(found, wanted)
        if not crashed:
            break
    assert not crashed
    assert allowed > 5
    assert seen == {1, 2}


def test_a_reader_at_any_moment_of_an_append_sees_whole_episodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = [make_episode(seed) for seed in range(3)]
    copies: list[Path] = []
    written = zarr.storage.LocalStore.set

    async def set_and_copy(self: Any, key: str, value: Any) -> None:
        await written(self, key, value)
        copies.append(tmp_path / f"copy{len(copies)}")
        shutil.copytree(tmp_path / "store", copies[-1], ignore=shutil.ignore_patterns("*.partial"))

    with EpisodeStore.create(tmp_path / "store", SPEC) as store:
        store.append(recorded[0])
        monkeypatch.setattr(zarr.storage.LocalStore, "set", set_and_copy)
        store.extend(recorded[1:])
    monkeypatch.undo()
    lengths = []
    for path in copies:
        visible = EpisodeStore.open(path).load_all()
        lengths.append(len(visible))
        for found, wanted in zip(visible, recorded, strict=False):
            assert_same(found, wanted)
    assert set(lengths) == {1, 3}
    assert lengths == sorted(lengths)


def test_an_episode_longer_than_a_chunk_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_arrays, "CHUNK_BYTES", 128)
    recorded = [make_episode(seed, steps=17) for seed in range(4)]
    with EpisodeStore.create(tmp_path / "store", SPEC) as store:
        store.append(recorded[0])
        store.extend(recorded[1:])
        for index in (3, 0, 2, 1):
            assert_same(store.read(index), recorded[index])


def test_a_full_disk_is_an_error_and_the_store_goes_on_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(self: Any, key: str, value: Any) -> None:
        raise OSError(28, "No space left on device")

    recorded = [make_episode(seed) for seed in range(2)]
    with EpisodeStore.create(tmp_path / "store", SPEC) as store:
        with monkeypatch.context() as patch:
            patch.setattr(zarr.storage.LocalStore, "set", full)
            with pytest.raises(StoreError, match="No space left"):
                store.append(recorded[0])
        assert len(store) == 0
        assert store.extend(recorded) == 2
        assert_same(store.read(1), recorded[1])


def test_columns_of_all_episodes_are_contiguous_and_their_rows_belong_to_the_episodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_arrays, "CHUNK_BYTES", 128)
    recorded = [make_episode(seed, steps=seed + 9) for seed in range(3)]
    with EpisodeStore.create(tmp_path / "store", SPEC) as store:
        store.extend(recorded)
    for path in (str(tmp_path / "store"), f"file://{tmp_path}/store"):
        loaded = EpisodeStore.open(path).load_columns()
        assert all(array.flags.c_contiguous for array in loaded.values.values())
        bounds = zip(loaded.first_rows, loaded.num_steps, loaded.end_rows, strict=True)
        for (first, steps, end), episode in zip(bounds, recorded, strict=True):
            rows = slice(first, end)
            for name, array in episode.observations.items():
                np.testing.assert_array_equal(loaded.values[f"observation/{name}"][rows], array)
            for name, array in episode.signals.items():
                np.testing.assert_array_equal(loaded.values[f"signal/{name}"][rows][:steps], array)
            np.testing.assert_array_equal(loaded.values["executed_action"][rows][:steps], episode.executed_actions)
    some = EpisodeStore.open(tmp_path / "store").load_columns(["action", "source"])
    assert set(some.values) == {"action", "source"}


def test_a_column_is_read_alone(tmp_path: Path) -> None:
    episode = make_episode(0)
    with EpisodeStore.create(tmp_path / "store", SPEC) as store:
        store.append(episode)
        np.testing.assert_array_equal(store.column("observation/target"), episode.observations["target"])
        np.testing.assert_array_equal(store.column("source")[:-1], episode.sources)
        with pytest.raises(StoreError, match="signal/success"):
            store.column("absent")
