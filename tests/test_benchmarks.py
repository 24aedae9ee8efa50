"""Benchmarks run and print what they promise; what they measure is no business of a test."""

import json
import subprocess
import sys
from pathlib import Path

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


def test_format_memory_tells_the_peak_of_every_conversion() -> None:
    command = [sys.executable, "-m", "benchmarks.format_memory", "--megabytes", "1", "--formats", "d4rl", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)["conversions"]
    assert [(entry["format"], entry["does"]) for entry in found] == [("d4rl", "export"), ("d4rl", "import")]
    assert all(entry["peak_mb"] > 10 for entry in found)
