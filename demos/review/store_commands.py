"""`robot-rlpd demos validate | repair | merge | split`.

Modules that only one command needs are imported inside it.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro

from demos.review.printing import counted, print_result
from demos.review.selection import select
from robot_rlpd.errors import ConfigError
from robot_rlpd.progress import ProgressLine


@dataclass(frozen=True, kw_only=True)
class ValidateConfig:
    """Options of `demos validate`."""

    path: tyro.conf.Positional[str]
    """Store: a directory, or any fsspec URL."""

    json: bool = False
    """Print one JSON object."""


def validate(config: ValidateConfig) -> int:
    """Read all of a store, compare checksums, decode every image; status 1 where something is damaged."""
    from robot_rlpd.episode_store import EpisodeStore
    from robot_rlpd.store_check import check_episodes

    problems = []
    with EpisodeStore.open(config.path) as store:
        recorded = len(store.recorded())
        line = ProgressLine(recorded, unit="episodes")
        try:
            for done, damage in enumerate(check_episodes(store), 1):
                problems += [damage] if damage is not None else []
                line.update(done, f"{len(problems)} damaged")
        finally:
            line.close()
        waiting = 0 if "://" in store.path else len(list(store.spool_directory.glob("*.spool")))
        result = {
            "path": store.path,
            "format_version": store.version,
            "episodes": recorded,
            "has_checksums": store.checksums() is not None,
            "unrecovered": waiting,
            "damaged": [asdict(damage) for damage in problems],
        }
    lines = [f"{damage.number:>5}  {damage.uuid}  {damage.problem}" for damage in problems]
    lines.append(f"{counted(recorded, 'episode')} read, {len(problems) or 'none'} damaged")
    if waiting:
        lines.append(f"{counted(waiting, 'episode')} running, or left by a killed recorder: demos repair recovers it")
    print_result(config.json, result, lines)
    return 1 if problems else 0


@dataclass(frozen=True, kw_only=True)
class RepairConfig:
    """Options of `demos repair`."""

    path: tyro.conf.Positional[Path]
    """Store: a local directory."""

    json: bool = False
    """Print one JSON object."""


def repair(config: RepairConfig) -> int:
    """Bring back what is left of a damaged store and of a killed recording; the damaged files are kept."""
    from robot_rlpd.store_repair import repair as repair_store

    line = ProgressLine(0)
    try:
        report = repair_store(config.path, on_episode=lambda done: line.update(done, "episodes checked"))
    finally:
        line.close()
    lines = [f"{damage.number:>5}  {damage.uuid or '-':<36}  {damage.problem}" for damage in report.problems]
    lines.append(f"{counted(report.episodes, 'episode')}, {counted(report.steps, 'step')} in {config.path}")
    if report.recovered:
        lines.append(f"{counted(report.recovered, 'episode')} recovered that a killed recorder was recording")
    if report.damaged:
        lines.append(
            f"cut: {report.cut}, lost: {report.lost}, without their info: {report.unlabelled}; "
            f"the damaged store is kept as {report.damaged}"
        )
    else:
        lines.append("nothing is damaged")
    print_result(config.json, asdict(report), lines)
    return 0


@dataclass(frozen=True, kw_only=True)
class MergeConfig:
    """Options of `demos merge`."""

    paths: tyro.conf.Positional[tuple[str, ...]]
    """Stores of one robot: directories or fsspec URLs."""

    out: Path
    """Directory of the store to write; must not exist."""

    json: bool = False
    """Print one JSON object."""


def merge(config: MergeConfig) -> int:
    """Copy the episodes of several stores into a new one, each episode once."""
    from demos.review.copying import copy_episodes
    from robot_rlpd.episode_store import EpisodeStore

    if not config.paths:
        raise ConfigError("no store", field="paths", allowed="at least one")
    with contextlib.ExitStack() as stack:
        stores = [stack.enter_context(EpisodeStore.open(path)) for path in config.paths]
        offered = sum(map(len, stores))
        done = _Counter(offered)
        stack.callback(done.line.close)
        added = copy_episodes([(store, store.infos()) for store in stores], config.out, on_episode=done)
    result = {"store": str(config.out), "episodes": added, "duplicates": offered - added}
    text = f"{config.out}: {counted(added, 'episode')} of {counted(len(stores), 'store')}"
    print_result(config.json, result, [text + (f"; {offered - added} were there twice" if offered > added else "")])
    return 0


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """Options of `demos split`."""

    path: tyro.conf.Positional[str]
    """Store: a directory, or any fsspec URL. It stays as it is."""

    episodes: tyro.conf.Positional[tuple[str, ...]]
    """Episodes: numbers of `demos list`, FIRST-LAST, UUIDs or beginnings of them, solved, unsolved, unknown, all."""

    out: Path
    """Directory of the store to write them to; must not exist."""

    rest: Path | None = None
    """Directory of a store to write the other episodes to; must not exist."""

    share: float = 1.0
    """Take only this share of the named episodes, drawn at random; above 0, at most 1. The others go to --rest."""

    seed: int = 0
    """Seed of that draw, at least 0."""

    json: bool = False
    """Print one JSON object."""

    def __post_init__(self) -> None:
        if not 0.0 < self.share <= 1.0:
            raise ConfigError(field="share", found=self.share, allowed="above 0, at most 1")
        if self.seed < 0:
            raise ConfigError(field="seed", found=self.seed, allowed="at least 0")
        if self.rest is not None and self.rest == self.out:
            raise ConfigError(field="rest", found=str(self.rest), allowed="another directory than --out")


def split(config: SplitConfig) -> int:
    """Copy some episodes of a store into a new one, and the rest into another."""
    import numpy as np

    from demos.review.copying import copy_episodes
    from robot_rlpd.episode_store import EpisodeStore
    from robot_rlpd.errors import StoreError

    with contextlib.ExitStack() as stack:
        store = stack.enter_context(EpisodeStore.open(config.path))
        stored = store.infos()
        places = np.array(select(stored, config.episodes), np.int64)
        count = max(1, round(config.share * len(places))) if len(places) else 0
        taken = set(np.random.default_rng(config.seed).permutation(places)[:count].tolist())
        chosen = [episode for place, episode in enumerate(stored) if place in taken]
        others = [episode for place, episode in enumerate(stored) if place not in taken]
        if config.rest is not None and config.rest.exists():
            raise StoreError("exists already", field=str(config.rest), hint="choose another name")
        done = _Counter(len(chosen) + (len(others) if config.rest is not None else 0))
        stack.callback(done.line.close)
        added = copy_episodes([(store, chosen)], config.out, on_episode=done)
        rest = copy_episodes([(store, others)], config.rest, on_episode=done) if config.rest is not None else 0
    result = {
        "store": str(config.out),
        "episodes": added,
        "rest": None if config.rest is None else str(config.rest),
        "rest_episodes": rest,
    }
    lines = [f"{config.out}: {counted(added, 'episode')}"]
    lines += [] if config.rest is None else [f"{config.rest}: {counted(rest, 'episode')}"]
    print_result(config.json, result, lines)
    return 0


class _Counter:
    """Counts episodes on a progress line."""

    def __init__(self, total: int) -> None:
        self.line = ProgressLine(total, unit="episodes")
        self._done = 0

    def __call__(self) -> None:
        self._done += 1
        self.line.update(self._done)
