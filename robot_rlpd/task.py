"""Tasks: reward, termination, success and time limit as functions of one recorded step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from robot_rlpd.errors import ConfigError, DataError, UnknownNameError
from robot_rlpd.registry import entry_points, load_entry_point
from robot_rlpd.robot import Action, Observation, Policy, Robot
from robot_rlpd.specs import RobotSpec

Signals = Mapping[str, NDArray[Any]]
SERVED = "served:"
"""Before the address in the name of a task that is whatever a served robot signals."""
RewardKind = Literal["task", "sparse", "stored"]
"""task: as the task defines it; sparse: 0 on success, else -1; stored: the recorded signal `reward`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step meant for the task.

    Attributes:
        reward: Reward of the step.
        terminated: The MDP ended: no bootstrapping beyond this step.
        success: The task is solved at this step.
        truncated: Cut off by the robot's side for a reason outside the MDP; bootstrap.
    """

    reward: float
    terminated: bool = False
    success: bool = False
    truncated: bool = False


class Task(Protocol):
    """Reward, termination and success, computed where the loop runs, live and again when data are loaded.

    Attributes:
        name: As typed after `--task`.
        max_episode_steps: Time limit in control steps; reaching it truncates, never terminates.
        success_at_end: Whether success counts at the last step only (default: at any step).
    """

    name: str
    max_episode_steps: int
    success_at_end: bool

    def evaluate(
        self, observation: Observation, executed_action: Action, signals: Signals, next_observation: Observation
    ) -> Outcome:
        """The outcome of one step; a pure function without state.

        Raises:
            DataError: A signal that the task needs is missing.
        """
        ...

    def check_recomputable(self, spec: RobotSpec, *, where: str) -> None:
        """Refuse recorded data whose outcomes this task cannot recompute.

        Args:
            spec: Spec of the recorded data.
            where: Name of the data for the message.

        Raises:
            DataError: Says which signal is missing, or which option to give.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """What may be said about a task on a command line."""

    success_when: str = ""
    reward: RewardKind = "task"
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    max_episode_steps: int | None = None

    def __post_init__(self) -> None:
        if self.max_episode_steps is not None and self.max_episode_steps < 1:
            raise ConfigError(field="max_episode_steps", found=self.max_episode_steps, allowed="at least 1")


@dataclass(frozen=True, kw_only=True)
class TaskSetup:
    """A task with the means to run it in this process.

    Attributes:
        task: The task.
        spec: Spec of the robot that the task runs on.
        make_robot: Makes that robot here (imports the simulator only when called); one robot per call.
        make_expert: Makes a scripted expert from an action-noise scale in [0, 1] and a seed; None where there is none.
    """

    task: Task
    spec: RobotSpec
    make_robot: Callable[[], Robot]
    make_expert: Callable[[float, int], Policy] | None = None


class TaskFactory(Protocol):
    """What an entry point in `robot_rlpd.tasks` loads."""

    def __call__(self, argument: str, options: TaskOptions) -> TaskSetup:
        """The task for `NAME` or `NAME:argument`; free of heavy imports until `make_robot` is called where possible."""
        ...


def load_task(name: str, options: TaskOptions | None = None) -> TaskSetup:
    """Find a task by its command-line name, such as `pick_place` or `gymnasium:Pendulum-v1`.

    Raises:
        UnknownNameError: No such task; lists those that exist.
    """
    head, _, argument = name.partition(":")
    if head not in entry_points("robot_rlpd.tasks"):
        needs = {"gymnasium": ":<id>", "served": ":<address>"}
        known = ", ".join(sorted(n + needs.get(n, "") for n in entry_points("robot_rlpd.tasks")))
        raise UnknownNameError("no such task", field="task", found=name, allowed=known)
    factory: TaskFactory = load_entry_point("robot_rlpd.tasks", head)
    return factory(argument, options or TaskOptions())


def served_address(task: str) -> str:
    """Where the robot of a task `served:ADDRESS` is served; empty for every other task."""
    return task.removeprefix(SERVED) if task.startswith(SERVED) else ""


class SignalTask:
    """A task whose outcome is what the robot's side signals: `reward`, `terminated`, `truncated`, `success`.

    Missing signals count as 0 and False. Used where a policy runs without a named task.
    """

    success_at_end = False

    def __init__(self, name: str = "signals", max_episode_steps: int = 1000) -> None:
        self.name = name
        self.max_episode_steps = max_episode_steps

    def evaluate(
        self, observation: Observation, executed_action: Action, signals: Signals, next_observation: Observation
    ) -> Outcome:
        """Read the signals."""
        del observation, executed_action, next_observation
        return Outcome(
            reward=float(signals.get("reward", 0.0)),
            terminated=bool(signals.get("terminated", False)),
            success=bool(signals.get("success", False)),
            truncated=bool(signals.get("truncated", False)),
        )

    def check_recomputable(self, spec: RobotSpec, *, where: str) -> None:
        """Needs a recorded reward."""
        if "reward" not in {s.name for s in spec.signals}:
            raise DataError(f"{where} holds no reward", field="signals.reward", hint="name a task with --task")
