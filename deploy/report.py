"""The one-page HTML report of a quickstart."""

from __future__ import annotations

import base64
import html
import json
import platform
from string import Template
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>robot-rlpd quickstart: $rate on $task</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c2430; }
h1 { margin-bottom: 0.2rem; } h2 { margin-top: 2rem; border-bottom: 1px solid #d8dee6; }
.headline { font-size: 1.3rem; } .headline strong { color: #1f6feb; }
table { border-collapse: collapse; } td, th { padding: 0.25rem 1rem 0.25rem 0; text-align: left; vertical-align: top; }
th { font-weight: 600; } img, svg { max-width: 100%; height: auto; }
code, pre { font: 13px/1.45 ui-monospace, monospace; }
pre { background: #f4f6f8; padding: 0.8rem; overflow-x: auto; } .muted { color: #66707c; }
</style></head><body>
<h1>$task, from $demonstrations demonstrations to a deployed policy</h1>
<p class="headline">The ONNX policy solved <strong>$successes of $episodes</strong> episodes
($rate, 95&nbsp;% interval $low to $high).</p>
<p class="muted">$machine. $minutes minutes in all.</p>
<h2>The deployed policy</h2>
$video
<h2>Learning curve</h2>
$curve
<p class="muted">Evaluated deterministically on reset seeds of its own; one training seed;
band: 95&nbsp;% Wilson interval.</p>
<h2>Success</h2>
<table><tr><th>what</th><th>solved</th><th>rate</th><th>95&nbsp;% interval</th></tr>$success</table>
<h2>Rates</h2>
<table>$rates</table>
<h2>What was typed</h2>
<pre>$commands</pre>
<h2>The exact configuration of the training run</h2>
<pre>$config</pre>
</body></html>
""")


def write_report(run_dir: Path, results: Mapping[str, Any]) -> Path:
    """Write `report.html`, whole in one file.

    Args:
        run_dir: Holds train/, deployed.webp and the rest.
        results: What each step printed as JSON, by step.
    """
    deployed, train, record = results["deploy"], results["train"], results["record"]
    low, high = deployed["ci95"]
    page = PAGE.substitute(
        task=html.escape(str(deployed["task"])),
        demonstrations=record["episodes"],
        successes=deployed["successes"],
        episodes=deployed["episodes"],
        rate=f"{deployed['success_rate']:.0%}",
        low=f"{low:.0%}",
        high=f"{high:.0%}",
        minutes=f"{results['total_s'] / 60:.1f}",
        machine=html.escape(f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"),
        video=_embedded(run_dir / "deployed.webp", "image/webp", "episodes of the deployed policy"),
        curve=_curve(run_dir),
        success=_success_rows(results),
        rates=_rows(_rates(results)),
        commands=html.escape("\n".join(r["command"] for r in results.values() if isinstance(r, dict))),
        config=html.escape(json.dumps(json.loads((run_dir / "train" / "config.json").read_text()), indent=2)),
    )
    del train
    path = run_dir / "report.html"
    path.write_text(page)
    return path


def _rates(results: Mapping[str, Any]) -> dict[str, str]:
    train, deployed, verified = results["train"], results["deploy"], results["verify"]
    latency = deployed["latency_us"]
    return {
        "training": f"{train['env_steps']} environment steps in {train['trained_s'] / 60:.1f} min with evaluations",
        "gradient steps per environment step": f"{train['utd_ratio']:.2f}",
        "deployed control rate": f"{deployed['rate_hz']:.1f} Hz (the simulator was served as fast as it could step)",
        "inference": f"{latency['p50']:.0f} microseconds p50, {latency['p99']:.0f} p99",
        "torch against ONNX": f"largest difference {verified['max_abs_difference']:.1e}",
        "torch imported while deployed": "yes" if deployed["torch_imported"] else "no",
    }


def _success_rows(results: Mapping[str, Any]) -> str:
    record, train, deployed = results["record"], results["train"], results["deploy"]
    rows = [("deployed ONNX policy", deployed)]
    if train["evaluation"]:
        rows.append(("last evaluation while training", train["evaluation"]))
    cells = [
        (
            name,
            f"{r['successes']}/{r['episodes']}",
            f"{r['success_rate']:.0%}",
            f"{r['ci95'][0]:.0%} to {r['ci95'][1]:.0%}",
        )
        for name, r in rows
    ]
    cells.append(("demonstrations kept of those attempted", f"{record['episodes']}/{record['attempts']}", "", ""))
    return "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in cells)


def _rows(values: Mapping[str, str]) -> str:
    return "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in values.items())


def _curve(run_dir: Path) -> str:
    from robot_rlpd.learner.plot import plot_curves

    path = run_dir / "learning_curve.svg"
    plot_curves({"RLPD with demonstrations": [run_dir / "train"]}, path)
    return path.read_text().partition("?>")[2].partition('.dtd">')[2] or path.read_text()


def _embedded(path: Path, kind: str, alt: str) -> str:
    if not path.is_file():
        return '<p class="muted">no video was drawn</p>'
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{html.escape(alt)}" src="data:{kind};base64,{data}">'
