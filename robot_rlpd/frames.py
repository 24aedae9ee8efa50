"""When the images of a camera were taken, and which never came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from robot_rlpd.robot import StepResult
    from robot_rlpd.specs import RobotSpec

FRAME_COLUMNS = ("robot_time_s", "wall_time_s", "dropped")


@dataclass(frozen=True, kw_only=True)
class Frames:
    """The frames of one camera, one per observation of an episode.

    Attributes:
        robot_times_s: Robot-clock time at which each image was taken, float64 `(rows,)`.
        wall_times_s: Wall-clock (Unix) time of the same instant, likewise.
        dropped: Bool `(rows,)`: no new image came in time; the image, and its time, are those of the row before.
    """

    robot_times_s: NDArray[np.float64]
    wall_times_s: NDArray[np.float64]
    dropped: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.dropped)

    @classmethod
    def at(cls, robot_times_s: NDArray[np.float64], wall_times_s: NDArray[np.float64]) -> Self:
        """Images that were taken when they were observed, as in a simulator."""
        return cls(
            robot_times_s=robot_times_s, wall_times_s=wall_times_s, dropped=np.zeros(len(robot_times_s), np.bool_)
        )

    @classmethod
    def of_rows(cls, rows: NDArray[np.float64]) -> Self:
        """From `(rows, 3)` with `FRAME_COLUMNS`."""
        return cls(robot_times_s=rows[:, 0], wall_times_s=rows[:, 1], dropped=rows[:, 2] != 0.0)

    def rows(self) -> NDArray[np.float64]:
        """As `(rows, 3)` with `FRAME_COLUMNS`."""
        return np.stack([self.robot_times_s, self.wall_times_s, self.dropped.astype(np.float64)], axis=1)


class FrameCollector:
    """Collects the frames of every camera of a robot, observation by observation."""

    def __init__(self, spec: RobotSpec) -> None:
        self._rows: dict[str, list[tuple[float, float, bool]]] = {s.name: [] for s in spec.observation if s.is_image}

    def observe(self, result: StepResult, wall_time_s: float) -> None:
        """Add those of one observation that was made at `wall_time_s`."""
        for name, rows in self._rows.items():
            if name in result.dropped_frames and rows:
                rows.append((*rows[-1][:2], True))
                continue
            taken_s = result.frame_times_s.get(name, result.robot_time_s)
            rows.append((taken_s, wall_time_s + taken_s - result.robot_time_s, name in result.dropped_frames))

    def frames(self) -> dict[str, Frames]:
        """By the name of the camera."""
        return {
            name: Frames.of_rows(np.array(rows, np.float64).reshape(-1, len(FRAME_COLUMNS)))
            for name, rows in self._rows.items()
        }
