"""A simulated run that was killed ends with the same parameters, to the bit, as one that never was."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
import torch

from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.learner.run_directory import EPISODES
from robot_rlpd.rollout import SilentListener

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from robot_rlpd.episode import Step
    from robot_rlpd.learner.session import Session

RUN_ID = str(uuid.UUID(int=7))
WHOLE = {"run_id": RUN_ID, "env_steps": 60, "eval_every": 25, "eval_episodes": 2}


class KilledError(BaseException):
    """Takes the place of kill -9: nothing runs after it."""


def kill_at(session: Session, env_steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the session die at a step, with whatever lies on the disk at that instant."""
    on_step = session.on_step

    def dying(step: Step) -> None:
        on_step(step)
        if session.env_steps == env_steps:
            monkeypatch.setattr(session, "save", lambda name: None)
            monkeypatch.setattr(session, "on_end", lambda episode: None)
            monkeypatch.setattr(session.store, "append", lambda episode: SilentListener().on_end(episode))
            monkeypatch.setattr("robot_rlpd.spool.EpisodeWriter.remove", lambda writer: writer.close())
            raise KilledError

    monkeypatch.setattr(session, "on_step", dying)


@pytest.mark.parametrize("checkpoint_every_s", [0.0, 1e9])
@pytest.mark.parametrize("instants", [[1], [9], [11, 30], [17, 18, 19, 59], [60]])
def test_a_killed_simulated_run_ends_bit_identical(
    start: Callable[..., Session],
    record: Callable[..., Path],
    tmp_path: Path,
    instants: list[int],
    checkpoint_every_s: float,
) -> None:
    options: dict[str, Any] = {**WHOLE, "prior": (record(),), "checkpoint_every_s": checkpoint_every_s}
    never_killed = start("whole", **options)
    assert never_killed.run(lambda: False) == "finished"
    wanted = never_killed.learner.state_dict()
    wanted_episodes = [(stored.info.uuid, stored.num_steps) for stored in never_killed.store.infos()]

    session = start("killed", **options)
    for instant in instants:
        with pytest.MonkeyPatch.context() as monkeypatch:
            kill_at(session, instant, monkeypatch)
            with pytest.raises(KilledError):
                session.run(lambda: False)
        session = start("killed", resume=True, **options)
    assert session.run(lambda: False) == "finished"
    resumed = session.learner.state_dict()
    assert resumed.keys() == wanted.keys()
    assert all(torch.equal(resumed[name], wanted[name]) for name in wanted)
    session.store.close()
    with EpisodeStore.open(tmp_path / "killed" / EPISODES) as store:
        assert [(stored.info.uuid, stored.num_steps) for stored in store.infos()] == wanted_episodes
