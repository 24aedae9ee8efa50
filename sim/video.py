"""A short moving picture of recorded episodes, for a README or a chat."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from robot_rlpd.errors import ConfigError
from robot_rlpd.task import load_task
from sim.render import GlRenderer, find_backend
from sim.robot import SimRobot
from sim.sketch import sketch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from robot_rlpd.episode import Episode

RENDERERS = ("auto", "gl", "sketch")
SUFFIXES = (".webp", ".gif")
LAST_FRAME_MS = 1200


def episode_video(
    episode: Episode,
    path: Path | str,
    *,
    robot: SimRobot | None = None,
    every: int = 1,
    size: tuple[int, int] = (480, 360),
    camera: str = "front",
    renderer: str = "auto",
) -> Path:
    """Show one episode; see `episodes_video`."""
    return episodes_video([episode], path, robot=robot, every=every, size=size, camera=camera, renderer=renderer)


def episodes_video(
    episodes: Sequence[Episode],
    path: Path | str,
    *,
    robot: SimRobot | None = None,
    every: int = 1,
    size: tuple[int, int] = (480, 360),
    camera: str = "front",
    renderer: str = "auto",
) -> Path:
    """Show what the observations of episodes describe, one episode after the other, at the speed of the robot.

    Args:
        episodes: One or more, all recorded on the same simulated task.
        path: Ends in .webp or .gif; written whole or not at all.
        robot: Any robot of the same task, its state is changed; default: the one of the task that they name.
        every: Keep each n-th observation; the last one of an episode always.
        size: Width and height in pixels.
        camera: Name of a camera of the model.
        renderer: "gl", "sketch" (needs no OpenGL), or "auto": gl where it works.

    Returns:
        The path.

    Raises:
        ConfigError: Another suffix or renderer, no episode, or episodes of a robot that is not simulated here.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ConfigError(field="path", found=path.name, allowed=" or ".join(SUFFIXES))
    if renderer not in RENDERERS:
        raise ConfigError(field="renderer", found=renderer, allowed=", ".join(RENDERERS))
    if not episodes or every < 1:
        raise ConfigError("nothing to show", field="episodes", found=f"{len(episodes)}, every {every}")
    robot = robot or _robot_of(episodes[0])
    draw, close = _artist(robot, renderer, size, camera)
    frames, durations_ms = [], []
    try:
        for episode in episodes:
            last = len(episode.robot_times_s) - 1
            for row in sorted({*range(0, last, every), last}):
                robot.set_state_from_observation({name: array[row] for name, array in episode.observations.items()})
                frames.append(_captioned(draw(), episode, row))
                pause = row == last
                durations_ms.append(LAST_FRAME_MS if pause else round(1000 * every * episode.spec.control_period_s))
    finally:
        close()
    unfinished = path.with_name(f".{path.stem}.part{path.suffix}")
    frames[0].save(unfinished, save_all=True, append_images=frames[1:], duration=durations_ms, loop=0, quality=80)
    unfinished.replace(path)
    return path


def _robot_of(episode: Episode) -> SimRobot:
    robot = load_task(episode.info.task).make_robot()
    if not isinstance(robot, SimRobot):
        raise ConfigError("not simulated here", field="episode.task", found=episode.info.task)
    return robot


def _artist(
    robot: SimRobot, kind: str, size: tuple[int, int], camera: str
) -> tuple[Callable[[], Image.Image], Callable[[], None]]:
    if kind == "gl" or (kind == "auto" and find_backend()):
        renderer = GlRenderer(robot.model, size)
        return lambda: renderer.draw(robot.data, camera), renderer.close
    return lambda: sketch(robot.model, robot.data, camera=camera, size=size), lambda: None


def _captioned(image: Image.Image, episode: Episode, row: int) -> Image.Image:
    """Write the step into a corner, and how it ended under the last picture."""
    text = f"{episode.info.task}  step {row}/{len(episode)}"
    colour = (52, 58, 66)
    if row == len(episode) and episode.info.success is not None:
        text += "  success" if episode.info.success else "  failure"
        colour = (24, 122, 62) if episode.info.success else (176, 42, 36)
    font = ImageFont.load_default(max(10, image.height // 22))
    corner = (image.height // 30, image.height - image.height // 40)
    ImageDraw.Draw(image).text(corner, text, fill=colour, font=font, anchor="lb")
    return image
