"""What a teleoperation device is: a policy made by an entry point in `robot_rlpd.teleop`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, get_args, runtime_checkable

from robot_rlpd.robot import Robot
from robot_rlpd.specs import RobotSpec
from robot_rlpd.task import TaskSetup

if TYPE_CHECKING:
    from demos.recording.state import RecorderState
    from robot_rlpd.episode import Episode, EpisodeInfo, Step
    from robot_rlpd.robot import Observation, Policy, StepResult

Request = Literal["start", "stop", "success", "failure", "discard", "rerecord", "undo", "pause", "quit"]
"""What an operator asks for.

start: begin the next episode. stop: end the running one, the task judges it. success, failure: end it with that
label; between episodes `success` begins the next, so that one button is enough. discard: end it and drop it.
rerecord: drop it (or the one just recorded) and run the same start again. undo: drop the one just recorded. pause: hold
the robot until asked again. quit: drop the running one and end the session.
"""
REQUESTS: tuple[Request, ...] = get_args(Request)


@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """What a device is made from.

    Attributes:
        spec: Spec of the robot that is driven.
        setup: The task.
        argument: What was typed after the colon of `--device NAME:ARGUMENT`.
        noise: Size of the mistakes of a scripted device, in [0, 1].
        seed: Seed of everything random in the device.
        robot: The robot that will be driven, for those who show how it does; not to be commanded.
    """

    spec: RobotSpec
    setup: TaskSetup
    argument: str = ""
    noise: float = 0.0
    seed: int = 0
    robot: Robot | None = None


class MakeDevice(Protocol):
    """What an entry point in `robot_rlpd.teleop` loads."""

    def __call__(self, options: DeviceOptions) -> Policy:
        """The device, opened; if it has a `close` method that is called at the end.

        Its actions hold the robot still while the operator touches nothing. When its driver is gone a call raises
        `RobotError`, which stops the robot.
        """
        ...


@runtime_checkable
class Controls(Protocol):
    """Something with which the operator says what to record: a device that has buttons, or the keyboard beside it."""

    def poll(self) -> list[Request]:
        """What was asked for since the last call, in order, each once; never blocks."""
        ...


@runtime_checkable
class Watching(Protocol):
    """A device that shows its operator what goes on; a `rollout.Listener` besides."""

    def show(self, state: RecorderState) -> None:
        """The state of the session, at every change and every step. Must be quick."""
        ...

    def show_between(self, observation: Observation) -> None:
        """What the robot sees while no episode runs."""
        ...

    def on_start(self, spec: RobotSpec, info: EpisodeInfo, first: StepResult, wall_time_s: float) -> None:
        """As of a listener."""
        ...

    def on_step(self, step: Step) -> None:
        """As of a listener."""
        ...

    def on_end(self, episode: Episode) -> None:
        """As of a listener."""
        ...
