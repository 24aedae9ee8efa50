"""Camera images as AV1 video in mp4 files and as PNG files, by FFmpeg's libraries."""

from __future__ import annotations

import contextlib
import os
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import av
import av.error
import numpy as np
import simplejpeg

from robot_rlpd.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from numpy.typing import NDArray

CODEC, PIXELS, GROUP, RATE_FACTOR = "libsvtav1", "yuv420p", 2, 30
"""As LeRobot encodes; lossy. Every second frame can be decoded alone."""
FOR_PEOPLE, RATE_FACTOR_FOR_PEOPLE = "libx264", 18
"""H.264, which every player and browser shows."""
SMALLEST = 64
"""Least height and width of a video, in pixels."""
_JPEG_START = b"\xff\xd8"
_THREADS = Path("/proc/self/task")


def can_be_video(height: int, width: int) -> bool:
    """Whether the codec takes images of this size: even, and not too small."""
    return min(height, width) >= SMALLEST and height % 2 == 0 and width % 2 == 0


class VideoWriter:
    """One mp4 file that grows by frames.

    Args:
        path: File to write.
        rate_hz: Frames per second.
        height: Of every frame.
        width: Of every frame.
        codec: FFmpeg's name of the encoder.
    """

    def __init__(self, path: Path, rate_hz: float, height: int, width: int, *, codec: str = CODEC) -> None:
        os.environ.setdefault("SVT_LOG", "1")  # errors only: the encoder writes to standard error itself
        path.parent.mkdir(parents=True, exist_ok=True)
        self.frames = 0
        self._path = path
        self._file = av.open(str(path), "w", format="mp4")
        options = {"g": str(GROUP), "crf": str(RATE_FACTOR), "preset": "10"}
        if codec != CODEC:
            options = {"crf": str(RATE_FACTOR_FOR_PEOPLE), "preset": "veryfast"}
        rate = Fraction(rate_hz).limit_denominator(1001)
        stream: Any = self._file.add_stream(codec, rate=rate, options=options)
        stream.pix_fmt, stream.height, stream.width = PIXELS, height, width
        stream.codec_context.time_base = 1 / rate
        with _scheduling_kept():
            stream.codec_context.open()
        self._stream = stream

    @property
    def num_bytes(self) -> int:
        """Size of the file so far; it is made when the first frames leave the encoder."""
        return self._path.stat().st_size if self._path.exists() else 0

    def append(self, frames: NDArray[np.uint8]) -> None:
        """Add frames `(T, H, W, 3)`."""
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts = self.frames
            frame.time_base = self._stream.codec_context.time_base
            self._file.mux(self._stream.encode(frame))
            self.frames += 1

    def close(self) -> None:
        """Finish the file."""
        self._file.mux(self._stream.encode())
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextlib.contextmanager
def _scheduling_kept() -> Iterator[None]:
    """Where it may, the AV1 encoder makes its threads and the caller's real-time ones of the highest priority.

    A control loop on the same computer would have to wait for them.
    """
    if not hasattr(os, "sched_setscheduler") or not _THREADS.is_dir():
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    before = set(_THREADS.iterdir())
    try:
        yield
    finally:
        for thread in (0, *(int(path.name) for path in set(_THREADS.iterdir()) - before)):
            with contextlib.suppress(OSError):  # one that has ended by now, or none may be changed
                os.sched_setscheduler(thread, policy, parameters)


def read_frames(path: Path, start_s: float, count: int, rate_hz: float, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """`count` frames from a time on.

    Args:
        path: Video file.
        start_s: Time of the first frame in it.
        count: Number of frames.
        rate_hz: Frames per second.
        shape: `(H, W, C)` of a frame; with one channel the red one is taken of a grey video.

    Returns:
        `(count, *shape)` uint8.

    Raises:
        DataError: Unreadable, too short, frames at other times or of another size.
    """
    frames = np.empty((count, *shape), np.uint8)
    taken = 0
    try:
        with av.open(str(path)) as file:
            stream = file.streams.video[0]
            file.seek(int(start_s / float(stream.time_base or 1)), stream=stream, backward=True)
            for frame in file.decode(stream):
                time_s = frame.time or 0.0
                if time_s < start_s - 0.5 / rate_hz:
                    continue
                if abs(time_s - start_s - taken / rate_hz) > 0.5 / rate_hz:
                    allowed = f"{start_s + taken / rate_hz:.3f} s"
                    raise DataError("frame is missing", field=str(path), found=f"{time_s:.3f} s", allowed=allowed)
                frames[taken] = _pixels(frame, shape, path)
                taken += 1
                if taken == count:
                    return frames
    except (av.error.FFmpegError, OSError, IndexError) as error:
        raise DataError(f"not readable: {error}", field=str(path)) from None
    raise DataError("the video ends early", field=str(path), found=f"{taken} frames", allowed=f"{count}")


def _pixels(frame: av.VideoFrame, shape: tuple[int, ...], path: Path) -> NDArray[Any]:
    if (frame.height, frame.width) != shape[:2]:
        found = f"frames of {frame.height} x {frame.width}"
        raise DataError(field=str(path), found=found, allowed=f"{shape[0]} x {shape[1]}")
    return frame.to_ndarray(format="rgb24")[..., : shape[2]]


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG file of an image `(H, W, 3)`; without loss."""
    encoder: Any = av.CodecContext.create("png", "w")
    encoder.height, encoder.width, encoder.pix_fmt = *pixels.shape[:2], "rgb24"
    encoder.time_base = Fraction(1)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    return b"".join(bytes(packet) for packet in (*encoder.encode(frame), *encoder.encode(None)))


def decode_image(data: bytes, shape: tuple[int, ...], name: str) -> NDArray[np.uint8]:
    """The pixels `(H, W, C)` of a PNG or JPEG file.

    Raises:
        DataError: Damaged, or of another size.
    """
    try:
        if data.startswith(_JPEG_START):
            pixels: NDArray[Any] = simplejpeg.decode_jpeg(data, colorspace="RGB")
        else:
            decoder: Any = av.CodecContext.create("png", "r")
            frames = [*decoder.decode(av.Packet(data)), *decoder.decode(None)]
            pixels = frames[0].to_ndarray(format="rgb24")
    except (av.error.FFmpegError, ValueError, IndexError) as error:
        raise DataError(f"damaged image: {error}", field=name) from None
    if pixels.shape[:2] != shape[:2]:
        raise DataError(field=name, found=f"an image of shape {pixels.shape}", allowed=str(shape))
    return pixels[..., : shape[2]]
