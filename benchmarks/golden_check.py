"""Largest difference between the learner's update and recorded updates: `python -m benchmarks.golden_check FILE ...`.

A file holds one whole update in float64: configuration, starting parameters, a batch, the random numbers that were
drawn, and every result. The learner loads the inputs, runs the same code as training, and each result is compared.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robot_rlpd.learner.rlpd import RLPD, RLPDConfig

TOLERANCE = 1e-10
INCOMPARABLE = 1e300  # unlike NaN and infinity, JSON can say it
COMPARED = ("out/", "after_first/", "final/", "adam/")
_RENAMED = {"minibatch_size": "batch_size", "temp_lr": "temperature_lr", "init_temperature": "initial_temperature"}
_RENAMED |= {"critic_layer_norm": "layer_norm"}

Arrays = dict[str, np.ndarray[Any, Any]]


def read_golden(path: Path) -> Arrays:
    """Read every array of a file, without unpickling anything."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def differences(golden: Arrays, *, compile: bool = False) -> dict[str, float]:  # noqa: A002
    """Largest absolute difference of each recorded result; 1e300 where it is missing, NaN or of another shape."""
    results = run_update(golden, compile=compile)
    worst = {}
    for name, expected in golden.items():
        if name.startswith(COMPARED):
            found = results.get(name, np.empty(0))
            same_shape = found.shape == expected.shape
            largest = float(np.abs(found - expected).max()) if same_shape else np.nan
            worst[name] = INCOMPARABLE if np.isnan(largest) else largest
    return worst


def run_update(golden: Arrays, *, compile: bool = False) -> Arrays:  # noqa: A002
    """Run one update on a file's inputs; the results have the names of the file's results."""
    settings = json.loads(str(golden["config_json"]))
    config = golden_config(settings)
    learner = RLPD(config, settings["obs_dim"], settings["act_dim"], seed=0, dtype=torch.float64, compile=compile)
    start = learner.state_dict()
    start |= {k.removeprefix("init/"): torch.as_tensor(v) for k, v in golden.items() if k.startswith("init/")}
    learner.load_state_dict(start)
    batch = {k.removeprefix("batch/"): torch.as_tensor(v) for k, v in golden.items() if k.startswith("batch/")}
    noise = {k.removeprefix("noise/"): torch.as_tensor(v) for k, v in golden.items() if k.startswith("noise/")}
    results: dict[str, torch.Tensor] = {}

    def record_first(update: int) -> None:
        if update == 0:
            for name, tensor in learner.state_dict().items():
                if name.startswith("adam/critic/mu/"):  # the moments start at zero
                    gradient_name = name.replace("adam/critic/mu/", "after_first/critic_grad/")
                    results[gradient_name] = tensor / (1.0 - config.adam_b1)
                elif name.startswith(("critic/", "target/")):
                    results[f"after_first/{name}"] = tensor

    trace = learner.update_with_noise(batch, noise["critic_eps"], noise["subset"], noise["actor_eps"], record_first)
    results |= {f"out/{name}": value for name, value in trace.items()}
    results["out/target_q_first"] = trace["target_q"][0]
    for name, tensor in learner.state_dict().items():
        results[name if name.startswith("adam/") else f"final/{name}"] = tensor
    return {name: tensor.numpy() for name, tensor in results.items()}


def golden_config(settings: dict[str, Any]) -> RLPDConfig:
    """The configuration that a file's `config_json` describes."""
    if settings.get("adam_eps_root", 0) != 0 or (settings["log_std_min"], settings["log_std_max"]) != (-20, 2):
        raise ValueError("adam_eps_root other than 0 and log_std outside -20..2 are not supported")
    named = {_RENAMED.get(name, name): value for name, value in settings.items()}
    return RLPDConfig(**{field.name: named[field.name] for field in fields(RLPDConfig) if field.name in named})


def main(arguments: list[str] | None = None) -> int:
    """Check the files named on the command line; the exit status is 0 when all agree to the tolerance, else 1."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.golden_check", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="recorded update (.npz)")
    parser.add_argument("--compile", action="store_true", help="check the compiled update")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    report = {str(path): check_file(path, compile=options.compile) for path in options.files}
    if options.json:
        print(json.dumps({"tolerance": TOLERANCE, "files": report}, indent=1))
    else:
        for path, result in report.items():
            _print_file(path, result)
    return 0 if all(result["ok"] for result in report.values()) else 1


def check_file(path: Path, *, compile: bool = False) -> dict[str, Any]:  # noqa: A002
    """Differences of one file, or the one-line reason why there are none."""
    try:
        worst = differences(read_golden(path), compile=compile)
        if not worst:
            raise ValueError("holds no results")
    except Exception as error:  # a damaged archive fails in many ways, and each is the same answer
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return {"ok": False, "error": f"cannot be checked: {reason}"}
    largest = max(worst.values())
    return {"ok": all(value <= TOLERANCE for value in worst.values()), "largest": largest, "differences": worst}


def _print_file(path: str, result: dict[str, Any]) -> None:
    if "error" in result:
        print(f"{path}: {result['error']}")
        return
    for name, value in result["differences"].items():
        print(f"{value:9.2e}  {name}")
    print(f"{path}: largest difference {result['largest']:.2e}, {'ok' if result['ok'] else 'ABOVE'} {TOLERANCE:g}")


if __name__ == "__main__":
    sys.exit(main())
