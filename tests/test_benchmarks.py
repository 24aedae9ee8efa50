"""Benchmarks run and print what they promise; what they measure is no business of a test."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot_rlpd.episode import Transitions

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
    words += ["--run-dir", str(tmp_path)]
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
