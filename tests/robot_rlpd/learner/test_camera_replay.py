import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robot_rlpd.errors import DataError
from robot_rlpd.learner.camera_replay import CameraReplay, frame_room
from robot_rlpd.learner.encoders import PixelConfig
from robot_rlpd.learner.replay import ReplayBuffer, SymmetricSampler
from robot_rlpd.specs import ActionComponent, ActionSpec, ArraySpec, PolicyContract

CONTRACT = PolicyContract(
    observation=(
        ArraySpec(name="state", shape=(1,)),
        ArraySpec(name="camera", shape=(1, 2, 1), dtype="uint8", is_image=True),
    ),
    action=ActionSpec(components=(ActionComponent(name="x"),)),
    control_rate_hz=10.0,
)


def replay(frame_stack: int = 3, capacity: int = 100, frames: int = 200) -> CameraReplay:
    config = PixelConfig(frame_stack=frame_stack)
    return CameraReplay(CONTRACT, config, capacity=capacity, frame_capacity=frames)


def observed(episode: int, step: int) -> np.ndarray:
    """State and pixels that tell the episode and the step."""
    return np.array([100 * episode + step, episode, step], np.float32)


def add_episode(buffer: CameraReplay, episode: int, steps: int) -> None:
    buffer.start_episode()
    for t in range(steps):
        reward = 100 * episode + t
        buffer.append(observed(episode, t), np.array([0.5]), reward, 1.0, observed(episode, t + 1))


def expected_stack(episode: int, step: int, frame_stack: int) -> list[list[int]]:
    return [[episode, max(0, step - back)] for back in range(frame_stack - 1, -1, -1)]


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("frame_stack", [1, 2, 3, 5])
def test_stacks_never_reach_across_an_episodes_start(frame_stack: int) -> None:
    buffer = replay(frame_stack)
    for episode, steps in enumerate([7, 1, 2, 4]):
        add_episode(buffer, episode, steps)
    drawn = buffer.sample(400, generator())
    assert set(drawn["rewards"].int().tolist()) == {*range(7), 100, 200, 201, 300, 301, 302, 303}
    for reward, frames in zip(drawn["rewards"].int().tolist(), drawn["frames"], strict=True):
        episode, t = divmod(reward, 100)
        assert frames[:-1].tolist() == expected_stack(episode, t, frame_stack)
        assert frames[1:].tolist() == expected_stack(episode, t + 1, frame_stack)


def test_the_state_comes_out_as_it_went_in_and_without_the_images() -> None:
    buffer = replay()
    add_episode(buffer, 1, 5)
    drawn = buffer.sample(50, generator())
    assert torch.equal(drawn["observations"][:, 0], drawn["rewards"])
    assert torch.equal(drawn["next_observations"][:, 0], drawn["rewards"] + 1)
    assert drawn["actions"].tolist() == [[0.5]] * 50
    assert drawn["frames"].dtype == torch.uint8


def test_an_episode_at_once_and_step_by_step_are_the_same() -> None:
    single, whole = replay(), replay()
    for episode, steps in enumerate([3, 1, 4]):
        add_episode(single, episode, steps)
        whole.start_episode()
        columns = {
            "observations": np.stack([observed(episode, t) for t in range(steps)]),
            "actions": np.full((steps, 1), 0.5, np.float32),
            "rewards": np.arange(steps, dtype=np.float32) + 100 * episode,
            "masks": np.ones(steps, np.float32),
            "next_observations": np.stack([observed(episode, t + 1) for t in range(steps)]),
        }
        whole.append_many({name: torch.from_numpy(column) for name, column in columns.items()})
    one, other = single.sample(60, generator()), whole.sample(60, generator())
    assert all(torch.equal(one[name], other[name]) for name in other)


@given(
    st.integers(1, 12),
    st.integers(4, 20),
    st.lists(st.integers(1, 9), min_size=1, max_size=12),
    st.sampled_from([1, 3]),
)
def test_a_full_buffer_holds_the_newest_with_their_own_frames(
    capacity: int, frames: int, episodes: list[int], frame_stack: int
) -> None:
    buffer = replay(frame_stack, capacity, frames)
    pushed = []
    for episode, steps in enumerate(episodes):
        add_episode(buffer, episode, steps)
        pushed += [100 * episode + t for t in range(steps)]
    held = buffer.rewards().int().tolist()
    assert 1 <= len(held) == len(buffer) <= capacity
    assert held == pushed[-len(held) :]
    if sum(episodes) + len(episodes) <= frames:
        assert len(held) == min(capacity, len(pushed))
    drawn = buffer.sample(40, generator())
    for reward, stack in zip(drawn["rewards"].int().tolist(), drawn["frames"].tolist(), strict=True):
        assert reward in held
        assert stack[1:] == expected_stack(reward // 100, reward % 100 + 1, frame_stack)


def test_images_take_one_byte_per_entry_and_are_kept_once() -> None:
    contract = dataclasses.replace(
        CONTRACT,
        observation=(
            ArraySpec(name="state", shape=(1,)),
            ArraySpec(name="camera", shape=(64, 64, 3), dtype="uint8", is_image=True),
        ),
    )
    buffer = CameraReplay(contract, PixelConfig(), capacity=1000, frame_capacity=frame_room(1000, 0))
    in_floats = ReplayBuffer(contract.observation_size, 1, capacity=1).nbytes * 1000
    assert buffer.nbytes < in_floats / 7


def test_drawing_by_kernels_alone_gives_whole_transitions_too() -> None:
    buffer = replay(capacity=6)
    for episode in range(4):
        add_episode(buffer, episode, 3)
    drawn = buffer.unpack(buffer.sample_rows_on_device((100,), generator()))
    assert set(drawn["rewards"].int().tolist()) == {200, 201, 202, 300, 301, 302}
    for reward, stack in zip(drawn["rewards"].int().tolist(), drawn["frames"].tolist(), strict=True):
        assert stack[:-1] == expected_stack(reward // 100, reward % 100, 3)


def test_symmetric_sampling_mixes_frames_of_both_halves() -> None:
    offline, online = replay(), replay()
    add_episode(offline, 1, 5)
    add_episode(online, 2, 5)
    drawn = SymmetricSampler([offline], online, 0.5).sample(3, 4, generator())
    assert drawn["frames"][:, 0, 0].tolist() == [1, 1, 2, 2] * 3
    warm = online.zeros(12)
    assert {name: value.shape for name, value in warm.items()} == {name: v.shape for name, v in drawn.items()}


def test_what_does_not_fit_is_refused() -> None:
    buffer = replay()
    with pytest.raises(DataError, match="7 entries; allowed: 9 entries"):
        buffer.append(np.zeros(2), np.zeros(1), 0.0, 1.0, np.zeros(2))
    with pytest.raises(DataError, match="NaN"):
        buffer.append(np.full(3, np.nan), np.zeros(1), 0.0, 1.0, np.zeros(3))
