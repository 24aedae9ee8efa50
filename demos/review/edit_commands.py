"""`robot-rlpd demos trim | relabel | delete | undo | compact`.

Modules that only one command needs are imported inside it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from demos.review.printing import counted, print_result, success_text
from demos.review.selection import select, select_one
from robot_rlpd.errors import ConfigError

SUCCESS: dict[str, bool | None] = {"true": True, "false": False, "unknown": None}


@dataclass(frozen=True, kw_only=True)
class TrimConfig:
    """Options of `demos trim`."""

    path: tyro.conf.Positional[Path]
    """Store: a local directory."""

    episode: tyro.conf.Positional[str]
    """Episode: its number in `demos list`, its UUID, or the beginning of that."""

    start: int = 0
    """First step that stays, counted from 0; below 0 from the end."""

    stop: int | None = None
    """Step after the last that stays; below 0 from the end; default the end."""

    json: bool = False
    """Print one JSON object."""


def trim(config: TrimConfig) -> int:
    """Cut steps off the beginning or the end of an episode; can be undone."""
    from robot_rlpd import editing
    from robot_rlpd.episode_store import EpisodeStore

    with EpisodeStore.open(config.path, "a") as store:
        place = select_one(store.infos(), config.episode)
        before = store.infos()[place]
        start = config.start + (before.num_steps if config.start < 0 else 0)
        stop = before.num_steps if config.stop is None else config.stop
        stop += before.num_steps if stop < 0 else 0
        edit = editing.trim(store, before, start, stop)
        after = store.infos()[place]
    result = {
        "edit": edit.number,
        "uuid": after.info.uuid,
        "steps_before": before.num_steps,
        "steps": after.num_steps,
        "ended": str(after.info.ended),
    }
    text = f"{after.info.uuid}: {after.num_steps} of {before.num_steps} steps stay, {after.info.ended}"
    print_result(config.json, result, [f"{text} (edit {edit.number})"])
    return 0


@dataclass(frozen=True, kw_only=True)
class RelabelConfig:
    """Options of `demos relabel`."""

    path: tyro.conf.Positional[Path]
    """Store: a local directory."""

    episodes: tyro.conf.Positional[tuple[str, ...]]
    """Episodes: numbers of `demos list`, FIRST-LAST, UUIDs or beginnings of them, solved, unsolved, unknown, all."""

    success: Literal["true", "false", "unknown"] | None = None
    """Whether the task was solved."""

    task: str | None = None
    """Name of the task."""

    operator: str | None = None
    """Who operated."""

    device: str | None = None
    """Teleoperation device."""

    notes: str | None = None
    """Free text; replaces the old."""

    json: bool = False
    """Print one JSON object."""


def relabel(config: RelabelConfig) -> int:
    """Change what episodes say of themselves: success, task, operator, device, notes; can be undone."""
    from robot_rlpd import editing
    from robot_rlpd.episode_store import EpisodeStore

    texts = {name: getattr(config, name) for name in ("task", "operator", "device", "notes")}
    changes: dict[str, Any] = {name: value for name, value in texts.items() if value is not None}
    if config.success is not None:
        changes["success"] = SUCCESS[config.success]
    if not changes:
        options = "--success, --task, --operator, --device, --notes"
        raise ConfigError("nothing to change", field="relabel", allowed=options)
    with EpisodeStore.open(config.path, "a") as store:
        episodes = [store.infos()[place] for place in select(store.infos(), config.episodes)]
        edit = editing.relabel(store, episodes, changes)
    result = {"edit": edit.number, "uuids": [episode.info.uuid for episode in episodes], "changes": changes}
    said = ", ".join(f"{name}: {success_text(v) if name == 'success' else v}" for name, v in changes.items())
    print_result(config.json, result, [f"{counted(len(episodes), 'episode')}: {said} (edit {edit.number})"])
    return 0


@dataclass(frozen=True, kw_only=True)
class DeleteConfig:
    """Options of `demos delete`."""

    path: tyro.conf.Positional[Path]
    """Store: a local directory."""

    episodes: tyro.conf.Positional[tuple[str, ...]]
    """Episodes: numbers of `demos list`, FIRST-LAST, UUIDs or beginnings of them, solved, unsolved, unknown, all."""

    json: bool = False
    """Print one JSON object."""


def delete(config: DeleteConfig) -> int:
    """Take episodes out of a store; can be undone until the store is compacted."""
    from robot_rlpd import editing
    from robot_rlpd.episode_store import EpisodeStore

    with EpisodeStore.open(config.path, "a") as store:
        episodes = [store.infos()[place] for place in select(store.infos(), config.episodes)]
        edit = editing.delete(store, episodes)
        left = len(store)
    result = {"edit": edit.number, "uuids": [episode.info.uuid for episode in episodes], "episodes": left}
    lines = [
        f"deleted {e.info.uuid}  {e.num_steps} steps  {success_text(e.info.success)}  {e.info.task}".rstrip()
        for e in episodes
    ]
    print_result(config.json, result, [*lines, f"{counted(left, 'episode')} left (edit {edit.number})"])
    return 0


@dataclass(frozen=True, kw_only=True)
class UndoConfig:
    """Options of `demos undo`."""

    path: tyro.conf.Positional[Path]
    """Store: a local directory."""

    edit: int | None = None
    """Number of the edit; default the last one that counts. Undoing an undo does the edit again."""

    list: bool = False
    """Only list all edits."""

    json: bool = False
    """Print one JSON object."""


def undo(config: UndoConfig) -> int:
    """Undo the last edit, or another one, or list all of them."""
    from robot_rlpd import editing
    from robot_rlpd.episode_store import EpisodeStore

    undone = None
    with EpisodeStore.open(config.path, "r" if config.list else "a") as store:
        if not config.list:
            undone = editing.undo(store, config.edit).number
        edits = editing.history(store)
        left = len(store)
    result = {"undone": undone, "episodes": left, "edits": [asdict(edit) for edit in edits]}
    lines = [f"{e.number:>5}  {e.kind:<8}{'' if e.counts else '(undone)  '}{e.what}" for e in edits]
    if undone is not None:
        lines = [f"undid edit {undone}: {edits[undone - 1].kind} {edits[undone - 1].what}; {counted(left, 'episode')}"]
    print_result(config.json, result, lines or ["no edits"])
    return 0


@dataclass(frozen=True, kw_only=True)
class CompactConfig:
    """Options of `demos compact`."""

    path: tyro.conf.Positional[Path]
    """Store: a local directory."""

    json: bool = False
    """Print one JSON object."""


def compact(config: CompactConfig) -> int:
    """Carry out all edits for good and give back their space; brings an old store to the present format."""
    from robot_rlpd.episode_store import EpisodeStore
    from robot_rlpd.progress import ProgressLine
    from robot_rlpd.store_compact import compact as compact_store

    with EpisodeStore.open(config.path) as store:
        line = ProgressLine(len(store), unit="episodes")
    try:
        report = compact_store(config.path, on_episode=line.update)
    finally:
        line.close()
    text = (
        f"{counted(report.episodes, 'episode')}; gone for good: {counted(report.removed_episodes, 'episode')}, "
        f"{counted(report.removed_steps, 'step')}; {report.bytes_before / 1e6:.1f} MB before, "
        f"{report.bytes_after / 1e6:.1f} MB now"
    )
    print_result(config.json, asdict(report), [text])
    return 0
