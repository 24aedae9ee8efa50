"""A full disk is told in one line; what was committed stays, and everything goes on once there is space again."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np
import pytest

from robot_rlpd import editing, store_arrays
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import StoreError
from robot_rlpd.robot import RandomPolicy
from robot_rlpd.rollout import rollout
from robot_rlpd.store_compact import compact
from robot_rlpd.store_repair import repair
from robot_rlpd.testing import FakeRobot, FakeTask, fake_spec

if TYPE_CHECKING:
    from pathlib import Path

    from robot_rlpd.episode import Episode


def fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(1024)):
            pass
    return ballast


def make_episode(seed: int) -> Episode:
    return rollout(FakeRobot(), RandomPolicy(fake_spec(), np.random.default_rng(seed)), FakeTask(30), seed=seed)


def uuids(path: Path) -> list[str]:
    with EpisodeStore.open(path) as store:
        return [episode.info.uuid for episode in store.load_all()]


def test_what_was_committed_survives_a_full_disk_whatever_is_tried(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_arrays, "CHUNK_BYTES", 512)
    path = small_disk / "store"
    recorded = [make_episode(seed) for seed in range(5)]
    with EpisodeStore.create(path, fake_spec()) as store:
        store.extend(recorded[:3])
    wanted = [episode.info.uuid for episode in recorded]
    ballast = fill(small_disk)
    with EpisodeStore.open(path, "a") as store:
        for attempt in (lambda: store.append(recorded[3]), lambda: editing.delete(store, store.infos()[:1])):
            with pytest.raises(StoreError, match=r"store: cannot write: No space left on device$"):
                attempt()
        assert len(store) == 3
    with pytest.raises(StoreError, match="No space left"):
        compact(path)
    chunk = path / "steps/float32/c/0/0"
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:100])
    with pytest.raises(StoreError, match="No space left"):
        repair(path)
    assert sorted(place.name for place in small_disk.iterdir()) == ["ballast", "store"]
    ballast.unlink()
    chunk.write_bytes(whole)
    assert uuids(path) == wanted[:3]
    with EpisodeStore.open(path, "a") as store:
        store.extend(recorded)
        editing.delete(store, store.infos()[:1])
    compact(path)
    assert uuids(path) == wanted[1:]
