"""The cameras of a simulated robot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import mujoco

    from robot_rlpd.robot import Observation
    from robot_rlpd.specs import ArraySpec
    from sim.render import GlRenderer

SUFFIX = "_image"


class Eyes:
    """Draws the image fields `<camera>_image`; opens OpenGL at the first look.

    Args:
        model: The model; has a camera for each image.
        fields: Fields of the robot; those that are no images are left out. All images have one size.
    """

    def __init__(self, model: mujoco.MjModel, fields: Sequence[ArraySpec]) -> None:
        self._model = model
        self._images = [field for field in fields if field.is_image]
        self._renderer: GlRenderer | None = None

    def see(self, data: mujoco.MjData) -> Observation:
        """One picture per image field, `(height, width, 3)` uint8.

        Raises:
            ConfigError: Neither EGL nor OSMesa works here.
        """
        if not self._images:
            return {}
        if self._renderer is None:
            from sim.render import GlRenderer

            height, width, _ = self._images[0].shape
            self._renderer = GlRenderer(self._model, (width, height))
        renderer = self._renderer
        return {
            field.name: np.ascontiguousarray(renderer.pixels(data, field.name.removesuffix(SUFFIX)))
            for field in self._images
        }

    def close(self) -> None:
        """Release OpenGL; a later look opens it again."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
