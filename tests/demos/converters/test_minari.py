"""Files as Minari writes them: spaces as JSON within JSON, infos from the reset on, images as JPEG."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from demos.converters import minari
from demos.converters.conversion import Conversion, ConversionTarget
from demos.converters.minari_spaces import describe
from demos.converters.minari_writer import dataset_id
from robot_rlpd import images
from robot_rlpd.episode import Ended
from robot_rlpd.errors import ConfigError, DataError
from robot_rlpd.specs import ArraySpec

if TYPE_CHECKING:
    from pathlib import Path

BOX = {"type": "Box", "dtype": "float64", "shape": [2], "low": [-np.inf, -1.0], "high": [np.inf, 1.0]}
CAMERA = {"type": "Box", "dtype": "uint8", "shape": [32, 40, 3], "low": 0, "high": 255}
SPACE = {"type": "Dict", "subspaces": {"state": BOX, "deep": {"type": "Dict", "subspaces": {"camera": CAMERA}}}}
ACTION = {"type": "Box", "dtype": "float32", "shape": [1], "low": [-2.0], "high": [2.0]}
STEPS = 4


def frames(episode: int) -> Any:
    levels = np.arange(STEPS + 1) * 20 + episode
    return np.broadcast_to(levels[:, None, None, None], (STEPS + 1, 32, 40, 3)).astype(np.uint8)


def write(path: Path, *, metadata: dict[str, Any] | None = None, change: dict[str, Any] | None = None) -> Path:
    """Two episodes: solved and timed out."""
    (path / "data").mkdir(parents=True)
    described = {
        "total_episodes": 2,
        "total_steps": 8,
        "data_format": "hdf5",
        "observation_space": json.dumps(SPACE),
        "action_space": json.dumps(ACTION),
        "dataset_id": "point-v0",
        "minari_version": "0.5.3",
    }
    (path / "data" / "metadata.json").write_text(json.dumps({**described, **(metadata or {})}))
    with h5py.File(path / "data" / "main_data.hdf5", "w") as file:
        for e in range(2):
            group = file.create_group(f"episode_{e}")
            group.attrs.update({"id": e, "total_steps": STEPS, "seed": 40 + e})
            last = np.arange(STEPS) == STEPS - 1
            data = {
                "observations/state": np.arange(2.0 * STEPS + 2).reshape(STEPS + 1, 2) + 100 * e,
                "actions": np.full((STEPS, 1), 0.5 * e, np.float32),
                "rewards": last.astype(np.float64) * (e == 0),
                "terminations": last & (e == 0),
                "truncations": last & (e == 1),
                "infos/success": np.append(False, last & (e == 0)),
            }
            for name, value in {**data, **(change or {})}.items():
                if value is not None:
                    group[name] = value
            encoded = [np.frombuffer(images.encode(frame, 95), np.uint8) for frame in frames(e)]
            cameras = group.create_dataset(
                "observations/deep/camera", (STEPS + 1,), dtype=h5py.vlen_dtype(np.dtype(np.uint8))
            )
            for t, data_of_frame in enumerate(encoded):
                cameras[t] = data_of_frame
    return path


def read(path: Path, **target: Any) -> Conversion:
    return minari.read(path, ConversionTarget(**{"control_rate_hz": 20.0, **target}))


def test_the_spaces_describe_the_robot(tmp_path: Path) -> None:
    spec = read(write(tmp_path / "point-v0")).spec
    state, camera = spec.observation
    assert (state.name, state.shape, state.dtype, state.high) == ("state", (2,), "float32", (np.inf, 1.0))
    assert (camera.name, camera.shape, camera.is_image) == ("deep/camera", (32, 40, 3), True)
    assert [(c.low, c.high) for c in spec.action.components] == [(-2.0, 2.0)]
    assert [s.name for s in spec.signals] == ["reward", "terminated", "success"]
    assert (spec.name, spec.control_rate_hz) == ("point-v0", 20.0)


def test_episodes_come_with_their_ends_seeds_and_successes(tmp_path: Path) -> None:
    conversion = read(write(tmp_path / "point-v0"))
    solved, late = conversion
    for episode in (solved, late):
        episode.validate()
        assert episode.has_final_observation
    assert (solved.info.ended, solved.info.success, solved.info.seed) == (Ended.TERMINATED, True, 40)
    assert (late.info.ended, late.info.success, late.info.seed) == (Ended.TRUNCATED, False, 41)
    np.testing.assert_array_equal(late.observations["state"][:, 0], [100, 102, 104, 106, 108])
    np.testing.assert_array_equal(solved.signals["success"], [False, False, False, True])
    assert np.abs(late.observations["deep/camera"].astype(int) - frames(1)).max() <= 2
    assert conversion.report.successes == 1
    assert conversion.report.unused == []


def test_the_directory_data_may_be_named_too(tmp_path: Path) -> None:
    assert read(write(tmp_path / "point-v0") / "data").num_steps == 8


def test_the_rate_has_to_be_given(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--control-rate-hz"):
        read(write(tmp_path / "point-v0"), control_rate_hz=None)


@pytest.mark.parametrize(
    ("metadata", "change", "message"),
    [
        ({"data_format": "arrow"}, {}, "data_format: found arrow; allowed: hdf5"),
        ({"observation_space": json.dumps({"type": "Text"})}, {}, "found Text; allowed: Box, Discrete"),
        ({"action_space": json.dumps({"type": "Discrete", "n": 3})}, {}, "action_space: found Discrete"),
        ({"action_space": json.dumps({**ACTION, "high": [np.inf]})}, {}, "does not bound its actions"),
        ({}, {"actions": np.zeros((STEPS, 2))}, r"actions: found shape \(4, 2\); allowed: \(4, 1\)"),
        ({}, {"rewards": None}, "rewards: no such dataset"),
        ({}, {"observations/state": np.zeros((STEPS, 2))}, "found 4 rows; allowed: 5, one more"),
    ],
)
def test_a_data_set_that_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, metadata: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises((DataError, ConfigError), match=message) as caught:
        read(write(tmp_path / "point-v0", metadata=metadata, change=change))
    assert "\n" not in str(caught.value)


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"metadata\.json: no such file"):
        read(tmp_path)
    (tmp_path / "metadata.json").write_text("[")
    with pytest.raises(DataError, match="not readable"):
        read(tmp_path)


def test_a_damaged_image_names_its_step(tmp_path: Path) -> None:
    path = write(tmp_path / "point-v0")
    with h5py.File(path / "data" / "main_data.hdf5", "a") as file:
        file["episode_1/observations/deep/camera"][2] = np.zeros(9, np.uint8)
    with pytest.raises(DataError, match="episode_1/observations/deep/camera, step 2"):
        list(read(path))


def test_bounds_that_a_type_cannot_hold_are_those_of_the_type() -> None:
    count = describe(ArraySpec(name="count", shape=(2,), dtype="int64"))
    assert count["high"] == [2**63 - 1] * 2
    assert count["low"] == [-(2**63)] * 2
    image = describe(ArraySpec(name="image", shape=(1, 2, 1), dtype="uint8", is_image=True))
    assert (image["low"], image["high"]) == ([[[0], [0]]], [[[255], [255]]])
    assert describe(ArraySpec(name="touch", shape=(), dtype="bool", high=(1.0,)))["high"] == 1
    assert describe(ArraySpec(name="x", shape=(), low=(-2.5,)))["low"] == -2.5


@pytest.mark.parametrize(
    ("name", "expected"),
    [("door-human-v1", "door-human-v1"), ("door", "door-v0"), ("a b.c", "a-b-c-v0"), ("...", "dataset-v0")],
)
def test_a_data_set_gets_a_name_that_minari_allows(name: str, expected: str) -> None:
    assert dataset_id(name) == expected
