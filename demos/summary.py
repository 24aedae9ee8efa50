"""What is in a store, as numbers."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rlpd.robot import Source

if TYPE_CHECKING:
    from robot_rlpd.episode_store import EpisodeStore
    from robot_rlpd.store_index import StoredEpisode


def summarize(store: EpisodeStore) -> dict[str, Any]:
    """The fields of `demos info --json`."""
    stored = store.infos()
    lengths = [episode.num_steps for episode in stored]
    return {
        "path": store.path,
        "format_version": store.version,
        "robot": store.spec.name,
        "fingerprint": store.spec.fingerprint,
        "control_rate_hz": store.spec.control_rate_hz,
        "episodes": len(stored),
        "steps": store.num_steps,
        "lengths": {
            "min": min(lengths, default=None),
            "median": float(np.median(lengths)) if lengths else None,
            "max": max(lengths, default=None),
        },
        "tasks": dict(Counter(episode.info.task for episode in stored)),
        "successes": sum(episode.info.success is True for episode in stored),
        "unknown_success": sum(episode.info.success is None for episode in stored),
        "ended": dict(Counter(str(episode.info.ended) for episode in stored)),
        "sources": _sources(store),
        "fields": {s.name: {"shape": list(s.shape), "dtype": s.dtype, "unit": s.unit} for s in store.spec.observation},
        "images": str(store.codec) if any(s.is_image for s in store.spec.observation) else None,
        "signals": [s.name for s in store.spec.signals],
        "action": [c.name for c in store.spec.action.components],
    }


def describe_episode(index: int, episode: StoredEpisode) -> dict[str, Any]:
    """One entry of `demos list --json`."""
    info = episode.info
    return {
        "index": index,
        "uuid": info.uuid,
        "task": info.task,
        "steps": episode.num_steps,
        "ended": str(info.ended),
        "success": info.success,
        "has_final_observation": episode.has_final_observation,
        "seed": info.seed,
        "device": info.device,
        "operator": info.operator,
        "notes": info.notes,
        "started_unix_s": info.started_unix_s,
        "trimmed": episode.is_trimmed,
        "relabelled": episode.is_relabelled,
    }


def _sources(store: EpisodeStore) -> dict[str, int]:
    """Steps per source."""
    column = store.column("source")
    is_step = np.zeros(len(column), np.bool_)
    for episode in store.infos():
        is_step[episode.first_row : episode.first_row + episode.num_steps] = True
    known = {int(source): source.name.lower() for source in Source}
    values, counts = np.unique(column[is_step], return_counts=True)
    return {known.get(int(v), f"source {v}"): int(n) for v, n in zip(values, counts, strict=True)}
