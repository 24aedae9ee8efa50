"""Plug-ins by entry point: robots, policies, teleoperation devices, tasks, converters and commands."""

from __future__ import annotations

import functools
from importlib import metadata
from typing import Any

from robot_rlpd.errors import UnknownNameError


@functools.cache
def entry_points(group: str) -> dict[str, metadata.EntryPoint]:
    """All entry points of a group by name, without importing any."""
    return {point.name: point for point in metadata.entry_points(group=group)}


def load_entry_point(group: str, name: str, *, field: str = "") -> Any:
    """Import and return what `name` refers to.

    Args:
        group: Such as `robot_rlpd.tasks`.
        name: Of the entry point.
        field: Option that named it, for messages; default the singular of the group.

    Raises:
        UnknownNameError: No such name (lists those that exist), or a library it needs is not installed.
    """
    points = entry_points(group)
    kind = group.rpartition(".")[2].replace("ies", "y").rstrip("s")
    field = field or kind
    if name not in points:
        raise UnknownNameError(f"no such {field}", field=field, found=name, allowed=", ".join(sorted(points)) or "none")
    try:
        return points[name].load()
    except ModuleNotFoundError as error:
        raise UnknownNameError(
            f"{kind} '{name}' needs the module '{error.name}', which is not installed",
            field=field,
            hint="install the extra it belongs to: pip install 'robot-rlpd[all]'",
        ) from error
