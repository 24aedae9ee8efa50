"""What became of a session of fine-tuning, in words."""

from __future__ import annotations

from typing import Any


def told(result: dict[str, Any]) -> str:
    """What became of it, and what to do with it."""
    start, last = result["start_evaluation"], result["evaluation"]
    lines = [
        f"{result['ended']} after {result['env_steps']} steps, {result['robot_min']:.1f} min on the robot, "
        f"{result['trained_s'] / 60.0:.1f} min by the clock, utd_ratio {result['utd_ratio']:.1f}"
    ]
    if result["interventions"]["steps"]:
        shares = [f"{100 * result['interventions'][name]:.0f} %" for name in ("first_rate", "recent_rate")]
        lines.append(f"taken over: {shares[0]} of the first episodes' steps, {shares[1]} of the last")
    if start is None or last is None:
        lines.append("not evaluated: what is best is not known")
    elif result["evaluations"] < 2:
        lines.append(f"starting policy {_solved(start)} solved; not evaluated since")
    else:
        lines.append(f"starting policy {start['successes']}/{start['episodes']} solved, now {_solved(last)}")
        if result["best_success_rate"] <= start["success_rate"]:
            lines.append("learning did not get beyond the starting policy in these evaluations: it is kept")
        elif last["success_rate"] < result["best_success_rate"]:
            lines.append(f"it was better before: {100 * result['best_success_rate']:.0f} %, which is kept")
    lines.append(f"next: robot-rlpd export {result['best_checkpoint']} --out policy.onnx")
    return "\n".join(lines) + "\n"


def _solved(evaluation: dict[str, Any]) -> str:
    low, high = evaluation["ci95"]
    return f"{evaluation['successes']}/{evaluation['episodes']} (95 % interval {100 * low:.0f} to {100 * high:.0f} %)"
