"""An episode as it was recorded, and the transitions that a learner makes of it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robot_rlpd.errors import DataError
from robot_rlpd.frames import FrameCollector, Frames
from robot_rlpd.outcomes import judge_steps
from robot_rlpd.robot import Action, Observation, Source, StepResult
from robot_rlpd.specs import RobotSpec
from robot_rlpd.task import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from robot_rlpd.task import Task


class Ended(StrEnum):
    """How an episode ended."""

    TERMINATED = "terminated"
    TRUNCATED = "truncated"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, kw_only=True)
class EpisodeInfo:
    """Everything about an episode that is not an array.

    Attributes:
        uuid: Identity, kept through copies; the same episode is never counted twice.
        ended: How it ended.
        success: Whether the task was solved; None where nobody knows.
        task: Name of the task, empty if none.
        seed: Seed of the reset, None if none was given.
        policy: Digest or name of the policy that acted.
        device: Teleoperation device, empty if none.
        operator: Who operated, empty if nobody said.
        notes: Free text.
        clock: Identity of the robot's clock.
        started_unix_s: Wall-clock time of the reset.
        randomization: What was drawn for this episode.
        outcome_unknown: The last step was sent but its result never arrived; that step is not stored.
    """

    uuid: str = field(default_factory=lambda: str(uuid.uuid4()))
    ended: Ended = Ended.INTERRUPTED
    success: bool | None = None
    task: str = ""
    seed: int | None = None
    policy: str = ""
    device: str = ""
    operator: str = ""
    notes: str = ""
    clock: str = "monotonic"
    started_unix_s: float = 0.0
    randomization: dict[str, float] = field(default_factory=dict)
    outcome_unknown: bool = False


@dataclass(frozen=True, kw_only=True)
class Episode:
    """T recorded steps.

    Attributes:
        spec: Spec of the robot.
        observations: One array `(T + 1, *shape)` per field, or `(T, *shape)` where the final observation is missing.
        actions: Commanded actions `(T, A)`, float32, robot units; may lie outside the bounds.
        executed_actions: What was applied after limits `(T, A)`, float32.
        signals: One array `(T, *shape)` per signal: the result of step t.
        sources: Who chose each action, uint8 `(T,)`, see `Source`.
        robot_times_s: Robot-clock time of each observation, float64, as long as the observations.
        wall_times_s: Wall-clock (Unix) time of each observation, float64, likewise.
        info: Everything else.
        frames: When the images of a camera were taken and which never came, by the camera's name; a camera that is not
            in it took its images when they were observed.
    """

    spec: RobotSpec
    observations: dict[str, NDArray[Any]]
    actions: NDArray[np.float32]
    executed_actions: NDArray[np.float32]
    signals: dict[str, NDArray[Any]]
    sources: NDArray[np.uint8]
    robot_times_s: NDArray[np.float64]
    wall_times_s: NDArray[np.float64]
    info: EpisodeInfo
    frames: dict[str, Frames] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def has_final_observation(self) -> bool:
        """Whether the observation after the last action exists."""
        return len(self.robot_times_s) == len(self.actions) + 1

    def validate(self) -> None:
        """Check lengths, shapes and finiteness against the spec.

        Raises:
            DataError: Names the field, what was found and what is allowed.
        """
        steps, rows = len(self.actions), len(self.robot_times_s)
        if rows not in (steps, steps + 1):
            raise DataError(field="robot_times_s", found=f"{rows} rows", allowed=f"{steps} or {steps + 1}")
        expected: list[tuple[str, NDArray[Any], tuple[int, ...]]] = [
            ("actions", self.actions, (steps, self.spec.action.size)),
            ("executed_actions", self.executed_actions, (steps, self.spec.action.size)),
            ("sources", self.sources, (steps,)),
            ("wall_times_s", self.wall_times_s, (rows,)),
        ]
        for group, specs, arrays, length in (
            ("observations", self.spec.observation, self.observations, rows),
            ("signals", self.spec.signals, self.signals, steps),
        ):
            if set(arrays) != {s.name for s in specs}:
                raise DataError(field=group, found=sorted(arrays), allowed=str(sorted(s.name for s in specs)))
            expected += [(f"{group}.{s.name}", arrays[s.name], (length, *s.shape)) for s in specs]
        expected += self._expected_frames(rows)
        for name, array, shape in expected:
            if array.shape != shape:
                raise DataError(field=name, found=f"shape {array.shape}", allowed=f"shape {shape}")
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                row = int(np.argwhere(~np.isfinite(array))[0][0])
                raise DataError(field=f"{name}, step {row}", found="NaN or infinity", allowed="finite numbers")

    def _expected_frames(self, rows: int) -> list[tuple[str, NDArray[Any], tuple[int, ...]]]:
        cameras = [s.name for s in self.spec.observation if s.is_image]
        for name in self.frames.keys() - set(cameras):
            raise DataError(field=f"frames.{name}", found="no such camera", allowed=", ".join(cameras) or "none")
        return [
            (f"frames.{name}.{attribute}", getattr(frames, attribute), (rows,))
            for name, frames in self.frames.items()
            for attribute in ("robot_times_s", "wall_times_s", "dropped")
        ]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the control loop, whole, for those who listen to it.

    Attributes:
        observation: What the policy saw.
        action: What it commanded.
        source: Who chose the action.
        result: What came back; `result.observation` is the next observation.
        executed_action: What was applied after limits.
        outcome: What the task made of it.
        wall_time_s: Unix time at its end.
    """

    observation: Observation
    action: Action
    source: Source
    result: StepResult
    executed_action: Action
    outcome: Outcome
    wall_time_s: float


@dataclass(frozen=True, kw_only=True)
class Transitions:
    """The learner's view of recorded steps: N transitions with a usable next state.

    Attributes:
        observations: Per field `(N, *shape)`.
        next_observations: Likewise; rows of terminated steps without one repeat the observation and are never used.
        executed_actions: `(N, A)` float32 in robot units.
        rewards: `(N,)` float32.
        masks: `(N,)` float32, 1 - terminated: 0 where nothing is bootstrapped.
        successes: `(N,)` bool.
    """

    observations: dict[str, NDArray[Any]]
    next_observations: dict[str, NDArray[Any]]
    executed_actions: NDArray[np.float32]
    rewards: NDArray[np.float32]
    masks: NDArray[np.float32]
    successes: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rewards)


def transitions(episode: Episode, task: Task, fields: Sequence[str]) -> Transitions:
    """Recompute reward and termination with `task` and form the transitions.

    A last step without a next observation is kept only when the task says it terminated there; a timed-out one
    cannot be used. Steps after a termination belong to no MDP state and are left out.
    """
    steps = len(episode)
    next_observations = {name: _following(array, steps) for name, array in episode.observations.items()}
    observations = {name: array[:steps] for name, array in episode.observations.items()}
    outcomes = judge_steps(task, observations, episode.executed_actions, episode.signals, next_observations)
    ends = np.flatnonzero(outcomes.terminated)
    kept = int(ends[0]) + 1 if len(ends) else steps if episode.has_final_observation else steps - 1
    return Transitions(
        observations={name: observations[name][:kept] for name in fields},
        next_observations={name: next_observations[name][:kept] for name in fields},
        executed_actions=episode.executed_actions[:kept],
        rewards=outcomes.rewards[:kept],
        masks=1.0 - outcomes.terminated[:kept].astype(np.float32),
        successes=outcomes.successes[:kept],
    )


def _following(array: NDArray[Any], steps: int) -> NDArray[Any]:
    """The observations after each of `steps` steps; the last one again, which takes a copy, where there is none."""
    return array[1:] if len(array) > steps else np.concatenate([array[1:], array[-1:]])


class EpisodeBuilder:
    """Collects an episode step by step, in memory."""

    def __init__(self, spec: RobotSpec, info: EpisodeInfo) -> None:
        self._spec = spec
        self._info = info
        self._observations: dict[str, list[NDArray[Any]]] = {s.name: [] for s in spec.observation}
        self._signals: dict[str, list[NDArray[Any]]] = {s.name: [] for s in spec.signals}
        self._actions: list[Action] = []
        self._executed: list[Action] = []
        self._sources: list[int] = []
        self._robot_times: list[float] = []
        self._wall_times: list[float] = []
        self._frames = FrameCollector(spec)

    def __len__(self) -> int:
        return len(self._actions)

    def start(self, first: StepResult, wall_time_s: float) -> None:
        """Add the observation of the reset."""
        self._observe(first, wall_time_s)

    def step(self, action: Action, source: Source, result: StepResult, wall_time_s: float) -> None:
        """Add one executed step and the observation after it."""
        self._actions.append(np.array(action, np.float32))
        executed = action if result.executed_action is None else result.executed_action
        self._executed.append(np.array(executed, np.float32))
        self._sources.append(int(source))
        for spec in self._spec.signals:
            value = result.signals.get(spec.name, np.zeros(spec.shape, spec.dtype))
            self._signals[spec.name].append(np.array(value, spec.dtype))
        self._observe(result, wall_time_s)

    def finish(self, **changes: Any) -> Episode:
        """The episode, its info changed as given (`ended`, `success`, `outcome_unknown`, ...)."""
        return assemble_episode(
            self._spec,
            replace(self._info, **changes),
            observations=self._observations,
            signals=self._signals,
            actions=self._actions,
            executed=self._executed,
            sources=self._sources,
            robot_times=self._robot_times,
            wall_times=self._wall_times,
            frames=self._frames.frames(),
        )

    def _observe(self, result: StepResult, wall_time_s: float) -> None:
        for spec in self._spec.observation:
            self._observations[spec.name].append(np.array(result.observation[spec.name], spec.dtype))
        self._robot_times.append(result.robot_time_s)
        self._wall_times.append(wall_time_s)
        self._frames.observe(result, wall_time_s)


def assemble_episode(
    spec: RobotSpec,
    info: EpisodeInfo,
    *,
    observations: dict[str, list[NDArray[Any]]],
    signals: dict[str, list[NDArray[Any]]],
    actions: Sequence[NDArray[Any]],
    executed: Sequence[NDArray[Any]],
    sources: Sequence[int],
    robot_times: Sequence[float],
    wall_times: Sequence[float],
    frames: dict[str, Frames],
) -> Episode:
    """Stack lists of per-step values into an `Episode`; empty lists give arrays of length 0."""
    size = spec.action.size
    return Episode(
        spec=spec,
        observations={s.name: np.array(observations[s.name], s.dtype).reshape(-1, *s.shape) for s in spec.observation},
        actions=np.array(actions, np.float32).reshape(-1, size),
        executed_actions=np.array(executed, np.float32).reshape(-1, size),
        signals={s.name: np.array(signals[s.name], s.dtype).reshape(-1, *s.shape) for s in spec.signals},
        sources=np.array(sources, np.uint8),
        robot_times_s=np.array(robot_times, np.float64),
        wall_times_s=np.array(wall_times, np.float64),
        info=info,
        frames=frames,
    )
