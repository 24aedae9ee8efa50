"""A new store is there once all of it is written, and not at all before."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import StoreError
from robot_rlpd.images import ImageCodec
from robot_rlpd.rollout import rollout
from robot_rlpd.testing import FakePolicy, FakeRobot, FakeTask, fake_spec
from robot_rlpd.whole_store import whole_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CODEC = ImageCodec(name="jpeg", quality=90)
FILL = """
import sys, time
from pathlib import Path
from robot_rlpd.images import ImageCodec
from robot_rlpd.testing import fake_spec
from robot_rlpd.whole_store import whole_store
with whole_store(Path(sys.argv[1]), fake_spec(), ImageCodec(name="jpeg", quality=90)):
    print("filling", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def filling(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that fills the store `new`."""
    command = [sys.executable, "-c", FILL, str(tmp_path / "new")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "filling\n"
        yield process
        process.kill()


def fill(out: Path) -> None:
    with whole_store(out, fake_spec(), CODEC) as store:
        store.append(rollout(FakeRobot(), FakePolicy(), FakeTask(5), seed=0))


def unfinished(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if path.name.endswith(".unfinished")]


def test_after_an_error_there_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), whole_store(tmp_path / "new", fake_spec(), CODEC):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
    fill(tmp_path / "new")
    with pytest.raises(StoreError, match="exists already"):
        fill(tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path, filling: subprocess.Popen[str]) -> None:
    filling.kill()
    filling.wait()
    assert len(unfinished(tmp_path)) == 1
    fill(tmp_path / "other")
    assert len(unfinished(tmp_path)) == 1
    fill(tmp_path / "new")
    assert not unfinished(tmp_path)
    with EpisodeStore.open(tmp_path / "new") as store:
        assert len(store) == 1


def test_what_another_process_is_filling_stays(tmp_path: Path, filling: subprocess.Popen[str]) -> None:
    before = unfinished(tmp_path)
    fill(tmp_path / "new")
    assert unfinished(tmp_path) == before
