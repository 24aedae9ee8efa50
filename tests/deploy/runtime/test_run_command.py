from __future__ import annotations

import json
import signal
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from deploy.export import build_policy_model, write_model
from deploy.runtime.commands import RunConfig, run
from deploy.runtime.metadata import PolicyMetadata
from robot_rlpd import cli
from robot_rlpd.episode import Ended
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import ConfigError, MismatchError, RobotError, UnknownNameError
from robot_rlpd.evaluation import EVALUATION_SEED_OFFSET
from robot_rlpd.robot import Action, Robot, Source, StepResult
from robot_rlpd.specs import RobotSpec
from robot_rlpd.testing import FakeRobot, fake_spec

if TYPE_CHECKING:
    from pathlib import Path

    from robot_rlpd.task import TaskOptions


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """Walks towards the target: action = 0.5 tanh(2 (target - position)), by a ReLU for each sign."""
    towards = np.concatenate([-np.eye(2), np.eye(2)]).astype(np.float32)
    actor = {
        "dense0/kernel": np.concatenate([towards, -towards], axis=1),
        "dense0/bias": np.zeros(4, np.float32),
        "mean/kernel": 2 * np.concatenate([np.eye(2), -np.eye(2)]).astype(np.float32),
        "mean/bias": np.zeros(2, np.float32),
    }
    described = PolicyMetadata(contract=fake_spec().contract(), task="fake", max_episode_steps=30)
    write_model(build_policy_model(actor, described, normalizer=None), tmp_path / "policy.onnx")
    return tmp_path / "policy.onnx"


class Fleet:
    """Hands out a fake robot as `fake:NAME` and remembers what it was asked for."""

    def __init__(self) -> None:
        self.robot: FakeRobot = FakeRobot()
        self.asked: list[tuple[str, TaskOptions]] = []

    def make_robot(self, argument: str, options: TaskOptions) -> Robot:
        self.asked.append((argument, options))
        return self.robot


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Fleet:
    fleet = Fleet()
    point = EntryPoint(name="fake", value="nowhere:make_robot", group="robot_rlpd.robots")
    monkeypatch.setattr("robot_rlpd.bridge.robots.entry_points", lambda group: {"fake": point})
    monkeypatch.setattr("robot_rlpd.bridge.robots.load_entry_point", lambda group, name: fleet.make_robot)
    return fleet


def config(policy: Path, **options: Any) -> RunConfig:
    return RunConfig(**{"policy": policy, "robot": "fake:one", "pace": "fast", "json": True, **options})


def test_a_policy_file_solves_the_task_and_the_run_is_told_as_json(
    policy: Path, fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config(policy, episodes=5)) == 0
    output = capsys.readouterr()
    report = json.loads(output.out)
    assert (report["task"], report["policy"], report["robot"]) == ("fake", str(policy), "fake:one")
    assert (report["episodes"], report["successes"], report["success_rate"]) == (5, 5, 1.0)
    assert report["ci95"][0] == pytest.approx(0.5655, abs=1e-3)
    assert report["mean_length"] == len(fleet.robot.executed) / 5 == report["steps"] / 5
    assert report["mean_return"] == pytest.approx(1 - report["mean_length"])
    assert report["seeds"] == [EVALUATION_SEED_OFFSET, EVALUATION_SEED_OFFSET + 4]
    assert report["rate_hz"] > 0
    assert set(report["latency_us"]) == {"p50", "p99", "max"}
    assert report["first_action_s"] > 0
    assert report["clipped_actions"] == 0
    assert report["stopped"] is False
    assert fleet.asked[0][0] == "one"
    assert fleet.robot.closed


def test_seeds_are_those_of_the_evaluation(policy: Path, fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    run(config(policy, episodes=2, seed=3))
    assert json.loads(capsys.readouterr().out)["seeds"] == [EVALUATION_SEED_OFFSET + 30_000 + i for i in (0, 1)]


def test_without_json_the_result_is_for_people(policy: Path, fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(config(policy, episodes=3, json=False)) == 0
    assert "3/3 solved (100 %" in capsys.readouterr().out.replace("100%", "100 %")


def test_the_time_limit_is_that_of_the_file_unless_told_otherwise(
    policy: Path, fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.robot = Unreachable()
    run(config(policy))
    assert json.loads(capsys.readouterr().out)["steps"] == 30
    run(config(policy, max_episode_steps=4))
    report = json.loads(capsys.readouterr().out)
    assert (report["steps"], report["successes"]) == (4, 0)
    assert [options.max_episode_steps for _, options in fleet.asked] == [30, 4]


class Unreachable(FakeRobot):
    """Its target is far away."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
        super().reset(seed=seed, options=options)
        self.target = np.full(2, 1e3, np.float32)
        return StepResult(self._observation())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_robot_and_the_whole_episodes_are_told(
    policy: Path, fleet: Fleet, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    class Interrupting(FakeRobot):
        def step(self, action: Action) -> StepResult:
            if self.resets == 2:
                signal.raise_signal(number)
            return super().step(action)

        resets = 0

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> StepResult:
            self.resets += 1
            return super().reset(seed=seed, options=options)

    fleet.robot = Interrupting()
    before = signal.getsignal(number)
    assert run(config(policy, episodes=9)) == 130
    report = json.loads(capsys.readouterr().out)
    assert (report["stopped"], report["episodes"]) == (True, 1)
    assert fleet.robot.stops[0] == "asked to stop"
    assert fleet.robot.closed
    assert signal.getsignal(number) is before


def test_a_fault_ends_the_run_and_tells_what_was_done(
    policy: Path, fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    class Failing(FakeRobot):
        def step(self, action: Action) -> StepResult:
            self.fault = "motor 3 is hot" if len(self.executed) >= 20 else ""
            return super().step(action)

    fleet.robot = Failing()
    with pytest.raises(RobotError, match="motor 3 is hot"):
        run(config(policy, episodes=100))
    assert "cut off after" in capsys.readouterr().err
    assert fleet.robot.closed
    assert "motor 3" in fleet.robot.stops[0]


@pytest.mark.parametrize("episodes", [1, 3])
def test_every_episode_is_recorded_with_the_policy_that_acted(policy: Path, fleet: Fleet, episodes: int) -> None:
    store = policy.parent / "runs.zarr"
    run(config(policy, episodes=episodes, record=store))
    with EpisodeStore.open(store) as opened:
        recorded = list(opened)
    assert len(recorded) == episodes
    assert len({episode.info.uuid for episode in recorded}) == episodes
    for index, episode in enumerate(recorded):
        assert episode.info.ended is Ended.TERMINATED
        assert episode.info.success
        assert episode.info.task == "fake"
        assert episode.info.policy.startswith("onnx:")
        assert episode.info.seed == EVALUATION_SEED_OFFSET + index
        assert set(episode.sources) == {Source.POLICY}


def test_a_robot_of_another_rate_is_refused_before_it_moves(policy: Path, fleet: Fleet) -> None:
    fleet.robot = FakeRobot(fake_spec(control_rate_hz=20.0))
    with pytest.raises(MismatchError, match="control_rate_hz"):
        run(config(policy))
    assert not fleet.robot.executed
    assert fleet.robot.closed


def test_success_that_nobody_signals_is_unknown(policy: Path, fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    spec = fake_spec()
    silent = RobotSpec(
        name="silent", observation=spec.observation, action=spec.action, control_rate_hz=spec.control_rate_hz
    )
    fleet.robot = Unreachable(silent)
    run(config(policy, max_episode_steps=2))
    output = capsys.readouterr()
    report = json.loads(output.out)
    assert report["episodes"] == 1
    assert report["successes"] is report["success_rate"] is report["ci95"] is None
    assert "--task" in output.err


def test_an_unknown_robot_and_wrong_options_are_told(policy: Path, fleet: Fleet) -> None:
    with pytest.raises(UnknownNameError, match="no such robot"):
        run(config(policy, robot="mars"))
    with pytest.raises(ConfigError, match="episodes: found 0"):
        config(policy, episodes=0)
    with pytest.raises(ConfigError, match="env_kwargs"):
        run(config(policy, env_kwargs="[1]"))


def test_the_command_line_understands_the_options(
    policy: Path, fleet: Fleet, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    point = EntryPoint(name="run", value="deploy.runtime.commands:run", group=cli.GROUP)
    monkeypatch.setattr(cli, "entry_points", lambda group: {"run": point})
    monkeypatch.setattr(cli, "load_entry_point", lambda group, name: run)
    arguments = ["run", str(policy), "--robot", "fake:a", "--episodes", "2", "--pace", "fast", "--json"]
    assert cli.main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 2
    (policy.parent / "cut.onnx").write_bytes(policy.read_bytes()[:300])
    assert cli.main(["run", str(policy.parent / "cut.onnx"), "--robot", "fake:a", "--json"]) == 1
    output = capsys.readouterr()
    assert json.loads(output.out)["error"]["type"] == "DataError"
    assert output.err.count("\n") == 1
