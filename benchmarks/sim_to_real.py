"""From simulation to a stand-in of the real robot: success before and after some minutes on it, in resumable cells.

    python -m benchmarks.sim_to_real [--task pick_place] [--condition both scratch demonstrations own corrected needed]
        [--seeds 3] [--minutes 20] [--profile hard] [--calibrated] [--limit-steps N] [--for-minutes 10] [--table]
        [--plot FILE]

For each seed a policy is trained in simulation (the quickstart preset's networks and utd_ratio: lighter than the
paper's) to its plateau there, and 20 demonstrations are recorded on the stand-in by the person who knows it. The
policy's success on the stand-in is measured (before), then each condition has the same time on it, counted in control
steps; the stand-in is a process of its own behind the bridge and may run faster than real time (`--pace real` does
not). Success is the robot's signal, within the time limit. Evaluations are not counted as time on the robot.

  both            RLPD from the simulation policy, prior data half simulation (`--sim-share`), half demonstrations
  demonstrations  the same with the demonstrations alone as prior data
  own             the same with the policy's own rollouts on the stand-in alone as prior data
  scratch         RLPD from new networks and random motion, with the same 20 demonstrations
  corrected       `both` with the person taking over in episodes that are not solved at half of their time limit
  needed          `both` with the person taking over while the policy makes no progress, and giving back

A cell is kept and goes on where it was: `--for-minutes` bounds one call. Of a finished cell the checkpoint that was
best by the session's own evaluations is measured on fresh starts (after), and the last one too. Two calls may run side
by side where their seeds differ (`--first-seed`).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.sim_to_real_cells import CONDITIONS, Setting, calibration, cell_of, prepare, run_cell
from benchmarks.sim_to_real_report import draw, show
from robot_rlpd.config import write_text
from robot_rlpd.interrupt import stop_on_signals

if TYPE_CHECKING:
    from collections.abc import Iterator

SIM_STEPS = {"reach": 6_000, "pick_place": 30_000, "peg_insert": 90_000}
"""Steps in simulation until the policy is at its plateau; others have the last number."""
SIM_SHARE = 0.5
"""Of the prior data, where nothing else is asked for."""
TARGET_ENTROPY = {"peg_insert": -6.0}
"""Where a gripper that opens ends it all; others have the preset's."""


def main() -> int:
    """Go on with what is asked for, then show what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="pick_place", help="default pick_place")
    parser.add_argument("--condition", nargs="+", choices=CONDITIONS, default=list(CONDITIONS), help="default all")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default 3)")
    parser.add_argument("--first-seed", type=int, default=0, help="default 0")
    parser.add_argument("--minutes", type=float, default=20.0, help="time on the stand-in [min] (default 20)")
    parser.add_argument("--profile", default="hard", help="of the stand-in (default hard)")
    parser.add_argument("--sim-steps", type=int, help="steps in simulation (default until its plateau)")
    parser.add_argument("--limit-steps", type=int, help="time limit on the stand-in [steps] (default the task's)")
    parser.add_argument("--utd-ratio", type=int, help="critic updates per step (default as in simulation)")
    parser.add_argument(
        "--sim-share", type=float, default=SIM_SHARE, help="of prior data from simulation (default 0.5)"
    )
    help_text = "actions before that are observed, as the robot answers late (default 2)"
    parser.add_argument("--previous-actions", type=int, default=2, help=help_text)
    help_text = "calibrate the stand-in first, from 10 demonstrations more (sim calibrate)"
    parser.add_argument("--calibrated", action="store_true", help=help_text)
    parser.add_argument("--pace", choices=["fast", "real"], default="fast", help="of the stand-in (default fast)")
    parser.add_argument("--episodes", type=int, default=50, help="of the measurements (default 50)")
    parser.add_argument("--eval-episodes", type=int, default=20, help="of evaluations in between (default 20)")
    parser.add_argument("--for-minutes", type=float, default=float("inf"), help="end this call after so many minutes")
    parser.add_argument("--run-dir", type=Path, default=Path("runs/sim_to_real"), help="where cells are kept")
    parser.add_argument("--table", action="store_true", help="train nothing, print what is there")
    parser.add_argument("--plot", type=Path, help="draw success over time on the robot (.svg, .png)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args()
    name = f"{asked.task}-{asked.profile.replace(':', '_')}-{asked.minutes:g}min-{asked.pace}"
    name += f"-{asked.limit_steps}steps" if asked.limit_steps else ""
    name += f"-sim{asked.sim_share:g}" if asked.sim_share != SIM_SHARE else ""
    name += "-calibrated" if asked.calibrated else ""
    setting = Setting(
        task=asked.task,
        profile=asked.profile,
        minutes=asked.minutes,
        sim_steps=asked.sim_steps or SIM_STEPS.get(asked.task, 30_000),
        limit_steps=asked.limit_steps,
        utd_ratio=asked.utd_ratio,
        sim_share=asked.sim_share,
        previous_actions=asked.previous_actions,
        target_entropy=TARGET_ENTROPY.get(asked.task),
        calibrated=asked.calibrated,
        pace=asked.pace,
        episodes=asked.episodes,
        eval_episodes=asked.eval_episodes,
        root=asked.run_dir / name,
    )
    if not asked.table:
        check_same(setting)
        seeds = range(asked.first_seed, asked.first_seed + asked.seeds)
        run_all(setting, seeds, asked.condition, deadline_s=time.monotonic() + 60.0 * asked.for_minutes)
    if asked.plot is not None:
        draw(setting, asked.plot)
    show(setting, as_json=asked.json)
    return 0


def check_same(setting: Setting) -> None:
    """Cells of one directory are of one setting."""
    path = setting.root / "setting.json"
    asked = {name: value for name, value in dataclasses.asdict(setting).items() if name != "root"}
    if path.is_file():
        kept = {"sim_share": SIM_SHARE, "calibrated": False, **json.loads(path.read_text())}
        differ = [f"{name} {kept.get(name)}, now {asked[name]}" for name in asked if kept.get(name) != asked[name]]
        if differ:
            raise SystemExit(f"{setting.root} holds cells of another setting: {'; '.join(differ)}; choose a --run-dir")
    setting.root.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(asked))


def run_all(setting: Setting, seeds: range, conditions: list[str], *, deadline_s: float) -> None:
    """Every cell that is not finished, as far as the time allows."""
    if setting.calibrated:
        with stand_in(setting) as address:
            if not calibration(setting, address):
                return
    with stop_on_signals() as stopped, stand_in(setting) as address:

        def should_stop() -> bool:
            return stopped() or time.monotonic() > deadline_s

        for seed in seeds:
            if not prepare(setting, seed, address, should_stop):
                return
            for condition in conditions:
                if not should_stop() and not (cell_of(setting, condition, seed) / "result.json").is_file():
                    sys.stderr.write(f"\n{cell_of(setting, condition, seed)}\n")
                    run_cell(setting, condition, seed, address, should_stop)


@contextlib.contextmanager
def stand_in(setting: Setting) -> Iterator[str]:
    """The stand-in, served by a process of its own; the address to reach it."""
    robot = f"standin:{setting.task}:{setting.profile}"
    words = ["serve", "--robot", robot, "--address", "tcp://127.0.0.1:0", "--pace", setting.pace, "--json"]
    words += ["--env-kwargs", json.dumps(setting.standin_kwargs)]
    program = [sys.executable, "-c", "from robot_rlpd.cli import main; raise SystemExit(main())", *words]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield str(json.loads(process.stdout.readline())["address"])
        finally:
            process.terminate()
            process.communicate()  # it says how it went


if __name__ == "__main__":
    sys.exit(main())
