"""Pictures of a scene without OpenGL: flat-shaded facets, drawn from far to near.

Meant for machines without a graphics library; knows boxes, spheres, cylinders, capsules and planes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from sim.facets import facets_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import mujoco

SKY = (232, 237, 242)
TOWARDS_LIGHT = np.array([-0.25, -0.45, 0.86])
SUPERSAMPLING = 2
NEAR_M = 0.05
SHADOW = 75
"""Depth of a shadow, of 255."""
BACKDROP_GROUP = 1
"""Geoms of this group are drawn first, in the model's order; shadows fall on them."""


@dataclass(frozen=True)
class Camera:
    """A pinhole at `position` [m]; columns of `axes`: right, up, back; `focal` in pixels, image centre `centre`."""

    position: NDArray[np.float64]
    axes: NDArray[np.float64]
    focal: float
    centre: tuple[float, float]

    def project(self, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """World points `(..., 3)` to pixels `(..., 2)` and depths [m] `(...,)`."""
        local = (points - self.position) @ self.axes
        depth = np.maximum(-local[..., 2], NEAR_M)
        flat = local[..., :2] * (self.focal / depth)[..., None] * (1.0, -1.0)
        return flat + self.centre, depth


def sketch(
    model: mujoco.MjModel, data: mujoco.MjData, *, camera: str = "front", size: tuple[int, int] = (640, 480)
) -> Image.Image:
    """Draw the scene as it stands after `mj_forward`.

    Args:
        model: The model.
        data: Its state.
        camera: Name of a fixed camera of the model.
        size: Width and height in pixels.
    """
    width, height = (n * SUPERSAMPLING for n in size)
    view = _camera(model, data, camera, width, height)
    image = Image.new("RGB", (width, height), SKY)
    solids = list(_solids(model, data))
    for solid in solids:
        if solid.backdrop:
            _draw(image, view, [solid])
    _drop_shadows(image, view, solids)
    _draw(image, view, [solid for solid in solids if not solid.backdrop])
    return image.resize(size, Image.Resampling.LANCZOS)


@dataclass(frozen=True)
class Solid:
    """One geom: facets `(F, 4, 3)` in the world, counter-clockwise seen from outside; colour and opacity 0 to 1."""

    facets: NDArray[np.float64]
    rgba: NDArray[np.float64]
    backdrop: bool


def _camera(model: mujoco.MjModel, data: mujoco.MjData, name: str, width: int, height: int) -> Camera:
    index = model.camera(name).id
    focal = 0.5 * height / np.tan(np.radians(float(model.cam_fovy[index])) / 2.0)
    return Camera(data.cam_xpos[index], data.cam_xmat[index].reshape(3, 3), focal, (width / 2.0, height / 2.0))


def _solids(model: mujoco.MjModel, data: mujoco.MjData) -> Iterator[Solid]:
    for i in range(model.ngeom):
        facets = facets_of(int(model.geom_type[i]), model.geom_size[i])
        world = facets @ data.geom_xmat[i].reshape(3, 3).T + data.geom_xpos[i]
        material = int(model.geom_matid[i])
        rgba = model.geom_rgba[i] if material < 0 else model.mat_rgba[material]
        yield Solid(world, rgba, int(model.geom_group[i]) == BACKDROP_GROUP)
    for i in range(model.nsite):
        if model.site_rgba[i, 3] > 0.0:
            facets = facets_of(int(model.site_type[i]), model.site_size[i])
            yield Solid(facets @ data.site_xmat[i].reshape(3, 3).T + data.site_xpos[i], model.site_rgba[i], False)


def _draw(image: Image.Image, view: Camera, solids: list[Solid]) -> None:
    """Draw all facets that face the camera, the farthest first."""
    if not solids:
        return
    facets = np.concatenate([solid.facets for solid in solids])
    rgba = np.concatenate([np.tile(solid.rgba, (len(solid.facets), 1)) for solid in solids])
    normals = np.cross(facets[:, 2] - facets[:, 0], facets[:, 3] - facets[:, 1])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    middles = facets.mean(axis=1)
    facing = np.einsum("ij,ij->i", normals, view.position - middles) > 0.0
    light = TOWARDS_LIGHT / np.linalg.norm(TOWARDS_LIGHT)
    brightness = 0.62 + 0.42 * np.clip(normals @ light, -0.4, 1.0)
    colours = np.clip(rgba[:, :3] * brightness[:, None] * 255.0, 0, 255).astype(int)
    pixels, depths = view.project(facets)
    seen = facing & (depths > NEAR_M).all(axis=1)
    order = np.argsort(-np.linalg.norm(middles - view.position, axis=1))
    pen = ImageDraw.Draw(image, "RGBA")
    for i in order[seen[order]]:
        fill = (*colours[i].tolist(), round(255 * rgba[i, 3]))
        corners = [tuple(corner) for corner in pixels[i].tolist()]
        # The outline in the facet's own colour closes the hairlines between neighbours.
        pen.polygon(corners, fill=fill, outline=fill if fill[3] == 255 else None)


def _drop_shadows(image: Image.Image, view: Camera, solids: list[Solid]) -> None:
    """Soft shadows on the highest box of the backdrop (its top at z = 0), cut off at its edges."""
    boxes = [solid.facets for solid in solids if solid.backdrop and len(solid.facets) == 6]
    if not boxes:
        return
    tops = np.concatenate(boxes)
    top = tops[np.argmax(tops.mean(axis=1)[:, 2])]
    inside, shadow = Image.new("L", image.size, 0), Image.new("L", image.size, 0)
    ImageDraw.Draw(inside).polygon([tuple(corner) for corner in view.project(top)[0].tolist()], fill=255)
    pen = ImageDraw.Draw(shadow)
    for solid in solids:
        if not solid.backdrop:
            above = np.maximum(solid.facets[..., 2:], 0.0)
            fallen = solid.facets - above * (TOWARDS_LIGHT / TOWARDS_LIGHT[2])
            for corners in view.project(fallen)[0].tolist():
                pen.polygon([tuple(corner) for corner in corners], fill=SHADOW)
    shadow = shadow.filter(ImageFilter.GaussianBlur(image.size[0] / 160.0))
    mask = Image.composite(shadow, Image.new("L", image.size, 0), inside)
    image.paste(Image.new("RGB", image.size, (40, 36, 34)), (0, 0), mask)
