"""Make checkpoints of the shipped weights, so that training goes on from them.

    python -m mien.core.training.restore

Needs `synthesis` and `faces` to have run. Afterwards `action_unit_net` begins with the shipped weights, and
`expression_net` goes on from them where it is asked for more epochs. What training alone has, as
`ActionUnitNet.around_eye` and `around_mouth`, begins anew. Checkpoints that are there are kept.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from ..action_unit_model import WINDOW, load_arrays
from ..expression import deep_view
from ..units import EXPRESSIONS
from . import action_unit_net, expression_net
from .checkpoint import save
from .paths import MODELS, work_folder
from .synthesis import PICTURE_NAMES

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def layers_of(path: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield weights and bias of each convolution and linear layer of an ONNX file, in the order in which they run."""
    graph = onnx.load(path).graph
    values = {tensor.name: onnx.numpy_helper.to_array(tensor).astype(np.float32) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in values:
            values[node.output[0]] = values[node.input[0]]
        elif node.op_type == "DequantizeLinear" and node.input[0] in values:
            # As `export` writes them: steps of each output channel, 0 in the middle.
            counts, steps = (values[name] for name in node.input[:2])
            values[node.output[0]] = counts * steps.reshape(-1, *[1] * (counts.ndim - 1))
        elif node.op_type in ("Conv", "Gemm"):
            yield values[node.input[1]], values[node.input[2]]


def restore(net: nn.Module, layers: Iterator[tuple[np.ndarray, np.ndarray]], pictures: torch.Tensor) -> None:
    """Give a network the weights of one into whose layers the normalisation was folded.

    It then answers alike, and its normalisation has the statistics of `pictures`: what training needs, and
    what folding lost.

    Parameters
    ----------
    net : nn.Module
        Its layers are registered in the order in which they run.
    layers : iterator
        From `layers_of`. As many are taken as `net` has.
    pictures : tensor, shape (n, 1, H, W)
        0..1, some hundred.

    Raises
    ------
    StopIteration, RuntimeError
        If the layers are too few, or have other shapes.
    """
    modules = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear, *NORMS))]
    hooks = []
    with torch.no_grad():
        for module, after in zip(modules, [*modules[1:], None], strict=True):
            if isinstance(module, NORMS):
                continue
            weights, bias = (torch.from_numpy(np.array(values)) for values in next(layers))
            if isinstance(after, NORMS):
                # The size that torch begins with: how fast a layer learns before a normalisation hangs on it.
                inputs = weights[0].numel()
                size = (1 / (3 * inputs)) ** 0.5 / (weights.flatten(1).square().mean(1).sqrt() + 1e-8)
                weights = weights * size.reshape(-1, *[1] * (weights.ndim - 1))
                hooks.append(after.register_forward_pre_hook(functools.partial(_fit, size=size, bias=bias)))
                bias = torch.zeros_like(bias)
            module.weight.copy_(weights)
            if module.bias is not None:
                module.bias.copy_(bias)
        net.eval()(pictures)
    for hook in hooks:
        hook.remove()


def _fit(norm: nn.Module, inputs: tuple[torch.Tensor, ...], size: torch.Tensor, bias: torch.Tensor) -> None:
    """Let a normalisation have the statistics of what it gets and yet add no more than `bias`."""
    values = inputs[0].transpose(0, 1).flatten(1)
    norm.running_mean.copy_(values.mean(1))
    norm.running_var.copy_(values.var(1))
    norm.weight.copy_((norm.running_var + norm.eps).sqrt() / size)
    norm.bias.copy_(bias + norm.running_mean / size)


def restore_action_units(target: Path) -> None:
    """Write the checkpoint of the action unit network; statistics are those of some rendered people."""
    arrays = load_arrays(MODELS / "action_units.npz")
    parts = []
    for path in sorted((work_folder() / "synthesis").glob("part*.npz"))[:4]:
        with np.load(path, allow_pickle=False) as part:
            parts.append([part[name][part["found"]][::4] for name in PICTURE_NAMES])
    crops, eyes, mouths = (np.concatenate(pictures) for pictures in zip(*parts, strict=True))
    kept = ("mean", "axes", "histogram_mean", "histogram_axes", "features", "leak")
    components = {name: arrays[name] for name in kept}
    torch.manual_seed(0)
    net = action_unit_net.ActionUnitNet(tuple(str(name) for name in arrays["shapes"]))
    for part, pictures, window, name in (
        (net.features, crops, WINDOW, "action_unit_net.onnx"),
        (net.eyes, eyes[:, 0], action_unit_net.CLOSE_UP_WINDOW, "action_unit_eyes.onnx"),
        (net.mouth, mouths, action_unit_net.CLOSE_UP_WINDOW, "action_unit_mouth.onnx"),
    ):
        seen = torch.from_numpy(pictures[:, None, *window]).float() / 255
        restore(part, layers_of(MODELS / name), seen)
    with torch.no_grad():
        for i, layer in enumerate(net.head.layers):
            layer.weight.copy_(torch.from_numpy(arrays[f"weight{i}"].astype(np.float32)))
            layer.bias.copy_(torch.from_numpy(arrays[f"bias{i}"]))
    average = torch.optim.swa_utils.AveragedModel(net, use_buffers=True)
    save(
        {
            "net": net.state_dict(),
            "average": average.state_dict(),
            "epoch": 0,
            "components": {name: torch.from_numpy(np.asarray(array)) for name, array in components.items()},
        },
        target,
    )


@torch.no_grad()
def word_of(net: nn.Module, views: list[torch.Tensor], options: argparse.Namespace, times: int = 4) -> torch.Tensor:
    """Return what a network says of each picture, (n, 7): the mean of its probabilities of `times` variations."""
    net.eval()
    generator = torch.Generator().manual_seed(0)
    parts = []
    for rows in torch.arange(len(views[0])).split(250):
        said = torch.zeros(len(rows), len(EXPRESSIONS))
        for time in range(times):
            x = views[time % 2][rows][:, None].float() / 255
            x = expression_net.augment(x, options.size, generator, 0.5 * options.strength)
            with torch.autocast("cpu", torch.bfloat16):
                said += net(x.contiguous(memory_format=torch.channels_last))[1].float().softmax(1) / times
        parts.append(said)
    return torch.cat(parts)


def restore_expression(target: Path) -> None:
    """Write the checkpoint of the expression network, as if its training had just ended."""
    options = expression_net.options([])
    arrays = expression_net.prepare(target.parent)
    views = expression_net.joined(arrays)
    chosen = np.random.default_rng(0).permutation(len(views[0]))[:600]
    seen = np.stack([deep_view(picture) for view in views for picture in view.numpy()[chosen]])
    pictures = torch.from_numpy(seen)[:, None].float() / 255
    net = expression_net.ExpressionNet(options.width)
    restore(net, layers_of(MODELS / "expression_net.onnx"), pictures)
    average = torch.optim.swa_utils.AveragedModel(net, use_buffers=True)
    save(
        {
            "model": net.state_dict(),
            "average": average.state_dict(),
            "said": word_of(net, views, options),
            "times_said": torch.ones(len(views[0]), 1),
            "epoch": options.epochs,
            "history": [],
        },
        target,
    )


def main(arguments: list[str] | None = None) -> int:
    """Write the checkpoints that are missing."""
    argparse.ArgumentParser(description="Make checkpoints of the shipped weights.").parse_args(arguments)
    folder = work_folder()
    for name, write in (
        ("action_unit_net.pt", restore_action_units),
        ("expression_net.pt", restore_expression),
    ):
        if not (folder / name).is_file():
            write(folder / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
