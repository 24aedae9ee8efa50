"""A success classifier file: what it says about itself, and running it, without torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from deploy.runtime.file_entries import FileKind
from deploy.runtime.onnx_policy import open_session
from robot_rlpd.errors import DataError, SpecError
from robot_rlpd.specs import PolicyContract, check_contract

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from robot_rlpd.robot import Observation
    from robot_rlpd.specs import RobotSpec

KIND = FileKind(
    format="robot-rlpd-success-classifier", version=1, what="success classifier", make="robot-rlpd reward train"
)
OUTPUT = "probability"


@dataclass(frozen=True, kw_only=True)
class ClassifierMetadata:
    """Everything about a classifier that is not a weight; each attribute is one entry of the ONNX metadata map."""

    contract: PolicyContract
    """The fields that it reads, and the robot that they are of."""
    threshold: float
    """Probability from which an observation counts as solved."""
    in_a_row: int
    """Observations in a row that have to count before the task is solved."""
    final_steps: int
    """Last observations of a solved episode that were labelled as solved."""
    held_out: dict[str, Any]
    """Precision and recall on episodes that neither weights nor threshold have seen, with counts and intervals."""
    stores: dict[str, str] = field(default_factory=dict)
    """Digest of each store it was trained from."""
    code_version: str = ""
    """Version of this package that wrote the file."""

    def encode(self) -> dict[str, str]:
        """The entries of the metadata map."""
        return KIND.encode(self)


def decode_metadata(entries: Mapping[str, str], *, where: str) -> ClassifierMetadata:
    """Read what `ClassifierMetadata.encode` wrote.

    Raises:
        DataError: Not a classifier of this project, of another version, incomplete or altered.
    """
    return KIND.decode(entries, ClassifierMetadata, where=where)


class OnnxClassifier:
    """Runs a classifier file on one thread; satisfies `robot_rlpd.classified.SuccessClassifier`.

    Args:
        content: The bytes of the file.
        where: Name of the file for messages.

    Attributes:
        metadata: What the file says about itself.

    Raises:
        DataError: Not a classifier file, or a damaged one.
    """

    def __init__(self, content: bytes, *, where: str = "classifier file") -> None:
        self._session = open_session(content, where)
        self.metadata = decode_metadata(self._session.get_modelmeta().custom_metadata_map, where=where)
        self.contract, self.threshold = self.metadata.contract, self.metadata.threshold
        self.in_a_row = self.metadata.in_a_row
        names = {i.name for i in self._session.get_inputs()}
        if names != {spec.name for spec in self.contract.observation}:
            raise DataError("the inputs do not fit the contract", field=where, found=", ".join(sorted(names)))

    def __call__(self, observation: Observation) -> float:
        """Probability that the task is solved.

        Raises:
            SpecError: A field is missing, has another shape, or is not finite.
        """
        inputs = {}
        for spec in self.contract.observation:
            if spec.name not in observation:
                raise SpecError("missing", field=f"observation.{spec.name}", found=f"only {', '.join(observation)}")
            inputs[spec.name] = np.ascontiguousarray(spec.validate(observation[spec.name]))
        return float(self._session.run([OUTPUT], inputs)[0][0])


def read_classifier(path: Path) -> OnnxClassifier:
    """Open a classifier file.

    Raises:
        DataError: It cannot be read, is no classifier, or is damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", field=str(path)) from None
    return OnnxClassifier(content, where=str(path))


def open_classifier(path: Path, spec: RobotSpec) -> OnnxClassifier:
    """Open a classifier file for a robot: the entry point `onnx` of the group `robot_rlpd.classifiers`.

    Raises:
        DataError: It cannot be read, is no classifier, or is damaged.
        MismatchError: It was trained for another robot; names the differing field.
    """
    classifier = read_classifier(path)
    check_contract(classifier.contract, spec, who=f"robot '{spec.name}'")
    return classifier
