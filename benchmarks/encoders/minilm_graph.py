"""Write the first layers of all-MiniLM-L6-v2 as a small int8 ONNX graph.

Built node by node rather than exported: no tracing, one text at a time, no mask or padding, so
the graph is the same whatever torch made of it.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from safetensors.numpy import load_file

from router_models.encoders.word_pieces import HEAD_TOKENS, TAIL_TOKENS
from router_models.types import Float32

LAYERS = 2
HEADS = 12
WIDTH = 384
LONGEST = HEAD_TOKENS + TAIL_TOKENS + 2
OPSET = 20
IR_VERSION = 9
LAYER_NORM_EPSILON = 1e-12


class Graph:
    """Nodes and constants gathered so far; each method returns the name of what it added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        self.constants.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        output = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], output, **attributes))
        return output

    def linear(self, name: str, inputs: str, weight: Float32, bias: Float32) -> str:
        product = self.add("MatMul", inputs, self.constant(f"{name}.weight", weight.T))
        return self.add("Add", product, self.constant(f"{name}.bias", bias))

    def layer_norm(self, name: str, inputs: str, weight: Float32, bias: Float32) -> str:
        gain = self.constant(f"{name}.weight", weight)
        offset = self.constant(f"{name}.bias", bias)
        return self.add(
            "LayerNormalization", inputs, gain, offset, axis=-1, epsilon=LAYER_NORM_EPSILON
        )


def build_graph(minilm: Path, layers: int = LAYERS) -> bytes:
    """Return the int8 model: ``ids`` (n,) int64 in, ``embedding`` (384,) of norm 1 out."""
    weights = load_file(minilm / "model.safetensors")
    graph = Graph()
    hidden = _embed(graph, weights)
    for layer in range(layers):
        hidden = _layer(graph, weights, f"encoder.layer.{layer}", hidden)
    axes = graph.constant("first_axis", np.array([0], np.int64))
    mean = graph.add("ReduceMean", hidden, axes, keepdims=0)
    norm = graph.add("ReduceL2", mean, axes, keepdims=1)
    graph.nodes.append(helper.make_node("Div", [mean, norm], ["embedding"], "embedding"))
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "minilm",
            [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [WIDTH])],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="waypost",
    )
    onnx.checker.check_model(model, full_check=True)
    return _quantise(model)


def _embed(graph: Graph, weights: dict[str, Float32]) -> str:
    words = weights["embeddings.word_embeddings.weight"]
    largest = np.abs(words).max(axis=1, keepdims=True)
    scale = np.maximum(largest, 1e-9) / 127
    table = graph.constant("words", np.rint(words / scale).astype(np.int8))
    scales = graph.constant("words.scale", scale.astype(np.float32))
    rows = graph.add("Cast", graph.add("Gather", table, "ids"), to=TensorProto.FLOAT)
    vectors = graph.add("Mul", rows, graph.add("Gather", scales, "ids"))
    # Every text is of type 0, so its vector joins the positions.
    places = weights["embeddings.position_embeddings.weight"][:LONGEST]
    places = places + weights["embeddings.token_type_embeddings.weight"][0]
    start = graph.constant("start", np.array([0], np.int64))
    used = graph.add(
        "Slice", graph.constant("positions", places), start, graph.add("Shape", "ids"), start
    )
    return graph.layer_norm(
        "embeddings.norm",
        graph.add("Add", vectors, used),
        weights["embeddings.LayerNorm.weight"],
        weights["embeddings.LayerNorm.bias"],
    )


def _layer(graph: Graph, weights: dict[str, Float32], name: str, hidden: str) -> str:
    def take(suffix: str) -> Float32:
        return weights[f"{name}.{suffix}"]

    attended = graph.linear(
        f"{name}.out",
        _attention(graph, weights, name, hidden),
        take("attention.output.dense.weight"),
        take("attention.output.dense.bias"),
    )
    hidden = graph.layer_norm(
        f"{name}.norm1",
        graph.add("Add", attended, hidden),
        take("attention.output.LayerNorm.weight"),
        take("attention.output.LayerNorm.bias"),
    )
    wide = graph.linear(
        f"{name}.wide", hidden, take("intermediate.dense.weight"), take("intermediate.dense.bias")
    )
    narrow = graph.linear(
        f"{name}.narrow",
        graph.add("Gelu", wide),
        take("output.dense.weight"),
        take("output.dense.bias"),
    )
    return graph.layer_norm(
        f"{name}.norm2",
        graph.add("Add", narrow, hidden),
        take("output.LayerNorm.weight"),
        take("output.LayerNorm.bias"),
    )


def _attention(graph: Graph, weights: dict[str, Float32], name: str, hidden: str) -> str:
    # One product for all three, with the scale of the scores folded into the queries.
    scale = np.float32((WIDTH // HEADS) ** -0.5)
    parts = [f"{name}.attention.self.{part}" for part in ("query", "key", "value")]
    scales = (scale, np.float32(1), np.float32(1))
    weight = np.concatenate(
        [weights[f"{part}.weight"] * s for part, s in zip(parts, scales, strict=True)]
    )
    bias = np.concatenate(
        [weights[f"{part}.bias"] * s for part, s in zip(parts, scales, strict=True)]
    )
    joined = graph.linear(f"{name}.qkv", hidden, weight, bias)
    split_shape = graph.constant(
        f"{name}.split_shape", np.array([0, 3, HEADS, WIDTH // HEADS], np.int64)
    )
    heads = graph.add("Reshape", joined, split_shape)

    def pick(index: int, order: list[int]) -> str:
        at = graph.constant(f"{name}.pick{index}", np.array(index, np.int64))
        return graph.add("Transpose", graph.add("Gather", heads, at, axis=1), perm=order)

    scores = graph.add("MatMul", pick(0, [1, 0, 2]), pick(1, [1, 2, 0]))
    mixed = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), pick(2, [1, 0, 2]))
    flat = graph.constant(f"{name}.flat_shape", np.array([-1, WIDTH], np.int64))
    return graph.add("Reshape", graph.add("Transpose", mixed, perm=[1, 0, 2]), flat)


def _quantise(model: onnx.ModelProto) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        # With 7-bit weights no sum saturates on CPUs without VNNI, so all CPUs agree.
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
        return target.read_bytes()
