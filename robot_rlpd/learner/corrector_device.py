"""A registered teleoperation device as somebody who may take over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from robot_rlpd.errors import ConfigError
from robot_rlpd.learner.buttons import Buttons, buttons_of
from robot_rlpd.learner.interventions import Corrector, HandsOn, LateCorrector, StuckCorrector
from robot_rlpd.registry import load_entry_point
from robot_rlpd.robot import Expert, Policy, Source
from robot_rlpd.specs import RobotSpec
from robot_rlpd.task import TaskSetup

if TYPE_CHECKING:
    from robot_rlpd.learner.finetune_config import FinetuneConfig


@dataclass(frozen=True, kw_only=True)
class CorrectorOptions:
    """What a device is made from, as `DeviceOptions` of the recorder.

    Attributes:
        spec: Spec of the robot that is driven.
        setup: The task.
        argument: What was typed after the colon.
        noise: Size of the mistakes of a scripted device, in [0, 1].
        seed: Seed of everything random in the device.
    """

    spec: RobotSpec
    setup: TaskSetup
    argument: str = ""
    noise: float = 0.0
    seed: int = 0


class CorrectorDevice:
    """Opens the device that `--intervene` names; a context manager that closes it.

    Args:
        finetune: Names the device; an empty name opens none.
        spec: Spec of the robot.
        setup: The task.
        seed: Of everything random in the device.

    Attributes:
        corrector: Who may take over; None for nobody.
        buttons: Of the device; None where it has none.

    Raises:
        UnknownNameError: No such device; lists those that exist.
        ConfigError: It cannot drive this robot.
    """

    def __init__(self, finetune: FinetuneConfig, spec: RobotSpec, setup: TaskSetup, *, seed: int) -> None:
        self._device: Any = None
        self.corrector: Corrector | None = None
        self.buttons: Buttons | None = None
        if not finetune.intervene:
            return
        name, _, argument = finetune.intervene.partition(":")
        make: Any = load_entry_point("robot_rlpd.teleop", name, field="intervene")
        options = CorrectorOptions(spec=spec, setup=setup, argument=argument, noise=finetune.corrector_noise, seed=seed)
        self._device = make(options)
        self.buttons = buttons_of(self._device)
        buttons, limit = self.buttons or Buttons(list), setup.task.max_episode_steps
        self.corrector = corrector_of(self._device, finetune, spec, buttons, max_episode_steps=limit)

    def stop_asked(self) -> bool:
        """Whether its operator pressed quit, now or before."""
        return self.buttons is not None and self.buttons.pressed("quit")

    def __enter__(self) -> CorrectorDevice:
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(self._device, "close"):
            self._device.close()


def corrector_of(
    device: Policy, finetune: FinetuneConfig, spec: RobotSpec, buttons: Buttons, *, max_episode_steps: int
) -> Corrector:
    """Who takes over with a device: a person by touching it, a script when the policy is stuck, or late.

    Raises:
        ConfigError: A script that is to see that the policy is stuck, and cannot.
    """
    if device.source is Source.HUMAN:
        return HandsOn(device, spec.action, spec.control_rate_hz, buttons)
    if finetune.takeover == "late":
        return LateCorrector(device, round(finetune.takeover_after * max_episode_steps))
    if not isinstance(device, Expert):
        hint = "--takeover late takes over after a part of the time limit"
        message = "this device does not see how far it is, so not who is stuck either"
        raise ConfigError(message, field="intervene", found=finetune.intervene, hint=hint)
    return StuckCorrector(device, max(1, round(finetune.stuck_s * spec.control_rate_hz)))
