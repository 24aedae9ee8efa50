"""The page on reviewing works as written: its commands are run, in order."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from robot_rlpd.cli import main

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_page_on_reviewing_works_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mujoco", reason="the demonstrations are recorded in simulation")
    monkeypatch.chdir(tmp_path)
    commands = "".join(BLOCK.findall((ROOT / "docs" / "review.md").read_text())).splitlines()
    assert len(commands) == 15
    for command in commands:
        program, *words = shlex.split(command)
        assert program == "robot-rlpd"
        assert main(words) == 0, capsys.readouterr().err
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"demos.zarr", "stats.png", "seen.webp", "train.zarr", "held-out.zarr", "all.zarr"}
    assert capsys.readouterr().out.endswith("nothing is damaged\n")
