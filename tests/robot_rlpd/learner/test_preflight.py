from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from robot_rlpd.bridge.client import RemoteRobot
from robot_rlpd.bridge.server import RobotServer
from robot_rlpd.errors import RobotError
from robot_rlpd.learner.checkpoint import Checkpoint, load_checkpoint
from robot_rlpd.learner.finetune_config import FinetuneConfig
from robot_rlpd.learner.finetune_plan import plan
from robot_rlpd.learner.preflight import Check, Preflight
from robot_rlpd.learner.session_config import SessionConfig
from robot_rlpd.testing import FakeRobot, FakeTask, fake_spec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from robot_rlpd.learner.session import Session
    from robot_rlpd.robot import Robot, StepResult


@pytest.fixture
def begun(start: Callable[..., Session]) -> Checkpoint:
    session = start("sim")
    session.run(lambda: False)
    return load_checkpoint(session.run_dir)


def found(begun: Checkpoint, robot: Robot, *prior: Path, address: str = "") -> list[Check]:
    return [*Preflight(start=begun, robot=robot, address=address, task=FakeTask(), prior=prior).checks()]


def test_everything_that_is_right_is_told_one_line_each(begun: Checkpoint, record: Callable[..., Path]) -> None:
    checks = found(begun, FakeRobot(), record())
    assert [check.name for check in checks] == [
        *("contract", "limits", "watchdog", "latency", "demonstrations", "reset", "starting policy"),
    ]
    assert {check.status for check in checks} <= {"ok", "note"}
    assert all("\n" not in str(check) for check in checks)
    assert "3 episodes" in checks[4].told


def test_a_robot_is_reset_once_and_takes_no_step(begun: Checkpoint) -> None:
    robot = FakeRobot()
    found(begun, robot)
    assert robot.executed == []
    assert robot.stops == ["pre-flight"]


def test_a_wrong_robot_is_not_touched(begun: Checkpoint) -> None:
    class Untouchable(FakeRobot):
        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
            raise AssertionError("it moved")

    checks = found(begun, Untouchable(dataclasses.replace(fake_spec(), control_rate_hz=50.0)))
    assert [(check.name, check.status) for check in checks] == [("contract", "FAILED")]
    assert "control_rate_hz" in checks[0].told


def test_a_reset_that_fails_is_told(begun: Checkpoint) -> None:
    class Stuck(FakeRobot):
        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
            raise RobotError("joint 3 does not move")

    last = found(begun, Stuck())[-1]
    assert (last.name, last.status, last.told) == ("reset", "FAILED", "joint 3 does not move")


def test_demonstrations_that_show_no_success_are_noted(
    begun: Checkpoint, record: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robot_rlpd.testing.fake_success", lambda observation: False)
    (check,) = [check for check in found(begun, FakeRobot(), record()) if check.name == "demonstrations"]
    assert check.status == "note"
    assert "solved in 0 episodes" in check.told


def test_a_missing_store_fails_before_the_robot_is_reset(begun: Checkpoint, tmp_path: Path) -> None:
    robot = FakeRobot()
    last = found(begun, robot, tmp_path / "no.zarr")[-1]
    assert (last.name, last.status) == ("demonstrations", "FAILED")
    assert robot.stops == []


def test_the_watchdog_and_the_way_to_a_served_robot_are_looked_at(begun: Checkpoint) -> None:
    server = RobotServer(FakeRobot(), "tcp://127.0.0.1:0", command_timeout_s=7.0)
    over = threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(over.is_set,))
    thread.start()
    try:
        with RemoteRobot(server.address) as robot:
            checks = {check.name: check for check in found(begun, robot, address=server.address)}
    finally:
        over.set()
        thread.join()
    assert "7 s after the last command" in checks["watchdog"].told
    assert "20 round trips" in checks["latency"].told
    assert checks["reset"].status == "ok"


def test_an_observation_beyond_the_bounds_is_noted(begun: Checkpoint) -> None:
    class Far(FakeRobot):
        def _observation(self) -> dict[str, Any]:
            return {**super()._observation(), "position": np.full(2, 9.0, np.float32)}

    fields = tuple(dataclasses.replace(field, low=(-2.0,), high=(2.0,)) for field in begun.contract.observation)
    bounded = dataclasses.replace(begun, contract=dataclasses.replace(begun.contract, observation=fields))
    last = found(bounded, Far())[-1]
    assert (last.status, last.told.split()[-1]) == ("note", "position")


def test_the_plan_tells_shares_steps_and_minutes(begun: Checkpoint, tmp_path: Path) -> None:
    config = SessionConfig(
        task="fake",
        rlpd=begun.config,
        prior=(tmp_path / "sim.zarr", tmp_path / "demos.zarr"),
        prior_weights=(1.0, 3.0),
        env_steps=1200,
        start_training=100,
        eval_every=400,
        time_limit_min=30.0,
    )
    told = plan(config, FinetuneConfig(start=tmp_path / "sim", minutes=2.0), begun)
    minutes = 1200 / begun.contract.control_rate_hz / 60.0
    for part in (
        f"1 from {tmp_path / 'sim.zarr'}, 3 from {tmp_path / 'demos.zarr'}, 4 from this session",
        "no update for 100 steps",
        f"1200 steps = {minutes:.1f} min",
        "4 times 20 episodes, the starting policy first",
        "ends after 30 min",
        "nobody",
    ):
        assert part in told
