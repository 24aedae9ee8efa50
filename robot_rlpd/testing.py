"""Fakes and conformance suites, shipped for the tests of users' own robots, policies and tasks.

Subclass a suite in a test module and say how to make the thing under test:

    class TestMyRobot(RobotConformance):
        def make_robot(self) -> Robot:
            return MyRobot(port="fake")
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rlpd.errors import SpecError
from robot_rlpd.robot import Action, ClosingRobot, Observation, Policy, RandomPolicy, Robot, Source, StepResult
from robot_rlpd.specs import ActionComponent, ActionSpec, ArraySpec, RobotSpec
from robot_rlpd.task import Outcome, RewardKind, Signals

if TYPE_CHECKING:
    from numpy.typing import NDArray


def fake_spec(control_rate_hz: float = 10.0) -> RobotSpec:
    """A point on a plane that is pushed towards a target: 2 action components, 2 observation fields."""
    return RobotSpec(
        name="fake",
        observation=(
            ArraySpec(name="position", shape=(2,), unit="m", components=("x", "y")),
            ArraySpec(name="target", shape=(2,), unit="m", components=("x", "y")),
        ),
        action=ActionSpec(
            components=tuple(
                ActionComponent(name=name, low=-0.5, high=0.5, unit="m", mode="delta", frame="base") for name in "xy"
            )
        ),
        control_rate_hz=control_rate_hz,
        signals=(
            ArraySpec(name="reward", shape=()),
            ArraySpec(name="terminated", shape=(), dtype="bool"),
            ArraySpec(name="success", shape=(), dtype="bool"),
        ),
    )


class FakeRobot(ClosingRobot):
    """A point that moves by exactly the action; success within 0.1 m of the target. Remembers all that was asked."""

    def __init__(self, spec: RobotSpec | None = None) -> None:
        self.spec = spec or fake_spec()
        self.position = np.zeros(2, np.float32)
        self.target = np.ones(2, np.float32)
        self.executed: list[NDArray[np.float32]] = []
        self.stops: list[str] = []
        self.closed = False
        self.fault = ""
        self._time_s = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        """Start at the origin; the seed places the target."""
        del options
        rng = np.random.default_rng(seed)
        self.position = np.zeros(2, np.float32)
        self.target = rng.uniform(-1.0, 1.0, 2).astype(np.float32)
        self.fault = ""
        return StepResult(self._observation(), robot_time_s=self._time_s)

    def step(self, action: Action) -> StepResult:
        """Move by the action."""
        action = self.spec.action.validate(action)
        self.position = self.position + action
        self.executed.append(action.copy())
        self._time_s += self.spec.control_period_s
        success = fake_success(self._observation())
        signals = {
            "reward": np.array(0.0 if success else -1.0, np.float32),
            "terminated": np.array(success),
            "success": np.array(success),
        }
        return StepResult(self._observation(), action.copy(), signals, self._time_s, self.fault)

    def stop(self, reason: str) -> None:
        """Remember the reason."""
        self.stops.append(reason)

    def close(self) -> None:
        """Remember it."""
        self.closed = True

    def _observation(self) -> Observation:
        return {"position": self.position.copy(), "target": self.target.copy()}


def fake_success(observation: Observation) -> bool:
    """Whether the fake robot's point is within 0.1 m of its target."""
    return bool(np.linalg.norm(observation["position"] - observation["target"]) < 0.1)


class FakeTask:
    """Bring the fake robot's point to its target: 0 on success, else -1."""

    name = "fake"
    success_at_end = False

    def __init__(self, max_episode_steps: int = 20, reward: RewardKind = "task") -> None:
        self.max_episode_steps = max_episode_steps
        self._reward = reward

    def evaluate(
        self, observation: Observation, executed_action: Action, signals: Signals, next_observation: Observation
    ) -> Outcome:
        """Success near the target."""
        del observation, executed_action
        success = fake_success(next_observation)
        reward = float(signals["reward"]) if self._reward == "stored" else float(success) - 1.0
        return Outcome(reward=reward, terminated=success, success=success)

    def check_recomputable(self, spec: RobotSpec, *, where: str) -> None:
        """Needs nothing but the observation."""


class FakePolicy:
    """Walks straight to the fake robot's target."""

    source = Source.SCRIPTED

    def reset(self) -> None:
        """Nothing to forget."""

    def __call__(self, observation: Observation) -> Action:
        """The clipped difference."""
        difference: Action = observation["target"] - observation["position"]
        return np.clip(difference, -0.5, 0.5)


class RobotConformance:
    """What every `Robot` has to do. Needs pytest's collection only, no fixtures."""

    def make_robot(self) -> Robot:
        """A fresh robot under test."""
        raise NotImplementedError("return the robot under test")

    def test_is_a_robot(self) -> None:
        """The protocol's methods are there."""
        with self.make_robot() as robot:
            assert isinstance(robot, Robot)

    def test_reset_and_step_observe_what_the_spec_declares(self) -> None:
        """Every field has its declared shape and dtype and is finite."""
        with self.make_robot() as robot:
            first = robot.reset(seed=0)
            result = robot.step(middle_action(robot.spec))
            for observation in (first.observation, result.observation):
                assert list(observation) == [s.name for s in robot.spec.observation]
                for spec in robot.spec.observation:
                    assert observation[spec.name].dtype == spec.dtype
                    spec.validate(observation[spec.name])
            for spec in robot.spec.signals:
                spec.validate(np.asarray(result.signals[spec.name]))

    def test_executed_action_is_reported_within_bounds(self) -> None:
        """Whatever was commanded within the bounds is executed within them."""
        with self.make_robot() as robot:
            first = robot.reset(seed=0)
            policy = RandomPolicy(robot.spec, np.random.default_rng(0))
            observation = first.observation
            for _ in range(5):
                result = robot.step(policy(observation))
                observation = result.observation
                assert result.executed_action is not None
                assert result.executed_action.dtype == np.float32
                assert (result.executed_action >= robot.spec.action.low).all()
                assert (result.executed_action <= robot.spec.action.high).all()

    def test_time_never_goes_back(self) -> None:
        """Robot time grows with every step and does not jump back at a reset."""
        with self.make_robot() as robot:
            times = [robot.reset(seed=0).robot_time_s]
            times += [robot.step(middle_action(robot.spec)).robot_time_s for _ in range(3)]
            times.append(robot.reset(seed=1).robot_time_s)
            assert all(later >= earlier for earlier, later in itertools.pairwise(times))
            assert times[3] > times[0]

    def test_returned_arrays_belong_to_the_caller(self) -> None:
        """A later step does not change an observation that was returned before."""
        with self.make_robot() as robot:
            first = robot.reset(seed=0)
            copies = {name: array.copy() for name, array in first.observation.items()}
            robot.step(robot.spec.action.high.copy())
            for name, copy in copies.items():
                assert np.array_equal(first.observation[name], copy)

    def test_an_action_that_is_not_finite_is_refused(self) -> None:
        """NaN never reaches the motors."""
        with self.make_robot() as robot:
            robot.reset(seed=0)
            bad = middle_action(robot.spec)
            bad[0] = np.nan
            try:
                robot.step(bad)
            except SpecError:
                return
            raise AssertionError("a NaN action was accepted")

    def test_stop_and_close_are_safe_at_any_time(self) -> None:
        """Before a reset, twice, and after closing."""
        robot = self.make_robot()
        robot.stop("before the reset")
        robot.reset(seed=0)
        robot.stop("once")
        robot.stop("twice")
        robot.close()
        robot.stop("after closing")
        robot.close()


class PolicyConformance:
    """What every `Policy` has to do."""

    def make_policy(self) -> Policy:
        """A fresh policy under test."""
        raise NotImplementedError("return the policy under test")

    def make_spec(self) -> RobotSpec:
        """Spec of a robot that the policy fits."""
        raise NotImplementedError("return the spec that the policy fits")

    def test_returns_a_finite_action_of_the_declared_shape(self) -> None:
        """Float32, (A,), finite."""
        policy, spec = self.make_policy(), self.make_spec()
        policy.reset()
        observation = {s.name: np.zeros(s.shape, s.dtype) for s in spec.observation}
        action = policy(observation)
        assert action.dtype == np.float32
        assert isinstance(policy.source, Source)
        spec.action.validate(action)


def middle_action(spec: RobotSpec) -> Action:
    """The middle of the action bounds."""
    return spec.action.from_unit(np.zeros(spec.action.size))
