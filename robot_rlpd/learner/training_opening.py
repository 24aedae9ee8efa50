"""A session of training is opened: made, or gone on with, with whoever says what is solved."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from robot_rlpd.classified import ClassifiedRobot
from robot_rlpd.errors import RunDirectoryError
from robot_rlpd.learner.attendance import classifier_of, judge
from robot_rlpd.learner.cloning_session import CloningSession
from robot_rlpd.learner.run_directory import CLASSIFIER, prepare_run_directory
from robot_rlpd.learner.session import Session

if TYPE_CHECKING:
    from pathlib import Path

    from robot_rlpd.learner.session_config import SessionConfig
    from robot_rlpd.robot import Robot
    from robot_rlpd.task import TaskSetup


def open_training(
    config: SessionConfig, run_dir: Path, setup: TaskSetup, robot: Robot, *, resume: bool
) -> Session | CloningSession:
    """A session, new or resumed; one that cannot start leaves no directory in the way of the next try.

    Raises:
        RunDirectoryError: The directory holds something of somebody else, or nothing to go on with.
        DataError: The classifier's file cannot be read or is none, or the robot does not signal success.
        MismatchError: The classifier or the prior data are of another robot; names the field.
    """
    classifier = classifier_of(config.classifier, run_dir, robot.spec, resumed=resume)
    task = judge(setup, config.success, classifier)
    if config.success == "robot":
        task.check_recomputable(robot.spec, where=f"robot '{robot.spec.name}'")
    judged = robot if classifier is None else ClassifiedRobot(robot, classifier)

    def make() -> Session | CloningSession:
        if config.cloning_steps:
            return CloningSession(config, run_dir, judged, task)
        if config.listen:
            from robot_rlpd.learner.listening import ListeningSession

            return ListeningSession(config, run_dir, robot, task, evaluated=judged, resume=resume)
        return Session(config, run_dir, judged, task, resume=resume)

    if resume:
        return make()
    try:
        prepare_run_directory(config, run_dir)
        if config.classifier is not None:
            shutil.copyfile(config.classifier, run_dir / CLASSIFIER)
        return make()
    except RunDirectoryError:  # it holds something of somebody else
        raise
    except BaseException:
        shutil.rmtree(run_dir, ignore_errors=True)
        raise
