"""docs/recording.md works as written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from demos.teleop.gamepad import BUTTONS
from demos.teleop.keyboard import CONTROLS
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.registry import entry_points

PAGE = (Path(__file__).parents[1] / "docs" / "recording.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_commands_record_demonstrations(tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    script = "\n".join(["set -euo pipefail", *blocks("bash")])
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    infos = [stored.info for stored in EpisodeStore.open(tmp_path / "demos.zarr").infos()]
    assert len(infos) == 25
    assert all(info.success for info in infos)
    assert len({info.seed for info in infos}) == 25


def test_the_device_of_the_example_conforms() -> None:
    (example,) = blocks("python")
    names: dict[str, Any] = {}
    exec(example, names)
    suite = names["TestPedal"]()
    tests = [name for name in dir(suite) if name.startswith("test_")]
    assert len(tests) >= 6
    for name in tests:
        getattr(suite, name)()


def test_every_device_and_every_control_is_in_the_tables() -> None:
    table = PAGE[PAGE.index("## Devices") :]
    for device in entry_points("robot_rlpd.teleop"):
        assert f"| `{device}" in table, device
    wanted = PAGE[PAGE.index("| wanted") : PAGE.index("The keyboard of the terminal")]
    keys = {"\n": "Enter", "\x7f": "Backspace", "\x1b": "Esc"}
    for key in set(CONTROLS) - {"\r", "\b"}:
        assert re.search(rf"\b{keys.get(key, key)}\b", wanted), key
    rows = [row.split("|") for row in wanted.strip().splitlines()[2:]]
    assert len(BUTTONS) == len([row for row in rows if row[3].strip()]) - 1  # Start begins and ends
