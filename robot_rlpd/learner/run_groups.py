"""Which runs are seeds of one another."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from robot_rlpd.errors import RunDirectoryError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SEED_FIELDS = ("seed", "run_id", "robot", "device", "threads", "matmul_precision", "compile_update")
"""Configuration fields in which runs of one group may differ."""
LATER_FIELDS = {"success": "task", "classifier": None}
"""What runs of versions without these fields did."""
LENGTH_FIELDS = (
    "env_steps",
    "eval_every",
    "eval_episodes",
    "log_every",
    "time_limit_min",
    "checkpoint_every_s",
    "extra_capacity",
)
"""In these too: they say how long a run goes on and how often it is looked at, not what it learns."""


def group_runs(run_dirs: Sequence[Path]) -> dict[str, list[Path]]:
    """Group runs whose configurations differ in `SEED_FIELDS` and `LENGTH_FIELDS` only.

    Returns:
        Run directories, labelled by what tells the groups apart.

    Raises:
        RunDirectoryError: A directory without config.json.
    """
    by_config: dict[str, list[Path]] = defaultdict(list)
    for run_dir in run_dirs:
        by_config[json.dumps(_comparable(run_dir), sort_keys=True)].append(run_dir)
    flat = [json.loads(text) for text in by_config]
    names = sorted({name for config in flat for name in config})  # another version's runs may have other fields
    differing = [name for name in names if any(config.get(name) != flat[0].get(name) for config in flat)]
    labels = [", ".join(f"{name.rpartition('.')[2]} {config.get(name)}" for name in differing) for config in flat]
    groups = zip(labels, by_config.values(), strict=True)
    return {label or members[0].name: members for label, members in groups}


def _comparable(run_dir: Path) -> dict[str, Any]:
    try:
        config = json.loads((run_dir / "config.json").read_text())
    except (OSError, json.JSONDecodeError):
        raise RunDirectoryError("no run directory: its config.json cannot be read", field=str(run_dir)) from None
    config = LATER_FIELDS | config
    flat = {name: value for name, value in config.items() if name not in (*SEED_FIELDS, *LENGTH_FIELDS, "rlpd")}
    # Each seed may have demonstrations of its own; whether there are any is what counts.
    flat["prior"] = "yes" if config["prior"] else "none"
    return flat | {f"rlpd.{name}": value for name, value in config["rlpd"].items()}
