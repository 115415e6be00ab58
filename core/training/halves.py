"""Networks with weights in half precision, widened when they are loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx


def store_halves(path: Path, least: int) -> None:
    """Store those weights of an ONNX file that have `least` values or more with 16 bits, each behind a cast to 32."""
    network = onnx.load(path)
    casts = []
    for weights in network.graph.initializer:
        values = onnx.numpy_helper.to_array(weights)
        if values.dtype == np.float32 and values.size >= least:
            stored = onnx.numpy_helper.from_array(values.astype(np.float16), f"{weights.name}_half")
            casts.append(onnx.helper.make_node("Cast", [stored.name], [weights.name], to=onnx.TensorProto.FLOAT))
            weights.CopyFrom(stored)
    nodes = [*casts, *network.graph.node]
    del network.graph.node[:]
    network.graph.node.extend(nodes)
    onnx.checker.check_model(network, full_check=True)
    onnx.save(network, path)
