from __future__ import annotations

import importlib.util
import math
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from robot_rlpd.env import GymnasiumRobot, RobotEnv, make_robot, setup
from robot_rlpd.episode import Ended
from robot_rlpd.errors import ConfigError, DataError, SpecError, UnknownNameError
from robot_rlpd.gymnasium_task import DEFAULT_EPISODE_STEPS, GymnasiumTask
from robot_rlpd.robot import RandomPolicy, StepResult
from robot_rlpd.rollout import rollout
from robot_rlpd.spaces import SIGNALS
from robot_rlpd.specs import ActionComponent, ActionSpec, ArraySpec, RobotSpec
from robot_rlpd.task import TaskOptions, load_task
from robot_rlpd.testing import FakePolicy, FakeRobot, FakeTask, RobotConformance, fake_spec, middle_action

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from robot_rlpd.robot import Action, Robot

LAMP = "robot_rlpd_tests/Lamp-v0"
ANT_MAZE = "gymnasium_robotics:AntMaze_UMaze-v5"
DOOR = "gymnasium_robotics:AdroitHandDoorSparse-v1"
robotics = pytest.mark.skipif(importlib.util.find_spec("gymnasium_robotics") is None, reason="needs gymnasium-robotics")


class Lamp(gymnasium.Env[Any, Any]):
    """A point that is pushed to the right; it is at its lamp from x = 1 on, and loses contact below x = -1.

    Args:
        flag: Key of `info` that tells success; empty tells nothing.
    """

    def __init__(self, flag: str = "success") -> None:
        self.flag = flag
        self.metadata = {"render_modes": [], "render_fps": 8}
        self.observation_space = spaces.Dict(
            {
                "position": spaces.Box(-np.inf, np.inf, (2,), np.float64),
                "lamp": spaces.Dict({"colour": spaces.Discrete(3, start=1), "lit": spaces.MultiBinary(2)}),
                "camera": spaces.Box(0, 255, (4, 6, 3), np.uint8),
            }
        )
        self.action_space = spaces.Box(np.array([[-1.0, -2.0]], np.float32), np.array([[1.0, 0.5]], np.float32))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.position = self.np_random.uniform(-0.1, 0.1, 2)
        self.colour = int(self.np_random.integers(1, 4))
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        self.position = self.position + action[0]
        lit = bool(self.position[0] >= 1.0)
        info = {self.flag: np.array([lit])} if self.flag else {}
        return self._seen(), float(self.position[0]), lit, bool(self.position[0] < -1.0), info

    def _seen(self) -> dict[str, Any]:
        lit = np.full(2, self.position[0] >= 1.0, np.int8)
        camera = np.full((4, 6, 3), self.colour, np.uint8)
        return {"position": self.position, "lamp": {"colour": self.colour, "lit": lit}, "camera": camera}


def make_lamp(**options: Any) -> gymnasium.Env[Any, Any]:
    return Lamp(**options)


@pytest.fixture(autouse=True, scope="module")
def _registered() -> Iterator[None]:
    gymnasium.register(LAMP, entry_point=make_lamp, max_episode_steps=12)
    yield
    gymnasium.registry.pop(LAMP)


def push(x: float) -> Action:
    return np.array([x, 0.0], np.float32)


def signals(*, reward: float = 0.0, terminated: bool = False, truncated: bool = False, success: bool = False) -> Any:
    return {
        "reward": np.float32(reward),
        "terminated": np.bool_(terminated),
        "truncated": np.bool_(truncated),
        "success": np.bool_(success),
    }


# An environment as a robot


class TestPendulum(RobotConformance):
    def make_robot(self) -> Robot:
        return setup("Pendulum-v1", TaskOptions()).make_robot()


class TestLamp(RobotConformance):
    def make_robot(self) -> Robot:
        return make_robot(LAMP, TaskOptions())


class Boxed(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Returns reward and ends as arrays of `size` entries."""

    def __init__(self, size: int) -> None:
        super().__init__(Lamp())
        self.size = size

    def step(self, action: Any) -> Any:
        observation, *numbers, info = super().step(action)
        return observation, *(np.full(self.size, number) for number in numbers), info


def test_an_environment_may_return_its_numbers_as_arrays_of_one() -> None:
    robot, plain = (GymnasiumRobot(env, "lamp") for env in (Boxed(1), Lamp()))
    for one in (robot, plain):
        one.reset(seed=0)
    assert robot.step(push(0.5)).signals == plain.step(push(0.5)).signals


def test_more_than_one_reward_is_refused() -> None:
    robot = GymnasiumRobot(Boxed(2), "lamp")
    robot.reset(seed=0)
    with pytest.raises(
        SpecError, match=r"reward: the environment returned an array; found \(2,\); allowed: one number"
    ):
        robot.step(push(0.5))


@robotics
class TestAntMaze(RobotConformance):
    def make_robot(self) -> Robot:
        return make_robot(ANT_MAZE, TaskOptions())


@robotics
class TestAdroitDoor(RobotConformance):
    def make_robot(self) -> Robot:
        return make_robot(DOOR, TaskOptions())


def test_the_spec_describes_the_spaces_of_the_environment() -> None:
    spec = setup(LAMP, TaskOptions()).spec
    fields = {field.name: field for field in spec.observation}
    assert {name: (f.shape, f.dtype) for name, f in fields.items()} == {
        "position": ((2,), "float32"),
        "lamp/colour": ((), "int64"),
        "lamp/lit": ((2,), "uint8"),
        "camera": ((4, 6, 3), "uint8"),
    }
    assert (fields["lamp/colour"].low, fields["lamp/colour"].high) == ((1.0,), (3.0,))
    assert [name for name, field in fields.items() if field.is_image] == ["camera"]
    assert spec.action.low.tolist() == [-1.0, -2.0]
    assert spec.action.high.tolist() == [1.0, 0.5]
    assert spec.control_rate_hz == 8.0
    assert spec.signals == SIGNALS
    assert {field.name for field in spec.contract().observation} == fields.keys() - {"camera"}


def test_a_bare_box_is_one_field_and_the_rate_is_the_environments() -> None:
    spec = setup("Pendulum-v1", TaskOptions()).spec
    assert [(field.name, field.shape, field.low) for field in spec.observation] == [
        ("observation", (3,), (-1.0, -1.0, -8.0))
    ]
    assert spec.control_rate_hz == 20.0


@robotics
def test_the_goal_of_a_maze_is_part_of_the_observation() -> None:
    made = load_task(f"gymnasium:{ANT_MAZE}")
    assert [field.name for field in made.spec.observation] == ["achieved_goal", "desired_goal", "observation"]
    assert made.task.max_episode_steps == 700


def test_actions_outside_the_bounds_are_clipped_and_reported() -> None:
    with make_robot(LAMP, TaskOptions()) as robot:
        before = robot.reset(seed=0).observation["position"]
        result = robot.step(np.array([5.0, -7.0], np.float32))
        assert result.executed_action is not None
        assert result.executed_action.tolist() == [1.0, -2.0]
        np.testing.assert_allclose(result.observation["position"], before + np.array([1.0, -2.0]), atol=1e-6)


@pytest.mark.parametrize("flag", ["success", "is_success"])
def test_success_is_what_the_environment_says_under_either_name(flag: str) -> None:
    made = setup(LAMP, TaskOptions(env_kwargs={"flag": flag}))
    with made.make_robot() as robot:
        robot.reset(seed=0)
        assert not robot.step(push(0.5)).signals["success"]
        assert robot.step(push(1.0)).signals["success"]


def test_an_environment_that_says_nothing_of_success_never_succeeds() -> None:
    with make_robot(LAMP, TaskOptions(env_kwargs={"flag": ""})) as robot:
        robot.reset(seed=0)
        robot.step(push(1.0))
        result = robot.step(push(1.0))
        assert result.signals["terminated"]
        assert not result.signals["success"]


@pytest.mark.parametrize(
    ("argument", "options", "error", "told"),
    [
        ("CartPole-v1", TaskOptions(), SpecError, r"^action: found Discrete; allowed: a Box"),
        ("Pendulum-v9", TaskOptions(), UnknownNameError, r"^task: .*Pendulum"),
        ("Nothing-v0", TaskOptions(), UnknownNameError, r"^task: .*Nothing.*gymnasium:<module>:<id>"),
        ("no_such_module:Nothing-v0", TaskOptions(), UnknownNameError, r"module 'no_such_module' is not installed"),
        ("", TaskOptions(), ConfigError, r"^task: .*gymnasium:<id>"),
        ("Pendulum-v1", TaskOptions(env_kwargs={"moon": 1}), ConfigError, r"^env_kwargs: .*'moon'"),
        ("Pendulum-v1", TaskOptions(env_kwargs={"max_episode_steps": 5}), ConfigError, r"^env_kwargs: "),
        ("Pendulum-v1", TaskOptions(success_when="angle > 1"), ConfigError, r"angle.*observation"),
    ],
)
def test_what_cannot_be_made_is_refused_by_name(
    argument: str, options: TaskOptions, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        setup(argument, options)


def test_keyword_arguments_reach_the_environment() -> None:
    seen = []
    for gravity in (0.0, 10.0):
        with make_robot("Pendulum-v1", TaskOptions(env_kwargs={"g": gravity})) as robot:
            robot.reset(seed=0)
            seen.append(robot.step(middle_action(robot.spec)).observation["observation"])
    assert not np.array_equal(seen[0], seen[1])


# The task of an environment


def test_the_time_limit_is_the_tasks_and_truncates() -> None:
    for options, limit in ((TaskOptions(), 200), (TaskOptions(max_episode_steps=7), 7)):
        made = setup("Pendulum-v1", options)
        with made.make_robot() as robot:
            episode = rollout(robot, RandomPolicy(robot.spec, np.random.default_rng(0)), made.task, seed=0)
            after = robot.step(middle_action(robot.spec))
        assert (len(episode), episode.info.ended) == (limit, Ended.TRUNCATED)
        assert not episode.signals["truncated"].any()
        assert not after.signals["truncated"]


def test_an_environment_without_a_limit_gets_the_default_one() -> None:
    gymnasium.register(f"{LAMP[:-1]}1", entry_point=make_lamp)
    try:
        assert setup(f"{LAMP[:-1]}1", TaskOptions()).task.max_episode_steps == DEFAULT_EPISODE_STEPS
    finally:
        gymnasium.registry.pop(f"{LAMP[:-1]}1")


def test_termination_truncation_success_and_reward_are_what_was_signalled() -> None:
    for reward in ("task", "stored"):
        task = GymnasiumTask("lamp", 12, TaskOptions(reward=reward))
        ended = task.evaluate({}, push(0), signals(reward=1.5, terminated=True, success=True), {})
        assert (ended.reward, ended.terminated, ended.success, ended.truncated) == (1.5, True, True, False)
        cut = task.evaluate({}, push(0), signals(truncated=True), {})
        assert (cut.terminated, cut.success, cut.truncated) == (False, False, True)


def test_the_sparse_reward_is_zero_where_solved_and_minus_one_elsewhere() -> None:
    task = GymnasiumTask("lamp", 12, TaskOptions(reward="sparse"))
    assert task.evaluate({}, push(0), signals(reward=7, success=True), {}).reward == 0.0
    assert task.evaluate({}, push(0), signals(reward=7), {}).reward == -1.0
    assert task.evaluate({}, push(0), {}, {}).reward == -1.0


def test_success_by_a_condition_reads_the_observation_after_the_step() -> None:
    options = TaskOptions(reward="sparse", success_when="position[0] >= 1 and action[1] < 0")
    task = setup(LAMP, options).task
    down = np.array([0.0, -1.0], np.float32)
    here, there = {"position": np.zeros(2)}, {"position": np.ones(2)}
    assert task.evaluate(here, down, signals(), there).success
    assert task.evaluate(here, down, signals(), there).reward == 0.0
    assert not task.evaluate(there, down, signals(success=True), here).success
    assert not task.evaluate(here, push(0), signals(), there).success


def test_with_a_condition_and_the_sparse_reward_an_end_without_success_is_truncated() -> None:
    ended = signals(reward=1.0, terminated=True, success=True)  # at the goal that the environment had
    here, there = {"position": np.zeros(2)}, {"position": np.ones(2)}
    sparse = GymnasiumTask("lamp", 12, TaskOptions(reward="sparse", success_when="position[0] >= 1"))
    elsewhere = sparse.evaluate(there, push(0), ended, here)
    assert (elsewhere.reward, elsewhere.terminated, elsewhere.truncated) == (-1.0, False, True)
    solved = sparse.evaluate(here, push(0), ended, there)
    assert (solved.reward, solved.terminated, solved.truncated) == (0.0, True, False)
    dense = GymnasiumTask("lamp", 12, TaskOptions(reward="stored", success_when="position[0] >= 1"))
    fallen = dense.evaluate(there, push(0), ended, here)  # the recorded reward belongs to the recorded end
    assert (fallen.reward, fallen.terminated, fallen.truncated) == (1.0, True, False)


def test_a_reward_that_nobody_signals_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(DataError, match=r"signals\.reward: .*--reward sparse"):
        GymnasiumTask("lamp", 12, TaskOptions()).evaluate({}, push(0), {}, {})


@pytest.mark.parametrize(
    ("options", "recorded", "told"),
    [
        (TaskOptions(), SIGNALS, r"cannot be relabelled.*--reward sparse.*--reward stored"),
        (TaskOptions(reward="stored"), (), r"signals\.reward: store d holds no reward; use --reward sparse"),
        (TaskOptions(reward="sparse"), SIGNALS[:1], r"signals\.success: store d does not say .*--success-when"),
        (TaskOptions(reward="stored"), SIGNALS, ""),
        (TaskOptions(reward="sparse"), SIGNALS, ""),
        (TaskOptions(reward="sparse", success_when="observation[0] > 1"), (), ""),
    ],
)
def test_data_that_cannot_be_judged_anew_are_refused_with_the_option_to_give(
    options: TaskOptions, recorded: tuple[ArraySpec, ...], told: str
) -> None:
    task = GymnasiumTask("lamp", 12, options)
    action = ActionSpec(components=(ActionComponent(name="a0"),))
    observation = (ArraySpec(name="observation", shape=(3,)),)
    spec = RobotSpec(name="lamp", observation=observation, action=action, control_rate_hz=10, signals=recorded)
    if not told:
        task.check_recomputable(spec, where="store d")
        return
    with pytest.raises(DataError, match=told):
        task.check_recomputable(spec, where="store d")


# A robot as an environment


def as_environment(argument: str, options: TaskOptions | None = None) -> RobotEnv:
    made = setup(argument, options or TaskOptions())
    return RobotEnv(made.make_robot(), made.task)


def advised(test: Callable[..., None]) -> Callable[..., None]:
    """Lets the advice of Gymnasium's checker pass that a robot's units and bounds cannot follow."""
    for advice in ("Box observation space", "symmetric and normalized space", "Not able to test alternative render"):
        test = pytest.mark.filterwarnings(f"ignore:.*{advice}:UserWarning")(test)
    return test


@advised
@pytest.mark.parametrize(
    "argument", ["Pendulum-v1", LAMP, pytest.param(ANT_MAZE, marks=robotics), pytest.param(DOOR, marks=robotics)]
)
def test_gymnasium_accepts_the_environment(argument: str) -> None:
    check_env(as_environment(argument))


@advised
def test_gymnasium_accepts_a_robot_of_several_fields() -> None:
    env = RobotEnv(FakeRobot(), FakeTask())
    check_env(env)
    assert isinstance(env.observation_space, spaces.Dict)
    assert list(env.observation_space) == ["position", "target"]
    assert isinstance(env.action_space, spaces.Box)
    assert env.action_space.high.tolist() == [0.5, 0.5]


def test_there_and_back_is_the_plain_environment() -> None:
    plain, back = gymnasium.make("Pendulum-v1"), as_environment("Pendulum-v1")
    rng = np.random.default_rng(0)
    for seed in (5, 6):
        assert np.array_equal(plain.reset(seed=seed)[0], back.reset(seed=seed)[0])
        for step in range(1, 201):
            action = rng.uniform(-2.0, 2.0, 1).astype(np.float32)
            expected, reward, terminated, truncated, _ = plain.step(action)
            found, *outcome, info = back.step(action)
            assert np.array_equal(found, expected)
            assert outcome == [float(np.float32(reward)), terminated, truncated]
            assert truncated == (step == 200)
            assert not info["success"]
    plain.close()
    back.close()


def test_nested_observations_come_back_by_their_joined_names() -> None:
    plain, back = Lamp(), as_environment(LAMP)
    expected, found = plain.reset(seed=3)[0], back.reset(seed=3)[0]
    for _ in range(5):
        np.testing.assert_array_equal(found["position"], expected["position"].astype(np.float32))
        assert found["lamp/colour"] == expected["lamp"]["colour"]
        np.testing.assert_array_equal(found["lamp/lit"], expected["lamp"]["lit"])
        np.testing.assert_array_equal(found["camera"], expected["camera"])
        assert back.observation_space.contains(found)
        expected, reward, terminated, _, info = plain.step(np.array([[0.3, -0.1]], np.float32))
        found, found_reward, found_terminated, truncated, found_info = back.step(np.array([0.3, -0.1], np.float32))
        assert (found_reward, found_terminated) == (float(np.float32(reward)), terminated)
        assert found_info["success"] == info["success"][0]
        assert not truncated


def test_an_environment_truncates_at_the_limit_and_terminates_where_solved() -> None:
    env = RobotEnv(FakeRobot(), FakeTask(max_episode_steps=3))
    for seed, policy in ((0, FakePolicy()), (0, None)):
        seen, _ = env.reset(seed=seed)
        ends: list[tuple[bool, bool]] = []
        while not ends or not any(ends[-1]):
            action = policy(seen) if policy else np.zeros(2, np.float32)
            seen, _, terminated, truncated, info = env.step(action)
            ends.append((terminated, truncated))
            assert info["success"] == terminated
        assert ends[-1] == ((True, False) if policy else (False, True))
        assert len(ends) == 3 or policy


def test_a_fault_truncates() -> None:
    robot = FakeRobot()
    env = RobotEnv(robot, FakeTask())
    env.reset(seed=0)
    robot.fault = "motor 3 is hot"
    _, _, terminated, truncated, _ = env.step(np.zeros(2, np.float32))
    assert (terminated, truncated) == (False, True)


class Telling(FakeRobot):
    """Has fields of every dtype without bounds."""

    def __init__(self) -> None:
        fields = tuple(
            ArraySpec(name=dtype, shape=(2,), dtype=dtype)
            for dtype in ("bool", "uint8", "int32", "int64", "float32", "float64")
        )
        super().__init__(RobotSpec(name="telling", observation=fields, action=fake_spec().action, control_rate_hz=10))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        return StepResult({field.name: np.ones(2, field.dtype) for field in self.spec.observation})


def test_every_dtype_has_a_box_that_holds_its_values() -> None:
    env = RobotEnv(Telling(), FakeTask())
    seen, _ = env.reset(seed=0)
    assert env.observation_space.contains(seen)
    assert isinstance(env.observation_space, spaces.Dict)
    box = env.observation_space["int64"]
    assert isinstance(box, spaces.Box)
    assert box.low[0] == -(2**63)
    assert box.high[0] > 2**62
    assert math.isinf(env.observation_space["float64"].high[0])  # type: ignore[attr-defined]


def test_closing_the_environment_closes_the_robot() -> None:
    robot = FakeRobot()
    RobotEnv(robot, FakeTask()).close()
    assert robot.closed


def test_a_served_environment_signals_what_the_options_say() -> None:
    options = TaskOptions(success_when="observation[0] > -2", reward="sparse", max_episode_steps=3)
    with make_robot("Pendulum-v1", options) as robot:
        robot.reset(seed=0)
        signals = [robot.step(np.zeros(1, np.float32)).signals for _ in range(3)]
    assert [float(s["reward"]) for s in signals] == [0.0, 0.0, 0.0]
    assert [bool(s["success"]) for s in signals] == [True, True, True]
    assert [bool(s["truncated"]) for s in signals] == [False, False, True]
