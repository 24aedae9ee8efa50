"""Random shifts of images while training (Yarats et al. 2021, DrQ)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from robot_rlpd.learner.encoders import split_frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from robot_rlpd.specs import ArraySpec


def shifted(stacks: Tensor, offsets: Tensor) -> Tensor:
    """Move each stack by whole pixels; the border's pixels fill what comes in.

    Args:
        stacks: Images [B, K, H, W, C].
        offsets: Downwards and to the right, how far what is seen moves up and left; int64 [B, 2].
    """
    return _cut_out(stacks, offsets) if stacks.device.type == "cpu" else _indexed(stacks, offsets)


def _indexed(stacks: Tensor, offsets: Tensor) -> Tensor:
    """`shifted` as one operation: nothing waits for the device, and a CUDA graph can hold it."""
    height, width = stacks.shape[2:4]
    rows = (torch.arange(height, device=stacks.device) + offsets[:, :1]).clamp_(0, height - 1)
    columns = (torch.arange(width, device=stacks.device) + offsets[:, 1:]).clamp_(0, width - 1)
    one = torch.arange(len(stacks), device=stacks.device)[:, None, None]
    # Indexing moves the indexed axes to the front: [B, H, W, K, C].
    return stacks[one, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2, 4)


def _cut_out(stacks: Tensor, offsets: Tensor) -> Tensor:
    """`shifted` by copying whole rows out of a larger picture, several times faster on a CPU."""
    height, width = stacks.shape[2:4]
    pad = int(offsets.abs().max())
    for dim, size in ((2, height), (3, width)):
        stacks = stacks.index_select(dim, torch.arange(-pad, size + pad).clamp_(0, size - 1))
    parts = [
        stack[:, down : down + height, right : right + width]
        for stack, (down, right) in zip(stacks, (offsets + pad).tolist(), strict=True)
    ]
    return torch.stack(parts)


def random_shifts(frames: Tensor, images: Sequence[ArraySpec], pad: int, generator: torch.Generator) -> Tensor:
    """Frames [B, K, frame bytes], moved by up to `pad` pixels: one shift for the whole stack of a camera."""
    if not pad:
        return frames
    moved = []
    for stack in split_frames(frames, images).values():
        size = (len(frames), 2)
        offsets = torch.randint(-pad, pad + 1, size, generator=generator, device=generator.device)
        moved.append(shifted(stack, offsets.to(frames.device)).flatten(2))
    return torch.cat(moved, dim=-1)
