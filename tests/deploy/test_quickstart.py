import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.quickstart import QuickstartCommand, StepFailedError, quickstart, run_command, served_robot
from robot_rlpd.errors import RunDirectoryError

PROGRAM = [sys.executable, "-c", "import sys; from robot_rlpd.cli import main; sys.exit(main())"]


def test_a_run_directory_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunDirectoryError, match="exists already"):
        quickstart(QuickstartCommand(run_dir=tmp_path))


def test_a_step_that_fails_is_told_with_its_own_message() -> None:
    with pytest.raises(StepFailedError, match="no such run directory or checkpoint"):
        run_command(["export", "does-not-exist", "--out", "x.onnx", "--json"])


def test_a_robot_that_cannot_be_served_is_told(tmp_path: Path) -> None:
    with pytest.raises(StepFailedError, match="could not be served"), served_robot("juggle", log=tmp_path / "log"):
        pass
    assert "juggle" in (tmp_path / "log").read_text()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_whole_loop_leaves_a_report_and_never_deploys_with_torch(tmp_path: Path) -> None:
    arguments = ["quickstart", "--run-dir", str(tmp_path / "run"), "--env-steps", "400", "--episodes", "4", "--json"]
    arguments += ["--demonstrations", "4"]
    done = subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads(done.stdout)
    assert results["deploy"]["episodes"] == 4
    assert results["deploy"]["torch_imported"] is False
    assert results["verify"]["ok"] is True
    assert results["train"]["env_steps"] == 400
    page = Path(results["report"]).read_text()
    assert "data:image/webp;base64," in page
    assert "<svg" in page


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_interrupt_keeps_what_is_there_and_says_how_to_go_on(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    arguments = ["quickstart", "--run-dir", str(run_dir), "--env-steps", "100000", "--demonstrations", "4"]
    process = subprocess.Popen([*PROGRAM, *arguments], stderr=subprocess.PIPE, text=True, process_group=0)
    assert process.stderr is not None
    for line in process.stderr:
        if "steps/s" in line:
            break
    subprocess.run(["kill", f"-{signal.SIGINT}", "--", f"-{process.pid}"], check=True)
    told = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 130
    assert f"--resume {run_dir / 'train'}" in told
    assert (run_dir / "train" / "checkpoints" / "latest.pt").is_file()
    assert (run_dir / "demos.zarr").is_dir()


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks the Linux kernel to tell the children")
def test_nothing_goes_on_when_the_quickstart_is_killed(tmp_path: Path) -> None:
    arguments = ["quickstart", "--run-dir", str(tmp_path / "run"), "--env-steps", "100000", "--demonstrations", "2"]
    process = subprocess.Popen([*PROGRAM, *arguments], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "steps/s" in line:
            break
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    children = [os.pidfd_open(int(pid)) for pid in listed]
    assert len(children) == 2  # the served robot and the learner
    process.kill()
    process.wait()
    for child in children:
        ended, _, _ = select.select([child], [], [], 60.0)
        assert ended
        os.close(child)
    process.stderr.close()
