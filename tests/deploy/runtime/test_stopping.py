"""However a run ends, the robot is stopped: by the loop, by the watchdog beside it, or by the robot's own side."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.runtime.control import RunControl
from deploy.runtime.drive import Start, drive
from robot_rlpd.bridge.server import RobotServer
from robot_rlpd.clock import ManualClock
from robot_rlpd.errors import RobotError, SpecError
from robot_rlpd.limits import SafetyLimits, Watch
from robot_rlpd.pacing import PacedRobot
from robot_rlpd.robot import Action, Observation, Source, StepResult
from robot_rlpd.safety import SafeRobot
from robot_rlpd.testing import FakePolicy, FakeRobot, FakeTask
from robot_rlpd.watchdog import watch_beside

ROOT = Path(__file__).parents[3]
LONG_S = 60.0


class Telling(FakeRobot):
    """Never reaches its target, and tells when it is stopped and when it has taken a step."""

    def __init__(self) -> None:
        super().__init__()
        self.stopped, self.stepped = threading.Event(), threading.Event()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        super().reset(seed=seed)
        self.target = np.full(2, 1e6, np.float32)
        return StepResult(self._observation(), robot_time_s=self._time_s)

    def step(self, action: Action) -> StepResult:
        result = super().step(action)
        self.stepped.set()
        return result

    def stop(self, reason: str) -> None:
        super().stop(reason)
        self.stopped.set()


class Faulty(FakePolicy):
    """Walks to the target, until something happens at the third step."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, observation: Observation) -> Action:
        self.asked += 1
        return self.happens() if self.asked == 3 else super().__call__(observation)

    def happens(self) -> Action:
        raise NotImplementedError


def run(robot: SafeRobot, policy: FakePolicy, **options: Any) -> None:
    with robot:
        drive(robot, policy, FakeTask(max_episode_steps=50), **options)


def test_a_policy_that_raises_leaves_the_robot_stopped_and_closed() -> None:
    class Raising(Faulty):
        def happens(self) -> Action:
            raise ZeroDivisionError("a sensor read 0")

    fake = Telling()
    with pytest.raises(ZeroDivisionError):
        run(SafeRobot(fake), Raising())
    assert fake.stops[0] == "ZeroDivisionError: a sensor read 0"
    assert (len(fake.executed), fake.closed) == (2, True)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_policy_that_is_not_finite_leaves_the_robot_stopped(value: float) -> None:
    class NotFinite(Faulty):
        def happens(self) -> Action:
            return np.array([value, 0.0], np.float32)

    fake = Telling()
    with pytest.raises(SpecError, match=r"action\[x\]"):
        run(SafeRobot(fake), NotFinite())
    assert len(fake.executed) == 2
    assert fake.stopped.is_set()


def test_a_policy_that_hangs_is_noticed_beside_the_loop() -> None:
    fake = Telling()

    class Hanging(Faulty):
        def happens(self) -> Action:
            assert fake.stopped.wait(LONG_S)
            return np.zeros(2, np.float32)

    watch = Watch(command_timeout_s=0.05)
    robot = SafeRobot(fake, SafetyLimits(watch=watch))
    watch_beside(robot)
    with pytest.raises(RobotError, match="no command for"):
        run(robot, Hanging())
    assert fake.stops[0] == "no command for 0.05 s"
    assert len(fake.executed) == 2


def test_a_robot_that_hangs_is_noticed_beside_the_loop() -> None:
    class Hanging(Telling):
        def step(self, action: Action) -> StepResult:
            assert len(self.executed) < 2 or self.stopped.wait(LONG_S)
            return super().step(action)

    fake, watch = Hanging(), Watch(step_timeout_s=0.05)
    robot = SafeRobot(fake, SafetyLimits(watch=watch))
    watch_beside(robot)
    with pytest.raises(RobotError, match="did not return"):
        run(robot, FakePolicy())
    assert fake.stops[0] == "the robot's step did not return for 0.05 s"


def test_a_jump_of_the_clock_stops_a_robot_that_is_waiting_for_a_command() -> None:
    clock, fake = ManualClock(), Telling()

    class Asleep(Faulty):
        def happens(self) -> Action:
            clock.advance(3600.0)
            return np.zeros(2, np.float32)

    robot = SafeRobot(PacedRobot(fake, clock), SafetyLimits(watch=Watch(command_timeout_s=1.0)), clock)
    with pytest.raises(RobotError, match="no command for 3"):
        run(robot, Asleep())
    assert len(fake.executed) == 2


def test_a_jump_of_the_wall_clock_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([1e9, 1e9 + 0.1, 5.0, *(2e9 + k for k in range(1000))])
    monkeypatch.setattr("time.time", lambda: next(times))
    fake = FakeRobot()
    robot = SafeRobot(fake, SafetyLimits(watch=Watch(command_timeout_s=LONG_S, observation_timeout_s=LONG_S)))
    with robot:
        driven = drive(robot, FakePolicy(), FakeTask(), episodes=2)
    assert driven.evaluation.successes == 2
    assert fake.stops == ["closed"]


def test_a_stop_from_a_program_around_the_run_stops_the_robot() -> None:
    control, fake = RunControl(), Telling()

    class Pressing(Faulty):
        def happens(self) -> Action:
            control.stop()
            return np.zeros(2, np.float32)

    with SafeRobot(fake) as robot:
        driven = drive(robot, Pressing(), FakeTask(50), episodes=3, control=control)
    assert driven.stopped
    assert driven.evaluation.episodes == 0
    assert fake.stops[0] == "asked to stop"
    assert len(fake.executed) == 3


def test_a_pause_holds_the_robot_and_a_stop_between_episodes_is_obeyed() -> None:
    control, fake = RunControl(), FakeRobot()

    class Pausing(Faulty):
        def happens(self) -> Action:
            control.pause()
            return np.full(2, 0.5, np.float32)

    class Stopping(FakeRobot):
        def stop(self, reason: str) -> None:
            super().stop(reason)
            control.stop()

    fake = Stopping()
    policy = Pausing()
    with SafeRobot(fake) as robot:
        driven = drive(robot, policy, FakeTask(6), episodes=2, first_seed=12, control=control, start=Start(ramp_s=0.2))
    assert driven.stopped
    assert driven.evaluation.episodes == 1
    assert fake.stops[0] == "paused between episodes"
    assert [step.tolist() for step in fake.executed[3:]] == [[0.0, 0.0]] * 3
    assert policy.source is Source.SCRIPTED


RUNNING = """
import sys
import numpy as np
from robot_rlpd.bridge.client import RemoteRobot
robot = RemoteRobot(sys.argv[1])
robot.reset(seed=0)
while True:
    robot.step(np.full(2, 0.1, np.float32))
"""


def test_a_runtime_that_is_killed_leaves_a_robot_that_its_own_side_stops() -> None:
    fake, finished = Telling(), threading.Event()
    server = RobotServer(fake, "tcp://127.0.0.1:0", pace="fast", command_timeout_s=0.3)
    serving = threading.Thread(target=server.serve_forever, args=(finished.is_set,))
    serving.start()
    runtime = subprocess.Popen([sys.executable, "-c", RUNNING, server.address])
    try:
        assert fake.stepped.wait(LONG_S)
        fake.stopped.clear()
        runtime.send_signal(signal.SIGKILL)
        assert runtime.wait(LONG_S) == -signal.SIGKILL
        assert fake.stopped.wait(LONG_S)
        assert fake.stops[-1] == "no command for 0.3 s"
    finally:
        runtime.kill()
        finished.set()
        serving.join()
    assert fake.closed


def test_sigterm_ends_a_run_in_order_with_the_robot_stopped(tmp_path: Path) -> None:
    """The command itself, in a process of its own, on a robot that is served here."""
    from deploy.export import build_policy_model, write_model
    from deploy.runtime.metadata import PolicyMetadata

    fake, finished = Telling(), threading.Event()
    still = {"mean/kernel": np.zeros((4, 2), np.float32), "mean/bias": np.zeros(2, np.float32)}
    described = PolicyMetadata(contract=fake.spec.contract(), max_episode_steps=10**9)
    write_model(build_policy_model(still, described, normalizer=None), tmp_path / "policy.onnx")
    server = RobotServer(fake, "tcp://127.0.0.1:0", pace="fast")
    serving = threading.Thread(target=server.serve_forever, args=(finished.is_set,))
    serving.start()
    main = "from robot_rlpd.cli import main; import sys; sys.exit(main())"
    command = [sys.executable, "-c", main, "run", str(tmp_path / "policy.onnx"), "--robot", server.address, "--json"]
    runtime = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT)
    try:
        assert fake.stepped.wait(LONG_S)
        fake.stopped.clear()
        runtime.terminate()
        printed, _ = runtime.communicate(timeout=LONG_S)
        assert fake.stopped.wait(LONG_S)
    finally:
        runtime.kill()
        finished.set()
        serving.join()
    assert runtime.returncode == 130
    assert json.loads(printed)["stopped"] is True
    assert any("asked to stop" in reason for reason in fake.stops)
