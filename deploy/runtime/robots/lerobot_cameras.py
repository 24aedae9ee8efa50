"""LeRobot's cameras, so that one that stops costs its own images and nothing else.

LeRobot reads motors and cameras in one call, which fails as a whole when a camera gives no image: then not even the
position could be held. So every camera is put behind one that repeats its last image, and says so.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from numpy.typing import NDArray

logger = logging.getLogger(__name__)


class PatientCamera:
    """Stands for a camera of LeRobot.

    Args:
        camera: The camera; connected.
        name: Of its pictures.
        shape: `(H, W, C)` of a picture.
        timeout_s: Longest wait for a new picture [s].

    Attributes:
        dropped: Whether the last reading repeated a picture; black where there has been none.
        is_connected: Always, so that LeRobot goes on without it.
    """

    is_connected = True

    def __init__(self, camera: Any, name: str, shape: tuple[int, ...], timeout_s: float) -> None:
        self._camera, self._name, self._timeout_ms = camera, name, 1e3 * timeout_s
        self._last: NDArray[np.uint8] = np.zeros(shape, np.uint8)
        self.dropped = False

    def async_read(self, *_: Any, **__: Any) -> NDArray[np.uint8]:
        """A new picture, or the last one."""
        return self._read(lambda: self._camera.async_read(timeout_ms=self._timeout_ms))

    def read_latest(self, *arguments: Any, **words: Any) -> NDArray[np.uint8]:
        """The newest picture, or the last one."""
        return self._read(lambda: self._camera.read_latest(*arguments, **words))

    def read(self, *arguments: Any, **words: Any) -> NDArray[np.uint8]:
        """The next picture, or the last one."""
        return self._read(lambda: self._camera.read(*arguments, **words))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._camera, name)

    def _read(self, read: Any) -> NDArray[np.uint8]:
        try:
            self._last = read()
        except Exception as error:  # each kind of camera has errors of its own
            if not self.dropped:
                logger.warning("camera '%s' gives no image: %s", self._name, error)
            self.dropped = True
        else:
            self.dropped = False
        return self._last


def make_patient(device: Any, shapes: Mapping[str, tuple[int, ...]], timeout_s: float) -> dict[str, PatientCamera]:
    """Put the cameras of a connected LeRobot robot behind patient ones; those that it keeps in `cameras`."""
    cameras: MutableMapping[str, Any] = getattr(device, "cameras", {})
    for name in cameras.keys() & shapes.keys():
        cameras[name] = PatientCamera(cameras[name], name, shapes[name], timeout_s)
    return {name: camera for name, camera in cameras.items() if isinstance(camera, PatientCamera)}
