from __future__ import annotations

import json
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from demos import export_commands
from demos.export_commands import ExportConfig
from robot_rlpd.episode import Ended
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import UnknownNameError
from robot_rlpd.task import Outcome, TaskOptions, TaskSetup
from robot_rlpd.testing import FakeRobot, FakeTask, fake_spec
from tests.demos.converters.conftest import ARM, arm_episode

if TYPE_CHECKING:
    from pathlib import Path

    from robot_rlpd.robot import Action, Observation
    from robot_rlpd.task import Signals


@pytest.fixture
def store(tmp_path: Path) -> str:
    """One solved episode, and one that was interrupted."""
    with EpisodeStore.create(tmp_path / "arm.zarr", ARM) as opened:
        opened.append(arm_episode(0, 6, ended=Ended.TERMINATED))
        opened.append(arm_episode(1, 4, ended=Ended.INTERRUPTED))
    return str(tmp_path / "arm.zarr")


def test_export_says_in_words_what_it_wrote_and_what_was_changed(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export_commands.export_store(ExportConfig(store=store, format="lerobot", out=tmp_path / "out")) == 0
    told = capsys.readouterr().out
    assert f"exported  2 episodes, 10 steps to {tmp_path / 'out'}" in told
    assert "cut       2 final observations left out" in told
    assert "1 interrupted episode, which the format calls truncated" in told
    assert "actions are the executed ones" in told
    assert "reward: next.reward" in told


def test_export_says_it_in_json(store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ExportConfig(store=store, format="d4rl", out=tmp_path / "out.hdf5", actions="commanded", json=True)
    export_commands.export_store(config)
    told = json.loads(capsys.readouterr().out)
    assert (told["episodes"], told["steps"], told["interrupted"]) == (2, 10, 1)
    with h5py.File(told["out"]) as file:
        np.testing.assert_array_equal(file["actions"][:6], arm_episode(0, 6, ended=Ended.TERMINATED).actions)


class Generous(FakeTask):
    def evaluate(
        self, observation: Observation, executed_action: Action, signals: Signals, next_observation: Observation
    ) -> Outcome:
        return Outcome(reward=7.0)


def test_export_asks_the_task_for_rewards(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, options: TaskOptions) -> TaskSetup:
        assert (name, options.reward) == ("fake", "sparse")
        return TaskSetup(task=Generous(), spec=fake_spec(), make_robot=FakeRobot)

    monkeypatch.setattr(export_commands, "load_task", load)
    config = ExportConfig(store=store, format="robomimic", out=tmp_path / "out.hdf5", task="fake", reward="sparse")
    export_commands.export_store(config)
    with h5py.File(tmp_path / "out.hdf5") as file:
        assert set(file["data/demo_1/rewards"][:]) == {7.0}


def test_an_unknown_format_is_refused_listing_the_known_ones(store: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="d4rl, lerobot, minari, replay_buffer, robomimic"):
        export_commands.export_store(ExportConfig(store=store, format="csv", out=tmp_path / "out"))
