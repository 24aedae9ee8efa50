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
