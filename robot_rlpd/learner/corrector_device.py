"""A registered teleoperation device as somebody who may take over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from robot_rlpd.learner.buttons import Buttons, buttons_of
from robot_rlpd.learner.interventions import Corrector, corrector_of
from robot_rlpd.registry import load_entry_point
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
        self.corrector = corrector_of(
            self._device,
            spec.action,
            spec.control_rate_hz,
            self.buttons or Buttons(list),
            after_steps=round(finetune.takeover_after * setup.task.max_episode_steps),
        )

    def stop_asked(self) -> bool:
        """Whether its operator pressed quit, now or before."""
        return self.buttons is not None and self.buttons.pressed("quit")

    def __enter__(self) -> CorrectorDevice:
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(self._device, "close"):
            self._device.close()
