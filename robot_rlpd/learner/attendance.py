"""Who stands beside the robot in a session: says what is solved, puts the scene in order, agrees that it begins."""

from __future__ import annotations

import select
import sys
import time
from typing import TYPE_CHECKING

from robot_rlpd.classified import ClassifiedRobot, ClassifiedTask
from robot_rlpd.errors import ConfigError
from robot_rlpd.learner.run_directory import CLASSIFIER
from robot_rlpd.learner.success import OperatorJudgedRobot, PromptedRobot, SignalledTask
from robot_rlpd.registry import load_entry_point

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from robot_rlpd.classified import SuccessClassifier
    from robot_rlpd.learner.buttons import Buttons
    from robot_rlpd.learner.corrector_device import CorrectorDevice
    from robot_rlpd.learner.finetune_config import FinetuneConfig, SuccessKind
    from robot_rlpd.robot import Robot
    from robot_rlpd.specs import RobotSpec
    from robot_rlpd.task import Task, TaskSetup


def classifier_of(asked: Path | None, run_dir: Path, spec: RobotSpec, *, resumed: bool) -> SuccessClassifier | None:
    """Who says what is solved, where a classifier does; a run that is resumed reads its own copy of the file.

    Raises:
        DataError: The file cannot be read or is no classifier.
        MismatchError: It was trained for another robot; names the differing field.
    """
    if asked is None:
        return None
    open_classifier = load_entry_point("robot_rlpd.classifiers", "onnx", field="classifier")
    opened: SuccessClassifier = open_classifier(run_dir / CLASSIFIER if resumed else asked, spec)
    return opened


def judge(setup: TaskSetup, success: SuccessKind, classifier: SuccessClassifier | None = None) -> Task:
    """Who says what is solved."""
    if classifier is not None:
        return ClassifiedTask(setup.task.name, setup.task.max_episode_steps, classifier)
    if success == "task":
        return setup.task
    return SignalledTask(setup.task.name, setup.task.max_episode_steps)


def attended(
    robot: Robot,
    asked: FinetuneConfig,
    device: CorrectorDevice,
    should_stop: Callable[[], bool],
    classifier: SuccessClassifier | None = None,
) -> Robot:
    """The robot with the person or the classifier that judges it, and the person who may reset it.

    Raises:
        ConfigError: A device without buttons is to say what is solved.
        MismatchError: The classifier is for another robot.
    """
    if classifier is not None:
        robot = ClassifiedRobot(robot, classifier)
    if asked.success == "operator":
        if device.buttons is None:
            raise ConfigError("has no buttons", field="intervene", found=asked.intervene, allowed="keyboard, gamepad")
        robot = OperatorJudgedRobot(robot, device.buttons)
    if asked.resets == "prompt":
        robot = PromptedRobot(robot, lambda: confirmed(device.buttons, should_stop))
    return robot


def confirmed(buttons: Buttons | None, should_stop: Callable[[], bool]) -> bool:
    """Ask for the scene to be put in order, and wait for the success button, or for Enter where there is none."""
    sys.stderr.write("\nput the scene in order, then press Enter (or the success button) ")
    sys.stderr.flush()
    while not should_stop():
        if buttons is None:
            if select.select([sys.stdin], [], [], 0.1)[0]:
                return sys.stdin.readline() != ""
        elif buttons.take("success", "start"):
            return True
        else:
            time.sleep(0.05)
    return False


def agreed(asked: FinetuneConfig, should_stop: Callable[[], bool], *, ask: bool) -> bool:
    """A terminal is asked before the robot moves by itself; a device that reads the terminal has its own keys."""
    if not ask or not sys.stdin.isatty() or asked.intervene.startswith("keyboard"):
        return True
    sys.stderr.write("Enter begins, Ctrl-C ends ")
    sys.stderr.flush()
    while not should_stop():
        if select.select([sys.stdin], [], [], 0.1)[0]:
            return sys.stdin.readline() != ""
    return False
