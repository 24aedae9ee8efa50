from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from websockets.sync.client import connect

from demos.web.commands import ConsoleConfig
from demos.web.review import Delete, Images, List, Open, Relabel, Reviewer, ReviewPage, Statistics, Trim, Undo
from demos.web.server import ServingOptions
from robot_rlpd import images
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import ConfigError, DataError, StoreError
from robot_rlpd.rollout import rollout
from robot_rlpd.specs import ArraySpec
from robot_rlpd.spool import StoreListener
from robot_rlpd.testing import FakePolicy, FakeRobot, FakeTask, fake_spec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from robot_rlpd.robot import Observation

CAMERA = ArraySpec(name="camera", shape=(16, 24, 3), dtype="uint8", is_image=True)
SPEC = replace(fake_spec(), observation=(*fake_spec().observation, CAMERA))


class FilmedRobot(FakeRobot):
    """Its camera shows ten times the number of the step."""

    def __init__(self) -> None:
        super().__init__(SPEC)

    def _observation(self) -> Observation:
        return {**super()._observation(), "camera": np.full(CAMERA.shape, 10 * len(self.executed), np.uint8)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with EpisodeStore.create(tmp_path / "store", SPEC) as store:
        for seed in range(3):
            rollout(FilmedRobot(), FakePolicy(), FakeTask(), seed=seed, listeners=[StoreListener(store)])
    return tmp_path / "store"


@pytest.fixture
def reviewer(path: Path) -> Iterator[Reviewer]:
    with closing(Reviewer(str(path))) as opened:
        yield opened


def told(reviewer: Reviewer, asked: Any) -> dict[str, Any]:
    (answer,) = reviewer.answer(asked)
    message: dict[str, Any] = json.loads(answer)
    return message


def uuids(path: Path) -> list[str]:
    with EpisodeStore.open(path) as store:
        return [stored.info.uuid for stored in store.infos()]


def test_the_episodes_are_listed_also_new_ones(path: Path, reviewer: Reviewer) -> None:
    assert [episode["uuid"] for episode in told(reviewer, List())["episodes"]] == uuids(path)
    with EpisodeStore.open(path, "a") as store:
        rollout(FilmedRobot(), FakePolicy(), FakeTask(), seed=3, listeners=[StoreListener(store)])
    assert len(told(reviewer, List())["episodes"]) == 4


def test_an_episode_is_shown_whole(path: Path, reviewer: Reviewer) -> None:
    uuid = uuids(path)[1]
    shown = told(reviewer, Open(uuid))
    episode = EpisodeStore.open(path).read(1)
    assert (shown["steps"], shown["rows"], shown["cameras"]) == (len(episode), len(episode) + 1, ["camera"])
    assert np.allclose(shown["observations"]["position"], episode.observations["position"], atol=1e-4)
    assert np.allclose(shown["actions"], 2.0 * episode.executed_actions, atol=1e-4)  # bounds are +-0.5
    assert [reward[0] for reward in shown["rewards"]] == episode.signals["reward"].tolist()
    assert set(shown["sources"]) == {"scripted"}
    for row in (0, 2):
        (frame,) = reviewer.answer(Images(row))
        assert frame[0] == 0
        assert abs(images.decode(frame[1:], CAMERA.shape).astype(int) - 10 * row).max() <= 2


def test_edits_are_made_told_and_undone(path: Path, reviewer: Reviewer) -> None:
    first, second, third = uuids(path)
    steps = told(reviewer, Open(second))["steps"]
    assert told(reviewer, Trim(second, 1, 2))["told"] == f"trimmed to 1 of {steps} steps"
    assert told(reviewer, Relabel(first, success=False))["told"] == "labelled a failure"
    listed = told(reviewer, Delete(third))
    assert (listed["told"], listed["edits"]) == ("deleted", 3)
    assert [(e["uuid"], e["success"]) for e in listed["episodes"]] == [(first, False), (second, True)]
    with EpisodeStore.open(path) as store:
        assert [stored.num_steps for stored in store.infos()][1] == 1
    assert told(reviewer, Undo())["told"] == "undone: delete"
    assert told(reviewer, Undo())["told"] == "undone: relabel"
    listed = told(reviewer, Undo())
    assert [(e["uuid"], e["success"]) for e in listed["episodes"]] == [(u, True) for u in (first, second, third)]
    assert listed["episodes"][1]["steps"] == steps


def test_the_whole_store_is_shown_in_histograms(reviewer: Reviewer) -> None:
    shown = told(reviewer, Statistics())
    steps = shown["numbers"]["steps"]
    by_title = {histogram["title"]: histogram for histogram in shown["histograms"]}
    assert sum(by_title["episode length [steps]"]["counts"]) == 3
    assert sum(by_title["action x [m]"]["counts"]) == steps
    assert sum(by_title["position[y] [m]"]["counts"]) == steps + 3
    assert [entry["name"] for entry in shown["action_ranges"]] == ["x", "y"]
    assert all(-1.0 <= entry["lowest"] <= entry["high_95"] <= 1.0 for entry in shown["action_ranges"])


def test_a_store_without_episodes_has_statistics(tmp_path: Path) -> None:
    EpisodeStore.create(tmp_path / "empty", SPEC).close()
    with closing(Reviewer(str(tmp_path / "empty"))) as reviewer:
        shown = told(reviewer, Statistics())
    assert shown["action_ranges"] == []
    assert {histogram["empty"] for histogram in shown["histograms"]} == {"no data"}


def test_what_cannot_be_done_is_told_and_changes_nothing(path: Path, reviewer: Reviewer) -> None:
    uuid = uuids(path)[0]
    with pytest.raises(ConfigError, match="steps"):
        reviewer.answer(Trim(uuid, 5, 500))
    with pytest.raises(DataError, match="no such episode"):
        reviewer.answer(Delete("nobody"))
    with pytest.raises(DataError, match="no episode is open"):
        reviewer.answer(Images(0))
    with EpisodeStore.open(path, "a"), pytest.raises(StoreError, match="another process"):
        reviewer.answer(Delete(uuid))
    assert len(uuids(path)) == 3


def test_a_page_is_answered_and_told_of_errors(path: Path) -> None:
    served = ReviewPage(str(path), ServingOptions(port=0))
    with closing(served), connect(served.url.replace("http", "ws") + "ws") as page:
        page.send('{"type":"list"}')
        assert len(json.loads(page.recv(timeout=20))["episodes"]) == 3
        page.send('{"type":"delete","uuid":"nobody"}')
        assert json.loads(page.recv(timeout=20))["message"].startswith("episode: no such episode")
        page.send(json.dumps({"type": "open", "uuid": uuids(path)[0]}))
        assert json.loads(page.recv(timeout=20))["type"] == "episode"
        page.send('{"type":"images","row":1}')
        assert page.recv(timeout=20)[0] == 0


def test_a_review_is_of_a_store_and_of_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such store"):
        ReviewPage(str(tmp_path / "nothing"), ServingOptions(port=0))
    with pytest.raises(ConfigError, match="review"):
        ConsoleConfig(review=tmp_path, task="reach")
