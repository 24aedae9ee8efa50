from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from demos.converters import d4rl
from demos.converters.conversion import Conversion, ConversionTarget
from demos.converters.fields import parse_fields
from robot_rlpd.episode import Ended, transitions
from robot_rlpd.errors import ConfigError, DataError
from robot_rlpd.robot import Action, Observation, Source
from robot_rlpd.specs import ActionComponent, ActionSpec, ArraySpec, RobotSpec
from robot_rlpd.task import Outcome, Signals, SignalTask
from robot_rlpd.testing import FakeTask, fake_spec

DATA = Path(os.environ.get("ROBOT_RLPD_DATA", Path(__file__).resolve().parents[4] / "shared/data"))
DOOR = DATA / "adroit_door_human.hdf5"
MAZE = DATA / "antmaze_umaze_play_scripted.hdf5"


def box_spec(observation: int, action: int) -> RobotSpec:
    return RobotSpec(
        name="box",
        observation=(ArraySpec(name="observation", shape=(observation,)),),
        action=ActionSpec(components=tuple(ActionComponent(name=f"a{i}") for i in range(action))),
        control_rate_hz=20.0,
        signals=fake_spec().signals,
    )


SPEC = box_spec(3, 2)
ROWS = 10
"""Three episodes: rows 0-3 terminated, 4-6 timed out, 7-9 cut off by the end of the file."""


def contents() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    terminals, timeouts = np.zeros(ROWS, bool), np.zeros(ROWS, bool)
    terminals[3], timeouts[6] = True, True
    return {
        "observations": np.arange(ROWS * 3, dtype=np.float64).reshape(ROWS, 3),
        "actions": rng.uniform(-0.9, 0.9, (ROWS, 2)),
        "rewards": np.arange(ROWS, dtype=np.float32),
        "terminals": terminals,
        "timeouts": timeouts,
        "infos/goal": np.ones((ROWS, 2)),
    }


def write(path: Path, data: dict[str, Any]) -> Path:
    with h5py.File(path, "w") as file:
        for name, value in data.items():
            file[name] = value
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "data.hdf5", contents())


def read(path: Path, **target: Any) -> Conversion:
    return d4rl.read(path, ConversionTarget(**{"spec": SPEC, **target}))


def test_episodes_are_split_at_terminals_and_timeouts(file: Path) -> None:
    conversion = read(file)
    found = list(conversion)
    for episode in found:
        episode.validate()
        assert not episode.has_final_observation
    assert [len(episode) for episode in found] == [4, 3, 3]
    assert [episode.info.ended for episode in found] == [Ended.TERMINATED, Ended.TRUNCATED, Ended.INTERRUPTED]
    data = contents()
    np.testing.assert_array_equal(np.concatenate([e.observations["observation"] for e in found]), data["observations"])
    np.testing.assert_array_equal(np.concatenate([e.signals["reward"] for e in found]), data["rewards"])
    assert conversion.report.episodes == 3
    assert conversion.report.steps == conversion.num_steps == ROWS
    assert conversion.report.without_final_observation == 3


def test_a_terminated_last_step_is_a_transition_and_a_timed_out_one_is_not(file: Path) -> None:
    terminated, timed_out, _ = read(file)
    task = SignalTask()
    assert len(transitions(terminated, task, ["observation"])) == 4
    assert transitions(terminated, task, ["observation"]).masks[-1] == 0.0
    assert len(transitions(timed_out, task, ["observation"])) == 2


def test_a_signal_that_the_file_lacks_is_left_out_and_reported(file: Path) -> None:
    conversion = read(file)
    assert [s.name for s in conversion.spec.signals] == ["reward", "terminated"]
    assert conversion.report.missing_signals == ["success"]
    assert conversion.report.unused == ["infos/goal"]
    assert conversion.report.fields["observation"] == "observations"


def test_commands_stay_raw_and_executed_actions_are_clipped_and_counted(tmp_path: Path) -> None:
    data = contents()
    data["actions"][2] = [3.0, 0.5]
    conversion = read(write(tmp_path / "data.hdf5", data))
    first = next(iter(conversion))
    np.testing.assert_allclose(first.actions[2], [3.0, 0.5])
    np.testing.assert_allclose(first.executed_actions[2], [1.0, 0.5])
    assert conversion.report.clipped_steps == 1


def test_fields_are_taken_from_where_they_are_named(file: Path) -> None:
    spec = replace(
        SPEC, observation=(ArraySpec(name="goal", shape=(2,)), ArraySpec(name="position", shape=(2,), unit="m"))
    )
    first = next(iter(read(file, spec=spec, fields=parse_fields(["position=observations[0:2]"]))))
    np.testing.assert_array_equal(first.observations["goal"], np.ones((4, 2)))
    np.testing.assert_array_equal(first.observations["position"], contents()["observations"][:4, :2])


def test_next_observations_give_the_final_one(tmp_path: Path) -> None:
    data = contents()
    data["next_observations"] = data["observations"] + 100.0
    found = list(read(write(tmp_path / "data.hdf5", data)))
    assert all(episode.has_final_observation for episode in found)
    np.testing.assert_array_equal(found[1].observations["observation"][-1], data["observations"][6] + 100.0)


class AboveTask(FakeTask):
    """Solved when the first entry of the observation is above a threshold."""

    def __init__(self, threshold: float, max_episode_steps: int = 20) -> None:
        super().__init__(max_episode_steps)
        self._threshold = threshold

    def evaluate(
        self, observation: Observation, executed_action: Action, signals: Signals, next_observation: Observation
    ) -> Outcome:
        success = bool(next_observation["observation"][0] > self._threshold)
        return Outcome(reward=0.0, success=success)


def test_success_is_labelled_by_the_task_and_unknown_where_the_end_is_not_seen(file: Path) -> None:
    conversion = read(file, task=AboveTask(10.0, max_episode_steps=3))
    assert [episode.info.success for episode in conversion] == [None, True, True]
    assert (conversion.report.successes, conversion.report.success_unknown) == (2, 1)
    assert conversion.report.longer_than_limit == 1
    assert conversion.report.longest == 4


def test_a_task_that_lacks_what_it_needs_leaves_success_unknown_and_says_so(file: Path) -> None:
    class NeedsMore(FakeTask):
        def check_recomputable(self, spec: RobotSpec, *, where: str) -> None:
            raise DataError(f"{where} holds no force", field="signals.force")

    conversion = read(file, task=NeedsMore())
    assert {episode.info.success for episode in conversion} == {None}
    assert conversion.report.successes is None
    assert "force" in conversion.report.success_unknown_because


def test_the_same_file_gives_the_same_episodes_again(file: Path) -> None:
    assert [e.info.uuid for e in read(file)] == [e.info.uuid for e in read(file)]
    assert len({e.info.uuid for e in read(file)}) == 3


def test_the_source_of_the_actions_is_recorded(file: Path) -> None:
    assert set(next(iter(read(file, source=Source.SCRIPTED))).sources) == {Source.SCRIPTED}


def test_nan_is_refused_naming_dataset_episode_and_step(tmp_path: Path) -> None:
    data = contents()
    data["observations"][5, 1] = np.nan
    with pytest.raises(DataError, match="observations, episode 1, step 1"):
        list(read(write(tmp_path / "data.hdf5", data)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"actions": np.zeros((ROWS, 3))}, r"actions: found shape \(3,\) per step; allowed: \(2,\)"),
        ({"actions": None}, "actions: no such dataset; allowed: infos/goal, observations"),
        ({"observations": None}, "no source for field 'observation'"),
        ({"observations": np.zeros((ROWS, 4))}, "field 'observation' does not fit"),
        ({"observations": np.zeros((ROWS + 1, 3))}, "found 11 rows; allowed: 10"),
        ({"rewards": np.zeros(ROWS - 1)}, "reward: found 9 rows"),
        ({"terminals": None, "timeouts": None}, "terminals: no such dataset"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_before_anything_is_read(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    data = {name: value for name, value in {**contents(), **change}.items() if value is not None}
    with pytest.raises(DataError, match=message) as caught:
        read(write(tmp_path / "data.hdf5", data))
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_refused_in_one_line(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(DataError, match="truncated") as caught:
        read(file)
    assert "\n" not in str(caught.value)


def test_what_is_not_hdf5_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    with pytest.raises(DataError, match="not a readable HDF5 file"):
        read(tmp_path / "text")
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "absent")


def test_a_robot_has_to_be_named(file: Path) -> None:
    with pytest.raises(ConfigError, match="--task"):
        read(file, spec=None)


@pytest.mark.skipif(not DOOR.exists(), reason=f"{DOOR} is not there")
def test_the_human_door_demonstrations_are_read_as_their_notes_say() -> None:
    class DoorTask(AboveTask):
        def evaluate(self, observation: Any, executed_action: Any, signals: Any, next_observation: Any) -> Outcome:
            return Outcome(reward=0.0, success=bool(next_observation["observation"][28] >= 1.35))

    conversion = read(DOOR, spec=box_spec(39, 28), task=DoorTask(0.0, max_episode_steps=200))
    for episode in conversion:
        episode.validate()
    report = conversion.report
    assert (report.episodes, report.steps, report.successes) == (18, 4879, 5)
    assert (report.longer_than_limit, report.longest, report.without_final_observation) == (18, 300, 18)
    assert 0.8 < report.clipped_share < 0.83
    assert report.ended == {"truncated": 18}


@pytest.mark.skipif(not MAZE.exists(), reason=f"{MAZE} is not there")
def test_the_goal_of_the_maze_becomes_a_field() -> None:
    spec = replace(
        box_spec(27, 8),
        observation=(
            ArraySpec(name="achieved_goal", shape=(2,)),
            ArraySpec(name="desired_goal", shape=(2,)),
            ArraySpec(name="observation", shape=(27,)),
        ),
    )
    fields = ["observation=observations[2:29]", "achieved_goal=observations[0:2]", "desired_goal=infos/goal"]
    conversion = read(MAZE, spec=spec, fields=parse_fields(fields), source=Source.SCRIPTED)
    goals = {tuple(episode.observations["desired_goal"][0]) for episode in conversion}
    assert conversion.report.steps == 50007
    assert conversion.report.ended == {"terminated": 304, "truncated": 16}
    assert len(goals) > 1
