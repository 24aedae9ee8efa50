"""What an export did, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from demos.converters.report_text import count, lines, share

if TYPE_CHECKING:
    from pathlib import Path

    from demos.converters.export import Export


def describe(export: Export, out: Path) -> list[str]:
    """One statement per line: what was written, and what the format could not hold."""
    report = export.report
    cut, changed = [], []
    if report.cut_steps:
        cut.append(f"{count(report.cut_steps, 'last step')} left out: the format wants the observation after it")
    if report.left_out_observations:
        cut.append(f"{count(report.left_out_observations, 'final observation')} left out: the format has no place")
    if report.skipped:
        cut.append(f"{count(report.skipped, 'episode')} without a step left out")
    if report.interrupted:
        changed.append(f"{count(report.interrupted, 'interrupted episode')}, which the format calls truncated")
    if report.went_on:
        changed.append(f"{count(report.went_on, 'episode')} went on after a termination; readers may split it there")
    if report.differing_actions:
        other = "commanded" if export.actions == "executed" else "executed"
        differing = share(report.differing_actions, report.steps, "step")
        changed.append(f"actions are the {export.actions} ones; {differing} had another {other} action")
    return lines(
        {
            "exported": [f"{count(report.episodes, 'episode')}, {count(report.steps, 'step')} to {out}"],
            "cut": cut or ["nothing"],
            "changed": changed or ["nothing"],
            "fields": [f"{name}: {source}" for name, source in report.fields.items()],
            "notes": report.notes,
        }
    )
