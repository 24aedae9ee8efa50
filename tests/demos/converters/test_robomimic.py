from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from demos.converters import robomimic
from demos.converters.conversion import Conversion, ConversionTarget
from demos.converters.fields import parse_fields
from robot_rlpd.episode import Ended
from robot_rlpd.errors import ConfigError, DataError
from robot_rlpd.specs import ArraySpec

DATA = Path(os.environ.get("ROBOT_RLPD_DATA", Path(__file__).resolve().parents[4] / "shared/data"))
LIFT = DATA / "panda_lift_human.hdf5"
ARGUMENTS = {"env_name": "Stack", "env_kwargs": {"robots": "Panda", "control_freq": 20}}


def write(
    path: Path, change: dict[str, Any] | None = None, *, steps: tuple[int, ...] = (4, 3), arguments: Any = ARGUMENTS
) -> Path:
    """Episodes whose observation counts up; the first ends with a reward, the others without. `change` edits demo_0."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        if arguments is not None:
            data.attrs["env_args"] = json.dumps(arguments)
        for index, length in enumerate(steps):
            position = np.arange(length + 1, dtype=np.float64)[:, None] + [0.0, 100.0 * index]
            contents: dict[str, Any] = {
                "actions": np.full((length, 2), 0.5),
                "obs/position": position[:-1],
                "obs/camera": np.full((length, 8, 8, 3), index, np.uint8),
                "next_obs/position": position[1:],
                "next_obs/camera": np.full((length, 8, 8, 3), index, np.uint8),
                "rewards": np.eye(1, length, length - 1)[0] * (index == 0),
                "dones": np.eye(1, length, length - 1, dtype=np.int64)[0],
            }
            for name, value in (contents | (change or {} if index == 0 else {})).items():
                if value is not None:
                    data[f"demo_{index}/{name}"] = value
    return path


def read(path: Path, **target: Any) -> Conversion:
    return robomimic.read(path, ConversionTarget(**target))


def test_the_robot_is_described_from_the_file(tmp_path: Path) -> None:
    spec = read(write(tmp_path / "data.hdf5")).spec
    assert spec.name == "Stack Panda"
    assert spec.control_rate_hz == 20.0
    camera, position = spec.observation
    assert (camera.name, camera.shape, camera.is_image) == ("camera", (8, 8, 3), True)
    assert (position.name, position.shape, position.dtype) == ("position", (2,), "float32")
    assert [(c.low, c.high) for c in spec.action.components] == [(-1.0, 1.0)] * 2
    assert [s.name for s in spec.signals] == ["reward", "terminated"]


def test_episodes_come_in_the_order_of_their_numbers_with_their_final_observation(tmp_path: Path) -> None:
    conversion = read(write(tmp_path / "data.hdf5", steps=(2,) * 11))
    found = list(conversion)
    for index, episode in enumerate(found):
        episode.validate()
        assert episode.has_final_observation
        np.testing.assert_array_equal(episode.observations["position"][:, 0], [0.0, 1.0, 2.0])
        assert episode.observations["position"][0, 1] == 100.0 * index
    assert conversion.report.episodes == 11
    assert conversion.report.steps == conversion.num_steps == 22


def test_done_with_a_reward_is_a_termination_and_without_one_the_end_of_a_recording(tmp_path: Path) -> None:
    conversion = read(write(tmp_path / "data.hdf5"))
    solved, cut = conversion
    assert solved.info.ended is Ended.TERMINATED
    np.testing.assert_array_equal(solved.signals["terminated"], [False, False, False, True])
    assert cut.info.ended is Ended.TRUNCATED
    assert not cut.signals["terminated"].any()
    assert conversion.report.ended == {"terminated": 1, "truncated": 1}
    assert conversion.report.notes == ["done with a reward counts as terminated, done without one as truncated"]


def test_without_next_observations_the_final_one_is_missing(tmp_path: Path) -> None:
    found = list(read(write(tmp_path / "data.hdf5", {"next_obs/position": None})))
    assert [episode.has_final_observation for episode in found] == [False, True]


def test_a_known_robot_takes_its_fields_by_name_or_as_told(tmp_path: Path) -> None:
    path = write(tmp_path / "data.hdf5")
    spec = replace(read(path).spec, observation=(ArraySpec(name="height", shape=(1,)),))
    episode = next(iter(read(path, spec=spec, fields=parse_fields(["height=position[1]"]))))
    assert episode.observations["height"].shape == (5, 1)
    with pytest.raises(DataError, match=r"demo_0/obs/height: no such dataset; allowed: .*obs/position"):
        read(path, spec=spec)


def test_the_control_rate_has_to_be_known(tmp_path: Path) -> None:
    path = write(tmp_path / "data.hdf5", arguments=None)
    with pytest.raises(ConfigError, match="--control-rate-hz"):
        read(path)
    assert read(path, control_rate_hz=5.0).spec.control_rate_hz == 5.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"actions": np.zeros((5, 2))}, "demo_0/rewards: found 4 rows; allowed: 5"),
        ({"obs/position": np.zeros((4, 3))}, None),
        ({"dones": None}, None),
        ({"actions": None}, "demo_0/actions: no such dataset"),
    ],
)
def test_episodes_that_do_not_fit_one_another_are_refused(
    tmp_path: Path, change: dict[str, Any], message: str | None
) -> None:
    path = write(tmp_path / "data.hdf5", change)
    if change.keys() == {"dones"}:
        assert [s.name for s in read(path).spec.signals] == ["reward"]
        return
    with pytest.raises(DataError, match=message or "field 'position' does not fit"):
        read(path)


def test_nan_is_refused_naming_dataset_episode_and_step(tmp_path: Path) -> None:
    bad = np.zeros((4, 2))
    bad[2, 0] = np.nan
    with pytest.raises(DataError, match="data/demo_0/obs/position, episode 0, step 2"):
        list(read(write(tmp_path / "data.hdf5", {"obs/position": bad})))


def test_a_file_without_episodes_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "data.hdf5", "w") as file:
        file["observations"] = np.zeros(3)
    with pytest.raises(DataError, match=r"data/demo_\*: no episodes; found observations"):
        read(tmp_path / "data.hdf5")


@pytest.mark.skipif(not LIFT.exists(), reason=f"{LIFT} is not there")
def test_the_human_lift_demonstration_is_read() -> None:
    conversion = read(LIFT)
    (episode,) = conversion
    episode.validate()
    assert len(episode) == 411
    assert episode.has_final_observation
    assert episode.info.ended is Ended.TERMINATED
    assert episode.info.success is None
    assert conversion.spec.control_rate_hz == 20.0
    assert conversion.report.unused == ["states"]
