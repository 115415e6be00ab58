"""Networks as ONNX files: normalisation folded away, weights in half precision, compared with what Mien runs."""

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


def folded(net: nn.Module) -> nn.Module:
    """Return a copy for evaluation, normalisation folded into the layers before, weights rounded to half precision."""
    net = copy.deepcopy(net).to("cpu").float().eval()
    for module in [m for m in net.modules() if isinstance(m, nn.Sequential)]:
        for i in range(len(module) - 1):
            if isinstance(module[i + 1], nn.BatchNorm2d):
                module[i], module[i + 1] = fuse_conv_bn_eval(module[i], module[i + 1]), nn.Identity()
            elif isinstance(module[i + 1], nn.BatchNorm1d):
                module[i], module[i + 1] = fuse_linear_bn_eval(module[i], module[i + 1]), nn.Identity()
    for parameter in net.parameters():
        parameter.data = parameter.data.half().float()
    return net


def store_halves(path: Path) -> None:
    """Store the weights of an ONNX file with 16 bits, each behind a cast to 32 that the runtime does as it loads."""
    network = onnx.load(path)
    casts = []
    for weights in network.graph.initializer:
        values = onnx.numpy_helper.to_array(weights)
        if values.dtype == np.float32 and values.size > 1:
            stored = onnx.numpy_helper.from_array(values.astype(np.float16), f"{weights.name}_half")
            casts.append(onnx.helper.make_node("Cast", [stored.name], [weights.name], to=onnx.TensorProto.FLOAT))
            weights.CopyFrom(stored)
    nodes = [*casts, *network.graph.node]
    del network.graph.node[:]
    network.graph.node.extend(nodes)
    onnx.checker.check_model(network, full_check=True)
    onnx.save(network, path)


def export(net: nn.Module, pictures: np.ndarray, target: Path, outputs: tuple[str, ...]) -> float:
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

    Returns
    -------
    float
        Largest difference of any output.

    Raises
    ------
    RuntimeError
        If that is above 1e-4.
    """
    net = folded(net)
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
    store_halves(part)
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
