"""Brings a damaged store back: every episode that is whole, and of the others the steps that are left."""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import StoreError
from robot_rlpd.store_check import Damage, check_episodes
from robot_rlpd.store_compact import beside
from robot_rlpd.store_lock import exchange, lock
from robot_rlpd.store_salvage import DamagedStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from robot_rlpd.store_codec import EncodedEpisode
    from robot_rlpd.store_edits import Edit
    from robot_rlpd.store_salvage import Salvaged

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class RepairReport:
    """What repairing found and did.

    Attributes:
        episodes: In the store afterwards.
        steps: Of them.
        recovered: Episodes that were running when their writer died, and were added.
        cut: Episodes of which steps are lost.
        lost: Episodes of which nothing is left.
        unlabelled: Episodes that lost what they said of themselves.
        problems: What was wrong, one per damaged episode.
        damaged: Where the damaged store lies now; empty if nothing was damaged.
    """

    episodes: int = 0
    steps: int = 0
    recovered: int = 0
    cut: int = 0
    lost: int = 0
    unlabelled: int = 0
    problems: list[Damage] = field(default_factory=list)
    damaged: str = ""


def repair(path: Path, *, on_episode: Callable[[int], None] = lambda done: None) -> RepairReport:
    """Open a store as a writer would, check all of it, and where it is damaged write what is left of it anew.

    The damaged store is kept under another name. Interrupted at any moment, the store is the old or the new one.

    Args:
        path: Local store; nobody may be writing to it.
        on_episode: Told the number of checked episodes.

    Raises:
        StoreError: No store, nothing left that says what it held, or it cannot be written.
    """
    _bring_back(path)
    report = RepairReport()
    if _is_whole(path, report, on_episode):
        return report
    return _salvage(path, on_episode)


def _bring_back(path: Path) -> None:
    """After an exchange of directories that was killed in between."""
    aside = beside(path, "compacting.aside")
    if aside.exists() and not path.exists():
        aside.rename(path)


def _is_whole(path: Path, report: RepairReport, on_episode: Callable[[int], None]) -> bool:
    waiting = len(list(path.with_name(path.name + "-spool").glob("*.spool")))
    try:
        with EpisodeStore.open(path, "a") as store:
            for done, damage in enumerate(check_episodes(store), 1):
                if damage is not None:
                    return False
                on_episode(done)
            report.episodes, report.steps = len(store), store.num_steps
            report.recovered = waiting
    except StoreError:
        os.close(lock(str(path)))  # nobody writes to it, and it is a directory
        return False
    return True


def _salvage(path: Path, on_episode: Callable[[int], None]) -> RepairReport:
    report = RepairReport()
    temporary = beside(path, "repairing")
    shutil.rmtree(temporary, ignore_errors=True)  # what a killed run left
    descriptor = lock(str(path))
    try:
        source = DamagedStore(path)
        codec = source.codec
        kept: dict[int, Salvaged] = {}
        with EpisodeStore.create(
            temporary, source.spec, lossless=codec.name == "zstd", jpeg_quality=codec.quality
        ) as fresh:
            fresh.extend_encoded(_kept(source, report, kept, on_episode))
            fresh.take_over_edits(renumbered(source.edits(), kept))
            report.episodes, report.steps = len(fresh), fresh.num_steps
        damaged = _free_name(path)
        exchange(temporary, path)
        temporary.rename(damaged)
        report.damaged = str(damaged)
    finally:
        os.close(descriptor)
        shutil.rmtree(temporary, ignore_errors=True)
    with EpisodeStore.open(path, "a") as store:  # recovers what was running
        report.recovered = len(store.recorded()) - len(kept)
        report.episodes, report.steps = len(store), store.num_steps
    return report


def _kept(
    source: DamagedStore, report: RepairReport, kept: dict[int, Salvaged], on_episode: Callable[[int], None]
) -> Iterator[EncodedEpisode]:
    for found in source.episodes():
        episode = found.episode
        if found.problem:
            name = episode.info.uuid if episode is not None else ""
            report.problems.append(Damage(number=found.number, uuid=name, problem=found.problem))
        if episode is None:
            report.lost += 1
            continue
        report.cut += int(episode.num_steps < found.recorded_steps)
        report.unlabelled += int("info is lost" in found.problem)
        kept[found.number] = found
        on_episode(found.number + 1)
        yield episode


def renumbered(edits: list[Edit], kept: dict[int, Salvaged]) -> Iterator[Edit]:
    """The edits of the episodes that are left, which have moved up to the places of those that are lost."""
    places = {number: place for place, number in enumerate(kept)}
    for edit in edits:
        numbers = [number for number in edit.episodes if number in places]
        stop = edit.stop
        if edit.kind == "trim" and numbers:
            episode = kept[numbers[0]].episode
            stop = min(stop, episode.num_steps if episode is not None else 0)
            numbers = numbers if edit.start < stop else []
        yield msgspec.structs.replace(edit, episodes=tuple(places[number] for number in numbers), stop=stop)


def _free_name(path: Path) -> Path:
    for count in range(1, 1000):
        name = path.with_name(f"{path.name}.damaged" + (f"-{count}" if count > 1 else ""))
        if not name.exists():
            return name
    raise StoreError("has been repaired too often", field=str(path), hint=f"delete {path.name}.damaged-*")
