"""What the cameras saw in recorded episodes, as a moving picture."""

from __future__ import annotations

import importlib.util
import io
import itertools
import uuid
from typing import TYPE_CHECKING

import numpy as np

from robot_rlpd.errors import ConfigError
from robot_rlpd.robot import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL import Image

    from robot_rlpd.episode import Episode
    from robot_rlpd.specs import RobotSpec

FILM = ".mp4"
SUFFIXES = (".webp", ".gif", FILM)
CAPTION_HEIGHT = 16
_SOURCES = {int(source): source.name.lower() for source in Source}


def check_video(out: Path, spec: RobotSpec, cameras: Sequence[str]) -> list[str]:
    """The cameras to show: those named, or all.

    Raises:
        ConfigError: Another ending, no such camera, none at all, or Pillow or PyAV is not installed.
    """
    known = [s.name for s in spec.observation if s.is_image and s.shape[2] in (1, 3)]
    if out.suffix not in SUFFIXES:
        raise ConfigError(field="out", found=str(out), allowed=f"a file name that ends in {', '.join(SUFFIXES)}")
    if not out.parent.is_dir():
        raise ConfigError(field="out", found=str(out), allowed="a file in an existing directory")
    if not known:
        hint = "for a simulated task: robot-rlpd sim video"
        raise ConfigError("the store has no camera images", field="camera", hint=hint)
    for name in cameras:
        if name not in known:
            raise ConfigError(field="camera", found=name, allowed=", ".join(known))
    try:
        import PIL  # noqa: F401
    except ImportError:
        hint = "install it: pip install 'robot-rlpd[demos]'"
        raise ConfigError("moving pictures need Pillow", field="out", hint=hint) from None
    if out.suffix == FILM and importlib.util.find_spec("av") is None:
        hint = "install it: pip install 'robot-rlpd[datasets]', or write .webp"
        raise ConfigError("films need PyAV", field="out", hint=hint)
    return list(cameras) or known


def write_video(
    episodes: Sequence[Episode],
    cameras: Sequence[str],
    out: Path,
    *,
    every: int = 1,
    speed: float = 1.0,
    on_frame: Callable[[int], None] = lambda done: None,
) -> int:
    """Show the cameras side by side at the speed of the robot, with step, time, source and dropped frames below.

    Returns:
        The number of pictures.
    """
    pictures = _pictures(episodes, cameras, every, on_frame)
    rate_hz = episodes[0].spec.control_rate_hz * speed / every
    return _write_film(pictures, out, rate_hz) if out.suffix == FILM else _write_animation(pictures, out, rate_hz)


def _pictures(
    episodes: Sequence[Episode], cameras: Sequence[str], every: int, on_frame: Callable[[int], None]
) -> Iterator[Image.Image]:
    done = 0
    for episode in episodes:
        for row in _rows(episode, every):
            yield _picture(episode, cameras, row)
            done += 1
            on_frame(done)


def _write_animation(pictures: Iterator[Image.Image], out: Path, rate_hz: float) -> int:
    images = list(pictures)
    animation = io.BytesIO()
    options = {"method": 0, "quality": 80} if out.suffix == ".webp" else {}
    images[0].save(
        animation,
        format=out.suffix[1:].upper(),
        save_all=True,
        append_images=images[1:],
        duration=max(1, round(1e3 / rate_hz)),
        loop=0,
        **options,
    )
    out.write_bytes(animation.getvalue())
    return len(images)


def _write_film(pictures: Iterator[Image.Image], out: Path, rate_hz: float) -> int:
    """H.264, one picture at a time; sides become even, which it needs."""
    from demos.converters.video import FOR_PEOPLE, VideoWriter

    first = next(pictures)
    height, width = first.height + first.height % 2, first.width + first.width % 2
    unfinished = out.with_name(f".{out.name}.{uuid.uuid4().hex}")
    try:
        with VideoWriter(unfinished, rate_hz, height, width, codec=FOR_PEOPLE) as writer:
            for picture in itertools.chain([first], pictures):
                pixels = np.asarray(picture)
                room = ((0, height - len(pixels)), (0, width - pixels.shape[1]), (0, 0))
                writer.append(np.pad(pixels, room, mode="edge")[np.newaxis])
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)
    return writer.frames


def _rows(episode: Episode, every: int) -> Iterator[int]:
    last = len(episode.robot_times_s) - 1
    yield from range(0, last, every)
    yield last


def _picture(episode: Episode, cameras: Sequence[str], row: int) -> Image.Image:
    from PIL import Image, ImageDraw

    shown = [_rgb(episode.observations[name][row]) for name in cameras]
    height = max(len(image) for image in shown)
    padded = [np.pad(image, ((0, height - len(image)), (0, 0), (0, 0))) for image in shown]
    image = Image.fromarray(np.pad(np.concatenate(padded, axis=1), ((0, CAPTION_HEIGHT), (0, 0), (0, 0))))
    ImageDraw.Draw(image).text((3, height + 2), _caption(episode, cameras, row), fill=(255, 255, 255))
    return image


def _rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image


def _caption(episode: Episode, cameras: Sequence[str], row: int) -> str:
    seconds = episode.robot_times_s[row] - episode.robot_times_s[0]
    source = _SOURCES.get(int(episode.sources[row]), "") if row < len(episode) else "end"
    dropped = [name for name in cameras if name in episode.frames and episode.frames[name].dropped[row]]
    return f"{row} {seconds:.2f}s {source}" + (f" dropped: {' '.join(dropped)}" if dropped else "")
