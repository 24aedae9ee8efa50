"""The commands `export` and `verify`."""

from __future__ import annotations

import json as json_format
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from robot_rlpd.errors import ConfigError, DataError

if TYPE_CHECKING:
    from deploy.runtime.metadata import PolicyMetadata
    from deploy.runtime.onnx_policy import OnnxPolicy
    from robot_rlpd.learner.checkpoint import Checkpoint

Which = Literal["best", "latest"]
INPUT_SAMPLES = 200
"""Observations for the report input by input."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Options of `export`."""

    run_dir: tyro.conf.Positional[Path]
    """Run directory, or a checkpoint file."""
    out: Path = Path("policy.onnx")
    """Policy file to write."""
    which: Which = "best"
    """Checkpoint of a run directory: best (in evaluation; latest where there was none) or latest."""
    stochastic: bool = False
    """Write the exploring policy of training, with noise as an input, for actors that collect data."""
    force: bool = False
    """Replace an existing file."""
    json: bool = False
    """Print one JSON object on standard output."""


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Options of `verify`."""

    policy: tyro.conf.Positional[Path]
    """Policy file, as written by `robot-rlpd export`."""
    checkpoint: Path | None = None
    """Run directory or checkpoint file to compare with."""
    which: Which = "best"
    """Checkpoint of a run directory, as for `export`."""
    data: tuple[Path, ...] = ()
    """Stores out of which recorded observations are drawn; besides random ones."""
    robot: str = ""
    """Robot whose contract is checked; it is not moved: tcp://HOST:PORT, ipc://PATH, or a driver's NAME:ARGUMENT."""
    episodes: int = 0
    """Episodes that the file and the checkpoint drive the task's simulated robot, each, from the same starts."""
    task: str = ""
    """Task for these episodes; default that of the policy file."""
    samples: int = 1000
    """Number of random observations, and of recorded ones out of each store; at least 1."""
    seed: int = 0
    """Decides which observations, at least 0."""
    json: bool = False
    """Print one JSON object on standard output."""

    def __post_init__(self) -> None:
        for name, least in (("samples", 1), ("seed", 0), ("episodes", 0)):
            if getattr(self, name) < least:
                raise ConfigError(field=name, found=getattr(self, name), allowed=f"at least {least}")
        if self.checkpoint is None and not self.robot:
            raise ConfigError("nothing to compare with", field="checkpoint", hint="give --checkpoint or --robot")
        for name, what in (("data", "recorded observations need"), ("episodes", "a comparison in the loop needs")):
            if getattr(self, name) and self.checkpoint is None:
                raise ConfigError(f"{what} a checkpoint", field=name, hint="give --checkpoint")


def export(config: ExportConfig) -> int:
    """Write the policy of a checkpoint as an ONNX file that runs without torch."""
    if config.out.is_dir() or not config.out.parent.is_dir():
        raise ConfigError(field="out", found=str(config.out), allowed="a file name in an existing directory")
    if config.out.exists() and not config.force:
        raise ConfigError("exists already", field=str(config.out), hint="choose another --out, or give --force")
    from deploy.export import export_policy
    from robot_rlpd.learner.checkpoint import find_checkpoint, load_checkpoint

    source = find_checkpoint(config.run_dir, prefer=f"{config.which}.pt")
    checkpoint = load_checkpoint(source)
    if config.stochastic:
        checkpoint.check_explores(field="stochastic")
    described = export_policy(checkpoint, config.out, stochastic=config.stochastic)
    report = {
        "policy": str(config.out),
        "checkpoint": str(source),
        "fingerprint": described.contract.fingerprint,
        "task": described.task,
        "run": described.run,
        "env_steps": described.env_steps,
        "gradient_steps": described.gradient_steps,
        "evaluation": described.evaluation,
        "bytes": config.out.stat().st_size,
    }
    print(json_format.dumps(report) if config.json else _exported(report, described))
    return 0


def verify(config: VerifyConfig) -> int:
    """Compare a policy file with its checkpoint and with a robot; exit status 1 if it differs."""
    from deploy.runtime.onnx_policy import read_policy

    policy = read_policy(config.policy)
    report: dict[str, Any] = {
        "policy": str(config.policy),
        "fingerprint": policy.contract.fingerprint,
        "ok": True,
        "samples": 0,
        "max_abs_difference": None,
    }
    if config.robot:
        report["robot"] = _check_robot(config.robot, policy)
    if config.checkpoint is not None:
        report |= _compare(config, config.checkpoint, policy)
    print(json_format.dumps(report) if config.json else _verified(report))
    return 0 if report["ok"] else 1


def _compare(config: VerifyConfig, path: Path, policy: OnnxPolicy) -> dict[str, Any]:
    import numpy as np

    from deploy.verify import (
        check_same_contract,
        compare,
        compare_inputs,
        random_observations,
        recorded_observations,
    )
    from robot_rlpd.learner.checkpoint import find_checkpoint, load_checkpoint

    source = find_checkpoint(path, prefer=f"{config.which}.pt")
    checkpoint = load_checkpoint(source)
    check_same_contract(policy, checkpoint, where=f"policy file {config.policy}")
    found = policy.metadata.gradient_steps
    if found != checkpoint.gradient_steps:
        raise DataError(
            "exported from another checkpoint",
            field=str(config.policy),
            found=f"{found} gradient steps",
            allowed=f"{checkpoint.gradient_steps} as in {source}",
            hint="give the checkpoint it was exported from, or export again",
        )
    rng = np.random.default_rng(config.seed)
    observations = random_observations(policy.contract, config.samples, rng)
    recorded = recorded_observations(config.data, policy.contract, config.samples, rng)
    compared = compare(policy, checkpoint, [*observations, *recorded]).to_json()
    inputs = compare_inputs(policy, checkpoint, [*recorded, *observations][:INPUT_SAMPLES])
    compared["ok"] &= all(part["ok"] for part in inputs.values())
    report = {"checkpoint": str(source), "recorded_samples": len(recorded), **compared, "inputs": inputs}
    if config.episodes:
        report["closed_loop"] = _in_closed_loop(config, policy, checkpoint)
        report["ok"] &= report["closed_loop"]["ok"]
    return report


def _in_closed_loop(config: VerifyConfig, policy: OnnxPolicy, checkpoint: Checkpoint) -> dict[str, Any]:
    from deploy.closed_loop import compare_in_closed_loop
    from robot_rlpd.specs import check_contract
    from robot_rlpd.task import load_task

    if policy.stochastic:
        raise ConfigError(
            "explores, so no two episodes are alike", field="episodes", hint="verify the deterministic file"
        )
    setup = load_task(config.task or policy.metadata.task, policy.metadata.task_options)
    check_contract(policy.contract, setup.spec, who=f"task '{setup.task.name}'")
    return compare_in_closed_loop(policy, checkpoint, setup, episodes=config.episodes, seed=config.seed)


def _check_robot(name: str, policy: OnnxPolicy) -> str:
    from robot_rlpd.bridge.robots import open_robot

    with open_robot(name, options=policy.metadata.task_options, contract=policy.contract) as robot:
        policy.check_robot(robot.spec)
        return robot.spec.name


def _exported(report: dict[str, Any], described: PolicyMetadata) -> str:
    fields = ", ".join(spec.name for spec in described.contract.observation)
    return (
        f"wrote {report['policy']} ({report['bytes'] / 1000:.0f} kB) from {report['checkpoint']}: "
        f"{described.env_steps} environment steps, {described.gradient_steps} gradient steps\n"
        f"reads {fields}; commands {described.contract.action.size} components at "
        f"{described.contract.control_rate_hz:g} Hz; fingerprint {report['fingerprint'][:12]}\n"
        f"next: robot-rlpd verify {report['policy']} --checkpoint {report['checkpoint']}"
    )


def _verified(report: dict[str, Any]) -> str:
    lines = []
    if "robot" in report:
        lines.append(f"fits robot '{report['robot']}'")
    if report["samples"]:
        shares = ", ".join(f"{name} {value:.1e}" for name, value in report["percentiles"].items())
        lines.append(
            f"{report['samples']} observations ({report['recorded_samples']} recorded): largest difference "
            f"{report['max_abs_difference']:.1e} ({shares})"
        )
        lines += [
            f"  {name}: {part['max_abs_difference']:.1e}, allowed {part['tolerance']:.1e}"
            for name, part in report["components"].items()
        ]
        lines.append("input by input:")
        lines += [
            f"  {name}: {part['max_abs_difference']:.1e}{'' if part['ok'] else ' DIFFERS'}; moves the action by "
            f"{part['moves_action']:.1e} half ranges"
            for name, part in report["inputs"].items()
        ]
    if "closed_loop" in report:
        loop = report["closed_loop"]
        lines.append(
            f"{loop['episodes']} episodes of {loop['task']}: largest difference {loop['max_abs_difference']:.1e}; "
            f"solved {loop['successes']}, by the checkpoint {loop['successes_of_checkpoint']}, the same outcome in "
            f"{loop['same_outcome']}; actions drifted apart by {loop['drift']:.1e} half ranges"
        )
    return "\n".join([*lines, f"{report['policy']}: {'ok' if report['ok'] else 'DIFFERS'}"])
