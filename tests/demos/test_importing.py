"""An import is whole, or goes on where it stopped, or leaves nothing; and it needs no more memory for a longer file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from demos.converters import d4rl
from demos.converters.conversion import Conversion, ConversionTarget
from demos.exporting import export_episodes, make_export
from demos.importing import import_episodes, partial_path
from robot_rlpd import episode_store
from robot_rlpd.episode_store import EpisodeStore
from robot_rlpd.errors import DataError, StoreError
from robot_rlpd.registry import load_entry_point
from robot_rlpd.specs import ActionComponent, ActionSpec, ArraySpec, RobotSpec
from robot_rlpd.testing import fake_spec

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = 5
FORMATS = ("d4rl", "robomimic", "minari", "replay_buffer", "lerobot")

KILLED_AFTER_FOUR = """
import os, signal, sys
from pathlib import Path
from robot_rlpd import episode_store
from demos.importing import import_episodes
from tests.demos.test_importing import opened
episode_store.BATCH_EPISODES = 2
seen = []
def on_episode(doing):
    seen.append(doing)
    if len(seen) == 2 * 2 + 1:
        os.kill(os.getpid(), signal.SIGKILL)
import_episodes(opened(Path(sys.argv[1])), Path(sys.argv[2]), on_episode=on_episode)
"""


def spec_of(width: int) -> RobotSpec:
    return RobotSpec(
        name="wide",
        observation=(ArraySpec(name="observation", shape=(width,)),),
        action=ActionSpec(components=(ActionComponent(name="x"),)),
        control_rate_hz=20.0,
        signals=(ArraySpec(name="reward", shape=()),),
    )


def write(path: Path, *, episodes: int = 8, width: int = 3, steps: int = STEPS) -> Path:
    with h5py.File(path, "w") as file:
        rows = episodes * steps
        file["actions"], file["rewards"] = np.zeros((rows, 1), np.float32), np.zeros(rows, np.float32)
        file["timeouts"] = np.arange(rows) % steps == steps - 1
        observations = file.create_dataset("observations", (rows, width), np.float32)
        for e in range(episodes):
            observations[e * steps : (e + 1) * steps] = e
    return path


def opened(path: Path, width: int = 3) -> Conversion:
    return d4rl.read(path, ConversionTarget(spec=spec_of(width)))


def stop_after(episodes: int) -> Callable[[], bool]:
    asked = iter(range(1, 100))
    return lambda: next(asked) >= episodes


def levels(store: Path) -> list[float]:
    with EpisodeStore.open(store) as found:
        return [float(episode.observations["observation"][0, 0]) for episode in found]


def test_a_killed_import_goes_on_where_it_was(tmp_path: Path) -> None:
    file, out = write(tmp_path / "data.hdf5"), tmp_path / "store"
    program = [sys.executable, "-c", KILLED_AFTER_FOUR, str(file), str(out)]
    root = Path(__file__).parents[2]
    killed = subprocess.run(program, cwd=root, capture_output=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not out.exists()
    assert levels(partial_path(out)) == [0, 1, 2, 3]
    assert import_episodes(opened(file), out) == 8
    assert levels(out) == list(range(8))
    assert {path.name for path in tmp_path.iterdir()} == {"data.hdf5", "store"}
    assert not (out / "import").exists()


def test_a_stopped_import_keeps_what_it_has_and_goes_on(tmp_path: Path) -> None:
    file, out = write(tmp_path / "data.hdf5"), tmp_path / "store"
    with pytest.raises(KeyboardInterrupt):
        import_episodes(opened(file), out, should_stop=stop_after(3))
    assert not out.exists()
    assert levels(partial_path(out)) == [0, 1, 2]
    conversion = opened(file)
    import_episodes(conversion, out)
    assert levels(out) == list(range(8))
    assert conversion.report.episodes == 8


@pytest.mark.parametrize("change", ["file", "settings", "quality"])
def test_another_import_begins_anew(tmp_path: Path, change: str) -> None:
    file, out = write(tmp_path / "data.hdf5"), tmp_path / "store"
    with pytest.raises(KeyboardInterrupt):
        import_episodes(opened(file), out, settings="success when 1", should_stop=stop_after(3))
    if change == "file":
        os.utime(write(file, episodes=2), ns=(1, 1))
    settings = "success when 2" if change == "settings" else "success when 1"
    import_episodes(opened(file), out, settings=settings, jpeg_quality=80 if change == "quality" else 90)
    assert levels(out) == list(range(2 if change == "file" else 8))


def test_two_imports_to_one_store_do_not_meet(tmp_path: Path) -> None:
    file, out = write(tmp_path / "data.hdf5"), tmp_path / "store"
    with EpisodeStore.create(partial_path(out), spec_of(3)), pytest.raises(StoreError, match="another import"):
        import_episodes(opened(file), out)
    assert partial_path(out).exists()


def damage(path: Path) -> Path:
    with h5py.File(path, "a") as file:
        file["observations"][6 * STEPS] = np.nan
    return path


def test_a_damaged_file_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episode_store, "BATCH_EPISODES", 2)
    file = damage(write(tmp_path / "data.hdf5"))
    with pytest.raises(DataError, match="episode 6"):
        import_episodes(opened(file), tmp_path / "store")
    assert list(tmp_path.iterdir()) == [file]


def test_a_damaged_file_adds_nothing_to_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episode_store, "BATCH_EPISODES", 2)
    import_episodes(opened(write(tmp_path / "first.hdf5", episodes=1)), tmp_path / "store")
    with pytest.raises(DataError, match="episode 6"):
        import_episodes(opened(damage(write(tmp_path / "data.hdf5"))), tmp_path / "store", append=True)
    assert levels(tmp_path / "store") == [0]


def test_adding_goes_on_after_it_was_stopped(tmp_path: Path) -> None:
    out = tmp_path / "store"
    import_episodes(opened(write(tmp_path / "first.hdf5", episodes=1)), out)
    file = write(tmp_path / "data.hdf5")
    with pytest.raises(KeyboardInterrupt):
        import_episodes(opened(file), out, append=True, should_stop=stop_after(8 + 4))
    assert levels(out) == [0, 1, 2, 3]  # the first is the one that was there
    conversion = opened(file)
    assert import_episodes(conversion, out, append=True) == 4
    assert (len(levels(out)), conversion.report.episodes) == (8, 8)


def test_a_store_of_another_robot_is_not_touched(tmp_path: Path) -> None:
    EpisodeStore.create(tmp_path / "store", fake_spec()).close()
    with pytest.raises(DataError, match="holds no steps"):
        import_episodes(opened(write(tmp_path / "data.hdf5", episodes=0)), tmp_path / "store", append=True)


def test_an_import_tells_what_it_does(tmp_path: Path) -> None:
    told: list[str] = []
    file = write(tmp_path / "data.hdf5", episodes=2)
    import_episodes(opened(file), tmp_path / "store", on_episode=told.append)
    import_episodes(opened(file), tmp_path / "store", append=True, on_episode=told.append)
    assert told == ["importing"] * 2 + ["checking"] * 2 + ["importing"] * 2


def peak_bytes(work: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def long_and_short(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A store of 20 episodes of a quarter of a megabyte each, and one of 80."""
    directory = tmp_path_factory.mktemp("memory")
    stores = directory / "20", directory / "80"
    for store in stores:
        file = write(directory / f"{store.name}.hdf5", episodes=int(store.name), width=1024, steps=64)
        import_episodes(opened(file, 1024), store)
    return stores


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_memory_does_not_grow_with_the_file(
    tmp_path: Path, kind: str, long_and_short: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(episode_store, "BATCH_BYTES", 4 * 2**20)
    peaks = []
    for store in long_and_short:
        out, again = tmp_path / store.name, tmp_path / f"{store.name}.zarr"

        def there_and_back(store: Path = store, out: Path = out, again: Path = again) -> None:
            with EpisodeStore.open(store) as found:
                export_episodes(make_export(found, out.name), load_entry_point("robot_rlpd.exporters", kind), out)
            import_episodes(load_entry_point("robot_rlpd.converters", kind)(out, ConversionTarget()), again)

        peaks.append(peak_bytes(there_and_back))
    assert peaks[1] < 1.25 * peaks[0] + 2**20
