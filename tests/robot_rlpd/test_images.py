import numpy as np
import pytest

from robot_rlpd import images
from robot_rlpd.errors import DataError
from robot_rlpd.specs import ArraySpec


def gradient(channels: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    ramp = np.add.outer(np.arange(48), np.arange(64)).astype(np.uint8)
    return np.stack([ramp + 40 * c for c in range(channels)], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_survives_the_codec_within_a_few_grey_levels(channels: int) -> None:
    image = gradient(channels)
    decoded = images.decode(images.encode(image), image.shape)
    assert decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - image).max() <= 8


def test_lower_quality_takes_fewer_bytes() -> None:
    assert len(images.encode(gradient(3), quality=30)) < len(images.encode(gradient(3), quality=95))


def test_an_image_that_is_not_contiguous_is_encoded() -> None:
    image = gradient(3)
    assert images.encode(image[:, ::-1]) == images.encode(image[:, ::-1].copy())


@pytest.mark.parametrize("image", [np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((4, 4))])
def test_anything_but_grey_or_rgb_bytes_is_refused(image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    with pytest.raises(DataError, match="uint8"):
        images.encode(image)


def test_damaged_bytes_are_refused_naming_the_field() -> None:
    with pytest.raises(DataError, match="front: damaged"):
        images.decode(b"not a jpeg", (4, 4, 3), "front")


def test_an_image_of_another_size_is_refused() -> None:
    with pytest.raises(DataError, match="shape"):
        images.decode(images.encode(gradient(3)), (8, 8, 3))


def test_only_images_with_one_or_three_channels_are_encodable() -> None:
    def spec(channels: int) -> ArraySpec:
        return ArraySpec(name="camera", shape=(4, 4, channels), dtype="uint8", is_image=True)

    assert [images.is_encodable(spec(n)) for n in (1, 2, 3, 4)] == [True, False, True, False]
