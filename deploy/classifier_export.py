"""A trained success classifier as an ONNX file."""

from __future__ import annotations

from dataclasses import replace
from importlib import metadata as packages
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper

from deploy.export import IR_VERSION, OPSET, Graph, add_cameras, write_model
from deploy.runtime.success_classifier import OUTPUT, ClassifierMetadata
from robot_rlpd.learner.encoders import state_contract
from robot_rlpd.learner.success_classifier import as_arrays

if TYPE_CHECKING:
    from pathlib import Path

    from robot_rlpd.learner.success_classifier import Classifier


def export_classifier(classifier: Classifier, metadata: ClassifierMetadata, out: Path) -> ClassifierMetadata:
    """Write a classifier; an existing file is replaced in one go.

    Args:
        classifier: Trained.
        metadata: What the file is to say about itself, but for the version of the code.
        out: File to write.

    Returns:
        What it says.

    Raises:
        SpecError: An observation field has a name that the graph needs for itself.
    """
    metadata = replace(metadata, code_version=packages.version("robot-rlpd"))
    write_model(build_classifier_model(classifier, metadata), out)
    return metadata


def build_classifier_model(classifier: Classifier, metadata: ClassifierMetadata) -> onnx.ModelProto:
    """The graph: one input per field, unbatched in robot units, to the output `probability` (1,)."""
    graph, contract, config = Graph(), classifier.contract, classifier.config
    arrays = as_arrays(classifier.parameters)
    state = state_contract(contract)
    mean, scale = (part.reshape(1, -1) for part in classifier.normalizer)
    if state.observation:
        x = graph.add("Sub", [graph.observation(state), graph.constant("mean", mean)])
        x = graph.add("Div", [x, graph.constant("scale", scale)])
    else:
        x = graph.constant("no_state", np.zeros((1, 0), np.float32))
    if len(state.observation) < len(contract.observation):
        x = add_cameras(graph, x, contract, config.pixels, arrays)
    for i in range(len(config.hidden_dims)):
        x, _ = graph.dense(x, f"dense{i}", (arrays[f"dense{i}/kernel"], arrays[f"dense{i}/bias"]))
        x = graph.add("Relu", [x])
    x, _ = graph.dense(x, "out", (arrays["out/kernel"], arrays["out/bias"]))
    x = graph.add("Sigmoid", [x])
    graph.add("Reshape", [x, graph.constant("single", np.array([1], np.int64))], OUTPUT)
    return _model(graph, metadata)


def _model(graph: Graph, metadata: ClassifierMetadata) -> onnx.ModelProto:
    inputs = [
        helper.make_tensor_value_info(s.name, helper.np_dtype_to_tensor_dtype(np.dtype(s.dtype)), s.shape)
        for s in metadata.contract.observation
    ]
    output = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [1])
    model = helper.make_model(
        helper.make_graph(graph.nodes, "success_classifier", inputs, [output], graph.constants),
        producer_name="robot-rlpd",
        producer_version=metadata.code_version,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    helper.set_model_props(model, metadata.encode())
    onnx.checker.check_model(model, full_check=True)
    return model
