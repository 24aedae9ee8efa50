"""Do the demonstrations matter? The quickstart task with them, without them, and cloned.

    python -m benchmarks.prior_data_matters [--seeds 3] [--run-dir runs/prior_data_matters] [--json]

Every seed records demonstrations of its own. `rlpd` is the quickstart's training, `without` the same budget of
environment steps without prior data, `cloned` behaviour cloning of the same demonstrations: several learning rates and
network sizes, stopped where its own validation episodes are best, so that it is shown at its strongest. Each result is
measured on 50 fresh episodes. Finished cells are kept in the run directory and not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.machine import machine
from demos.commands import RecordConfig, record
from deploy.quickstart import TASK, QuickstartCommand
from robot_rlpd.config import write_text
from robot_rlpd.evaluation import EVALUATION_SEED_OFFSET, evaluate, wilson_interval
from robot_rlpd.learner.cloning import BehaviourCloning
from robot_rlpd.learner.commands import TrainCommand, resolve
from robot_rlpd.learner.policy import ActorPolicy, open_policy
from robot_rlpd.learner.prior import fill_replay, fit_normalizer, load_prior
from robot_rlpd.learner.replay import ReplayBuffer
from robot_rlpd.learner.rlpd import RLPDConfig
from robot_rlpd.learner.run_directory import prepare_run_directory
from robot_rlpd.learner.session import Session
from robot_rlpd.safety import SafeRobot
from robot_rlpd.task import load_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from robot_rlpd.robot import Policy

FINAL_EPISODES = 50
FINAL_SEED = EVALUATION_SEED_OFFSET + 500_000
VALIDATION_SEED = EVALUATION_SEED_OFFSET + 600_000
CLONING_LRS = (1e-3, 3e-4)
CLONING_SIZES = ((256, 256), (128, 128))
CLONING_STOPS = (250, 500, 1000, 2000, 4000, 8000)
VALIDATION_EPISODES = 30


def main() -> int:
    """Run what is not there yet, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default 3)")
    parser.add_argument("--env-steps", type=int, default=QuickstartCommand().env_steps, help="budget of each training")
    parser.add_argument("--run-dir", type=Path, default=Path("runs/prior_data_matters"), help="where cells are kept")
    parser.add_argument("--plot", type=Path, help="draw the learning curves here (.svg, .png)")
    parser.add_argument("--only", choices=["rlpd", "without", "cloned"], help="run one condition")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    conditions: dict[str, Callable[[Path, int, int], dict[str, Any]]] = {
        "rlpd": lambda cell, seed, steps: _train(cell, seed, steps, prior=True),
        "without": lambda cell, seed, steps: _train(cell, seed, steps, prior=False),
        "cloned": _clone,
    }
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in conditions}
    for seed in range(arguments.seeds):
        for name, run in conditions.items():
            if arguments.only in (None, name):
                results[name].append(_cell(arguments.run_dir, name, seed, arguments.env_steps, run))
    if arguments.plot is not None:
        _plot(arguments.run_dir, arguments.seeds, arguments.plot)
    _print(results, arguments.env_steps, arguments.json)
    return 0


def _cell(
    root: Path, name: str, seed: int, env_steps: int, run: Callable[[Path, int, int], dict[str, Any]]
) -> dict[str, Any]:
    directory = root / f"{name}-{seed}"
    done = directory / "result.json"
    if done.is_file():
        result: dict[str, Any] = json.loads(done.read_text())
        return result
    directory.mkdir(parents=True, exist_ok=True)
    sys.stderr.write(f"\n{name}, seed {seed}\n")
    result = {"condition": name, "seed": seed, "env_steps": env_steps, **run(directory, seed, env_steps)}
    write_text(done, json.dumps(result, indent=2))
    return result


def _demonstrations(cell: Path, seed: int) -> Path:
    path = cell.parent / f"demos-{seed}.zarr"
    if not path.exists():
        record(RecordConfig(task=TASK, out=path, episodes=QuickstartCommand().demonstrations, seed=1000 * seed))
    return path


def _train(cell: Path, seed: int, env_steps: int, *, prior: bool) -> dict[str, Any]:
    command = TrainCommand(
        task=TASK,
        prior=(_demonstrations(cell, seed),) if prior else (),
        preset="quickstart",
        env_steps=env_steps,
        seed=seed,
        run_dir=cell / "train",
    )
    config = resolve(command)
    setup = load_task(TASK)
    with SafeRobot(setup.make_robot()) as robot:
        prepare_run_directory(config, cell / "train")
        session = Session(config, cell / "train", robot, setup.task)
        session.run(lambda: False)
        session.store.close()
    return {"trained_s": session.trained_s, **_final(open_policy(cell / "train", setup.spec))}


def _clone(cell: Path, seed: int, env_steps: int) -> dict[str, Any]:
    del env_steps
    torch.set_num_threads(1)  # small networks: more threads only wait for one another
    setup = load_task(TASK)
    contract = setup.spec.contract()
    (found,), _ = load_prior([_demonstrations(cell, seed)], setup.task, contract)
    normalizer = fit_normalizer(found, contract)
    replay = ReplayBuffer(contract.observation_size, contract.action.size, capacity=sum(map(len, found)))
    fill_replay(replay, found, contract, normalizer)
    best, best_rate, tried = None, -1.0, []
    for lr in CLONING_LRS:
        for hidden_dims in CLONING_SIZES:
            config = replace(RLPDConfig(), hidden_dims=hidden_dims, actor_lr=lr)
            learner = BehaviourCloning(config, contract.observation_size, contract.action.size, seed=seed)
            generator = torch.Generator().manual_seed(seed)
            for stop in CLONING_STOPS:
                while learner.gradient_steps < stop:
                    learner.update(replay.sample(config.batch_size, generator))
                policy = ActorPolicy(contract, learner.deterministic_action, normalizer)
                rate = _success_rate(policy, VALIDATION_SEED, VALIDATION_EPISODES)["success_rate"]
                tried.append({"lr": lr, "hidden_dims": hidden_dims, "gradient_steps": stop, "validated": rate})
                if rate > best_rate:
                    best_rate = rate
                    best = {**tried[-1], **_final(policy)}
    assert best is not None
    return {**best, "tried": tried}


def _final(policy: Policy) -> dict[str, Any]:
    return _success_rate(policy, FINAL_SEED, FINAL_EPISODES)


def _success_rate(policy: Policy, first_seed: int, episodes: int) -> dict[str, Any]:
    setup = load_task(TASK)
    with SafeRobot(setup.make_robot()) as robot:
        return evaluate(robot, policy, setup.task, episodes=episodes, first_seed=first_seed).to_json()


def _plot(root: Path, seeds: int, out: Path) -> None:
    from robot_rlpd.learner.plot import plot_curves

    runs = {name: [root / f"{name}-{seed}" / "train" for seed in range(seeds)] for name in ("rlpd", "without")}
    labels = {"rlpd": "RLPD, 20 demonstrations", "without": "the same without demonstrations"}
    plot_curves({labels[name]: paths for name, paths in runs.items()}, out, title=f"{TASK}, {seeds} seeds")


def _print(results: dict[str, list[dict[str, Any]]], env_steps: int, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps({"env_steps": env_steps, "machine": machine(), "results": results}) + "\n")
        return
    described = machine()
    lines = [f"{TASK}, {env_steps} environment steps, {described['processor']}, {described['cores']} cores"]
    for name, cells in results.items():
        successes, episodes = (sum(cell[key] for cell in cells) for key in ("successes", "episodes"))
        if episodes:
            low, high = wilson_interval(successes, episodes)
            each = ", ".join(f"{cell['successes']}/{cell['episodes']}" for cell in cells)
            lines.append(f"{name:<8} {successes / episodes:4.0%} [{low:.0%}, {high:.0%}] per seed: {each}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
