"""`sweep train`: runs side by side, begun again where they were, with a Ray that is in this process."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("mujoco", reason="the runs train in simulation")

from robot_rlpd.cli import main
from robot_rlpd.learner.metrics import read_metrics
from robot_rlpd.learner.run_groups import group_runs
from robot_rlpd.store_lock import lock
from robot_rlpd.sweep import attempt as attempt_module
from robot_rlpd.sweep.attempt import AttemptError, Job, attempt
from tests.test_json_docs import differences, documented

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.robot_rlpd.sweep.conftest import FakeRay

SMALL = "--hidden-dims 4 --ensemble-size 2 --utd-ratio 1 --batch-size 4 --no-compile --eval-every 0"
COMMON = f"--task reach --env-steps 12 --start-training 8 {SMALL}"
SWEEP = "sweep train --out runs --seeds 0 1"


@pytest.fixture
def sweep(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)

    def run(words: str = SWEEP, common: str = COMMON, *, status: int = 0) -> Any:
        assert main([*words.split(), "--json", "--", *common.split()]) == status
        (line,) = capfd.readouterr().out.splitlines()
        return json.loads(line)

    return run


def test_what_is_printed_is_documented(sweep: Callable[..., Any], ray: FakeRay) -> None:
    found = sweep(f"{SWEEP} 2", COMMON.replace("--eval-every 0", "--eval-every 12 --eval-episodes 2"))
    assert differences(found, documented("`sweep train`")) == []
    assert {run["episodes"] for run in found["runs"]} == {2}


def attempts(found: Any) -> dict[str, tuple[str, int]]:
    return {run["name"]: (run["state"], run["attempts"]) for run in found["runs"]}


def test_each_seed_is_a_run_directory_and_together_they_are_one_curve(
    sweep: Callable[..., Any], ray: FakeRay, tmp_path: Path
) -> None:
    found = sweep()
    assert attempts(found) == {"seed-0": ("finished", 1), "seed-1": ("finished", 1)}
    assert {run["env_steps"] >= 12 for run in found["runs"]} == {True}
    (members,) = group_runs(sorted((tmp_path / "runs").glob("[!.]*"))).values()
    assert [path.name for path in members] == ["seed-0", "seed-1"]
    assert not ray.is_up


def test_the_same_command_again_repeats_nothing_and_one_seed_more_is_one_run_more(
    sweep: Callable[..., Any], ray: FakeRay
) -> None:
    first = sweep()
    ray.asked.clear()
    assert sweep() == first
    assert ray.asked == []
    assert attempts(sweep(f"{SWEEP} 2"))["seed-2"] == ("finished", 1)
    assert [task["name"] for task in ray.asked] == ["seed-2"]


def test_a_run_that_was_killed_is_begun_again_and_does_not_end_the_others(
    sweep: Callable[..., Any], ray: FakeRay, tmp_path: Path
) -> None:
    ray.killed = {"seed-0": 3, "seed-1": 4}
    found = sweep(f"{SWEEP} --retries 3", status=1)
    assert attempts(found) == {"seed-0": ("finished", 1), "seed-1": ("not begun", 0)}
    assert [run["error"] for run in found["runs"]] == [None, "The worker died unexpectedly"]
    assert attempts(sweep())["seed-1"] == ("finished", 1)
    assert (tmp_path / "runs/.sweep/ray.log").read_text().count("Task attempt failed") == 14


def test_what_a_run_fails_of_is_told_in_its_own_words(sweep: Callable[..., Any], ray: FakeRay, tmp_path: Path) -> None:
    (tmp_path / "foreign.zarr").mkdir()
    found = sweep(f"{SWEEP} --retries 1", f"{COMMON} --prior foreign.zarr", status=1)
    assert attempts(found) == {"seed-0": ("not begun", 2), "seed-1": ("not begun", 2)}
    assert [run["error"] for run in found["runs"]] == 2 * ["foreign.zarr: not a store"]
    assert (tmp_path / "runs" / ".sweep" / "seed-1.log").read_text().count("error: foreign.zarr") == 2


def test_ctrl_c_asks_all_to_save_and_the_same_command_goes_on(sweep: Callable[..., Any], ray: FakeRay) -> None:
    ray.signals = [signal.SIGINT]
    found = sweep()
    assert attempts(found) == {"seed-0": ("finished", 1), "seed-1": ("not begun", 0)}
    assert ray.cancelled == ["seed-1"]
    assert [run["error"] for run in found["runs"]] == [None, None]
    assert attempts(sweep())["seed-1"] == ("finished", 1)


def job(folder: Path, words: str = f"train {COMMON} --run-dir run") -> Job:
    return Job(name="one", words=tuple(words.split()), folder=folder, notes=folder, run_dir=folder / "run")


def test_an_attempt_goes_on_from_the_checkpoint_that_the_one_before_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one = job(tmp_path)
    attempt(one)
    before = read_metrics(one.run_dir or tmp_path)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps(config | {"env_steps": 60}))
    attempt(one)
    assert one.attempts == 2
    assert read_metrics(tmp_path / "run")[: len(before)] == before
    assert read_metrics(tmp_path / "run", "start")[1]["env_steps"] >= 12
    assert json.loads(one.result.read_text())["env_steps"] >= 60


def test_a_run_without_a_checkpoint_or_of_cloning_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["record", "--task", "reach", "--episodes", "1", "--out", "demos.zarr"]) == 0
    one = job(tmp_path, f"train --task reach --prior demos.zarr --cloning-steps 3 {SMALL} --run-dir run")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    for _ in range(2):
        attempt(one)
        assert len(read_metrics(tmp_path / "run", "start")) == 1
    assert one.attempts == 2


def test_an_attempt_tells_what_nobody_expected_in_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(words: list[str]) -> int:
        raise ZeroDivisionError(words[0])

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(attempt_module, "main", broken)
    with pytest.raises(ZeroDivisionError):
        attempt(job(tmp_path))
    assert "Traceback" in job(tmp_path).log.read_text()


def test_a_machine_without_the_folders_says_so(tmp_path: Path) -> None:
    with pytest.raises(AttemptError, match="the machines of a cluster need the same folders"):
        attempt(job(tmp_path / "elsewhere"))


def test_ray_is_started_for_this_process_alone_and_tells_nobody(sweep: Callable[..., Any], ray: FakeRay) -> None:
    sweep(f"{SWEEP} --cpus-per-trial 2 --gpus-per-trial 0.5 --retries -1".replace("--seeds 0 1", "--seeds 0"))
    assert (ray.started["address"], ray.started["include_dashboard"]) == ("local", False)
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    (task,) = ray.asked
    assert (task["num_cpus"], task["num_gpus"], task["max_retries"]) == (2.0, 0.5, -1)
    assert (task["retry_exceptions"], task["max_calls"]) == (True, 1)


def test_a_cluster_is_joined_as_it_is(sweep: Callable[..., Any], ray: FakeRay) -> None:
    with socket.create_server(("127.0.0.1", 0)) as cluster:
        address = f"127.0.0.1:{cluster.getsockname()[1]}"
        sweep(f"{SWEEP} --address {address}")
    assert ray.started["address"] == address
    assert "include_dashboard" not in ray.started
    assert "RAY_AUTH_TOKEN" not in os.environ


@pytest.mark.parametrize(
    ("words", "common", "told"),
    [
        (SWEEP, f"{COMMON} --utd-ratio 2", "begun with other options"),
        (f"{SWEEP} 9", COMMON, "exists already, and is not of this sweep"),
        (f"{SWEEP} --cpus-per-trial 0", COMMON, "cpus: found 0.0; allowed: > 0"),
        (f"{SWEEP} --retries -2", COMMON, "retries: found -2"),
        (f"{SWEEP} --vary subset_size=2,3", COMMON, "subset_size: found 3"),
        (SWEEP, COMMON.replace("reach", "nope"), "task: no such task; found nope"),
        (SWEEP, f"{COMMON} --prior missing.zarr", "missing.zarr: no such store"),
        (f"{SWEEP} --address here", COMMON, "address: found here; allowed: HOST:PORT"),
        (f"{SWEEP} --address 127.0.0.1:1", COMMON, "address: no cluster there: [Errno 111] Connection refused"),
        (SWEEP, f"{COMMON} --device cuda", "gpus_per_trial: found 0; allowed: > 0 with --device cuda"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_starts(
    words: str, common: str, told: str, sweep: Callable[..., Any], ray: FakeRay, tmp_path: Path
) -> None:
    sweep()
    ray.asked.clear()
    (tmp_path / "runs" / "seed-9").mkdir()
    assert told in sweep(words, common, status=1)["error"]["message"]
    assert ray.asked == []


def test_an_option_that_train_does_not_have_is_wrong_usage(sweep: Callable[..., Any], ray: FakeRay) -> None:
    assert "--colour" in sweep(common=f"{COMMON} --colour red", status=2)["error"]["message"]
    assert ray.started == {}


def test_a_sweep_that_another_process_works_on_is_refused(
    sweep: Callable[..., Any], ray: FakeRay, tmp_path: Path
) -> None:
    (tmp_path / "runs" / ".sweep").mkdir(parents=True)
    held = lock(str(tmp_path / "runs" / ".sweep"))
    try:
        assert "another process" in sweep(status=1)["error"]["message"]
    finally:
        os.close(held)


def test_without_ray_one_line_says_how_to_get_it(sweep: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'robot-rlpd[sweep]'" in sweep(status=1)["error"]["message"]
