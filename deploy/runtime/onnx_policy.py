"""A policy file as a `Policy`: checked once when it is opened, then one call into onnxruntime per control step."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from deploy.runtime.metadata import NOISE, decode_metadata
from robot_rlpd.errors import DataError, SpecError
from robot_rlpd.robot import Source
from robot_rlpd.specs import check_contract

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from robot_rlpd.robot import Action, Observation
    from robot_rlpd.specs import PolicyContract, RobotSpec

OUTPUT = "action"
ERRORS_ONLY = 3
TYPES = {"bool": "bool", "uint8": "uint8", "int32": "int32", "int64": "int64", "float32": "float", "float64": "double"}
"""What onnxruntime calls each dtype of a spec."""


class OnnxPolicy:
    """Runs a policy file on one thread.

    Between steps it keeps the last frames of a policy that sees stacks of them, and the generator of a stochastic one's
    noise. At an episode's start its first frame stands in for those before it.

    Args:
        content: The bytes of the file.
        where: Name of the file for messages.
        rng: Draws the noise of a stochastic policy; default one that differs from run to run.

    Attributes:
        metadata: What the file says about itself.
        contract: What it reads and commands.
        digest: SHA-256 (hex) of the file.
        stochastic: Whether it explores, with noise as an input.
        frame_stack: Frames of each camera that it sees together.

    Raises:
        DataError: Not a policy file, or a damaged one.
    """

    source = Source.POLICY

    def __init__(self, content: bytes, *, where: str = "policy file", rng: np.random.Generator | None = None) -> None:
        session = open_session(content, where)
        self.metadata = decode_metadata(session.get_modelmeta().custom_metadata_map, where=where)
        self.contract = self.metadata.contract
        self.digest = hashlib.sha256(content).hexdigest()
        self.frame_stack = _check_graph(session, self.contract, where)
        # onnxruntime reads and writes the memory of these arrays; nothing is allocated while the robot moves.
        shapes = {i.name: tuple(i.shape) for i in session.get_inputs()}
        self._inputs = [(spec, np.zeros(shapes[spec.name], spec.dtype)) for spec in self.contract.observation]
        self._episode_begins = True
        self.stochastic = any(i.name == NOISE for i in session.get_inputs())
        self._rng = rng or np.random.default_rng()
        self._noise = np.zeros(self.contract.action.size, np.float32)
        self._output = np.zeros(self.contract.action.size, np.float32)
        self._session = session
        self._binding = session.io_binding()
        for spec, buffer in self._inputs:
            self._binding.bind_ortvalue_input(spec.name, onnxruntime.OrtValue.ortvalue_from_numpy(buffer))
        if self.stochastic:
            self._binding.bind_ortvalue_input(NOISE, onnxruntime.OrtValue.ortvalue_from_numpy(self._noise))
        self._binding.bind_ortvalue_output(OUTPUT, onnxruntime.OrtValue.ortvalue_from_numpy(self._output))
        self._session.run_with_iobinding(self._binding)  # so that the first control step is as quick as the others

    def check_robot(self, spec: RobotSpec) -> None:
        """Refuse a robot that this policy was not trained for.

        Raises:
            MismatchError: Names the differing field.
        """
        check_contract(self.contract, spec, who=f"robot '{spec.name}'")

    def reset(self) -> None:
        """Forget the frames of the last episode."""
        self._episode_begins = True

    def __call__(self, observation: Observation) -> Action:
        """The action for this observation, within the bounds.

        Raises:
            SpecError: A field is missing, has another shape, or is not finite.
        """
        if self.stochastic:
            self._rng.standard_normal(dtype=np.float32, out=self._noise)
        return self._act(observation)

    def act_with(self, observation: Observation, noise: NDArray[np.float32]) -> Action:
        """The action of a stochastic policy for this noise `(A,)`; a deterministic one does without it."""
        np.copyto(self._noise, noise)
        return self._act(observation)

    def _act(self, observation: Observation) -> Action:
        for spec, buffer in self._inputs:
            value = observation.get(spec.name)
            if value is None:
                raise SpecError("missing", field=f"observation.{spec.name}", found=f"only {', '.join(observation)}")
            if value.shape != spec.shape or value.dtype != buffer.dtype:
                value = spec.validate(value)
            if buffer.shape == spec.shape or self._episode_begins:
                np.copyto(buffer, value)
            else:
                buffer[:-1] = buffer[1:]
                buffer[-1] = value
        self._episode_begins = False
        self._session.run_with_iobinding(self._binding)
        action = self._output.copy()
        if not math.isfinite(np.dot(action, action)):  # the cheapest look at all entries: NaN in, NaN out
            for spec, buffer in self._inputs:
                if buffer.shape == spec.shape:
                    spec.validate(buffer)
            self.contract.action.validate(action)
        return action


def read_policy(path: Path) -> OnnxPolicy:
    """Open a policy file.

    Raises:
        DataError: It cannot be read, is not a policy file, or is damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", field=str(path)) from None
    return OnnxPolicy(content, where=str(path))


def open_policy(path: Path, spec: RobotSpec) -> OnnxPolicy:
    """Open a policy file for a robot.

    Raises:
        DataError: It cannot be read, is not a policy file, or is damaged.
        MismatchError: It was trained for another robot; names the differing field.
    """
    policy = read_policy(path)
    policy.check_robot(spec)
    return policy


def open_session(content: bytes, where: str) -> onnxruntime.InferenceSession:
    """Load a graph for one thread, which is the fastest for so small ones.

    Raises:
        DataError: Not an ONNX file, or a damaged one.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = ERRORS_ONLY
    if not content:
        raise DataError("the file is empty", field=where)
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common root of its errors but this
        reason = str(error).partition("\n")[0]
        raise DataError(f"not an ONNX file, or a truncated one ({reason})", field=where) from None


def _check_graph(session: onnxruntime.InferenceSession, contract: PolicyContract, where: str) -> int:
    """Refuse a graph that does not fit; returns how many frames of each camera it sees together."""
    found = {i.name: (i.type, tuple(i.shape)) for i in session.get_inputs()}
    if found.get(NOISE) == ("tensor(float)", (contract.action.size,)):
        del found[NOISE]
    image = next((s for s in contract.observation if s.is_image), None)
    seen = found.get(image.name, ("", ()))[1] if image else ()
    stack = (seen[0],) if image and seen[1:] == image.shape else ()
    needed = {
        s.name: (f"tensor({TYPES[s.dtype]})", (*stack, *s.shape) if s.is_image else s.shape)
        for s in contract.observation
    }
    if found != needed:
        raise DataError("the inputs do not fit the contract", field=where, found=str(found), allowed=str(needed))
    outputs = {o.name: (o.type, tuple(o.shape)) for o in session.get_outputs()}
    if outputs != {OUTPUT: ("tensor(float)", (contract.action.size,))}:
        raise DataError("the output does not fit the contract", field=where, found=str(outputs))
    return int(stack[0]) if stack else 1
