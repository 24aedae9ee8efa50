"""Environment adapters both ways: any Gymnasium environment is a robot with a task, and a robot with a task is one."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import math
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from robot_rlpd.environment_task import DEFAULT_EPISODE_STEPS, GymnasiumTask
from robot_rlpd.errors import ConfigError, SpecError, UnknownNameError
from robot_rlpd.judging import JudgedRobot
from robot_rlpd.robot import Action, ClosingRobot, Observation, Robot, StepResult
from robot_rlpd.specs import ActionComponent, ActionSpec, ArraySpec, RobotSpec
from robot_rlpd.task import Task, TaskOptions, TaskSetup

_log = logging.getLogger(__name__)
DEFAULT_RATE_HZ = 30.0
SIGNALS = (
    ArraySpec(name="reward", shape=()),
    ArraySpec(name="terminated", shape=(), dtype="bool"),
    ArraySpec(name="truncated", shape=(), dtype="bool"),
    ArraySpec(name="success", shape=(), dtype="bool"),
)


class GymnasiumRobot(ClosingRobot):
    """Drives a Gymnasium environment as a robot.

    A Box observation becomes the field `observation`, a Dict one field per entry (nested names joined by "/"); floats
    are float32. Reward, terminated, truncated and `info["success"]` / `info["is_success"]` become signals. Robot time
    is the environment's: one control period per step.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], name: str) -> None:
        self._env = env
        self.spec = spec_of(env, name)
        self._time_s = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        """Reset the environment."""
        observation, _ = self._env.reset(seed=seed, options=options)
        self._time_s += self.spec.control_period_s
        return StepResult(self._observation(observation), robot_time_s=self._time_s)

    def step(self, action: Action) -> StepResult:
        """Step the environment; actions outside the bounds are clipped."""
        action = self.spec.action.validate(action)
        executed = np.clip(action, self.spec.action.low, self.spec.action.high)
        space = self._env.action_space
        observation, reward, terminated, truncated, info = self._env.step(
            executed.reshape(space.shape or ()).astype(space.dtype or np.float32)
        )
        self._time_s += self.spec.control_period_s
        success = info.get("success", info.get("is_success", False))
        signals = {
            "reward": np.array(reward, np.float32),
            "terminated": np.array(terminated, np.bool_),
            "truncated": np.array(truncated, np.bool_),
            "success": np.array(bool(np.any(success)), np.bool_),
        }
        return StepResult(self._observation(observation), executed, signals, self._time_s)

    def stop(self, reason: str) -> None:
        """An environment stands still between steps."""

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _observation(self, value: Any) -> Observation:
        flat = _flatten_names(value)
        return {spec.name: np.array(flat[spec.name], spec.dtype) for spec in self.spec.observation}


def setup(argument: str, options: TaskOptions) -> TaskSetup:
    """The task `gymnasium:<id>` or `gymnasium:<module>:<id>`; makes the environment once to learn its spaces."""
    env = make_environment(argument, options)
    try:
        spec = spec_of(env, argument)
        task = _task_of(env, argument, options)
    finally:
        env.close()
    task.check_fields(spec)
    return TaskSetup(task=task, spec=spec, make_robot=lambda: _open(argument, options)[0])


def make_robot(argument: str, options: TaskOptions) -> Robot:
    """The environment as a robot that signals what the options say, for `serve --robot gymnasium:<id>`."""
    robot, env = _open(argument, options)
    try:
        task = _task_of(env, argument, options)
        task.check_fields(robot.spec)
    except Exception:
        env.close()
        raise
    return JudgedRobot(robot, task)


def _open(argument: str, options: TaskOptions) -> tuple[GymnasiumRobot, gymnasium.Env[Any, Any]]:
    environment = make_environment(argument, options)
    try:
        return GymnasiumRobot(environment, argument), environment
    except SpecError:
        environment.close()
        raise


def _task_of(env: gymnasium.Env[Any, Any], argument: str, options: TaskOptions) -> GymnasiumTask:
    limit = options.max_episode_steps or registered_limit(env)
    return GymnasiumTask(f"gymnasium:{argument}", limit, options)


def make_environment(argument: str, options: TaskOptions) -> gymnasium.Env[Any, Any]:
    """Make an environment without Gymnasium's time limit: the task has it.

    Raises:
        UnknownNameError: No such environment, or its module is not installed.
        ConfigError: It cannot be made with `env_kwargs`.
    """
    module, _, env_id = argument.rpartition(":")
    if not env_id:
        raise ConfigError(field="task", found="gymnasium:", allowed="gymnasium:<id>, gymnasium:<module>:<id>")
    told = io.StringIO()  # what libraries print while they are imported, and their warnings
    try:
        with contextlib.redirect_stderr(told):
            if module:
                package = importlib.import_module(module)
                if hasattr(gymnasium, "register_envs"):
                    gymnasium.register_envs(package)
            return gymnasium.make(env_id, max_episode_steps=-1, disable_env_checker=True, **options.env_kwargs)
    except ModuleNotFoundError as error:
        raise UnknownNameError(f"module '{error.name}' is not installed", field="task", found=argument) from None
    except gymnasium.error.Error as error:
        raise UnknownNameError(
            str(error), field="task", hint="is the module that registers it named, as in gymnasium:<module>:<id>?"
        ) from None
    except Exception as error:  # an environment raises what it likes at arguments that it does not
        if not options.env_kwargs:
            raise
        raise ConfigError(str(error), field="env_kwargs", found=str(options.env_kwargs)) from None
    finally:
        if told.getvalue():
            _log.debug("%s: %s", argument, told.getvalue())


def registered_limit(env: gymnasium.Env[Any, Any]) -> int:
    """The time limit the environment was registered with, in steps; 1000 where there is none."""
    if env.spec is None:
        return DEFAULT_EPISODE_STEPS
    return gymnasium.spec(env.spec.id).max_episode_steps or DEFAULT_EPISODE_STEPS


def spec_of(env: gymnasium.Env[Any, Any], name: str) -> RobotSpec:
    """Describe an environment's spaces.

    Raises:
        SpecError: A space that cannot be described (discrete or unbounded actions, graphs, text ...).
    """
    return RobotSpec(
        name=name,
        observation=tuple(
            _field_spec(field, space) for field, space in _flatten_spaces(env.observation_space, "").items()
        ),
        action=_action_spec(env.action_space),
        control_rate_hz=_rate_hz(env),
        signals=SIGNALS,
    )


def _rate_hz(env: gymnasium.Env[Any, Any]) -> float:
    period_s = getattr(env.unwrapped, "dt", None)
    if isinstance(period_s, (int, float)) and period_s > 0:
        return round(1.0 / float(period_s), 9)
    return float(env.metadata.get("render_fps") or DEFAULT_RATE_HZ)


def _flatten_spaces(space: spaces.Space[Any], prefix: str) -> dict[str, spaces.Space[Any]]:
    if not isinstance(space, spaces.Dict):
        return {prefix or "observation": space}
    flat: dict[str, spaces.Space[Any]] = {}
    for key, inner in space.spaces.items():
        flat |= _flatten_spaces(inner, f"{prefix}/{key}" if prefix else str(key))
    return flat


def _flatten_names(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {prefix or "observation": value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= _flatten_names(inner, f"{prefix}/{key}" if prefix else str(key))
    return flat


def _field_spec(name: str, space: spaces.Space[Any]) -> ArraySpec:
    if isinstance(space, spaces.Box):
        dtype = "float32" if np.issubdtype(space.dtype, np.floating) else str(space.dtype)
        is_image = dtype == "uint8" and len(space.shape) == 3
        return ArraySpec(
            name=name, shape=space.shape, dtype=dtype, low=_few(space.low), high=_few(space.high), is_image=is_image
        )
    if isinstance(space, spaces.Discrete):
        low = float(space.start)
        return ArraySpec(name=name, shape=(), dtype="int64", low=(low,), high=(low + float(space.n) - 1.0,))
    if isinstance(space, spaces.MultiBinary):
        return ArraySpec(name=name, shape=tuple(space.shape), dtype="uint8", low=(0.0,), high=(1.0,))
    raise SpecError(field=f"observation.{name}", found=type(space).__name__, allowed="Box, Discrete, MultiBinary, Dict")


def _few(bound: np.ndarray[Any, Any]) -> tuple[float, ...]:
    values = tuple(float(v) for v in bound.ravel())
    return values[:1] if len(set(values)) == 1 else values


def _action_spec(space: spaces.Space[Any]) -> ActionSpec:
    if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.floating):
        raise SpecError(field="action", found=type(space).__name__, allowed="a Box of continuous actions")
    low, high = space.low.ravel(), space.high.ravel()
    return ActionSpec(
        components=tuple(
            ActionComponent(name=f"a{i}", low=float(low[i]), high=float(high[i])) for i in range(math.prod(space.shape))
        )
    )


class RobotEnv(gymnasium.Env[Any, Any]):
    """A robot with a task as a Gymnasium environment.

    The observation is a Dict space of the spec's fields, or the bare Box where there is only one field; the action is
    a float32 Box in robot units. `info["success"]` tells whether the task is solved at this step.

    Args:
        robot: Opened; closed with the environment.
        task: Judges every step; its time limit truncates.
    """

    def __init__(self, robot: Robot, task: Task) -> None:
        self._robot = robot
        self._task = task
        self._steps = 0
        self._last: Observation = {}
        spec = robot.spec
        self.metadata = {"render_modes": [], "render_fps": spec.control_rate_hz}
        fields: dict[str, spaces.Space[Any]] = {s.name: _box(s) for s in spec.observation}
        self._single = spec.observation[0].name if len(fields) == 1 else ""
        self.observation_space = fields[self._single] if self._single else spaces.Dict(fields)
        self.action_space = spaces.Box(spec.action.low, spec.action.high, dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the robot."""
        super().reset(seed=seed)
        result = self._robot.reset(seed=seed, options=options)
        self._steps, self._last = 0, result.observation
        return self._shown(result.observation), {}

    def step(self, action: Action) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step the robot for one control period."""
        result = self._robot.step(np.asarray(action, np.float32))
        executed = action if result.executed_action is None else result.executed_action
        outcome = self._task.evaluate(self._last, executed, result.signals, result.observation)
        self._steps, self._last = self._steps + 1, result.observation
        truncated = outcome.truncated or bool(result.fault) or self._steps >= self._task.max_episode_steps
        info = {"success": outcome.success, "executed_action": executed}
        return self._shown(result.observation), outcome.reward, outcome.terminated, truncated, info

    def close(self) -> None:
        """Close the robot."""
        self._robot.close()

    def _shown(self, observation: Observation) -> Any:
        return observation[self._single] if self._single else dict(observation)


def _box(spec: ArraySpec) -> spaces.Box:
    dtype = np.dtype("uint8" if spec.dtype == "bool" else spec.dtype)
    if dtype.kind == "f":
        limits = -np.inf, np.inf
    elif spec.dtype == "bool":
        limits = 0, 1
    else:
        limits = float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
        if dtype.itemsize == 8:  # 2**63 - 1 is no float64
            limits = limits[0], float(np.nextafter(limits[1], 0.0))
    low = np.clip(np.broadcast_to(np.reshape(spec.low, (-1,)), (spec.size,)), *limits).reshape(spec.shape)
    high = np.clip(np.broadcast_to(np.reshape(spec.high, (-1,)), (spec.size,)), *limits).reshape(spec.shape)
    return spaces.Box(low.astype(dtype), high.astype(dtype), dtype=dtype.type)
