from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="needs the extra 'datasets'")

from demos.converters.video import VideoWriter

THREADS = Path("/proc/self/task")


@pytest.mark.skipif(not THREADS.is_dir(), reason="needs a system that lists its threads")
def test_the_encoder_makes_no_thread_a_real_time_one(tmp_path: Path) -> None:
    def scheduling() -> list[int]:
        return [os.sched_getscheduler(int(thread.name)) for thread in THREADS.iterdir()]

    before = scheduling()
    with VideoWriter(tmp_path / "film.mp4", 10.0, 64, 64) as writer:
        writer.append(np.zeros((3, 64, 64, 3), np.uint8))
        encoding = scheduling()
    assert len(encoding) > len(before)
    assert {*encoding, *scheduling()} == set(before)
