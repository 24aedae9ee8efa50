"""A store's episodes as the robot would have shown them had its calibration been right."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from robot_rlpd.whole_store import whole_store
from sim.calibration import METADATA_KEY, Calibration

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from robot_rlpd.episode import Episode
    from robot_rlpd.episode_store import EpisodeStore
    from sim.scene import Scene


def write_corrected(source: EpisodeStore, out: Path, scene: Scene, values: Mapping[str, float]) -> int:
    """Write a new store with the episodes of another one, errors of calibration taken out of their observations.

    Args:
        source: Opened.
        out: The store; must not exist.
        scene: That the episodes were recorded in.
        values: What the calibration was off by.

    Returns:
        How many episodes were written.

    Raises:
        StoreError: `out` exists, or cannot be written; nothing is left there.
    """
    calibration = Calibration(scene, values)
    told = json.dumps(dict(values))
    spec = replace(source.spec, metadata={**source.spec.metadata, METADATA_KEY: told})
    with whole_store(out, spec, source.codec) as store:
        for index in range(len(source)):
            episode = source.read(index)
            name = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{episode.info.uuid} {told}"))
            store.append(replace(_corrected(episode, calibration), spec=spec, info=replace(episode.info, uuid=name)))
    return len(source)


def _corrected(episode: Episode, calibration: Calibration) -> Episode:
    numbers = {field.name for field in episode.spec.observation if not field.is_image}
    rows = [
        calibration.undone({name: episode.observations[name][row] for name in numbers}, joints=True)
        for row in range(len(episode.robot_times_s))
    ]
    corrected = {name: np.array([row[name] for row in rows]) for name in numbers} if rows else {}
    return replace(episode, observations={**episode.observations, **corrected})
