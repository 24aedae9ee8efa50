"""Environment adapters both ways: any Gymnasium environment is a robot with a task, and a robot with a task is one."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium import spaces

from robot_rlpd.errors import ConfigError, SpecError, UnknownNameError
from robot_rlpd.gymnasium_task import DEFAULT_EPISODE_STEPS, GymnasiumTask
from robot_rlpd.judging import JudgedRobot
from robot_rlpd.robot import Action, ClosingRobot, Observation, Robot, StepResult
from robot_rlpd.spaces import box, flatten_names, spec_of
from robot_rlpd.task import Task, TaskOptions, TaskSetup

if TYPE_CHECKING:
    from numpy.typing import NDArray

_log = logging.getLogger(__name__)


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
            "reward": _one("reward", reward, np.float32),
            "terminated": _one("terminated", terminated, np.bool_),
            "truncated": _one("truncated", truncated, np.bool_),
            "success": np.array(bool(np.any(success)), np.bool_),
        }
        return StepResult(self._observation(observation), executed, signals, self._time_s)

    def stop(self, reason: str) -> None:
        """An environment stands still between steps."""

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _observation(self, value: Any) -> Observation:
        flat = flatten_names(value)
        return {spec.name: np.array(flat[spec.name], spec.dtype) for spec in self.spec.observation}


def _one(name: str, value: Any, dtype: type[np.generic]) -> NDArray[Any]:
    """A number as an array `()`; some environments return arrays `(1,)`."""
    array = np.array(value, dtype)
    if array.size != 1:
        raise SpecError("the environment returned an array", field=name, found=array.shape, allowed="one number")
    return array.reshape(())


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
        fields: dict[str, spaces.Space[Any]] = {s.name: box(s) for s in spec.observation}
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
