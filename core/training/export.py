"""Networks as ONNX files: normalisation folded away, weights with 16 or 8 bits, compared with what Mien runs."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from ..features.deep import DeepNet


def steps_of(weights: np.ndarray) -> np.ndarray:
    """Return the size of the steps, 127 to either side of 0, of each output channel's weights, (n, 1, ...)."""
    largest = np.abs(weights).max(tuple(range(1, weights.ndim)), keepdims=True)
    return np.maximum(largest, 1e-12) / 127  # a channel of zeros, too, is divided by it


def folded(net: nn.Module, bits: int = 16) -> nn.Module:
    """Return a copy for evaluation, normalisation folded into the layers before, weights rounded to 16 or 8 bits."""
    net = copy.deepcopy(net).to("cpu").float().eval()
    for module in [m for m in net.modules() if isinstance(m, nn.Sequential)]:
        for i in range(len(module) - 1):
            if isinstance(module[i + 1], nn.BatchNorm2d):
                module[i], module[i + 1] = fuse_conv_bn_eval(module[i], module[i + 1]), nn.Identity()
            elif isinstance(module[i + 1], nn.BatchNorm1d):
                module[i], module[i + 1] = fuse_linear_bn_eval(module[i], module[i + 1]), nn.Identity()
    for parameter in net.parameters():
        if bits == 8 and parameter.ndim > 1:
            steps = torch.from_numpy(steps_of(parameter.data.numpy()))
            parameter.data = (parameter.data / steps).round() * steps
        else:
            parameter.data = parameter.data.half().float()
    return net


def store_weights(path: Path, bits: int = 16) -> None:
    """Store the weights of an ONNX file with 16 or 8 bits; the runtime brings them to 32 as it loads.

    With 8 bits, biases keep 16, and each output channel has steps of its own.
    """
    network = onnx.load(path)
    decoders = []
    for weights in list(network.graph.initializer):
        values = onnx.numpy_helper.to_array(weights)
        if values.dtype != np.float32 or values.size == 1:
            continue
        if bits == 8 and values.ndim > 1:
            steps = steps_of(values)
            counts = np.round(values / steps).astype(np.int8)
            stored = onnx.numpy_helper.from_array(counts, f"{weights.name}_counts")
            scale = [
                onnx.numpy_helper.from_array(steps.ravel(), f"{weights.name}_steps"),
                onnx.numpy_helper.from_array(np.zeros(len(steps), np.int8), f"{weights.name}_zero"),
            ]
            network.graph.initializer.extend(scale)
            names = [stored.name, *(part.name for part in scale)]
            decoders.append(onnx.helper.make_node("DequantizeLinear", names, [weights.name], axis=0))
        else:
            stored = onnx.numpy_helper.from_array(values.astype(np.float16), f"{weights.name}_half")
            decoders.append(onnx.helper.make_node("Cast", [stored.name], [weights.name], to=onnx.TensorProto.FLOAT))
        weights.CopyFrom(stored)
    nodes = [*decoders, *network.graph.node]
    del network.graph.node[:]
    network.graph.node.extend(nodes)
    onnx.checker.check_model(network, full_check=True)
    onnx.save(network, path)


def export(net: nn.Module, pictures: np.ndarray, target: Path, outputs: tuple[str, ...], bits: int = 16) -> float:
    """Write a network as ONNX and compare the file, as Mien runs it, with torch.

    Parameters
    ----------
    net : nn.Module
        Takes (n, 1, H, W), 0..1.
    pictures : ndarray of uint8, shape (n, H, W)
        What to compare on; they give the size of the input.
    target : Path
    outputs : tuple of str
        Names of the outputs.
    bits : int
        Of each weight in the file, 16 or 8; biases always have 16. With 8 the file is half as large, and outputs
        move by up to a hundredth or two of the largest.

    Returns
    -------
    float
        Largest difference of any output.

    Raises
    ------
    RuntimeError
        If that is above 1e-4.
    ValueError
        For other bits.
    """
    if bits not in (8, 16):
        raise ValueError(f"bits must be 8 or 16, got {bits}")
    net = folded(net, bits)
    part = target.with_suffix(".part.onnx")  # what differs must not take the place of what does not
    with warnings.catch_warnings():
        # The exporter without dynamo needs no further package and is frozen, hence says it is old.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            net,
            (torch.zeros(1, 1, *pictures.shape[1:]),),
            str(part),
            input_names=["image"],
            output_names=list(outputs),
            dynamic_axes={name: {0: "n"} for name in ("image", *outputs)},
            opset_version=13,
            dynamo=False,
        )
    store_weights(part, bits)
    with torch.no_grad():
        wanted = net(torch.from_numpy(pictures)[:, None].float() / 255)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    found = DeepNet(part, outputs)(pictures)
    gap = max(float(np.abs(a - b.numpy()).max()) for a, b in zip(found, wanted, strict=True))
    if gap > 1e-4:
        part.unlink()
        raise RuntimeError(f"{target.name} differs from torch by {gap:.1e}")
    part.replace(target)
    return gap
