"""Benchmarks run and print what they promise; what they measure is no business of a test."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

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
