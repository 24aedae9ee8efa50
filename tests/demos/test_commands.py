from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from demos import commands
from demos.commands import ImportConfig, InfoConfig, ListConfig, RecordConfig
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import ConfigError, DataError, MismatchError, StoreError
from robot_rlpd.specs import ArraySpec
from robot_rlpd.task import TaskOptions, TaskSetup
from robot_rlpd.testing import FakePolicy, FakeRobot, FakeTask, fake_spec

if TYPE_CHECKING:
    from pathlib import Path

    from robot_rlpd.robot import Observation, Policy

CAMERA = ArraySpec(name="camera", shape=(16, 24, 3), dtype="uint8", is_image=True)
FILMED = replace(fake_spec(), observation=(*fake_spec().observation, CAMERA))


@pytest.fixture(autouse=True)
def fake_task(monkeypatch: pytest.MonkeyPatch) -> None:
    def make_expert(noise: float, seed: int) -> Policy:
        return FakePolicy()

    def load(name: str, options: TaskOptions) -> TaskSetup:
        task = FakeTask(options.max_episode_steps or 20)
        return TaskSetup(task=task, spec=fake_spec(), make_robot=FakeRobot, make_expert=make_expert)

    monkeypatch.setattr(commands, "load_task", load)


def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return json.loads(out)


def lift_file(path: Path, *, bad: bool = False) -> Path:
    with h5py.File(path, "w") as file:
        file.create_group("data").attrs["env_args"] = json.dumps({"env_name": "L", "env_kwargs": {"control_freq": 20}})
        for demo in range(3):
            file[f"data/demo_{demo}/actions"] = np.full((4, 2), 2.0 * demo)
            observation = np.full((4, 3), np.nan if bad and demo == 2 else float(demo))
            file[f"data/demo_{demo}/obs/state"] = observation
    return path


def test_record_tells_what_it_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = commands.record(RecordConfig(task="fake", out=tmp_path / "store", episodes=3, operator="Ada", json=True))
    assert status == 0
    result = printed(capsys)
    assert (result["episodes"], result["success_rate"], result["store_episodes"]) == (3, 1.0, 3)
    assert {stored.info.operator for stored in EpisodeStore.open(tmp_path / "store").infos()} == {"Ada"}


NOISE = np.random.default_rng(0).integers(0, 256, CAMERA.shape, np.uint8)


class FilmedRobot(FakeRobot):
    """Shows noise, which JPEG changes."""

    def __init__(self) -> None:
        super().__init__(FILMED)

    def _observation(self) -> Observation:
        return {**super()._observation(), "camera": NOISE}


@pytest.mark.parametrize(
    ("wished", "told"),
    [({}, "JPEG of quality 90"), ({"jpeg_quality": 60}, "JPEG of quality 60"), ({"lossless": True}, "lossless")],
)
def test_images_are_kept_as_was_asked(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wished: dict[str, Any],
    told: str,
) -> None:
    setup = TaskSetup(
        task=FakeTask(), spec=FILMED, make_robot=FilmedRobot, make_expert=lambda noise, seed: FakePolicy()
    )
    monkeypatch.setattr(commands, "load_task", lambda *_: setup)
    out = tmp_path / "store"
    words: dict[str, Any] = {"task": "fake", "out": out, "episodes": 1}
    commands.record(RecordConfig(**words, **wished))
    with EpisodeStore.open(out) as store:
        assert str(store.codec) == told
        shown = store.read(0).observations["camera"]
    assert (shown == NOISE).all() == (told == "lossless")
    capsys.readouterr()
    commands.info(InfoConfig(path=str(out), json=True))
    assert printed(capsys)["images"] == told
    if told == "lossless":
        commands.record(RecordConfig(**words, append=True))  # as the store has them
        with pytest.raises(MismatchError, match=r"JPEG of quality 33.*lossless"):
            commands.record(RecordConfig(**words, append=True, jpeg_quality=33))


def test_images_cannot_be_lossless_and_of_a_quality(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="jpeg_quality: not together with --lossless"):
        commands.record(RecordConfig(task="fake", out=tmp_path / "store", lossless=True, jpeg_quality=90))
    with pytest.raises(ConfigError, match="jpeg_quality: found 101"):
        commands.record(RecordConfig(task="fake", out=tmp_path / "store", jpeg_quality=101))
    assert not (tmp_path / "store").exists()


def test_record_adds_to_a_store_only_when_asked(tmp_path: Path) -> None:
    config = RecordConfig(task="fake", out=tmp_path / "store", episodes=1)
    commands.record(config)
    with pytest.raises(StoreError, match="--append"):
        commands.record(config)
    commands.record(RecordConfig(task="fake", out=tmp_path / "store", episodes=1, append=True))
    assert len(EpisodeStore.open(tmp_path / "store")) == 2


def test_record_fails_when_too_few_episodes_are_solved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "store"
    config = RecordConfig(task="fake", out=out, episodes=9, max_attempts=9, max_episode_steps=1, json=True)
    assert commands.record(config) == 1
    assert printed(capsys)["success_rate"] < 1.0


@pytest.mark.parametrize(
    "wrong", [{"episodes": 0}, {"noise": 1.5}, {"max_attempts": 0}, {"seed": -1}, {"camera_timeout_s": 0.0}]
)
def test_record_refuses_options_out_of_range_naming_them(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        RecordConfig(task="fake", out=tmp_path / "store", **wrong)


def test_info_and_list_describe_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands.record(RecordConfig(task="fake", out=tmp_path / "store", episodes=3))
    capsys.readouterr()
    assert commands.info(InfoConfig(path=str(tmp_path / "store"), json=True)) == 0
    summary = printed(capsys)
    store = EpisodeStore.open(tmp_path / "store")
    assert summary["episodes"] == 3
    assert summary["steps"] == store.num_steps
    assert summary["fingerprint"] == fake_spec().fingerprint
    assert summary["successes"] == 3
    assert summary["unknown_success"] == 0
    assert summary["tasks"] == {"fake": 3}
    assert summary["ended"] == {"terminated": 3}
    assert summary["sources"] == {"scripted": store.num_steps}
    assert summary["control_rate_hz"] == 10.0
    assert summary["format_version"] == 2
    assert set(summary["lengths"]) == {"min", "median", "max"}
    assert set(summary["fields"]) == {"position", "target"}
    commands.list_episodes(ListConfig(path=str(tmp_path / "store"), json=True))
    assert [episode["seed"] for episode in printed(capsys)["episodes"]] == [0, 1, 2]
    commands.list_episodes(ListConfig(path=str(tmp_path / "store")))
    assert capsys.readouterr().out.count("solved") == 3
    commands.info(InfoConfig(path=str(tmp_path / "store")))
    assert "robot" in capsys.readouterr().out


def test_an_empty_store_has_a_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    EpisodeStore.create(tmp_path / "store", fake_spec()).close()
    commands.info(InfoConfig(path=str(tmp_path / "store"), json=True))
    assert printed(capsys)["lengths"] == {"min": None, "median": None, "max": None}


def test_import_writes_a_store_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = lift_file(tmp_path / "lift.hdf5")
    assert commands.import_file(ImportConfig(file=file, format="robomimic", out=tmp_path / "store", json=True)) == 0
    result = printed(capsys)
    assert (result["episodes"], result["steps"], result["added"]) == (3, 12, 3)
    assert (result["clipped_steps"], result["longest"], result["successes"]) == (8, 4, None)
    assert result["fields"] == {"state": "obs/state"}
    assert len(EpisodeStore.open(tmp_path / "store")) == 3


def test_importing_a_file_again_adds_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = lift_file(tmp_path / "lift.hdf5")
    commands.import_file(ImportConfig(file=file, format="robomimic", out=tmp_path / "store"))
    with pytest.raises(StoreError, match="--append"):
        commands.import_file(ImportConfig(file=file, format="robomimic", out=tmp_path / "store"))
    capsys.readouterr()
    commands.import_file(ImportConfig(file=file, format="robomimic", out=tmp_path / "store", append=True, json=True))
    assert printed(capsys)["added"] == 0
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_damaged_file_leaves_nothing_behind(tmp_path: Path) -> None:
    file = lift_file(tmp_path / "lift.hdf5", bad=True)
    with pytest.raises(DataError, match="episode 2, step 0"):
        commands.import_file(ImportConfig(file=file, format="robomimic", out=tmp_path / "store"))
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_of_another_robot_is_not_added(tmp_path: Path) -> None:
    EpisodeStore.create(tmp_path / "store", fake_spec()).close()
    file = lift_file(tmp_path / "lift.hdf5")
    with pytest.raises(MismatchError):
        commands.import_file(ImportConfig(file=file, format="robomimic", out=tmp_path / "store", append=True))


def test_an_unknown_source_is_refused_listing_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="policy, human, scripted, random"):
        ImportConfig(file=tmp_path, format="d4rl", out=tmp_path, source="ghost")
