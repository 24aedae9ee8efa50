"""Benchmarks run and print what they promise; what they measure is no business of a test."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot_rlpd.episode import Transitions, transitions
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import ConfigError, DataError
from robot_rlpd.robot import Observation, RandomPolicy
from robot_rlpd.rollout import rollout
from robot_rlpd.specs import ArraySpec
from robot_rlpd.spool import StoreListener
from robot_rlpd.task import TaskOptions
from robot_rlpd.testing import FakePolicy, FakeRobot, FakeTask, fake_spec

ROOT = Path(__file__).parents[1]
PEER = f"{sys.executable} -c \"print('warming up'); print('{{\\\"critic_updates_per_s\\\": 50.0}}')\""


def test_update_speed_alternates_with_a_peer_and_prints_one_json_object() -> None:
    options = ["--layers", "1", "--width", "8", "--ensemble", "2", "--utd", "2", "--batch", "8", "--eager"]
    options += ["--calls", "2", "--warmup", "1", "--pairs", "2", "--threads", "1", "--json", "--peer", PEER]
    command = [sys.executable, "-m", "benchmarks.update_speed", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert result["peer"] == {"median": 50.0, "min": 50.0, "max": 50.0}
    ratio, speed = result["ratio_to_peer"], result["critic_updates_per_s"]
    assert ratio["max"] == speed["max"] / 50.0
    assert 0 < ratio["min"] <= ratio["median"] <= ratio["max"]
    assert result["config"]["width"] == 8
    assert result["machine"]["cores"] >= 1


@pytest.mark.slow
def test_learning_curves_go_on_where_they_were_cut_off(tmp_path: Path) -> None:
    pytest.importorskip("mujoco", reason="the task is simulated")
    words = ["pick_place", "--condition", "rlpd", "--env-steps", "500", "--run-dir", str(tmp_path), "--json"]

    def run(*more: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "benchmarks.learning_curves", *words, *more]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        (row,) = json.loads(done.stdout)["runs"]
        return dict(row)

    cut_off = run("--minutes", "0.02")
    assert cut_off["result"] is None
    assert cut_off["env_steps"] < 500
    whole = run("--plot", str(tmp_path / "curve.svg"))
    assert whole["env_steps"] == whole["result"]["env_steps"] == 500
    assert whole["result"]["final"]["episodes"] == 50
    assert (tmp_path / "curve.svg").stat().st_size > 5000
    assert run("--table") == whole


def test_learning_curves_show_runs_of_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="draws")
    evaluations = [{"env_steps": 1000 * k, "successes": k, "episodes": 5} for k in (1, 2)]
    row = {"condition": "no_prior", "seed": 3, "env_steps": 2000, "evaluations": evaluations, "result": None}
    ended = row | {"condition": "no_layer_norm", "result": {"final": None, "ended": "target_q: Q explodes"}}
    elsewhere, plot = tmp_path / "elsewhere.json", tmp_path / "curves.svg"
    elsewhere.write_text(json.dumps({"task": "pick_place", "setting": "light", "runs": [row, ended]}))
    words = ["pick_place", "--table", "--run-dir", str(tmp_path), "--others", str(elsewhere), "--plot", str(plot)]
    assert run_benchmark("benchmarks.learning_curves", *words)["runs"] == [row, ended]
    assert "no prior (1 seed)" in plot.read_text()
    assert "no layer norm, whose Q exploded (1 seed)" in plot.read_text()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "No such file"),
        ("{", "is not what --json prints"),
        ("[1]", "is not what --json prints"),
        ('{"task": "door", "setting": "light", "runs": []}', "is of door light; allowed: pick_place light"),
    ],
)
def test_learning_curves_refuse_other_files(text: str | None, told: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the benchmark trains")
    elsewhere = tmp_path / "elsewhere.json"
    if text is not None:
        elsewhere.write_text(text)
    command = [sys.executable, "-m", "benchmarks.learning_curves", "pick_place", "--table", "--others", str(elsewhere)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert told in done.stderr.splitlines()[-1]


def run_benchmark(*words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", *words, "--json"]
    result: dict[str, Any] = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)
    return result


def test_returns_are_those_of_episodes_that_ended_solved() -> None:
    from benchmarks.action_gap import returns_of

    def episode(*, solved: bool, terminated: bool) -> Transitions:
        flags = np.array([False, False, solved])
        return Transitions(
            observations={},
            next_observations={},
            executed_actions=np.zeros((3, 1), np.float32),
            rewards=np.array([-1.0, -1.0, 0.0], np.float32),
            masks=np.array([1.0, 1.0, 1.0 - terminated], np.float32),
            successes=flags,
        )

    np.testing.assert_allclose(returns_of(episode(solved=True, terminated=True), 0.9), [-1.9, -1.0, 0.0])
    for solved, terminated in ((False, True), (True, False)):
        assert np.isnan(returns_of(episode(solved=solved, terminated=terminated), 0.9)).all()


class TargetInTheDark(FakeRobot):
    """A camera sees a light where the target is, another one nothing."""

    def __init__(self) -> None:
        spec = fake_spec()
        shape = {"shape": (12, 12, 1), "dtype": "uint8", "is_image": True}
        cameras = [ArraySpec(name=name, **shape) for name in ("seeing", "blind")]  # type: ignore[arg-type]
        super().__init__(replace(spec, observation=(*spec.observation, *cameras)))

    def _observation(self) -> Observation:
        seen = np.zeros((12, 12, 1), np.uint8)
        row, column = np.clip(np.round(5.0 + 5.0 * self.target).astype(int), 0, 10)
        seen[row : row + 2, column : column + 2] = 255
        return {**super()._observation(), "seeing": seen, "blind": np.zeros_like(seen)}


def test_seen_in_pictures_tells_a_camera_that_sees_the_target_from_one_that_does_not(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the encoder is the learner's")
    from benchmarks.seen_in_pictures import look
    from robot_rlpd.learner.encoders import PixelConfig

    robot, path = TargetInTheDark(), tmp_path / "seen.zarr"
    with EpisodeStore.create(path, robot.spec, lossless=True) as store:
        for seed in range(40):
            aimless = RandomPolicy(robot.spec, np.random.default_rng(1000 + seed))
            rollout(robot, aimless, FakeTask(3), seed=seed, listeners=(StoreListener(store),))
    pixels = PixelConfig(channels=(8, 16), frame_stack=1, shift_pad=0)

    def median(camera: str) -> dict[str, float]:
        found = look([path], [camera], ["position"], "target", pixels, 100)
        assert found["trained_on"] > found["tested_on"] > 0
        return {name: error["median"] for name, error in found["error"].items()}

    seeing, blind = median("seeing"), median("blind")
    assert seeing["cameras and state"] < 0.4 * seeing["state alone"]
    assert blind["cameras and state"] > 0.7 * blind["guess of the mean"]
    with pytest.raises(ConfigError, match="field: is not recorded; found targets"):
        look([path], ["seeing"], ["position"], "targets", pixels, 1)


def test_seen_in_pictures_needs_an_episode_to_hold_out(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the encoder is the learner's")
    from benchmarks.seen_in_pictures import look
    from robot_rlpd.learner.encoders import PixelConfig

    robot, path = TargetInTheDark(), tmp_path / "one.zarr"
    with EpisodeStore.create(path, robot.spec) as store:
        rollout(robot, FakePolicy(), FakeTask(3), seed=0, listeners=(StoreListener(store),))
    with pytest.raises(DataError, match="found 1 episode"):
        look([path], ["seeing"], ["position"], "target", PixelConfig(channels=(4,), frame_stack=1), 1)


def test_action_gap_sees_what_the_policy_saw() -> None:
    torch = pytest.importorskip("torch", reason="the critics are the learner's")
    from benchmarks.action_gap import look
    from robot_rlpd.learner.checkpoint import Checkpoint
    from robot_rlpd.learner.encoders import encode, fused, heads, split_frames, state_size
    from robot_rlpd.learner.networks import critic_forward
    from robot_rlpd.learner.pixel_rlpd import PixelRLPD
    from tests.robot_rlpd.learner.cameras import TINY, SeeingRobot, seeing_contract

    robot = SeeingRobot()
    episodes = [rollout(robot, FakePolicy(), FakeTask(4), seed=seed) for seed in range(2)]
    contract = seeing_contract()
    learner = PixelRLPD(TINY, contract, seed=0)
    size, values = state_size(contract), []
    for episode in episodes:
        flat = torch.from_numpy(contract.flatten(episode.observations)[: len(episode)])
        stacks = torch.stack([flat[[max(0, t - 2), max(0, t - 1), t], size:] for t in range(len(flat))])
        features = encode(learner.critic, split_frames(stacks, [s for s in contract.observation if s.is_image]))
        actions = torch.from_numpy(contract.action.to_unit(episode.executed_actions))
        values.append(critic_forward(heads(learner.critic), fused(learner.critic, flat[:, :size], features), actions))
    checkpoint = Checkpoint(
        contract=contract,
        task="fake",
        task_options=TaskOptions(),
        max_episode_steps=4,
        config=TINY,
        learner=learner.state_dict(),
    )
    fields = [spec.name for spec in contract.observation]
    found = look(checkpoint, [transitions(episode, FakeTask(4), fields) for episode in episodes], 100)
    assert found["transitions"] == sum(map(len, episodes))
    assert found["q_recorded"] == pytest.approx(float(torch.cat(values, dim=1).mean()), abs=1e-5)


@pytest.mark.slow
def test_action_gap_looks_at_a_run_and_its_prior_data(tmp_path: Path) -> None:
    pytest.importorskip("mujoco", reason="the task is simulated")
    prior, run_dir = tmp_path / "prior.zarr", tmp_path / "run"
    words = ["--task", "reach", "--preset", "quickstart", "--env-steps", "20", "--start-training", "10"]
    words += ["--eval-every", "0", "--no-compile", "--prior", str(prior), "--run-dir", str(run_dir)]
    for command in (["record", "--task", "reach", "--episodes", "3", "--out", str(prior)], ["train", *words]):
        program = "import sys; from robot_rlpd.cli import main; raise SystemExit(main())"
        subprocess.run([sys.executable, "-c", program, *command], cwd=ROOT, check=True, capture_output=True)
    found = run_benchmark("benchmarks.action_gap", str(run_dir), str(prior))
    assert found["env_steps"] == 20
    assert found["solved"]["transitions"] == found["transitions"] > 0
    assert -50.0 < found["solved"]["return"] < 0.0


@pytest.mark.slow
def test_recorder_crash_loses_nothing_and_prints_one_json_object() -> None:
    result = run_benchmark("benchmarks.recorder_crash", "--trials", "3", "--full-disks", "1")
    assert result["killed"]["trials"] == 3
    assert result["killed"]["acknowledged_steps"] > 0
    for part in (result["killed"], result["full_disk"]):
        for name in ("acknowledged_steps_lost", "unreadable_episodes", "wrong_values", "left_in_the_spool"):
            assert part.get(name, 0) == 0  # a disk of its own is not permitted everywhere


@pytest.mark.slow
def test_recorder_load_measures_cost_and_rate_and_prints_one_json_object() -> None:
    result = run_benchmark("benchmarks.recorder_load", "--seconds", "5")
    for name in ("50 Hz, 2 cameras of 128x128", "30 Hz, 1 camera of 640x480"):
        assert result[name]["cost"]["in_the_loop_to_raw"] > 0
        assert 0 <= result[name]["rate"]["late_share"] <= 1


@pytest.mark.slow
def test_console_dead_man_measures_every_rate_and_way() -> None:
    command = [sys.executable, "-m", "benchmarks.console_dead_man", "--trials", "1", "--json"]
    result = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=False).stdout)
    assert {way for rate in ("10 Hz", "30 Hz", "100 Hz") for way in result[rate]} == {"silent", "closed"}


def test_format_memory_tells_the_peak_of_every_conversion() -> None:
    command = [sys.executable, "-m", "benchmarks.format_memory", "--megabytes", "1", "--formats", "d4rl", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)["conversions"]
    assert [(entry["format"], entry["does"]) for entry in found] == [("d4rl", "export"), ("d4rl", "import")]
    assert all(entry["peak_mb"] > 10 for entry in found)


@pytest.mark.parametrize(
    ("name", "options", "keys"),
    [
        ("task_speed", "--tasks reach --steps 5 --repeats 1", {"steps_per_s", "camera"}),
        ("task_experts", "--tasks reach --episodes 2 --noise 0", {"results", "config"}),
        ("calibration", "--tasks reach --worlds mild --episodes 3", {"results", "config"}),
        ("standin_gap", "--tasks reach --worlds nominal mild --episodes 1", {"results", "config"}),
        (
            "identification",
            "--task reach --worlds synthetic mild --episodes 1 --evaluations 8 --seeds 1",
            {"results", "config"},
        ),
    ],
)
def test_benchmarks_of_the_simulation_print_one_json_object(name: str, options: str, keys: set[str]) -> None:
    pytest.importorskip("mujoco")
    command = [sys.executable, "-m", f"benchmarks.{name}", *options.split(), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout).keys() == keys | {"machine"}


@pytest.mark.slow
def test_runtime_latency_compares_in_turn_and_prints_one_json_object() -> None:
    options = ["--layers", "1", "--seconds", "0.1", "--rounds", "2", "--starts", "1", "--json"]
    command = [sys.executable, "-m", "benchmarks.runtime_latency", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert set(result["action"]) == {"file_us", "c_us", "torch_us", "file_to_c", "file_to_torch"}
    assert 0 < result["action"]["file_to_torch"]["min"] <= result["action"]["file_to_torch"]["max"]
    assert set(result["tick_us"]) == {"bounds", "all_limits"}
    assert result["cold_start"]["file_mb"]["median"] < result["cold_start"]["torch_mb"]["median"]
    assert result["loop"]["ordinary"]["steps"] == 50


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sim_to_real_fills_its_cells_and_finds_them_again(tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    words = ["benchmarks.sim_to_real", "--task", "reach", "--seeds", "1", "--sim-steps", "320", "--minutes", "0.2"]
    words += ["--condition", "corrected", "scratch", "--episodes", "2", "--eval-episodes", "1"]
    words += ["--calibrated", "--run-dir", str(tmp_path)]
    whole = run_benchmark(*words)
    assert {cell["condition"] for cell in whole["cells"]} == {"corrected", "scratch"}
    for cell in whole["cells"]:
        assert cell["result"]["robot_min"] == 0.2
        assert cell["result"]["before"]["episodes"] == cell["result"]["after"]["episodes"] == 2
    assert run_benchmark(*words, "--table") == whole


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_session_that_is_killed_with_its_robot_loses_nothing() -> None:
    pytest.importorskip("mujoco")
    found = run_benchmark("benchmarks.finetune_crash", "--kills", "4", "--robot-kills", "1", "--minutes", "1")
    assert 0 <= found["steps_made"] - found["steps_stored"] <= found["kills"] == 4
    assert found["episodes_lost"] == found["episodes_twice"] == 0
    assert found["start_kept"]
    assert (found["robot_kills_survived"], found["patient_session_ended"]) == (1, "finished")
