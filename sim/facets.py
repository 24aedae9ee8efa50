"""The surfaces of primitive geoms as four-cornered facets."""

from __future__ import annotations

import functools
from itertools import pairwise
from typing import TYPE_CHECKING

import mujoco
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

SIDES = 20
"""Facets around a round geom."""
RINGS = 5
"""Facets from the equator of a half sphere to its pole."""
TILES = 60
"""Facets along each side of a plane."""

Profile = tuple[tuple[float, float], ...]
"""Radius and height of each ring of a body of revolution, from top to bottom."""


def facets_of(kind: int, size: ArrayLike) -> NDArray[np.float64]:
    """Facets `(F, 4, 3)` [m] in the geom's frame, counter-clockwise seen from outside.

    Args:
        kind: An `mjtGeom`; kinds other than box, sphere, cylinder, capsule and plane have no facets.
        size: MuJoCo's size of the geom, `(3,)`.
    """
    return _facets(kind, tuple(float(v) for v in np.asarray(size)))


@functools.cache
def _facets(kind: int, size: tuple[float, float, float]) -> NDArray[np.float64]:
    radius, half, third = size
    if kind == mujoco.mjtGeom.mjGEOM_BOX:
        return _box(radius, half, third)
    if kind == mujoco.mjtGeom.mjGEOM_PLANE:
        return _tiled(radius, half)
    if kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
        return _revolved(((0.0, half), (radius, half), (radius, -half), (0.0, -half)))
    if kind == mujoco.mjtGeom.mjGEOM_SPHERE:
        return _revolved(_ball(radius, 0.0))
    if kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
        return _revolved(_ball(radius, half))
    return np.zeros((0, 4, 3))


def _tiled(half_x: float, half_y: float) -> NDArray[np.float64]:
    """A plane in tiles, so that those behind a camera can be left out."""
    xs, ys = (np.linspace(-half, half, TILES + 1) for half in (half_x, half_y))
    tiles = [[(a, c, 0), (b, c, 0), (b, d, 0), (a, d, 0)] for a, b in pairwise(xs) for c, d in pairwise(ys)]
    return np.array(tiles, np.float64)


def _box(x: float, y: float, z: float) -> NDArray[np.float64]:
    top = np.array([[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]], np.float64)
    turns = [
        np.eye(3),
        np.diag([1.0, -1.0, -1.0]),
        *(np.array(m, np.float64) for m in ([[0, 0, 1], [0, 1, 0], [-1, 0, 0]], [[0, 0, -1], [0, 1, 0], [1, 0, 0]])),
        *(np.array(m, np.float64) for m in ([[1, 0, 0], [0, 0, 1], [0, -1, 0]], [[1, 0, 0], [0, 0, -1], [0, 1, 0]])),
    ]
    return np.stack([top @ turn.T for turn in turns]) * (x, y, z)


def _ball(radius: float, half: float) -> Profile:
    """A sphere pulled apart by `half` to either side: a capsule."""
    angles = np.linspace(0.0, np.pi / 2.0, RINGS + 1)
    upper = [(radius * float(np.sin(a)), half + radius * float(np.cos(a))) for a in angles]
    lower = [(r, -z) for r, z in reversed(upper)]
    return (*upper, *(lower if half > 0.0 else lower[1:]))


def _revolved(profile: Profile) -> NDArray[np.float64]:
    angles = np.linspace(0.0, 2.0 * np.pi, SIDES + 1)
    around = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    facets = []
    for (upper_r, upper_z), (lower_r, lower_z) in pairwise(profile):
        for left, right in pairwise(around):
            corners = [(lower_r * left, lower_z), (lower_r * right, lower_z)]
            corners += [(upper_r * right, upper_z), (upper_r * left, upper_z)]
            facets.append([[*xy, z] for xy, z in corners])
    return np.array(facets, np.float64)
