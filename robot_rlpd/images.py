"""How images are stored and sent: as JPEG, its quality stated, or without loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import simplejpeg

from robot_rlpd.errors import ConfigError, DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from robot_rlpd.specs import ArraySpec

JPEG_QUALITY = 90
"""Default quality, 1 to 100; colour is not subsampled. About a tenth of the raw size on camera images."""

ZSTD_LEVEL = 1
"""Fast: higher levels win little on camera images."""

_COLORSPACES = {1: "GRAY", 3: "RGB"}


def is_encodable(spec: ArraySpec) -> bool:
    """Whether the codec can hold the field: an image with 1 (grey) or 3 (RGB) channels and at least one pixel."""
    return spec.is_image and spec.shape[2] in _COLORSPACES and spec.size > 0


def encode(image: NDArray[np.uint8], quality: int = JPEG_QUALITY) -> bytes:
    """JPEG bytes of a uint8 `(H, W, 1)` or `(H, W, 3)` image; lossy.

    Raises:
        DataError: Not such an image.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in _COLORSPACES:
        raise DataError(field="image", found=f"{image.dtype} {image.shape}", allowed="uint8 (H, W, 1) or (H, W, 3)")
    data: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(image), quality=quality, colorspace=_COLORSPACES[image.shape[2]], colorsubsampling="444"
    )
    return data


def decode(
    data: bytes | memoryview | NDArray[np.uint8], shape: tuple[int, ...], name: str = "image"
) -> NDArray[np.uint8]:
    """The uint8 image of `shape` that `data` holds.

    Raises:
        DataError: Damaged bytes, or an image of another size.
    """
    try:
        image: NDArray[Any] = simplejpeg.decode_jpeg(data, colorspace=_COLORSPACES[shape[2]])
    except ValueError as error:
        raise DataError(f"damaged JPEG data: {error}", field=name) from None
    if image.shape != shape:
        raise DataError(field=name, found=f"an image of shape {image.shape}", allowed=f"shape {shape}")
    return image


@dataclass(frozen=True, kw_only=True)
class ImageCodec:
    """How the images of a store are encoded.

    Attributes:
        name: "jpeg", or "zstd", which loses nothing: each pixel less its left neighbour (modulo 256, the first of a row
            as it is), in C order, compressed. The differences take half the space of the pixels.
        quality: Of JPEG, 1 to 100.
    """

    name: Literal["jpeg", "zstd"] = "jpeg"
    quality: int = JPEG_QUALITY

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise ConfigError(field="jpeg_quality", found=self.quality, allowed="1 to 100")

    @classmethod
    def wished(cls, *, lossless: bool, jpeg_quality: int | None) -> ImageCodec | None:
        """What an operator asks for; None when nothing was said.

        Raises:
            ConfigError: Both, or no such quality.
        """
        if lossless and jpeg_quality is not None:
            raise ConfigError("not together with --lossless", field="jpeg_quality", found=jpeg_quality)
        if lossless:
            return cls(name="zstd")
        return None if jpeg_quality is None else cls(quality=jpeg_quality)

    def __str__(self) -> str:
        return f"JPEG of quality {self.quality}" if self.name == "jpeg" else "lossless"

    def encode(self, image: NDArray[np.uint8]) -> bytes:
        """Bytes of a uint8 image `(H, W, C)`."""
        if self.name == "jpeg":
            return encode(image, self.quality)
        from numcodecs.zstd import compress  # comes with zarr

        differences = np.array(image, np.uint8, order="C")
        differences[:, 1:] -= image[:, :-1]
        data: bytes = compress(differences, ZSTD_LEVEL)
        return data

    def decode(self, data: NDArray[np.uint8], shape: tuple[int, ...], name: str) -> NDArray[np.uint8]:
        """The image of `shape` that `data` holds.

        Raises:
            DataError: Damaged bytes, or an image of another size.
        """
        if self.name == "jpeg":
            return decode(data, shape, name)
        from numcodecs.zstd import decompress

        try:
            differences = np.frombuffer(decompress(data), np.uint8).reshape(shape)
        except (RuntimeError, ValueError) as error:
            raise DataError(f"damaged image data: {error}", field=name) from None
        return np.cumsum(differences, axis=1, dtype=np.uint8)
