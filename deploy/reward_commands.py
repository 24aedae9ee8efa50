"""The command `reward train`: a success classifier out of recorded episodes."""

from __future__ import annotations

import json as json_format
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from robot_rlpd.errors import ConfigError, TrainingError
from robot_rlpd.interrupt import stop_on_signals

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from robot_rlpd.learner.success_frames import Frames
    from robot_rlpd.specs import PolicyContract, RobotSpec

COUNTS = ("true_positives", "false_positives", "solved", "observations")


@dataclass(frozen=True, kw_only=True)
class RewardTrainConfig:
    """Options of `reward train`."""

    stores: tyro.conf.Positional[tuple[Path, ...]]
    """Stores of episodes, solved and unsolved ones."""
    out: Path
    """Classifier file to write (.onnx)."""
    cameras: tuple[str, ...] = ()
    """Image fields to read, such as front_image (default: all that there are, unless --fields is given)."""
    fields: tuple[str, ...] = ()
    """Other observation fields to read (default: all where there is no camera, else none)."""
    final_steps: int = 1
    """Last observations of a solved episode that show it solved; more where recording went on after that."""
    in_a_row: int = 2
    """Observations in a row that have to look solved before the task counts as solved."""
    precision: float = 0.99
    """Wanted of the threshold: the share of observations called solved that are, 0 to 1."""
    gradient_steps: int = 1500
    """Updates of the network."""
    seed: int = 0
    """Decides everything random, the split of the episodes too."""
    force: bool = False
    """Replace an existing file."""
    json: bool = False
    """Print one JSON object on standard output."""

    def __post_init__(self) -> None:
        for name in ("final_steps", "in_a_row", "gradient_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(field=name, found=getattr(self, name), allowed=">= 1")
        if not 0.0 < self.precision <= 1.0:
            raise ConfigError(field="precision", found=self.precision, allowed="above 0, up to 1")
        if not self.stores:
            raise ConfigError(field="stores", found="none", allowed="one or more")


def train(config: RewardTrainConfig) -> int:
    """Train a success classifier from recorded episodes, whole episodes of which are held out to measure it.

    The last observations of solved episodes are positive, all others negative. Precision and recall are those of
    single observations on held-out episodes; the threshold was chosen on others again.
    """
    if config.out.suffix != ".onnx" or not config.out.absolute().parent.is_dir():
        raise ConfigError(field="out", found=str(config.out), allowed="a name that ends in .onnx, in a directory")
    if config.out.exists() and not config.force:
        raise ConfigError("exists already", field=str(config.out), hint="choose another --out, or give --force")
    from deploy.classifier_export import export_classifier
    from deploy.runtime.success_classifier import ClassifierMetadata
    from robot_rlpd.episode_store import EpisodeStore
    from robot_rlpd.learner.prior import digest
    from robot_rlpd.learner.success_classifier import Classifier, ClassifierConfig
    from robot_rlpd.learner.success_frames import load_labelled, split
    from robot_rlpd.learner.success_scores import choose_threshold, score

    digests = {}
    for path in config.stores:
        with EpisodeStore.open(path) as store:
            digests[path.name] = digest(store)
            spec = store.spec
    contract = classified_contract(spec, config.cameras, config.fields)
    frames = load_labelled(config.stores, contract, final_steps=config.final_steps)
    learned, chosen_on, held_out = split(frames, seed=config.seed)
    classifier = Classifier(contract, ClassifierConfig(gradient_steps=config.gradient_steps, seed=config.seed), learned)
    with stop_on_signals() as should_stop:
        classifier.fit(learned, should_stop)
        if should_stop():
            raise TrainingError("stopped: no file was written", field=str(config.out))
    threshold, _ = choose_threshold(classifier.probabilities(chosen_on), chosen_on.solved, precision=config.precision)
    found = classifier.probabilities(held_out)
    result = score(found >= threshold, held_out.solved).to_json()
    result |= early(found >= threshold, held_out, config.in_a_row)
    metadata = ClassifierMetadata(
        contract=contract,
        threshold=threshold,
        in_a_row=config.in_a_row,
        final_steps=config.final_steps,
        held_out=result,
        stores=digests,
    )
    metadata = export_classifier(classifier, metadata, config.out)
    report: dict[str, Any] = {
        "classifier": str(config.out),
        "fingerprint": contract.fingerprint,
        "fields": [field.name for field in contract.observation],
        "threshold": threshold,
        "in_a_row": config.in_a_row,
        "final_steps": config.final_steps,
        "episodes": {name: counted(part) for name, part in _parts(learned, chosen_on, held_out)},
        "unlabelled_episodes": frames.unlabelled,
        "held_out": result,
        "bytes": config.out.stat().st_size,
    }
    sys.stdout.write(json_format.dumps(report) + "\n" if config.json else told(report))
    return 0


def classified_contract(spec: RobotSpec, cameras: tuple[str, ...], fields: tuple[str, ...]) -> PolicyContract:
    """What a classifier reads: cameras first, or the fields that were asked for.

    Raises:
        ConfigError: A field that this robot does not have, or of the other kind.
    """
    images = [field.name for field in spec.observation if field.is_image]
    others = [field.name for field in spec.observation if not field.is_image]
    for option, names, there in (("cameras", cameras, images), ("fields", fields, others)):
        for name in names:
            if name not in there:
                raise ConfigError(
                    f"robot '{spec.name}' offers", field=option, found=name, allowed=", ".join(there) or "none"
                )
    seen = list(cameras) or ([] if fields else images)
    return spec.contract([*(list(fields) or ([] if seen else others)), *seen])


def early(said: NDArray[np.bool_], frames: Frames, in_a_row: int) -> dict[str, Any]:
    """How many episodes would have ended before they were solved, by the rule of so many observations in a row."""
    import numpy as np

    from robot_rlpd.classified import in_a_row as rule

    numbers = np.unique(frames.episode)
    ended = 0
    for number in numbers:
        mine = frames.episode == number
        before = ~frames.solved[mine]
        counting = np.append(said[mine] & before, False)  # the last entry of the rule is a recording's end
        ended += int(rule(counting, in_a_row)[:-1].any())
    return {"episodes": len(numbers), "ended_early": ended}


def counted(frames: Frames) -> dict[str, int]:
    """Episodes and observations of a part of the data."""
    import numpy as np

    solved = len(np.unique(frames.episode[frames.solved]))
    return {"episodes": len(np.unique(frames.episode)), "solved": solved, "observations": len(frames)}


def _parts(learned: Frames, chosen_on: Frames, held_out: Frames) -> list[tuple[str, Frames]]:
    return [("learned_from", learned), ("threshold_chosen_on", chosen_on), ("held_out", held_out)]


def told(report: dict[str, Any]) -> str:
    """The report for a person."""
    from robot_rlpd.learner.success_scores import Score

    found = report["held_out"]
    measured = Score(**{name: found[name] for name in COUNTS})
    lines = [f"{report['classifier']}: {report['bytes'] / 1000.0:.0f} kB, reads {', '.join(report['fields'])}"]
    lines += [
        f"{name.replace('_', ' '):<20} {part['episodes']} episodes, {part['solved']} solved, "
        f"{part['observations']} observations"
        for name, part in report["episodes"].items()
    ]
    if report["unlabelled_episodes"]:
        lines.append(f"{'left out':<20} {report['unlabelled_episodes']} episodes without a known outcome")
    lines.append(f"{'threshold':<20} {report['threshold']:.3f}, {report['in_a_row']} observations in a row")
    lines.append(f"{'on held-out episodes':<20} {measured}")
    lines.append(
        f"{'':<20} {found['ended_early']} of {found['episodes']} episodes would have ended before they were solved"
    )
    lines.append(f"next: robot-rlpd finetune ... --success classifier --classifier {report['classifier']}")
    return "\n".join(lines) + "\n"
