"""What goes out in a format comes in again as it was, but for what the format's page says it cannot hold."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from demos.converters.conversion import Conversion, ConversionTarget
from demos.exporting import export_episodes, make_export
from demos.importing import import_episodes
from robot_rlpd.episode import Ended, Episode
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import DataError, StoreError
from robot_rlpd.registry import load_entry_point
from robot_rlpd.specs import to_builtins
from robot_rlpd.task import Outcome
from robot_rlpd.testing import FakeTask
from tests.demos.converters.conftest import ARM, arm_episode

if TYPE_CHECKING:
    from pathlib import Path

    from demos.converters.export import ExportReport

FORMATS = ("d4rl", "robomimic", "minari", "replay_buffer", "lerobot")
HOLD_FINAL = ("d4rl", "robomimic", "minari", "replay_buffer")
"""Those that keep the observation after the last step."""


def exported(store: Path, kind: str, out: Path, **options: Any) -> ExportReport:
    with EpisodeStore.open(store) as opened:
        export = make_export(opened, out.name, **options)
        export_episodes(export, load_entry_point("robot_rlpd.exporters", kind), out)
    return export.report


def opened(file: Path, kind: str, **target: Any) -> Conversion:
    conversion: Conversion = load_entry_point("robot_rlpd.converters", kind)(file, ConversionTarget(**target))
    return conversion


def episodes(store: Path) -> list[Episode]:
    with EpisodeStore.open(store) as found:
        return list(found)


def assert_same(found: Episode, wanted: Episode, *, video: bool = False) -> None:
    """Every array equal, over as many rows as were found."""
    rows = len(found.robot_times_s)
    assert found.info == wanted.info
    for name, array in wanted.observations.items():
        if video and name == "camera":
            assert np.abs(found.observations[name].astype(int) - array[:rows]).max() < 4  # eight to the next step's
        else:
            np.testing.assert_array_equal(found.observations[name], array[:rows], err_msg=name)
            assert found.observations[name].dtype == array.dtype
    for name, array in wanted.signals.items():
        np.testing.assert_array_equal(found.signals[name], array, err_msg=name)
    np.testing.assert_array_equal(found.actions, wanted.actions)
    np.testing.assert_array_equal(found.executed_actions, wanted.executed_actions)
    np.testing.assert_array_equal(found.sources, wanted.sources)
    np.testing.assert_array_equal(found.robot_times_s, wanted.robot_times_s[:rows])
    np.testing.assert_array_equal(found.wall_times_s, wanted.wall_times_s[:rows])


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("actions", ["executed", "commanded"])
def test_everything_comes_back(arm_store: Path, tmp_path: Path, kind: str, actions: str) -> None:
    report = exported(arm_store, kind, tmp_path / "out", actions=actions)
    conversion = opened(tmp_path / "out", kind)
    found, wanted = list(conversion), episodes(arm_store)
    assert to_builtins(conversion.spec) == to_builtins(ARM)
    assert len(found) == len(wanted) == report.episodes
    assert conversion.num_steps == report.steps == 26
    for episode, original in zip(found, wanted, strict=True):
        episode.validate()
        assert episode.has_final_observation == (kind in HOLD_FINAL)
        assert_same(episode, original, video=kind == "lerobot")
    assert report.left_out_observations == (0 if kind in HOLD_FINAL else 3)
    assert (conversion.report.successes, conversion.report.unused) == (2, [])


@pytest.mark.parametrize("kind", FORMATS)
def test_what_was_exported_is_known_again_by_its_store(arm_store: Path, tmp_path: Path, kind: str) -> None:
    exported(arm_store, kind, tmp_path / "out")
    assert import_episodes(opened(tmp_path / "out", kind), arm_store, append=True) == 0
    assert len(episodes(arm_store)) == 3


def test_an_episode_that_was_changed_outside_is_another_one(arm_store: Path, tmp_path: Path) -> None:
    exported(arm_store, "robomimic", tmp_path / "out.hdf5")
    with h5py.File(tmp_path / "out.hdf5", "a") as file:
        file["data/demo_1/actions"][0, 0] = 1.5
    found, wanted = list(opened(tmp_path / "out.hdf5", "robomimic")), episodes(arm_store)
    same = [a.info.uuid == b.info.uuid for a, b in zip(found, wanted, strict=True)]
    assert same == [True, False, True]
    assert found[1].info.operator == "somebody"


@pytest.mark.parametrize("kind", FORMATS)
def test_without_final_observations_no_step_gets_an_invented_one(tmp_path: Path, kind: str) -> None:
    ended = (Ended.TERMINATED, Ended.TRUNCATED)
    wanted = [arm_episode(i, 4, ended=how, final=False) for i, how in enumerate(ended)]
    with EpisodeStore.create(tmp_path / "store", ARM, jpeg_quality=100) as store:
        store.extend(wanted)
    report = exported(tmp_path / "store", kind, tmp_path / "out")
    solved, cut = opened(tmp_path / "out", kind)
    assert not solved.has_final_observation
    assert len(solved) == 4
    assert report.cut_steps == (1 if kind == "minari" else 0)
    assert len(cut) == 4 - report.cut_steps
    assert cut.has_final_observation == (kind == "minari")
    assert cut.info.uuid == wanted[1].info.uuid


@pytest.mark.parametrize("kind", ["d4rl", "replay_buffer"])
def test_where_some_final_observations_are_missing_the_others_are_left_out_and_counted(
    tmp_path: Path, kind: str
) -> None:
    with EpisodeStore.create(tmp_path / "store", ARM) as store:
        store.extend(arm_episode(i, 4, ended=Ended.TRUNCATED, final=i == 0) for i in range(3))
    assert exported(tmp_path / "store", kind, tmp_path / "out").left_out_observations == 1
    assert [e.has_final_observation for e in opened(tmp_path / "out", kind)] == [False] * 3


@pytest.mark.parametrize("kind", FORMATS)
def test_a_spec_without_signals_comes_back_without_them(tmp_path: Path, kind: str) -> None:
    spec = replace(ARM, observation=ARM.observation[:1], signals=ARM.signals[:1])
    with EpisodeStore.create(tmp_path / "store", spec) as store:
        store.append(arm_episode(0, 6, ended=Ended.TERMINATED, spec=spec))
    exported(tmp_path / "store", kind, tmp_path / "out")
    conversion = opened(tmp_path / "out", kind)
    (found,) = conversion
    assert [s.name for s in conversion.spec.signals] == ["reward"]
    assert found.info.ended is Ended.TERMINATED


@pytest.mark.parametrize("kind", ["d4rl", "robomimic", "minari"])
def test_a_format_that_wants_a_reward_says_how_to_get_one(tmp_path: Path, kind: str) -> None:
    spec = replace(ARM, signals=())
    with EpisodeStore.create(tmp_path / "store", spec) as store:
        store.append(arm_episode(0, 6, ended=Ended.TERMINATED, spec=spec))
    with pytest.raises(DataError, match=r"holds no reward.*--task"):
        exported(tmp_path / "store", kind, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


class Always(FakeTask):
    """Solved at once, and over at the third step."""

    def evaluate(self, observation: Any, executed_action: Any, signals: Any, next_observation: Any) -> Outcome:
        return Outcome(reward=5.0, terminated=bool(signals["key"][0] >= 0), success=True)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_task_gives_reward_end_and_success_anew(arm_store: Path, tmp_path: Path, kind: str) -> None:
    report = exported(arm_store, kind, tmp_path / "out", task=Always())
    for episode in opened(tmp_path / "out", kind):
        assert set(episode.signals["reward"]) == {5.0}
        assert episode.signals["success"].all()
        assert episode.signals["terminated"].all()
    assert report.went_on == 3


def test_episodes_without_a_step_are_left_out(tmp_path: Path) -> None:
    with EpisodeStore.create(tmp_path / "store", ARM) as store:
        store.extend(arm_episode(i, steps, ended=Ended.INTERRUPTED) for i, steps in enumerate((0, 3, 0)))
    report = exported(tmp_path / "store", "d4rl", tmp_path / "out")
    assert (report.episodes, report.skipped) == (1, 2)
    assert [len(episode) for episode in opened(tmp_path / "out", "d4rl")] == [3]


def test_a_store_without_a_step_is_refused(tmp_path: Path) -> None:
    EpisodeStore.create(tmp_path / "store", ARM).close()
    with pytest.raises(DataError, match="holds no steps"):
        exported(tmp_path / "store", "d4rl", tmp_path / "out")


@pytest.mark.parametrize("kind", FORMATS)
def test_nothing_is_left_of_an_export_that_failed(arm_store: Path, tmp_path: Path, kind: str) -> None:
    class Failing(FakeTask):
        calls = 0

        def evaluate(self, *step: Any) -> Outcome:
            self.calls += 1
            if self.calls > 15:
                raise DataError("cannot be judged", field="signals.force")
            return Outcome(reward=0.0)

    with pytest.raises(DataError, match="force"):
        exported(arm_store, kind, tmp_path / "out", task=Failing())
    assert list(tmp_path.iterdir()) == [arm_store]


def test_a_file_that_exists_is_not_written_over(arm_store: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    with pytest.raises(StoreError, match="exists already"):
        exported(arm_store, "d4rl", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "precious"


def test_what_a_killed_export_left_is_removed_by_the_next(arm_store: Path, tmp_path: Path) -> None:
    (tmp_path / ".out.exporting").mkdir()
    exported(arm_store, "minari", tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"arm.zarr", "out"}
