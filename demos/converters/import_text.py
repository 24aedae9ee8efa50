"""What an import did to the data, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from demos.converters.report_text import count, lines, share

if TYPE_CHECKING:
    from demos.converters.conversion import ImportReport


def describe(report: ImportReport, *, added: int, out: str) -> list[str]:
    """One statement per line: what was clipped, cut, relabelled and missing."""
    ended = ", ".join(f"{number} {how}" for how, number in report.ended.items())
    new = "all new" if added == report.episodes else f"{added} new"
    return lines(
        {
            "imported": [
                f"{count(report.episodes, 'episode')}, {count(report.steps, 'step')} to {out}; {new}",
                f"{ended}; the longest has {count(report.longest, 'step')}",
            ],
            "clipped": [_clipped(report)],
            "cut": _cut(report) or ["nothing"],
            "relabelled": _relabelled(report),
            "missing": _missing(report) or ["nothing"],
            "fields": [f"{name}: {source}" for name, source in report.fields.items()],
            "unused": [", ".join(report.unused)] if report.unused else [],
            "notes": report.notes,
        }
    )


def _clipped(report: ImportReport) -> str:
    if not report.clipped_steps:
        return "nothing: every action is within its bounds"
    return f"{share(report.clipped_steps, report.steps, 'step')} had an action outside its bounds; kept as commanded"


def _cut(report: ImportReport) -> list[str]:
    found = []
    if report.cut_steps:
        found.append(
            f"{count(report.cut_steps, 'last step')} without the observation that followed: kept, but no transition"
        )
    if report.longer_than_limit:
        longer = share(report.longer_than_limit, report.episodes, "episode")
        found.append(f"{longer} longer than the task's limit of {report.max_episode_steps} steps: kept whole")
    return found


def _relabelled(report: ImportReport) -> list[str]:
    found = []
    if report.successes is None:
        found.append(f"success unknown: {report.success_unknown_because or 'the file does not say'}")
    else:
        unknown = f", {report.success_unknown} unknown" if report.success_unknown else ""
        found.append(f"{share(report.successes, report.episodes, 'episode')} solved{unknown}")
    if report.relabelled:
        found.append(f"{count(report.relabelled, 'episode')} with another success than the file says")
    if report.unconfirmed_ends:
        unconfirmed = count(report.unconfirmed_ends, "episode")
        found.append(f"{unconfirmed} terminated as the file says, but solved nothing that it shows: no end of the task")
    return found


def _missing(report: ImportReport) -> list[str]:
    found = []
    if report.missing_signals:
        found.append(f"signals {', '.join(report.missing_signals)}: left out")
    if report.without_final_observation:
        found.append(f"final observations of {share(report.without_final_observation, report.episodes, 'episode')}")
    return found
