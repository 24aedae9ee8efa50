"""`robot-rlpd demos export`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import tyro

from robot_rlpd.config import parse_json_object
from robot_rlpd.progress import ProgressLine
from robot_rlpd.registry import load_entry_point
from robot_rlpd.task import RewardKind, TaskOptions, load_task


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Options of `demos export`."""

    store: tyro.conf.Positional[str]
    """Store to read: a directory, or any fsspec URL."""

    format: str
    """Format to write: d4rl, robomimic, minari, replay_buffer (zarr, as diffusion_policy reads it), lerobot, or another
    registered one."""

    out: Path
    """File or directory to write; must not exist."""

    actions: Literal["executed", "commanded"] = "executed"
    """Actions after limits, or as commanded; the others are kept beside them."""

    task: str = ""
    """Task that computes reward, end and success anew; by default they are as they were signalled."""

    success_when: str = ""
    """Condition that says when a gymnasium task is solved, such as 'observation[28] >= 1.35'."""

    reward: RewardKind = "task"
    """With --task: its own reward, sparse (0 on success, else -1), or the stored one."""

    env_kwargs: str = ""
    """JSON object of keyword arguments for a gymnasium environment."""

    json: bool = False
    """Print one JSON object."""


def export_store(config: ExportConfig) -> int:
    """Export demonstrations to another format; all of the store, or nothing."""
    from demos.converters.export_text import describe
    from demos.exporting import export_episodes, make_export
    from robot_rlpd.episode_store import EpisodeStore

    options = TaskOptions(
        success_when=config.success_when,
        reward=config.reward,
        env_kwargs=parse_json_object(config.env_kwargs, field="env_kwargs"),
    )
    write = load_entry_point("robot_rlpd.exporters", config.format, field="format")
    task = load_task(config.task, options).task if config.task else None
    with EpisodeStore.open(config.store) as store:
        line = ProgressLine(store.num_steps)
        export = make_export(
            store,
            config.out.name,
            task=task,
            actions=config.actions,
            on_episode=lambda _: line.update(export.report.steps, f"steps | {export.report.episodes} episodes"),
        )
        try:
            export_episodes(export, write, config.out)
        finally:
            line.close()
    result = asdict(export.report) | {"out": str(config.out), "fingerprint": export.spec.fingerprint}
    print(json.dumps(result) if config.json else "\n".join(describe(export, config.out)))
    return 0
