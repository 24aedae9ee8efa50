from __future__ import annotations

import contextlib
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_rlpd.config import parse_json_object, read_config, replacing, write_config, write_text
from robot_rlpd.errors import ConfigError, RunDirectoryError
from robot_rlpd.task import TaskOptions


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float
    dims: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    inner: Inner
    paths: tuple[Path, ...] = ()
    limit: int | None = None
    free: dict[str, Any] = field(default_factory=dict)


def test_a_configuration_is_read_back_exactly(tmp_path: Path) -> None:
    config = Outer(
        name="naïve \n",
        inner=Inner(rate=0.1 + 0.2, dims=(1, 2)),
        paths=(Path("a/b"), Path("/c")),
        limit=3,
        free={"a": [1, {"b": None}], "c": True},
    )
    write_config(tmp_path / "config.json", config)
    assert read_config(tmp_path / "config.json", Outer) == config
    assert os.listdir(tmp_path) == ["config.json"]  # noqa: PTH208


@given(rate=st.floats(allow_nan=False), dims=st.lists(st.integers(-(2**53), 2**53)), name=st.text())
def test_every_number_survives(rate: float, dims: list[int], name: str, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "config.json"
    config = Outer(name=name.encode(errors="ignore").decode(), inner=Inner(rate=rate, dims=tuple(dims)))
    write_config(path, config)
    found = read_config(path, Outer)
    assert found == config
    assert math.copysign(1.0, found.inner.rate) == math.copysign(1.0, rate)


@pytest.mark.parametrize("text", ["{", "", "[]", '{"name": 1}', '{"name": "x", "inner": {"rate": "fast"}}', "\ufeff"])
def test_a_file_that_is_no_such_configuration_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json: not"):
        read_config(path, Outer)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not JSON"):
        read_config(path, Outer)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="no such file"):
        read_config(tmp_path / "config.json", Outer)


def test_a_value_that_its_class_refuses_is_told_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"max_episode_steps": 0}')
    with pytest.raises(ConfigError, match="max_episode_steps"):
        read_config(path, TaskOptions)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")
    with contextlib.suppress(KeyError), replacing(path) as file:
        file.write(b"half")
        raise KeyError
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        write_text(tmp_path / "nowhere" / "file", "text")
    assert caught.value.filename == str(tmp_path / "nowhere" / "file")


@pytest.mark.parametrize(
    ("text", "value"), [("", {}), ("  ", {}), ("{}", {}), ('{"a": {"b": [1]}}', {"a": {"b": [1]}})]
)
def test_a_json_object_is_parsed(text: str, value: dict[str, Any]) -> None:
    assert parse_json_object(text, field="env_kwargs") == value


@pytest.mark.parametrize("text", ["{", "[1]", "1", "null", '"a"', "{'a': 1}"])
def test_anything_else_is_refused_naming_the_option(text: str) -> None:
    with pytest.raises(ConfigError, match=r"env_kwargs: .*a JSON object") as caught:
        parse_json_object(text, field="env_kwargs")
    assert caught.value.found == text
