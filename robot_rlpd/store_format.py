"""The versions of the store format: how an empty store is made, and how an old one is brought up to date."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rlpd import store_layout
from robot_rlpd.images import ImageCodec
from robot_rlpd.specs import RobotSpec, from_builtins, to_builtins
from robot_rlpd.store_arrays import StoreArrays, make_arrays

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = "robot-rlpd-episodes"
VERSION = 2
READABLE = (1, 2)
"""Version 1 had no frame times, checksums or edits; it is read as it is, and upgraded when it is opened to write."""


def make_store(directory: Path, spec: RobotSpec, codec: ImageCodec) -> None:
    """Make the files of an empty store."""
    attributes = {
        "format": FORMAT,
        "version": VERSION,
        "identity": str(uuid.uuid4()),
        "spec": to_builtins(spec),
        "fingerprint": spec.fingerprint,
        "image_codec": codec.name,
        "jpeg_quality": codec.quality if codec.name == "jpeg" else None,
    }
    widths, columns = store_layout.array_widths(spec, codec), store_layout.column_attributes(spec)
    make_arrays(directory, widths, columns, attributes)


def open_arrays(path: str, *, writable: bool) -> StoreArrays:
    """The arrays of a store.

    Raises:
        StoreError: Not a store, of another version, or damaged.
    """
    return StoreArrays(path, format_name=FORMAT, versions=READABLE, writable=writable)


def codec_of(attributes: dict[str, Any]) -> ImageCodec:
    """How a store with these attributes keeps its images."""
    return ImageCodec(name=attributes.get("image_codec", "jpeg"), quality=attributes.get("jpeg_quality") or 100)


def upgrade(arrays: StoreArrays) -> None:
    """Bring a store of an older version up to date, in one commit; nothing that was there is changed.

    Images of version 1 are said to have been taken when they were observed, and have no checksums.
    """
    if arrays.attributes["version"] == VERSION:
        return
    spec = from_builtins(arrays.attributes["spec"], RobotSpec)
    layout = store_layout.make_layout(spec)
    rows, episodes = arrays.lengths["steps/float64"], arrays.lengths["episodes/index"]
    bounds = {c.name: slice(c.start, c.stop) for c in layout["float64"] if c.name in ("robot_time_s", "wall_time_s")}
    times = arrays.read_columns("steps/float64", 0, rows, bounds)
    frames = np.concatenate([times["robot_time_s"], times["wall_time_s"], np.zeros((rows, 1))], axis=1)
    index = arrays.read("episodes/index", 0, episodes)
    blocks = {f"images/{s.name}/frames": frames for s in store_layout.image_fields(spec)}
    blocks["episodes/check"] = np.concatenate([index, np.full((episodes, 2), -1, np.int64)], axis=1)
    blocks["edits/log"] = np.zeros(0, np.uint8)
    attributes = {"version": VERSION, "identity": str(uuid.uuid4()), "image_codec": "jpeg"}
    arrays.add(store_layout.added_widths(spec), store_layout.column_attributes(spec), blocks, attributes)
