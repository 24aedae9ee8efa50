"""Pictures of a scene with OpenGL, off screen, wherever EGL or OSMesa works; no shadows, no multisampling."""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import mujoco
import numpy as np
from PIL import Image

from robot_rlpd.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

BACKENDS = ("egl", "osmesa")
PROBE_TIMEOUT_S = 60.0
MAX_GEOMS = 1000
PROBE = """
import importlib, mujoco
context = importlib.import_module('mujoco.{0}').GLContext(32, 32)
context.make_current()
model = mujoco.MjModel.from_xml_string('<mujoco><worldbody><geom size="1"/></worldbody></mujoco>')
mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
print('works')
"""


@functools.cache
def find_backend() -> str | None:
    """The first backend that can draw on this machine, or None; MUJOCO_GL, where set, leaves no choice.

    Tried in a process of its own, for a broken driver may crash it.
    """
    wished = os.environ.get("MUJOCO_GL", "").lower()
    for backend in (wished,) if wished in BACKENDS else BACKENDS:
        environment = os.environ | {"MUJOCO_GL": backend, "PYOPENGL_PLATFORM": backend}
        command = [sys.executable, "-c", PROBE.format(backend)]
        try:
            tried = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            continue
        if "works" in tried.stdout:
            return backend
    return None


class GlRenderer:
    """Draws one model at one size.

    Raises:
        ConfigError: Neither EGL nor OSMesa works here.
    """

    def __init__(self, model: mujoco.MjModel, size: tuple[int, int]) -> None:
        backend = find_backend()
        if backend is None:
            raise ConfigError(
                "no off-screen OpenGL works on this machine",
                field="renderer",
                found="gl",
                allowed="sketch",
                hint="or install EGL (libegl1 and a GPU driver or Mesa) or OSMesa (libosmesa6)",
            )
        os.environ.setdefault("PYOPENGL_PLATFORM", backend)
        self._size = size
        self._model = model
        self._gl = importlib.import_module(f"mujoco.{backend}").GLContext(*size)
        self._gl.make_current()
        model.vis.global_.offwidth, model.vis.global_.offheight = size
        model.vis.quality.offsamples = 0
        self._scene = mujoco.MjvScene(model, maxgeom=MAX_GEOMS)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)

    def draw(self, data: mujoco.MjData, camera: str) -> Image.Image:
        """The scene as seen by a camera of the model."""
        return Image.fromarray(self.pixels(data, camera))

    def pixels(self, data: mujoco.MjData, camera: str) -> NDArray[np.uint8]:
        """The same as an array, `(height, width, 3)`."""
        self._gl.make_current()
        view = mujoco.MjvCamera()
        view.type, view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, self._model.camera(camera).id
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self._model, data, mujoco.MjvOption(), None, view, everything, self._scene)
        rectangle = mujoco.MjrRect(0, 0, *self._size)
        pixels = np.empty((self._size[1], self._size[0], 3), np.uint8)
        mujoco.mjr_render(rectangle, self._scene, self._context)
        mujoco.mjr_readPixels(pixels, None, rectangle, self._context)
        return pixels[::-1]

    def close(self) -> None:
        """Release the OpenGL context; further calls do nothing."""
        if self._gl is not None:
            self._context.free()
            self._gl.free()
            self._gl = None
