"""A success classifier from recorded episodes to a file that runs without torch, measured against the truth."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from deploy.runtime.success_classifier import OnnxClassifier, open_classifier, read_classifier
from robot_rlpd.cli import main
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import DataError, MismatchError, SpecError
from robot_rlpd.learner.success_classifier import Classifier, ClassifierConfig
from robot_rlpd.learner.success_frames import Frames, labelled, load_labelled, split
from robot_rlpd.learner.success_scores import choose_threshold, score
from robot_rlpd.robot import Source
from robot_rlpd.rollout import rollout
from robot_rlpd.specs import ArraySpec, RobotSpec
from robot_rlpd.spool import StoreListener
from robot_rlpd.testing import FakeRobot, FakeTask, fake_spec, fake_success

if TYPE_CHECKING:
    from pathlib import Path

    from robot_rlpd.robot import Action, Observation

SIDE = 15


def offset_spec(*, camera: bool = False) -> RobotSpec:
    """The fake robot, which also sees where the target is from the point, as numbers or as a bright spot."""
    offset = ArraySpec(name="offset", shape=(2,), unit="m")
    image = ArraySpec(name="front_image", shape=(SIDE, SIDE, 1), dtype="uint8", is_image=True)
    spec = fake_spec()
    return replace(spec, observation=(*spec.observation, offset, *([image] if camera else [])))


class OffsetRobot(FakeRobot):
    def _observation(self) -> Observation:
        seen = super()._observation()
        offset = self.target - self.position
        seen["offset"] = offset
        if any(field.is_image for field in self.spec.observation):
            rows, columns = np.mgrid[:SIDE, :SIDE]
            x, y = SIDE // 2 + 20.0 * np.clip(offset, -0.3, 0.3)
            spot = np.exp(-((rows - x) ** 2 + (columns - y) ** 2) / 2.0)
            seen["front_image"] = (255 * spot).astype(np.uint8)[..., None]
        return seen


class Wobbling:
    """Goes near the target and about it, with mistakes."""

    source = Source.SCRIPTED

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def reset(self) -> None:
        pass

    def __call__(self, observation: Observation) -> Action:
        wanted = observation["offset"] + self._rng.normal(0.0, 0.15, 2)
        return np.clip(wanted, -0.5, 0.5).astype(np.float32)


def recorded(path: Path, *, camera: bool = False, episodes: int = 100, limit: int = 8) -> Path:
    spec = offset_spec(camera=camera)
    with EpisodeStore.create(path, spec) as store:
        for seed in range(episodes):
            listeners = [StoreListener(store)]
            rollout(OffsetRobot(spec), Wobbling(seed), FakeTask(limit), seed=seed, listeners=listeners)
    return path


def truth(classifier: OnnxClassifier, *, camera: bool = False) -> tuple[int, int, int]:
    """True positives, false positives and solved observations of new episodes that go on after success."""
    said, solved = [], []
    robot = OffsetRobot(offset_spec(camera=camera))
    for seed in range(1000, 1040):
        policy, observation = Wobbling(seed), robot.reset(seed=seed).observation
        for _ in range(8):
            observation = robot.step(policy(observation)).observation
            said.append(classifier(observation) >= classifier.threshold)
            solved.append(fake_success(observation))
    found = score(np.array(said), np.array(solved))
    return found.true_positives, found.false_positives, found.solved


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A classifier of the offset, and what the command told about it."""
    folder = tmp_path_factory.mktemp("reward")
    store, out = recorded(folder / "seen.zarr"), folder / "solved.onnx"
    words = [
        "reward",
        "train",
        str(store),
        "--out",
        str(out),
        "--fields",
        "offset",
        "--gradient-steps",
        "600",
        "--json",
    ]
    program = [sys.executable, "-c", "from robot_rlpd.cli import main; raise SystemExit(main())", *words]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    return out, json.loads(done.stdout)


def test_a_classifier_is_as_good_as_it_says_on_the_robot(trained: tuple[Path, dict[str, Any]]) -> None:
    path, told = trained
    found, mistaken, solved = truth(read_classifier(path))
    assert solved > 40
    assert found / (found + mistaken) > 0.9
    assert found / solved > 0.7
    held_out = told["held_out"]
    assert held_out["precision_ci95"][0] <= found / (found + mistaken)
    assert held_out["solved"] >= 10


def test_what_is_told_is_in_the_file(trained: tuple[Path, dict[str, Any]]) -> None:
    path, told = trained
    metadata = read_classifier(path).metadata
    assert metadata.held_out == told["held_out"]
    assert (metadata.threshold, metadata.in_a_row) == (told["threshold"], told["in_a_row"])
    assert [field.name for field in metadata.contract.observation] == told["fields"] == ["offset"]
    assert metadata.contract.fingerprint == told["fingerprint"]
    parts = told["episodes"].values()
    assert sum(part["episodes"] for part in parts) == 100


def test_a_classifier_runs_without_torch(trained: tuple[Path, dict[str, Any]]) -> None:
    program = (
        "import sys, numpy as np, pathlib;"
        "from deploy.runtime.success_classifier import read_classifier as r;"
        "c = r(pathlib.Path(sys.argv[1]));"
        "print(c({'offset': np.zeros(2, np.float32)}), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(trained[0])], capture_output=True, text=True, check=True)
    probability, torch = done.stdout.split()
    assert float(probability) > 0.8
    assert torch == "False"


def test_a_classifier_sees_through_a_camera(tmp_path: Path) -> None:
    from deploy.classifier_export import build_classifier_model
    from deploy.runtime.success_classifier import ClassifierMetadata

    spec = offset_spec(camera=True)
    contract = spec.contract(["front_image"])
    store = recorded(tmp_path / "seen.zarr", camera=True, episodes=60)
    frames = load_labelled([store], contract, final_steps=1)
    learned, chosen_on, _ = split(frames, seed=0)
    pixels = replace(ClassifierConfig().pixels, channels=(8, 8), shift_pad=0)
    classifier = Classifier(contract, ClassifierConfig(gradient_steps=200, batch_size=32, pixels=pixels), learned)
    classifier.fit(learned)
    threshold, _ = choose_threshold(classifier.probabilities(chosen_on), chosen_on.solved, precision=0.95)
    metadata = ClassifierMetadata(contract=contract, threshold=threshold, in_a_row=1, final_steps=1, held_out={})
    content = build_classifier_model(classifier, metadata).SerializeToString()
    found, mistaken, solved = truth(OnnxClassifier(content), camera=True)
    assert found / max(1, found + mistaken) > 0.75
    assert found / solved > 0.4


def test_the_file_says_what_the_network_said(tmp_path: Path) -> None:
    from deploy.classifier_export import build_classifier_model
    from deploy.runtime.success_classifier import ClassifierMetadata

    contract = offset_spec(camera=True).contract(["position", "offset", "front_image"])
    frames = load_labelled([recorded(tmp_path / "s.zarr", camera=True, episodes=20)], contract, final_steps=1)
    classifier = Classifier(contract, ClassifierConfig(gradient_steps=5), frames)
    classifier.fit(frames)
    metadata = ClassifierMetadata(contract=contract, threshold=0.5, in_a_row=1, final_steps=1, held_out={})
    run = OnnxClassifier(build_classifier_model(classifier, metadata).SerializeToString())
    said = [run({name: column[i] for name, column in frames.columns.items()}) for i in range(len(frames))]
    np.testing.assert_allclose(said, classifier.probabilities(frames), atol=1e-5)


def test_only_the_last_observations_of_solved_episodes_are_positive() -> None:
    spec = offset_spec()
    episodes = [rollout(OffsetRobot(spec), Wobbling(seed), FakeTask(8), seed=seed) for seed in range(12)]
    frames = labelled(episodes, ["offset"], final_steps=2)
    for number, episode in enumerate(episodes):
        mine = frames.solved[frames.episode == number]
        assert len(mine) == len(episode) + 1
        assert mine.sum() == (2 if episode.info.success else 0)
        assert not mine[:-2].any()


def test_parts_share_no_episode_and_each_has_solved_ones() -> None:
    numbers = np.repeat(np.arange(20), 4)
    solved = np.zeros(80, np.bool_)
    solved[3:40:4] = True
    frames = Frames(columns={"x": np.arange(80)}, solved=solved, episode=numbers)
    parts = split(frames, seed=1)
    seen = [set(part.episode.tolist()) for part in parts]
    assert [len(part) for part in seen] == [12, 4, 4]
    assert len(set.union(*seen)) == 20
    assert all(part.solved.any() and not part.solved.all() for part in parts)


def test_the_threshold_gives_recall_up_for_precision() -> None:
    probabilities = np.array([0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.2])
    solved = np.array([True, True, False, True, True, False, False])
    threshold, found = choose_threshold(probabilities, solved, precision=1.0)
    assert 0.85 < threshold < 0.9
    assert (found.precision, found.recall) == (1.0, 0.5)
    threshold, found = choose_threshold(probabilities, solved, precision=0.8)
    assert 0.6 < threshold < 0.7
    assert (found.precision, found.recall) == (0.8, 1.0)


def test_too_few_solved_episodes_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = recorded(tmp_path / "few.zarr", episodes=2)
    assert main(["reward", "train", str(store), "--out", str(tmp_path / "c.onnx")]) == 1
    assert "allowed: 5 or more" in capsys.readouterr().err
    assert not (tmp_path / "c.onnx").exists()


def test_a_classifier_for_another_robot_or_a_missing_field_is_refused(trained: tuple[Path, dict[str, Any]]) -> None:
    with pytest.raises(MismatchError, match="offset"):
        open_classifier(trained[0], fake_spec())
    with pytest.raises(SpecError, match=r"observation\.offset"):
        read_classifier(trained[0])({"position": np.zeros(2, np.float32)})


def test_another_file_is_no_classifier(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"nothing")
    with pytest.raises(DataError, match="not an ONNX file"):
        read_classifier(tmp_path / "x.onnx")
    with pytest.raises(DataError, match="cannot be read"):
        read_classifier(tmp_path / "missing.onnx")
