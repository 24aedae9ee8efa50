"""An actor's parameters as an ONNX policy file, built node by node: the same checkpoint gives the same bytes."""

from __future__ import annotations

from dataclasses import replace
from importlib import metadata as packages
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from deploy.runtime.metadata import NOISE, PolicyMetadata
from robot_rlpd.config import replacing
from robot_rlpd.errors import DataError, SpecError
from robot_rlpd.learner.distributions import LOG_STD_MAX, LOG_STD_MIN
from robot_rlpd.learner.encoders import (
    ENCODER,
    EPS,
    LATENT,
    STRIDE,
    encoder_shapes,
    images_of,
    latent_shapes,
    state_contract,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from robot_rlpd.learner.checkpoint import Checkpoint
    from robot_rlpd.learner.encoders import PixelConfig
    from robot_rlpd.specs import ArraySpec, PolicyContract

OPSET, IR_VERSION = 17, 8
"""Old enough for every onnxruntime from 1.17 on, and all that the graph needs."""
OUTPUT = "action"
PREFIX = "net:"
"""Of every name inside the graph, so that none is also the name of an observation field."""
LOG_STD_BOUNDS = (("low", LOG_STD_MIN), ("high", LOG_STD_MAX))
EVALUATION_FIELDS = ("successes", "episodes", "ci95")
"""What of the newest evaluation goes into the file."""

Normalizer = tuple["NDArray[np.float32]", "NDArray[np.float32]"]
"""Mean and scale of the flattened observation: the network sees (observation - mean) / scale."""


def export_policy(checkpoint: Checkpoint, out: Path, *, stochastic: bool = False) -> PolicyMetadata:
    """Write the policy of a checkpoint; an existing file is replaced in one go.

    Args:
        checkpoint: With the actor.
        out: File to write.
        stochastic: Explore as in training, with the noise as an input; otherwise act deterministically.

    Returns:
        What the file says about itself.

    Raises:
        DataError: The parameters do not fit the contract, or are not finite.
    """
    with replacing(out) as file:
        file.write(policy_bytes(checkpoint, stochastic=stochastic))
    return describe(checkpoint)


def policy_bytes(checkpoint: Checkpoint, *, stochastic: bool = False) -> bytes:
    """The content of a policy file; takes a millisecond or so, quick enough to publish one after every episode.

    Raises:
        DataError: The parameters do not fit the contract, or are not finite.
    """
    model = build_policy_model(
        actor_arrays(checkpoint),
        describe(checkpoint),
        normalizer=checkpoint.normalizer,
        stochastic=stochastic,
        pixels=checkpoint.config.pixels,
    )
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def exploring_policy(checkpoint: Checkpoint) -> bytes:
    """`policy_bytes` for an actor that collects data."""
    return policy_bytes(checkpoint, stochastic=True)


def describe(checkpoint: Checkpoint) -> PolicyMetadata:
    """What a file made of this checkpoint says about itself."""
    evaluation = checkpoint.evaluation
    return PolicyMetadata(
        contract=checkpoint.contract,
        task=checkpoint.task,
        task_options=checkpoint.task_options,
        max_episode_steps=checkpoint.max_episode_steps,
        run=checkpoint.run,
        env_steps=checkpoint.env_steps,
        gradient_steps=checkpoint.gradient_steps,
        evaluation=evaluation and {name: evaluation[name] for name in EVALUATION_FIELDS if name in evaluation},
        prior_data=checkpoint.prior,
        code_version=packages.version("robot-rlpd"),
        opset=OPSET,
    )


def actor_arrays(checkpoint: Checkpoint) -> dict[str, NDArray[Any]]:
    """The parameters of the actor, and of the encoder it sees through."""
    return {name: parameter.detach().cpu().numpy() for name, parameter in checkpoint.actor.items()}


def build_policy_model(
    actor_parameters: Mapping[str, NDArray[Any]],
    metadata: PolicyMetadata,
    *,
    normalizer: Normalizer | None,
    stochastic: bool = False,
    pixels: PixelConfig | None = None,
) -> onnx.ModelProto:
    """The graph: one input per observation field, unbatched in robot units, to the output `action` within its bounds.

    With `pixels`, images go through convolutions; where they are seen in stacks, an image input has one more axis in
    front: the last frames, the oldest first, which the runtime keeps.

    Args:
        actor_parameters: `dense<i>/kernel` (in, out), `dense<i>/bias`, `mean/kernel`, `mean/bias`, for the stochastic
            policy likewise `log_std`; others are left out.
        metadata: Written into the file; its contract decides inputs and output.
        normalizer: Mean and scale of the flattened observation, or None.
        stochastic: One more input, `NOISE`, standard normal: the action is tanh(mean + std * noise), scaled.
        pixels: How images are seen; None takes them as numbers like any others.

    Raises:
        DataError: A parameter is missing, has another shape or is not finite.
        SpecError: An observation field has a name that the graph needs for itself.
    """
    graph = Graph()
    contract = metadata.contract
    flat = contract if pixels is None else state_contract(contract)
    x, width = graph.observation(flat), flat.observation_size
    if normalizer is not None:
        parts = [np.asarray(part, np.float32).reshape(1, -1) for part in normalizer]
        for part in parts:
            _check("normalizer", part, (1, contract.observation_size))
        mean, scale = (part[:, :width] for part in parts)  # images come last, and are scaled by 255
        x = graph.add("Div", [graph.add("Sub", [x, graph.constant("mean", mean)]), graph.constant("scale", scale)])
    if pixels is not None:
        x = add_cameras(graph, x, contract, pixels, actor_parameters)
        width += pixels.latent_size
    for layer in _hidden_layers(actor_parameters):
        x, width = graph.dense(x, layer, _layer(actor_parameters, layer, width))
        x = graph.add("Relu", [x])
    unsquashed, _ = graph.dense(x, "mean", _layer(actor_parameters, "mean", width, contract.action.size))
    if stochastic:
        log_std, _ = graph.dense(x, "log_std", _layer(actor_parameters, "log_std", width, contract.action.size))
        unsquashed = graph.noisy(unsquashed, log_std)
    graph.action(graph.add("Tanh", [unsquashed]), contract)
    frame_stack = 1 if pixels is None else pixels.frame_stack
    return graph.model(contract, replace(metadata, opset=OPSET), stochastic=stochastic, frame_stack=frame_stack)


def write_model(model: onnx.ModelProto, out: Path) -> None:
    """Write all of it, or leave what is there."""
    with replacing(out) as file:
        file.write(model.SerializeToString(deterministic=True))


class Graph:
    """Nodes and constants in the making."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, operator: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        """Add a node; returns the name of its output."""
        output = output or f"{PREFIX}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add a constant; returns its name in the graph."""
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), PREFIX + name))
        return PREFIX + name

    def dense(self, x: str, layer: str, parameters: tuple[NDArray[np.float32], NDArray[np.float32]]) -> tuple[str, int]:
        """X @ kernel + bias, and its width."""
        kernel, bias = (self.constant(f"{layer}/{n}", p) for n, p in zip(("kernel", "bias"), parameters, strict=True))
        return self.add("Gemm", [x, kernel, bias]), parameters[1].size

    def noisy(self, mean: str, log_std: str) -> str:
        """Mean + exp(log_std) * noise, as `sample_squashed` does it."""
        bounds = [self.constant(f"log_std/{side}", np.array(bound, np.float32)) for side, bound in LOG_STD_BOUNDS]
        std = self.add("Exp", [self.add("Clip", [log_std, *bounds])])
        return self.add("Add", [mean, self.add("Mul", [std, NOISE])])

    def observation(self, contract: PolicyContract) -> str:
        """The fields as one float32 row (1, O), in contract order; of no field, an empty one."""
        if not contract.observation:
            return self.constant("row", np.zeros((1, 0), np.float32))
        parts = []
        for spec in contract.observation:
            check_name(spec)
            part = spec.name
            if spec.dtype != "float32":
                part = self.add("Cast", [part], to=TensorProto.FLOAT)
            if len(spec.shape) != 1:
                part = self.add("Reshape", [part, self.constant(f"{spec.name}/flat", np.array([spec.size], np.int64))])
            parts.append(part)
        flat = self.add("Concat", parts, axis=0) if len(parts) > 1 else parts[0]
        return self.add("Reshape", [flat, self.constant("row", np.array([1, contract.observation_size], np.int64))])

    def action(self, unit: str, contract: PolicyContract) -> None:
        """[-1, 1] to robot units in double precision, as `ActionSpec.from_unit` means it, within the bounds exactly."""
        low, high = contract.action.low, contract.action.high
        half = (high.astype(np.float64) - low) / 2.0
        middle = low + half
        x = self.add("Cast", [unit], to=TensorProto.DOUBLE)
        x = self.add("Mul", [x, self.constant("half", half)])
        x = self.add("Add", [x, self.constant("middle", middle)])
        x = self.add("Cast", [x], to=TensorProto.FLOAT)
        # Each step above rises with its input, so where both ends are hit exactly nothing passes them in between.
        ends = [(half * end + middle).astype(np.float32) for end in (-1.0, 1.0)]
        if not (np.array_equal(ends[0], low) and np.array_equal(ends[1], high)):
            x = self.add("Max", [x, self.constant("low", low)])
            x = self.add("Min", [x, self.constant("high", high)])
        self.add("Reshape", [x, self.constant("size", np.array([contract.action.size], np.int64))], OUTPUT)

    def model(
        self, contract: PolicyContract, metadata: PolicyMetadata, *, stochastic: bool, frame_stack: int = 1
    ) -> onnx.ModelProto:
        """The checked model."""
        inputs = []
        for s in contract.observation:
            shape = (frame_stack, *s.shape) if s.is_image and frame_stack > 1 else s.shape
            kind = helper.np_dtype_to_tensor_dtype(np.dtype(s.dtype))
            inputs.append(helper.make_tensor_value_info(s.name, kind, shape))
        if stochastic:
            inputs.append(helper.make_tensor_value_info(NOISE, TensorProto.FLOAT, [contract.action.size]))
        output = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [contract.action.size])
        graph = helper.make_graph(self.nodes, "policy", inputs, [output], self.constants)
        model = helper.make_model(
            graph,
            producer_name="robot-rlpd",
            producer_version=metadata.code_version,
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )
        helper.set_model_props(model, metadata.encode())
        onnx.checker.check_model(model, full_check=True)
        return model


def check_name(spec: ArraySpec) -> None:
    """Refuse a field with a name that the graph needs for itself."""
    if spec.name == OUTPUT or spec.name.startswith(PREFIX):
        raise SpecError(field=f"observation.{spec.name}", found=spec.name, allowed=f"not '{OUTPUT}' nor '{PREFIX}...'")


def add_cameras(
    graph: Graph, state: str, contract: PolicyContract, pixels: PixelConfig, parameters: Mapping[str, NDArray[Any]]
) -> str:
    """The state row with what the actor makes of its images, as `encoders.fused` does it."""
    images = images_of(contract)
    arrays = {}
    for name, shape in (encoder_shapes(images, pixels) | latent_shapes(images, pixels)).items():
        if name not in parameters:
            raise DataError("the actor has no such parameter", field=name, allowed=", ".join(parameters))
        arrays[name] = np.asarray(parameters[name], np.float32)
        _check(name, arrays[name], shape)
    features = []
    for spec in images:
        check_name(spec)
        height, width, channels = spec.shape
        x = graph.add("Cast", [spec.name], to=TensorProto.FLOAT)
        x = graph.add("Transpose", [x], perm=[2, 0, 1] if pixels.frame_stack == 1 else [0, 3, 1, 2])
        stacked = np.array([1, pixels.frame_stack * channels, height, width], np.int64)
        x = graph.add("Reshape", [x, graph.constant(f"{spec.name}/stacked", stacked)])
        x = graph.add("Div", [x, graph.constant(f"{spec.name}/white", np.array(255.0, np.float32))])
        for i in range(len(pixels.channels)):
            names = [f"{ENCODER}{spec.name}/conv{i}/{part}" for part in ("filters", "bias")]
            weights = [graph.constant(name, arrays[name]) for name in names]
            x = graph.add("Relu", [graph.add("Conv", [x, *weights], strides=[STRIDE, STRIDE])])
        features.append(graph.add("Flatten", [x], axis=1))
    x = graph.add("Concat", features, axis=1) if len(features) > 1 else features[0]
    own = {part: graph.constant(LATENT + part, arrays[LATENT + part]) for part in ("kernel", "bias", "scale", "shift")}
    x = graph.add("Gemm", [x, own["kernel"], own["bias"]])
    x = graph.add("LayerNormalization", [x, own["scale"], own["shift"]], axis=-1, epsilon=EPS)
    return graph.add("Concat", [state, graph.add("Tanh", [x])], axis=1)


def _hidden_layers(parameters: Mapping[str, Any]) -> list[str]:
    depth = sum(name.startswith("dense") and name.endswith("/kernel") for name in parameters)
    return [f"dense{i}" for i in range(depth)]


def _layer(
    parameters: Mapping[str, NDArray[Any]], layer: str, rows: int, columns: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    for name in (f"{layer}/kernel", f"{layer}/bias"):
        if name not in parameters:
            raise DataError("the actor has no such parameter", field=name, allowed=", ".join(parameters))
    kernel = np.asarray(parameters[f"{layer}/kernel"], np.float32)
    bias = np.asarray(parameters[f"{layer}/bias"], np.float32)
    columns = bias.size if columns is None else columns
    _check(f"{layer}/kernel", kernel, (rows, columns))
    _check(f"{layer}/bias", bias, (columns,))
    return kernel, bias


def _check(name: str, value: NDArray[np.float32], shape: tuple[int, ...]) -> None:
    if value.shape != shape:
        raise DataError("does not fit the contract", field=name, found=f"shape {value.shape}", allowed=f"{shape}")
    if not np.isfinite(value).all():
        raise DataError("not finite: the training diverged", field=name, hint="export an earlier checkpoint")
