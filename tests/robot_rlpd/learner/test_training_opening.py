"""Who says what is solved while training: the task, the robot, or a classifier."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from robot_rlpd.classified import CLASSIFIED
from robot_rlpd.errors import ConfigError, DataError
from robot_rlpd.learner import attendance
from robot_rlpd.learner.listening import ListeningSession, steps_of
from robot_rlpd.learner.metrics import read_metrics
from robot_rlpd.learner.run_directory import CLASSIFIER, read_run_config
from robot_rlpd.learner.session import Session
from robot_rlpd.learner.session_config import SessionConfig, TrainSuccess
from robot_rlpd.learner.training_opening import open_training
from robot_rlpd.rollout import rollout
from robot_rlpd.task import TaskSetup
from robot_rlpd.testing import FakePolicy, FakeRobot, FakeTask, fake_spec

if TYPE_CHECKING:
    from robot_rlpd.learner.rlpd import RLPDConfig
    from robot_rlpd.robot import Observation
    from robot_rlpd.specs import PolicyContract, RobotSpec

SETUP = TaskSetup(task=FakeTask(max_episode_steps=8), spec=fake_spec(), make_robot=FakeRobot)


class Right:
    """Says that the task is solved where the point is on the right-hand side, wherever the target is."""

    contract: PolicyContract = fake_spec().contract(["position"])
    threshold, in_a_row = 0.5, 1

    def __call__(self, observation: Observation) -> float:
        return float(observation["position"][0] > 0.0)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that were opened as a classifier."""
    paths: list[Path] = []

    def open_classifier(path: Path, spec: RobotSpec) -> Right:
        path.read_bytes()
        paths.append(path)
        return Right()

    monkeypatch.setattr(attendance, "load_entry_point", lambda group, name, field: open_classifier)
    return paths


def config(tiny: RLPDConfig, success: TrainSuccess, classifier: Path | None = None, **changes: object) -> SessionConfig:
    given = {"env_steps": 40, "start_training": 30, "compile_update": False, "task": "fake", **changes}
    return SessionConfig(rlpd=tiny, success=success, classifier=classifier, **given)  # type: ignore[arg-type]


def on_the_right(session: Session) -> list[bool]:
    """Of each step that ended an episode as solved, whether the point was on the right."""
    return [
        bool(episode.observations["position"][-1, 0] > 0.0)
        for episode in session.store.load_all()
        if episode.info.success
    ]


def test_a_classifier_ends_episodes_and_a_resumed_run_reads_its_own_copy(
    tmp_path: Path, tiny: RLPDConfig, opened: list[Path]
) -> None:
    file, run_dir = tmp_path / "solved.onnx", tmp_path / "run"
    file.write_bytes(b"a classifier")
    asked = config(tiny, "classifier", file)
    session = open_training(asked, run_dir, SETUP, FakeRobot(), resume=False)
    assert isinstance(session, Session)
    session.run(lambda: False)
    session.close()
    solved = on_the_right(session)
    assert len(solved) > 3
    assert all(solved)
    assert CLASSIFIED in {signal.name for signal in session.store.spec.signals}
    file.unlink()
    resumed = open_training(read_run_config(run_dir), run_dir, SETUP, FakeRobot(), resume=True)
    resumed.close()
    assert opened == [file, run_dir / CLASSIFIER]


def test_the_robots_own_word_ends_episodes_and_a_robot_that_says_nothing_is_refused(
    tmp_path: Path, tiny: RLPDConfig
) -> None:
    session = open_training(config(tiny, "robot"), tmp_path / "run", SETUP, FakeRobot(), resume=False)
    assert session.task.evaluate({}, np.zeros(2, np.float32), {"success": np.array(True)}, {}).terminated
    session.close()
    mute = FakeRobot(replace(fake_spec(), signals=()))
    with pytest.raises(DataError, match=r"signals\.success"):
        open_training(config(tiny, "robot"), tmp_path / "none", SETUP, mute, resume=False)
    assert not (tmp_path / "none").exists()


def test_what_actors_recorded_without_a_classifier_is_judged_by_it(
    tmp_path: Path, tiny: RLPDConfig, opened: list[Path]
) -> None:
    file = tmp_path / "solved.onnx"
    file.write_bytes(b"a classifier")
    asked = config(tiny, "classifier", file, listen="tcp://127.0.0.1:0", start_training=4, env_steps=5)
    session = open_training(asked, tmp_path / "run", SETUP, FakeRobot(), resume=False)
    assert isinstance(session, ListeningSession)
    recorded = rollout(FakeRobot(), FakePolicy(), FakeTask(), seed=on_the_right_seed())
    steps = list(steps_of(recorded, session.task))
    assert [step.outcome.success for step in steps] == [False] * (len(steps) - 1) + [True]
    assert len(steps) < len(recorded)
    session.store.append(recorded)  # as the recorder's robot told it, without the classifier's signals
    session._arrived.put(recorded)
    session.run(lambda: session.episodes == 1)
    session.close()
    (told,) = read_metrics(tmp_path / "run", "episode")
    assert (told["success"], session.env_steps) == (1, len(steps))
    assert CLASSIFIED in {signal.name for signal in session.robot.spec.signals}


def on_the_right_seed() -> int:
    """Of an episode whose target lies far to the right, several steps away."""
    return next(seed for seed in range(99) if np.random.default_rng(seed).uniform(-1.0, 1.0, 2)[0] > 0.7)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"success": "classifier"}, "classifier: found none"),
        ({"classifier": Path("some.onnx")}, "classifier: found some.onnx"),
        ({"success": "robot", "success_when": "reward > 0"}, "success_when: found reward > 0"),
        ({"success": "robot", "reward": "stored"}, "reward: found stored"),
    ],
)
def test_two_who_say_what_is_solved_are_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        SessionConfig(task="fake", **given)
