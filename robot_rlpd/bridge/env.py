"""A served robot as a Gymnasium environment, for any library that trains on those.

    gymnasium.make("robot_rlpd.bridge.env:robot_rlpd/Remote-v0", address="tcp://127.0.0.1:5555", task="reach")

The part before the colon is the module that Gymnasium imports first; after `import robot_rlpd.bridge.env` the name
alone will do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium

from robot_rlpd.bridge.client import RemoteRobot
from robot_rlpd.bridge.observer import Observer
from robot_rlpd.env import RobotEnv
from robot_rlpd.errors import RobotError
from robot_rlpd.gymnasium_task import DEFAULT_EPISODE_STEPS
from robot_rlpd.robot import ClosingRobot
from robot_rlpd.specs import PolicyContract, check_contract
from robot_rlpd.task import SignalTask, Task, TaskOptions, load_task

if TYPE_CHECKING:
    from robot_rlpd.robot import Action, StepResult

ENV_ID = "robot_rlpd/Remote-v0"
LOOK_TIMEOUT_S = 10.0
"""Longest wait for the spec where no `connect_timeout_s` is given."""


class CommandedWhenReset(ClosingRobot):
    """A served robot that is only looked at until the first reset: an environment that is made takes it from nobody.

    Args:
        address: Of the server.
        contract: What the robot has to fit; None takes any robot.
        options: As for `RemoteRobot`.

    Raises:
        BridgeError: The server does not answer.
        MismatchError: The robot does not fit `contract`; names the field.
    """

    def __init__(self, address: str, contract: PolicyContract | None, options: dict[str, Any]) -> None:
        timeout_s = options.get("connect_timeout_s", LOOK_TIMEOUT_S)
        with Observer(address, timeout_s=timeout_s, keyring=options.get("keyring")) as observer:
            self.spec = observer.spec()
        if contract is not None:
            check_contract(contract, self.spec, who=f"robot at {address}")
        self._address, self._options = address, options
        self._contract = self.spec.contract([s.name for s in self.spec.observation])
        self._robot: RemoteRobot | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        """Reset it; the first time, take the seat."""
        if self._robot is None:
            self._robot = RemoteRobot(self._address, contract=self._contract, **self._options)
        return self._robot.reset(seed=seed, options=options)

    def step(self, action: Action) -> StepResult:
        """Step it."""
        if self._robot is None:
            raise RobotError("stopped: not reset yet", field=f"robot at {self._address}", hint="reset it first")
        return self._robot.step(action)

    def stop(self, reason: str) -> None:
        """Stop it, if it is commanded from here."""
        if self._robot is not None:
            self._robot.stop(reason)

    def close(self) -> None:
        """Leave it to others."""
        robot, self._robot = self._robot, None
        if robot is not None:
            robot.close()


def make_remote(
    address: str,
    *,
    task: str = "",
    task_options: TaskOptions | None = None,
    max_episode_steps: int = DEFAULT_EPISODE_STEPS,
    **robot_options: Any,
) -> RobotEnv:
    """The environment `robot_rlpd/Remote-v0`.

    The first reset takes the robot, closing gives it back. A fault of the robot truncates the episode; a step whose
    outcome is unknown raises, and the next reset goes on.

    Args:
        address: `tcp://HOST:PORT` or `ipc://PATH` of the server.
        task: Judges here; empty leaves it to what the robot signals (reward, terminated, truncated, success).
        task_options: Options of `task`.
        max_episode_steps: Time limit in control steps where no task sets one, at least 1.
        robot_options: As for `RemoteRobot`.

    Raises:
        UnknownNameError: No such task.
        BridgeError: The server does not answer or refuses.
        MismatchError: The robot does not fit the task.
    """
    judge: Task = SignalTask("remote", max_episode_steps)
    contract = None
    if task:
        setup = load_task(task, task_options or TaskOptions())
        judge, contract = setup.task, setup.spec.contract()
    return RobotEnv(CommandedWhenReset(address, contract, robot_options), judge)


if ENV_ID not in gymnasium.registry:
    gymnasium.register(ENV_ID, entry_point="robot_rlpd.bridge.env:make_remote", order_enforce=False)
