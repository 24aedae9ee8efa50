"""Files as diffusion_policy has them: zarr format 2, pixels as floats or bytes, a directory or a zip file."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
import zarr.storage

from demos.converters import replay_buffer
from demos.converters.conversion import Conversion, ConversionTarget
from demos.converters.fields import parse_fields
from robot_rlpd.episode import Ended
from robot_rlpd.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 7


def contents() -> dict[str, Any]:
    return {
        "data/action": np.linspace(0, 512, 2 * ROWS, dtype=np.float32).reshape(ROWS, 2),
        "data/img": np.broadcast_to(10.0 * np.arange(ROWS)[:, None, None, None], (ROWS, 8, 8, 3)).astype(np.float32),
        "data/state": np.arange(5.0 * ROWS).reshape(ROWS, 5),
        "meta/episode_ends": np.array([4, 7]),
    }


def write(path: Path, change: dict[str, Any] | None = None) -> Path:
    root = zarr.create_group(zarr.storage.LocalStore(path), zarr_format=2)
    for name, value in {**contents(), **(change or {})}.items():
        if value is not None:
            root.create_array(name, data=value)
    return path


def read(path: Path, **target: Any) -> Conversion:
    return replay_buffer.read(path, ConversionTarget(**{"control_rate_hz": 10.0, **target}))


def test_episodes_are_cut_at_their_ends_and_count_as_truncated(tmp_path: Path) -> None:
    conversion = read(write(tmp_path / "pusht.zarr"))
    first, second = conversion
    for episode in (first, second):
        episode.validate()
        assert not episode.has_final_observation
        assert episode.info.ended is Ended.TRUNCATED
    assert (len(first), len(second)) == (4, 3)
    np.testing.assert_array_equal(second.observations["state"], contents()["data/state"][4:])
    np.testing.assert_array_equal(second.observations["img"][:, 0, 0, 0], [40, 50, 60])
    assert second.observations["img"].dtype == np.uint8
    assert conversion.report.cut_steps == 2
    assert conversion.report.notes == ["nothing says how episodes ended: all count as truncated"]


def test_the_actions_that_occur_bound_them(tmp_path: Path) -> None:
    spec = read(write(tmp_path / "pusht.zarr")).spec
    assert [s.name for s in spec.observation] == ["img", "state"]
    assert spec.action.low.tolist() == contents()["data/action"][0].tolist()
    assert spec.action.high.tolist() == contents()["data/action"][-1].tolist()


def test_a_zip_file_is_read_as_it_is(tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / "pusht"), "zip", write(tmp_path / "pusht.zarr"))
    assert [len(episode) for episode in read(tmp_path / "pusht.zip")] == [4, 3]


def test_fields_are_taken_from_where_they_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "pusht.zarr")
    conversion = read(path, fields=parse_fields(["state=data/state"]))
    assert conversion.report.fields["state"] == "data/state"


def test_the_rate_has_to_be_given(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--control-rate-hz"):
        read(write(tmp_path / "pusht.zarr"), control_rate_hz=None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data/action": None}, "data/action: no such array; allowed: img, state"),
        ({"meta/episode_ends": None}, "meta/episode_ends: no such array"),
        ({"meta/episode_ends": np.array([4, 9])}, "increasing, up to the 7 rows"),
        ({"meta/episode_ends": np.array([7, 4])}, "increasing, up to the 7 rows"),
        ({"meta/episode_ends": np.zeros(0, np.int64)}, "found no episode"),
        ({"data/state": np.zeros((ROWS - 1, 5))}, "data/state: found 6 rows; allowed: 7"),
        ({"data/action": np.full((ROWS, 2), np.nan)}, "data/action, row 0: found NaN"),
    ],
)
def test_a_buffer_that_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(write(tmp_path / "pusht.zarr", change))
    assert "\n" not in str(caught.value)


def test_nan_names_array_and_row(tmp_path: Path) -> None:
    state = contents()["data/state"]
    state[5, 2] = np.nan
    with pytest.raises(DataError, match="data/state, row 5"):
        list(read(write(tmp_path / "pusht.zarr", {"data/state": state})))


def test_what_is_no_buffer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "nothing")
    with pytest.raises(DataError, match="not a zarr group of format 2"):
        read(tmp_path)
    (tmp_path / "text").write_text("text")
    with pytest.raises(DataError, match="not a zarr group of format 2"):
        read(tmp_path / "text")
    zarr.create_group(zarr.storage.LocalStore(tmp_path / "three"), zarr_format=3)
    with pytest.raises(DataError, match="not a zarr group of format 2"):
        read(tmp_path / "three")


def test_a_damaged_chunk_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "pusht.zarr")
    (path / "data" / "state" / "0.0").write_bytes(b"no chunk")
    with pytest.raises(DataError, match="data/state: not readable"):
        list(read(path))
