"""What the cells of `benchmarks.sim_to_real` show: a table, a plot, one JSON object."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from benchmarks.machine import machine
from benchmarks.sim_to_real_cells import CONDITIONS
from robot_rlpd.evaluation import wilson_interval
from robot_rlpd.learner.metrics import read_metrics
from robot_rlpd.learner.plot import plot_curves

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.sim_to_real_cells import Setting

GOAL, FROM = 0.95, 0.6
"""Success rate to reach, where it was not above the second before."""


def draw(setting: Setting, out: Path) -> None:
    """Success over time on the robot, one line per condition; where somebody took over, how much of it."""
    found = {name: sorted(setting.root.glob(f"{name}-*/run")) for name in CONDITIONS}
    groups = {name: runs for name, runs in found.items() if runs}
    taken = any(read_metrics(run, "intervention") for runs in groups.values() for run in runs)
    metrics = ("success_rate", "intervention/rate") if taken else ("success_rate",)
    title = f"{setting.task}, stand-in {setting.profile}"
    plot_curves(groups, out, title=title, metrics=metrics, x="robot_min")


def cells(setting: Setting) -> list[dict[str, Any]]:
    """Every cell, finished or not."""
    rows = []
    for run_dir in sorted(setting.root.glob("*/run")):
        condition, _, seed = run_dir.parent.name.rpartition("-")
        found = run_dir.parent / "result.json"
        curve = [
            {"env_steps": record["env_steps"], "successes": record["successes"], "episodes": record["episodes"]}
            for record in read_metrics(run_dir, "evaluation")
        ]
        result = json.loads(found.read_text()) if found.is_file() else None
        rows.append({"condition": condition, "seed": int(seed), "evaluations": curve, "result": result})
    return rows


def before(setting: Setting) -> dict[int, dict[str, Any]]:
    """Success of the simulation policies on the stand-in, by seed."""
    paths = setting.root.glob("before-*.json")
    return {int(path.stem.rpartition("-")[2]): json.loads(path.read_text()) for path in sorted(paths)}


def simulation(setting: Setting) -> dict[int, list[dict[str, Any]]]:
    """Evaluations of the simulation policies in simulation, by seed."""
    kept = ("env_steps", "successes", "episodes")
    return {
        int(run_dir.name.rpartition("-")[2]): [
            {name: record[name] for name in kept} for record in read_metrics(run_dir, "evaluation")
        ]
        for run_dir in sorted(setting.root.glob("sim-*"))
    }


def pooled(setting: Setting) -> dict[str, dict[str, Any]]:
    """Over the seeds: before, and after each condition."""
    groups = {"before": list(before(setting).values())}
    for row in cells(setting):
        if row["result"]:
            groups.setdefault(row["condition"], []).append(row["result"]["after"])
    return {name: _sum(found) for name, found in groups.items() if found}


def _sum(found: list[dict[str, Any]]) -> dict[str, Any]:
    solved, episodes = (sum(part[name] for part in found) for name in ("successes", "episodes"))
    return {
        "successes": solved,
        "episodes": episodes,
        "success_rate": solved / episodes,
        "ci95": list(wilson_interval(solved, episodes)),
        "seeds": len(found),
    }


def show(setting: Setting, *, as_json: bool) -> None:
    """One line per cell, finished or not, then one per condition."""
    rows = cells(setting)
    if as_json:
        told = {"simulation": simulation(setting), "before": before(setting), "pooled": pooled(setting)}
        print(json.dumps({"cells": rows, **told, "machine": machine()}))
        return
    for seed, curve in simulation(setting).items():
        print(f"{'in simulation':<15} seed {seed}: {_curve(curve)}")
    for seed, found in before(setting).items():
        print(f"{'before':<15} seed {seed}: {rate(found)}")
    for row in rows:
        after = rate(row["result"]["after"]) if row["result"] else "not finished"
        print(f"{row['condition']:<15} seed {row['seed']}: {after}; {_curve(row['evaluations'])}")
        if row["result"] and row["result"]["interventions"]:
            shares = ", ".join(f"{100 * part['rate']:.0f} %" for part in row["result"]["interventions"])
            print(f"{'':<23} taken over, in ten parts of the time: {shares}")
    for name, found in pooled(setting).items():
        print(f"{name:<15} {found['seeds']} seeds: {rate(found)}")
    print(verdict(pooled(setting)))


def verdict(found: dict[str, dict[str, Any]]) -> str:
    """Whether the goal was reached where it applies."""
    if "before" not in found or "both" not in found:
        return "nothing to judge yet"
    first, last = found["before"]["success_rate"], found["both"]["success_rate"]
    goal = f"goal: at least {GOAL:.0%} after, where it was at most {FROM:.0%} before"
    if first > FROM:
        return f"{goal}; it was {first:.0%} before, so the goal does not apply; {last:.0%} after"
    return f"{goal}; {'reached' if last >= GOAL else 'not reached'}: {first:.0%} before, {last:.0%} after"


def rate(found: dict[str, Any]) -> str:
    """Successes with n and a 95 % interval."""
    low, high = (100 * bound for bound in found["ci95"])
    return f"{found['successes']}/{found['episodes']} ({low:.0f} to {high:.0f} %)"


def _curve(evaluations: list[dict[str, Any]]) -> str:
    return ", ".join(f"{found['env_steps']}: {found['successes']}/{found['episodes']}" for found in evaluations)
