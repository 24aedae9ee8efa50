import numpy as np
import torch

from robot_rlpd.learner.augmentation import _indexed, random_shifts, shifted
from robot_rlpd.specs import ArraySpec

IMAGES = (
    ArraySpec(name="a", shape=(6, 5, 3), dtype="uint8", is_image=True),
    ArraySpec(name="b", shape=(4, 7, 1), dtype="uint8", is_image=True),
)
FRAME = sum(spec.size for spec in IMAGES)


def frames(num: int, stack: int) -> torch.Tensor:
    return torch.randint(0, 256, (num, stack, FRAME), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_a_shift_is_a_crop_of_the_image_padded_with_its_border() -> None:
    stacks = frames(40, 3)[..., : IMAGES[0].size].reshape(40, 3, *IMAGES[0].shape)
    offsets = torch.randint(-4, 5, (40, 2), generator=torch.Generator().manual_seed(2))
    moved = shifted(stacks, offsets)
    padded = np.pad(stacks.numpy(), ((0, 0), (0, 0), (4, 4), (4, 4), (0, 0)), mode="edge")
    for n, (dy, dx) in enumerate(offsets.tolist()):
        assert np.array_equal(moved[n].numpy(), padded[n, :, 4 + dy : 10 + dy, 4 + dx : 9 + dx])
    assert torch.equal(moved, _indexed(stacks, offsets))  # what a GPU does


def test_all_frames_of_a_stack_move_alike() -> None:
    same = frames(200, 1).expand(200, 4, FRAME)
    moved = random_shifts(same, IMAGES, 2, torch.Generator().manual_seed(3))
    assert torch.equal(moved, moved[:, :1].expand_as(moved))
    assert not torch.equal(moved, same)


def test_shifts_cover_the_whole_range_and_two_draws_differ() -> None:
    one_pixel = torch.zeros(2000, 1, 9, 9, 1, dtype=torch.uint8)
    one_pixel[:, :, 4, 4] = 1
    camera = (ArraySpec(name="a", shape=(9, 9, 1), dtype="uint8", is_image=True),)
    generator = torch.Generator().manual_seed(4)
    places = [
        random_shifts(one_pixel.flatten(2), camera, 2, generator).view(-1, 1, 9, 9).nonzero()[:, 2:].tolist()
        for _ in range(2)
    ]
    assert {tuple(place) for place in places[0]} == {(y, x) for y in range(2, 7) for x in range(2, 7)}
    assert places[0] != places[1]


def test_without_a_pad_nothing_moves_and_nothing_is_drawn() -> None:
    generator = torch.Generator().manual_seed(5)
    before = generator.get_state()
    still = frames(3, 2)
    assert torch.equal(random_shifts(still, IMAGES, 0, generator), still)
    assert torch.equal(generator.get_state(), before)
