"""A wrong calibration, taken out of observations and found from what solved episodes end with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from demos.teleop.device import DeviceOptions
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import ConfigError, DataError, StoreError
from robot_rlpd.rollout import rollout
from robot_rlpd.task import SignalTask, TaskOptions, load_task
from sim.calibrate import LEAST_EPISODES, calibrate
from sim.calibration import Calibration
from sim.corrected import write_corrected
from sim.demonstrator import Demonstrator, make_device
from sim.options import SimOptions
from sim.prediction import Predictor, rms_m
from sim.randomization import Randomization
from sim.served import find_task
from sim.standin import make_robot
from sim.tasks import bimanual_handover, drawer, peg_insert, pick_place, push, reach

if TYPE_CHECKING:
    from pathlib import Path

    from robot_rlpd.episode import Episode
    from robot_rlpd.robot import Observation
    from sim.sim_task import SimTask

WRONG = {"seen_dx_m": -0.007, "seen_dy_m": 0.012, "seen_dz_m": 0.003, "base_yaw_offset_rad": -0.025}


def recorded(task: SimTask, wrong: dict[str, float], num: int) -> list[Episode]:
    """What a person who sees through the wrong calibration shows."""
    robot = task.make_robot(SimOptions(randomization=Randomization.constant(wrong)), TaskOptions())
    return [rollout(robot, Demonstrator(task, wrong, noise=0.5, seed=s), SignalTask(), seed=s) for s in range(num)]


@pytest.mark.parametrize(
    ("task", "field", "share", "surely"),
    [(peg_insert.TASK, "hole_from_tip", 0.1, True), (pick_place.TASK, "cube_from_tcp", 0.4, False)],
    ids=lambda value: getattr(value, "name", None),
)
def test_what_calibration_is_off_by_is_found(task: SimTask, field: str, share: float, surely: bool) -> None:
    episodes = recorded(task, WRONG, 12)
    found = calibrate(task, episodes, seed=0)
    assert found.episodes >= 10
    assert found.after_m < 0.5 * found.before_m
    assert found.determined["seen_dx_m"] is surely
    ends = [{name: column[-1] for name, column in episode.observations.items()} for episode in episodes]
    right, told = (Calibration(task.scene, values) for values in (WRONG, found.values))
    left = np.mean([told.undone(end)[field] - right.undone(end)[field] for end in ends], axis=0)
    off = np.mean([end[field] - right.undone(end)[field] for end in ends], axis=0)
    assert np.linalg.norm(left[:2]) < share * np.linalg.norm(off[:2])


def test_where_nothing_is_wrong_next_to_nothing_is_found() -> None:
    found = calibrate(peg_insert.TASK, recorded(peg_insert.TASK, {}, 8), seed=0)
    assert max(abs(found.values[f"seen_d{axis}_m"]) for axis in "xy") < 0.002
    assert abs(found.values["base_yaw_offset_rad"]) < 0.005


def test_where_ends_tell_little_little_is_found() -> None:
    """A block that was pushed somewhere lies beside the hand in one way or another."""
    found = calibrate(push.TASK, recorded(push.TASK, {}, 8), seed=0)
    assert not any(found.determined[f"seen_d{axis}_m"] for axis in "xy")
    assert max(abs(found.values[f"seen_d{axis}_m"]) for axis in "xyz") < 0.005


@pytest.mark.parametrize("name", ["peg_insert", "bimanual_handover"])
def test_a_robot_that_knows_what_it_is_off_by_shows_things_as_they_are(name: str) -> None:
    wrong = WRONG | {"shoulder_pitch_offset_rad": 0.01}
    task = find_task(name, field="task")
    options = SimOptions(randomization=Randomization.constant(wrong), calibration=wrong)
    robot = task.make_robot(options, TaskOptions())
    shown, true = robot.reset(seed=0).observation, robot._truth
    for field in true:
        np.testing.assert_allclose(shown[field], true[field], atol=1e-5, err_msg=field)


def test_corrected_episodes_are_what_a_calibrated_robot_would_have_recorded(tmp_path: Path) -> None:
    """The person sees things as they are either way, and so does the same."""
    recordings = []
    for calibration in ({}, WRONG):
        options = SimOptions(randomization=Randomization.constant(WRONG), calibration=calibration)
        robot = peg_insert.TASK.make_robot(options, TaskOptions(max_episode_steps=8))
        person = Demonstrator(peg_insert.TASK, {} if calibration else WRONG, noise=0.0, seed=0)
        recordings.append(rollout(robot, person, SignalTask(), seed=0))
    shown, right = recordings
    with EpisodeStore.create(tmp_path / "shown.zarr", shown.spec) as store:
        store.append(shown)
        assert write_corrected(store, tmp_path / "right.zarr", peg_insert.TASK.scene, WRONG) == 1
        with pytest.raises(StoreError, match="exists already"):
            write_corrected(store, tmp_path / "right.zarr", peg_insert.TASK.scene, WRONG)
    with EpisodeStore.open(tmp_path / "right.zarr") as store:
        (found,) = store.load_all()
        assert store.spec.metadata == right.spec.metadata
    assert found.info.uuid != shown.info.uuid
    np.testing.assert_array_equal(found.executed_actions, shown.executed_actions)
    for name, column in right.observations.items():
        np.testing.assert_allclose(found.observations[name], column, atol=2e-4, err_msg=name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["right.zarr", "shown.zarr"]


def test_the_person_at_a_calibrated_stand_in_sees_no_error_twice() -> None:
    known = {"seen_dx_m": 0.006, "seen_dy_m": -0.013, "base_yaw_offset_rad": 0.018}
    setup = load_task("peg_insert")
    seen = []
    for calibration in ({}, known):
        robot = make_robot("peg_insert:hard", TaskOptions(env_kwargs={"calibration": calibration}))
        options = DeviceOptions(spec=robot.spec, setup=setup, argument="hard", noise=0.0, seed=0)
        seen.append(make_device(options).corrected(robot.reset(seed=1).observation))
    for field in ("hole_from_tip", "tcp_position"):
        np.testing.assert_allclose(seen[0][field], seen[1][field], atol=1e-5)


@pytest.mark.parametrize(
    ("calibration", "told"),
    [
        ("wrong", r"calibration: found wrong"),
        ({"servo_gain_scale": 1.0}, r"is no calibration; found servo_gain_scale.*seen_dx_m"),
        ({"seen_dx_m": 1.0}, r"calibration.seen_dx_m: found 1.0; allowed: -0.1 to 0.1"),
        ({"seen_dx_m": "far"}, r"calibration.seen_dx_m: found far; allowed: a number"),
    ],
)
def test_a_calibration_that_is_none_is_refused(calibration: object, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make_robot("peg_insert:hard", TaskOptions(env_kwargs={"calibration": calibration}))


def test_equal_seeds_find_alike() -> None:
    episodes = recorded(reach.TASK, WRONG, 4)
    assert calibrate(reach.TASK, episodes, seed=3) == calibrate(reach.TASK, episodes, seed=3)


def test_unsolved_episodes_do_not_count() -> None:
    episodes = recorded(reach.TASK, WRONG, LEAST_EPISODES)
    unsolved = replace(episodes[0], info=replace(episodes[0].info, success=False))
    with pytest.raises(DataError, match=rf"solved episodes.*found {LEAST_EPISODES - 1}.*>= {LEAST_EPISODES}"):
        calibrate(reach.TASK, [unsolved, *episodes[1:]], seed=0)


def test_a_task_without_anything_to_compare_is_refused() -> None:
    episodes = [_without_between(episode) for episode in recorded(reach.TASK, WRONG, LEAST_EPISODES)]
    with pytest.raises(DataError, match=r"observation: nothing to compare.*a field a_from_b"):
        calibrate(reach.TASK, episodes, seed=0)


def _without_between(episode: Episode) -> Episode:
    kept = {name: column for name, column in episode.observations.items() if "_from_" not in name}
    return replace(episode, observations=kept)


@pytest.mark.parametrize(
    "task",
    [m.TASK for m in (reach, pick_place, push, peg_insert, drawer, bimanual_handover)],
    ids=lambda task: task.name,
)
def test_a_world_of_wrong_calibration_predicts_what_it_recorded(task: SimTask) -> None:
    predictor = Predictor(task, recorded(task, WRONG, 2))
    right, wrong = rms_m(predictor.residuals(WRONG)), rms_m(predictor.residuals({}))
    assert right < 0.002
    assert right <= wrong


def test_an_interrupted_search_is_no_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    episodes = recorded(reach.TASK, WRONG, LEAST_EPISODES)
    calls = 0

    def interrupt(calibration: Calibration, observation: Observation) -> Observation:
        nonlocal calls
        calls += 1
        if calls == 100:
            raise KeyboardInterrupt
        return observation

    monkeypatch.setattr(Calibration, "undone", interrupt)
    with pytest.raises(KeyboardInterrupt):
        calibrate(reach.TASK, episodes, seed=0)
