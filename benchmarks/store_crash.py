"""Kill a program that appends to a store, edits and compacts it, again and again; cut its files, and repair them.

    python -m benchmarks.store_crash [--trials 100] [--cuts 100] [--json]

Each killed program goes on where the one before it was killed. It tells, through a pipe, what it is about to do and
what is done. After every kill the store has to be what the done operations make of it; the one that was being done may
be there or not, but only whole. Every step carries its number in its action, its state and its images.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import show_result
from robot_rlpd import editing
from robot_rlpd.episode import Ended, Episode, EpisodeInfo
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.specs import ArraySpec
from robot_rlpd.store_check import check_episodes
from robot_rlpd.store_compact import compact
from robot_rlpd.store_repair import repair
from robot_rlpd.testing import fake_spec

CAMERAS = tuple(ArraySpec(name=f"camera_{i}", shape=(64, 64, 3), dtype="uint8", is_image=True) for i in range(2))
SPEC = replace(fake_spec(), observation=(*fake_spec().observation, *CAMERAS))
MOST_LINES = 12
"""A program is killed after so many lines at most, and up to two lines' time later."""
MOST_EPISODES = 30
"""With more, the program deletes and compacts, so that the store stays small."""

State = dict[str, tuple[int, int, bool | None]]
"""First step, step after the last, and success of every visible episode."""


def make_episode(name: str, steps: int) -> Episode:
    """Step t has the action t, and shows the grey t."""
    numbers = np.arange(steps + 1, dtype=np.float32)
    times = numbers.astype(np.float64) / 10.0
    greys = np.broadcast_to(numbers[:, None, None, None], (steps + 1, 64, 64, 3)).astype(np.uint8)
    actions = np.stack([numbers[:steps], numbers[:steps]], axis=1)
    return Episode(
        spec=SPEC,
        observations={
            "position": np.stack([numbers, numbers], axis=1),
            "target": np.zeros((steps + 1, 2), np.float32),
            **{camera.name: greys for camera in CAMERAS},
        },
        actions=actions,
        executed_actions=actions,
        signals={
            "reward": np.zeros(steps, np.float32),
            "terminated": np.zeros(steps, np.bool_),
            "success": np.zeros(steps, np.bool_),
        },
        sources=np.ones(steps, np.uint8),
        robot_times_s=times,
        wall_times_s=times,
        info=EpisodeInfo(uuid=name, ended=Ended.TERMINATED, success=True),
    )


def applied(history: list[State], operation: list[Any]) -> list[State]:
    """What an operation makes of the states so far; an undo goes back to the one before."""
    kind, *what = operation
    state = dict(history[-1])
    if kind == "undo":
        return history[:-1]
    if kind == "compact":
        return [state]
    if kind == "append":
        name, steps = what
        return [{**before, name: (0, steps, True)} for before in history]  # an undo does not take it away
    if kind == "delete":
        del state[what[0]]
    elif kind == "relabel":
        state[what[0]] = (*state[what[0]][:2], what[1])
    else:
        name, start, stop = what
        state[name] = (state[name][0] + start, state[name][0] + stop, state[name][2])
    return [*history, state]


def observed(path: Path) -> State:
    """What is in the store, read whole."""
    with EpisodeStore.open(path) as store:
        state = {}
        for episode in store:
            episode.validate()
            first, stop = int(episode.actions[0, 0]), int(episode.actions[-1, 0]) + 1
            if not is_right(episode, first):
                raise AssertionError(f"{episode.info.uuid} holds wrong values")
            state[episode.info.uuid] = (first, stop, episode.info.success)
        return state


def is_right(episode: Episode, first: int) -> bool:
    """Whether every step carries its number."""
    rows = np.arange(first, first + len(episode.robot_times_s))
    greys = [array.mean((1, 2, 3)) - rows for name, array in episode.observations.items() if "camera" in name]
    return (
        np.array_equal(episode.actions[:, 0], rows[: len(episode)])
        and np.array_equal(episode.observations["position"][:, 0], rows)
        and bool((np.abs(greys) < 3).all())
    )


def work_for_ever(path: Path, seed: int) -> None:
    """The program that is killed."""
    rng = np.random.default_rng(seed)
    os.write(1, b"ready\n")
    for count in range(10**9):
        with EpisodeStore.open(path, "a") as store:
            for turn in range(int(rng.integers(1, 4))):
                operation = _choose(store, rng, f"{seed}-{count}-{turn}")
                os.write(1, json.dumps(["begin", *operation]).encode() + b"\n")
                _do(store, operation)
                os.write(1, json.dumps(["done", *operation]).encode() + b"\n")
        if rng.random() < 0.5:
            os.write(1, b'["begin", "compact"]\n')
            compact(path)
            os.write(1, b'["done", "compact"]\n')


def _choose(store: EpisodeStore, rng: np.random.Generator, name: str) -> list[Any]:
    stored = store.infos()
    kind = str(rng.choice(["append", "append", "append", "trim", "relabel", "delete", "undo"]))
    if len(stored) > MOST_EPISODES:
        kind = "delete"
    edits = [edit for edit in editing.history(store) if edit.counts and edit.kind != "undo"]
    if kind == "append" or not stored or (kind == "undo" and not edits):
        return ["append", name, int(rng.integers(1, 60))]
    if kind == "undo":
        return ["undo"]
    episode = stored[int(rng.integers(len(stored)))]
    if kind == "trim":
        start = int(rng.integers(0, episode.num_steps))
        return ["trim", episode.info.uuid, start, int(rng.integers(start + 1, episode.num_steps + 1))]
    if kind == "relabel":
        return ["relabel", episode.info.uuid, [True, False, None][int(rng.integers(3))]]
    return ["delete", episode.info.uuid]


def _do(store: EpisodeStore, operation: list[Any]) -> None:
    kind, *what = operation
    if kind == "append":
        store.append(make_episode(*what))
    elif kind == "undo":
        editing.undo(store)
    else:
        (episode,) = (stored for stored in store.infos() if stored.info.uuid == what[0])
        if kind == "trim":
            editing.trim(store, episode, what[1], what[2])
        elif kind == "relabel":
            editing.relabel(store, [episode], {"success": what[1]})
        else:
            editing.delete(store, [episode])


def kill_writers(path: Path, trials: int, seed: int) -> dict[str, Any]:
    """Let programs work on one store, and kill them."""
    rng = np.random.default_rng(seed)
    EpisodeStore.create(path, SPEC).close()
    history: list[State] = [{}]
    done, in_the_midst, wrong = 0, dict.fromkeys(("append", "edit", "compact", "nothing"), 0), 0
    for trial in range(trials):
        operations, pending = _work_and_kill(path, seed * 10_000 + trial, rng)
        for operation in operations:
            history = applied(history, operation)
        done += len(operations)
        kind = pending[0] if pending else "nothing"
        in_the_midst[kind if kind in in_the_midst else "edit"] += 1
        EpisodeStore.open(path, "a").close()
        found = observed(path)
        candidates = [history, *([applied(history, pending)] if pending else [])]
        fitting = [candidate for candidate in candidates if candidate[-1] == found]
        wrong += int(not fitting)
        history = _true_history(path, fitting[0] if fitting else [found], found)
    return {"operations_done": done, "killed_in_the_midst_of": in_the_midst, "wrong_stores": wrong}


def _true_history(path: Path, history: list[State], found: State) -> list[State]:
    """Whether a killed edit or compaction happened changes what can be undone; the log says it."""
    with EpisodeStore.open(path) as store:
        counting = len([edit for edit in editing.history(store) if edit.counts and edit.kind != "undo"])
    if counting + 1 == len(history):
        return history
    return [found] if counting == 0 else [*history, found]


def _work_and_kill(path: Path, seed: int, rng: np.random.Generator) -> tuple[list[list[Any]], list[Any] | None]:
    command = [sys.executable, "-m", "benchmarks.store_crash", "--work", str(path), "--seed", str(seed)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    began_s = time.monotonic()
    count = int(rng.integers(1, MOST_LINES + 1))
    lines = [process.stdout.readline() for _ in range(count)]
    time.sleep(rng.uniform(0.0, 2.0) * (time.monotonic() - began_s) / count)
    process.kill()
    told = [json.loads(line) for line in [*lines, *process.stdout]]
    process.wait()
    process.stdout.close()
    operations = [line[1:] for line in told if line[0] == "done"]
    return operations, told[-1][1:] if told[-1][0] == "begin" else None


def cut_and_repair(path: Path, cuts: int, seed: int) -> dict[str, Any]:
    """Cut a file of a copy of the store at a random byte, and repair it."""
    rng = np.random.default_rng(seed)
    files = sorted(file.relative_to(path) for file in path.rglob("*") if file.is_file())
    with EpisodeStore.open(path) as store:
        recorded = {stored.info.uuid: stored.num_steps for stored in store.recorded()}
    unreadable, wrong, lost_steps, damaged = 0, 0, 0, 0
    for _ in range(cuts):
        copy = path.with_name("copy")
        shutil.copytree(path, copy)
        file = files[int(rng.integers(len(files)))]
        with (copy / file).open("r+b") as opened:
            opened.truncate(int(rng.integers(0, (copy / file).stat().st_size)))
        report = repair(copy)
        damaged += int(bool(report.damaged))
        with EpisodeStore.open(copy) as store:
            unreadable += sum(damage is not None for damage in check_episodes(store))
            kept = 0
            for stored in store.recorded():
                episode = store.decode(store.read_encoded(stored))
                wrong += int(not is_right(episode, 0))
                kept += len(episode)
            lost_steps += sum(recorded.values()) - kept
        for place in path.parent.glob("copy*"):
            shutil.rmtree(place)
    total = cuts * sum(recorded.values())
    return {
        "cuts": cuts,
        "cuts_that_did_damage": damaged,
        "unreadable_episodes": unreadable,
        "wrong_episodes": wrong,
        "share_of_steps_lost": lost_steps / total if total else 0.0,
    }


def main() -> int:
    """Kill, cut, look."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100, help="number of kills (default 100)")
    parser.add_argument("--cuts", type=int, default=100, help="number of cut files (default 100)")
    parser.add_argument("--seed", type=int, default=0, help="decides the instants")
    parser.add_argument("--folder", type=Path, help="where to work (default the folder for temporary files)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work is not None:
        work_for_ever(arguments.work, arguments.seed)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "store"
        result: dict[str, Any] = {"trials": arguments.trials, **kill_writers(path, arguments.trials, arguments.seed)}
        cut_path = Path(folder) / "cut"
        with EpisodeStore.create(cut_path, SPEC) as store:
            store.extend([make_episode(f"e{number}", 20 + 7 * number) for number in range(20)])
        result["repair"] = cut_and_repair(cut_path, arguments.cuts, arguments.seed)
    show_result(result, as_json=arguments.json)
    repaired = result["repair"]
    return int(bool(result["wrong_stores"] or repaired["unreadable_episodes"] or repaired["wrong_episodes"]))


if __name__ == "__main__":
    sys.exit(main())
