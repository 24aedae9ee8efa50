"""A session of fine-tuning is opened: looked at first, then made or gone on with."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from robot_rlpd.errors import RobotError, RunDirectoryError
from robot_rlpd.learner.finetune import FinetuneSession
from robot_rlpd.learner.preflight import Preflight
from robot_rlpd.learner.starting import prepare_finetuning

if TYPE_CHECKING:
    from pathlib import Path

    from robot_rlpd.learner.checkpoint import Checkpoint
    from robot_rlpd.learner.corrector_device import CorrectorDevice
    from robot_rlpd.learner.finetune_config import FinetuneConfig
    from robot_rlpd.learner.preflight import Check
    from robot_rlpd.learner.session_config import SessionConfig
    from robot_rlpd.robot import Robot
    from robot_rlpd.task import Task


def look(start: Checkpoint, robot: Robot, config: SessionConfig, task: Task) -> list[Check]:
    """Make the pre-flight checks, and show each as it is made.

    Raises:
        RobotError: One failed.
    """
    checks = []
    preflight = Preflight(start=start, robot=robot, address=config.robot, task=task, prior=config.prior)
    for check in preflight.checks():
        sys.stderr.write(f"{check}\n")
        checks.append(check)
        if check.status == "FAILED":
            raise RobotError(f"pre-flight: {check.told}", field=check.name)
    return checks


def open_session(
    config: SessionConfig,
    asked: FinetuneConfig,
    run_dir: Path,
    start: Checkpoint,
    robot: Robot,
    task: Task,
    device: CorrectorDevice,
    *,
    resumed: bool,
) -> FinetuneSession:
    """A session, new or resumed; one that cannot start leaves no directory in the way of the next try."""

    def make() -> FinetuneSession:
        return FinetuneSession(
            config, asked, run_dir, robot, task, corrector=device.corrector, stop_asked=device.stop_asked
        )

    if resumed:
        return make()
    try:
        prepare_finetuning(config, asked, run_dir, start, robot.spec)
        return make()
    except RunDirectoryError:  # it holds something of somebody else
        raise
    except BaseException:
        shutil.rmtree(run_dir, ignore_errors=True)
        raise
