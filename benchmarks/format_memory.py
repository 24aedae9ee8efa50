"""Convert files of several sizes, and see that the memory of the process does not grow with them.

    python -m benchmarks.format_memory [--megabytes 128 512] [--formats d4rl ...] [--images] [--json]

For every size a store of that many megabytes of observations is made, exported to each format and imported again. Each
conversion is a process of its own: its peak resident memory is what `ru_maxrss` tells, and a process that imports the
same modules and converts one episode is the measure for it. A longer episode needs more memory, a longer file does not.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine
from robot_rlpd.episode import Ended, Episode, EpisodeInfo
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.robot import Source
from robot_rlpd.specs import ActionComponent, ActionSpec, ArraySpec, RobotSpec

FORMATS = ("d4rl", "robomimic", "minari", "replay_buffer", "lerobot")
STEPS, WIDTH = 200, 1310
"""Of an episode: about one megabyte of float32."""
CAMERA = (128, 128, 3)
PROGRAM = """
import resource, sys
from robot_rlpd.cli import main
status = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
sys.exit(status)
"""


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[1, 128, 512], help="sizes (default 1 128 512)")
    parser.add_argument("--formats", nargs="+", default=list(FORMATS), choices=FORMATS)
    parser.add_argument("--images", action="store_true", help="camera images of 128 x 128 instead of numbers")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    found = []
    for megabytes in options.megabytes:
        with tempfile.TemporaryDirectory(prefix="format-memory-") as folder:
            store = Path(folder, "store")
            make_store(store, megabytes, images=options.images)
            for kind in options.formats:
                found += convert(Path(folder), store, kind, megabytes)
    if options.json:
        print(json.dumps({"machine": machine(), "images": options.images, "conversions": found}))
    else:
        line = "{format:<14}{does:<8}{megabytes:>6} MB  peak {peak_mb:>6.0f} MB  {seconds:>6.1f} s"
        print("\n".join(line.format(**conversion) for conversion in found))
    return 0


def make_store(path: Path, megabytes: int, *, images: bool) -> None:
    """A store of episodes of one megabyte of numbers, or of 21 images."""
    field = ArraySpec(name="observation", shape=(WIDTH,))
    steps = STEPS
    if images:
        field, steps = ArraySpec(name="camera", shape=CAMERA, dtype="uint8", is_image=True), 20
    spec = RobotSpec(
        name="wide",
        observation=(field,),
        action=ActionSpec(components=(ActionComponent(name="x"),)),
        control_rate_hz=20.0,
        signals=(ArraySpec(name="reward", shape=()),),
    )
    rng = np.random.default_rng(0)
    with EpisodeStore.create(path, spec) as store:
        store.extend(_episode(spec, rng, steps) for _ in range(megabytes))


def _episode(spec: RobotSpec, rng: np.random.Generator, steps: int) -> Episode:
    (field,) = spec.observation
    times = np.arange(steps + 1) / spec.control_rate_hz
    if field.is_image:
        coarse = rng.integers(0, 255, (steps + 1, 8, 8, 3)).astype(np.uint8)
        rows: Any = coarse.repeat(16, axis=1).repeat(16, axis=2)
    else:
        rows = rng.normal(size=(steps + 1, *field.shape)).astype(np.float32)
    return Episode(
        spec=spec,
        observations={field.name: rows},
        actions=np.zeros((steps, 1), np.float32),
        executed_actions=np.zeros((steps, 1), np.float32),
        signals={"reward": np.zeros(steps, np.float32)},
        sources=np.full(steps, int(Source.SCRIPTED), np.uint8),
        robot_times_s=times,
        wall_times_s=times,
        info=EpisodeInfo(ended=Ended.TRUNCATED),
    )


def convert(folder: Path, store: Path, kind: str, megabytes: int) -> list[dict[str, Any]]:
    """Export and import again; peak memory [MB] and time [s] of both."""
    out, again = folder / kind, folder / f"{kind}.zarr"
    words = {
        "export": ["demos", "export", str(store), "--format", kind, "--out", str(out)],
        "import": ["demos", "import", str(out), "--format", kind, "--out", str(again)],
    }
    found = []
    for does, arguments in words.items():
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - start
        peak_mb = int(done.stderr.splitlines()[-1]) / 1024
        found.append({"format": kind, "does": does, "megabytes": megabytes, "peak_mb": peak_mb, "seconds": seconds})
    for path in (out, again):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return found


if __name__ == "__main__":
    sys.exit(main())
