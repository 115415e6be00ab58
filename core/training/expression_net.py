"""Train the expression network (deep features) and export it to ONNX.

    python -m mien.core.training.expression_net
    python -m mien.core.training.expression_net --width 64 --epochs 150 --strength 1 --mixup 0.4 --ema 0.998

The first makes the shipped weights on a processor, the second is meant for a GPU.
Seeded, with a progress line, and resumable: a run that was cut off goes on from its last
finished epoch. Augmentation of epoch e depends on (seed, e) alone, so a resumed run sees
the same pictures as one that was never cut off. Picks nothing on the training sets: the
epoch and settings are chosen on FER2013's PublicTest.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..datasets import load_expression_set
from ..features.deep import DeepNet
from ..units import EXPRESSIONS
from .paths import MODELS, data_folder, work_folder

SIZE = 48
HELD_OUT_BLOCKS = (4, 9, 14, 19)
"""Blocks of muxspace that no training sees."""


class Conv(nn.Sequential):
    """A 3x3 convolution, normalised, rectified."""

    def __init__(self, inputs, outputs, stride=1):
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
        )


class Block(nn.Module):
    """Two 3x3 convolutions with a squeeze-and-excite gate around an identity."""

    def __init__(self, width, drop=0.0):
        super().__init__()
        self.first = Conv(width, width)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width))
        self.gate = nn.Sequential(
            nn.Conv2d(width, width // 8, 1), nn.ReLU(inplace=True), nn.Conv2d(width // 8, width, 1), nn.Sigmoid()
        )
        self.drop = drop

    def forward(self, x):
        y = self.second(self.first(x))
        y = y * self.gate(y.mean((2, 3), keepdim=True))
        if self.training and self.drop > 0:
            keep = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.drop
            y = y * keep / (1 - self.drop)
        return F.relu(x + y)


class ExpressionNet(nn.Module):
    """Residual network on one 48 x 48 grey crop.

    Parameters
    ----------
    width : int
        Channels of the first stage; the later ones have 2 and 4 times as many.

    Notes
    -----
    Input (n, 1, 48, 48), 0..1. The net standardises each picture itself, so that gain and
    offset of the camera drop out. Output: features (n, 4 * width) and logits (n, 7).
    """

    def __init__(self, width: int = 48, drop: float = 0.25):
        super().__init__()
        self.body = nn.Sequential(
            Conv(1, width // 2),
            Conv(width // 2, width, 2),
            Block(width),
            Conv(width, 2 * width, 2),
            Block(2 * width, 0.05),
            Conv(2 * width, 4 * width, 2),
            Block(4 * width, 0.1),
        )
        self.drop = nn.Dropout(drop)
        self.head = nn.Linear(4 * width, len(EXPRESSIONS))

    def forward(self, x):
        mean = x.mean((2, 3), keepdim=True)
        x = x - mean
        x = x / ((x * x).mean((2, 3), keepdim=True) + 1e-4).sqrt()
        features = self.body(x).mean((2, 3))
        return features, self.head(self.drop(features))


def prepare(folder: Path, cache: Path) -> dict[str, np.ndarray]:
    """Return training and validation pictures at 48 px, from the cache when it is there."""
    target = cache / "expression48.npz"
    if not target.is_file():
        arrays = {}
        for key, name in (
            ("fer", "fer2013_training.npz"),
            ("public", "fer2013_publictest.npz"),
            ("mux", "muxspace_train.tar"),
        ):
            found = load_expression_set(folder / "expression" / name)
            images = [image if image.shape == (SIZE, SIZE) else _shrink(image) for image in found.images]
            arrays[key] = np.stack(images)
            arrays[f"{key}_labels"] = found.labels
            arrays[f"{key}_blocks"] = found.blocks
        np.savez(target, **arrays)
    with np.load(target, allow_pickle=False) as archive:
        return dict(archive)


def _shrink(image: np.ndarray) -> np.ndarray:
    """Cut a press photo to the framing of FER2013 and bring it to 48 px."""
    height, width = image.shape
    inset_y, inset_x = height * 8 // 100, width * 8 // 100
    inner = image[inset_y : height - inset_y // 2, inset_x : width - inset_x]
    return cv2.resize(inner, (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def augment(images: torch.Tensor, generator: torch.Generator, strength: float = 1.0) -> torch.Tensor:
    """Vary pose, framing, light, sharpness and occlusion of a batch (n, 1, 48, 48), 0..1.

    `strength` scales ranges and frequencies: long runs profit from 1, short ones from less.
    """
    n, device = len(images), images.device

    def uniform(low, high, *shape):
        return low + (high - low) * torch.rand(n, *shape, generator=generator, device=device)

    def around(limit, *shape):
        return uniform(-limit * strength, limit * strength, *shape)

    angle = around(0.35)
    scale = torch.exp(around(0.22))
    stretch = torch.exp(around(0.1))
    flip = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    shear = around(0.12)
    theta = torch.stack(
        [
            torch.stack([cos * stretch * flip, -sin + shear, around(0.12)], 1),
            torch.stack([sin * flip, cos / stretch, around(0.12)], 1),
        ],
        1,
    )
    x = F.grid_sample(images, F.affine_grid(theta, images.shape, False), padding_mode="border", align_corners=False)

    low = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2.0, mode="bilinear", align_corners=False)
    x = torch.lerp(x, low, (uniform(0, 1, 1, 1, 1) < 0.2 * strength).float() * uniform(0.3, 1.0, 1, 1, 1))

    x = x.clamp(0, 1) ** torch.exp(around(0.5, 1, 1, 1))
    # A shadow's edge: a soft step along a random direction, up to half the light.
    grid = torch.linspace(-1, 1, SIZE, device=device)
    direction = uniform(0, 2 * math.pi, 1, 1, 1)
    position = torch.cos(direction) * grid[None, None, None, :] + torch.sin(direction) * grid[None, None, :, None]
    edge = torch.sigmoid((position - uniform(-0.7, 0.7, 1, 1, 1)) * torch.exp(uniform(0.3, 2.5, 1, 1, 1)))
    x = x * (1 - edge * uniform(0.0, 0.6, 1, 1, 1) * (uniform(0, 1, 1, 1, 1) < 0.5 * strength))

    x = x + torch.randn(x.shape, generator=generator, device=device) * uniform(0, 0.04 * strength, 1, 1, 1)
    # Erase a rectangle of up to 40 % of each side.
    centre_x, centre_y = uniform(-1, 1, 1, 1, 1), uniform(-1, 1, 1, 1, 1)
    hidden = ((grid[None, None, None, :] - centre_x).abs() < uniform(0.1, 0.4, 1, 1, 1)) & (
        (grid[None, None, :, None] - centre_y).abs() < uniform(0.1, 0.4, 1, 1, 1)
    )
    hidden &= uniform(0, 1, 1, 1, 1) < 0.4 * strength
    return torch.where(hidden, uniform(0, 1, 1, 1, 1), x)


def epoch_order(arrays: dict[str, np.ndarray], seed: int, epoch: int, common: int) -> np.ndarray:
    """Return indices into (fer, mux) joined for one epoch: all of FER, few of mux's commonest.

    Nine tenths of muxspace are neutral or happy; at most `common` pictures of each of
    those two take part in an epoch, and all of the rest.
    """
    rng = np.random.default_rng([seed, epoch])
    chosen = [np.arange(len(arrays["fer"]))]
    usable = ~np.isin(arrays["mux_blocks"], HELD_OUT_BLOCKS)
    for label in range(len(EXPRESSIONS)):
        found = np.flatnonzero(usable & (arrays["mux_labels"] == label))
        chosen.append(len(arrays["fer"]) + rng.permutation(found)[:common])
    order = np.concatenate(chosen)
    rng.shuffle(order)
    return order


@torch.no_grad()
def predict(model: nn.Module, images: np.ndarray, device: str) -> np.ndarray:
    """Return mean probabilities over each picture and its mirror image, shape (n, 7)."""
    model.eval()
    result = []
    for start in range(0, len(images), 512):
        x = torch.from_numpy(images[start : start + 512]).to(device)[:, None].float() / 255
        both = model(torch.cat([x, x.flip(3)]))[1].softmax(1)
        result.append((both[: len(x)] + both[len(x) :]).cpu().numpy() / 2)
    return np.concatenate(result)


def scores(truth: np.ndarray, probabilities: np.ndarray) -> tuple[float, float]:
    """Return accuracy and macro-F1."""
    guess = probabilities.argmax(1)
    f1 = []
    for label in np.unique(truth):
        hit = np.sum((guess == label) & (truth == label))
        f1.append(2 * hit / max(np.sum(guess == label) + np.sum(truth == label), 1))
    return float(np.mean(guess == truth)), float(np.mean(f1))


def trapezoid(steps: int, epochs: int) -> Callable[[int], float]:
    """Return the learning rate's course: one epoch up, level, down over the last third.

    Level in the middle, so that a run can be resumed with another number of epochs.
    """

    def rate(step: int) -> float:
        place = (step + 1) / steps
        return min(place, 1.0, max(epochs - place, 0.0) / (epochs / 3) + 1e-3)

    return rate


def train(options: argparse.Namespace) -> nn.Module:
    """Run or resume the training and return the averaged model."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    work = work_folder()
    arrays = prepare(data_folder(), work)
    images = torch.from_numpy(np.concatenate([arrays["fer"], arrays["mux"]]))
    labels = torch.from_numpy(np.concatenate([arrays["fer_labels"], arrays["mux_labels"]]))
    held = np.isin(arrays["mux_blocks"], HELD_OUT_BLOCKS)

    model = ExpressionNet(options.width).to(device, memory_format=torch.channels_last)
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(options.ema), use_buffers=True
    )
    decay = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.SGD(
        [{"params": decay, "weight_decay": options.decay}, {"params": plain, "weight_decay": 0.0}],
        lr=options.rate,
        momentum=0.9,
        nesterov=True,
    )
    steps = len(epoch_order(arrays, options.seed, 0, options.common)) // options.batch
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, trapezoid(steps, options.epochs))
    checkpoint = work / f"{options.name}.pt"
    first, history = 0, []
    if checkpoint.is_file():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        for group in optimizer.param_groups:
            group["initial_lr"] = options.rate
        schedule.last_epoch = state["epoch"] * steps - 1
        schedule.step()
        first, history = state["epoch"], state["history"]
        sys.stderr.write(f"resuming after epoch {first}\n")

    for epoch in range(first, options.epochs):
        model.train()
        generator = torch.Generator(device).manual_seed(options.seed * 100_003 + epoch)
        order = epoch_order(arrays, options.seed, epoch, options.common)[: steps * options.batch]
        mixer = np.random.default_rng([options.seed, epoch, 1])
        began, total = time.monotonic(), 0.0
        for step, chosen in enumerate(order.reshape(steps, options.batch)):
            index = torch.from_numpy(chosen)
            x = augment(images[index].to(device)[:, None].float() / 255, generator, options.strength)
            y = F.one_hot(labels[index].to(device), len(EXPRESSIONS)).float()
            if mixer.random() < options.mixup:
                weight = mixer.beta(0.4, 0.4)
                weight = max(weight, 1 - weight)
                x, y = torch.lerp(x.flip(0), x, weight), torch.lerp(y.flip(0), y, weight)
            x = x.contiguous(memory_format=torch.channels_last)
            with torch.autocast(device, torch.bfloat16):
                logits = model(x)[1]
            loss = F.cross_entropy(logits.float(), y, label_smoothing=options.smooth)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            average.update_parameters(model)
            total += float(loss.detach())
            if step % 20 == 19:
                done = (step + 1) * options.batch / (time.monotonic() - began)
                sys.stderr.write(f"\repoch {epoch + 1}/{options.epochs} {step + 1}/{steps} {done:.0f} pictures/s ")
        public = scores(arrays["public_labels"], predict(average, arrays["public"], device))
        mux = scores(arrays["mux_labels"][held], predict(average, arrays["mux"][held], device))
        history.append([epoch + 1, total / steps, *public, *mux, time.monotonic() - began])
        sys.stderr.write(
            f"\repoch {epoch + 1}/{options.epochs} loss {total / steps:.3f} "
            f"PublicTest {public[0]:.4f} F1 {public[1]:.4f}  muxspace {mux[0]:.4f} F1 {mux[1]:.4f} "
            f"{time.monotonic() - began:.0f} s\n"
        )
        partial = checkpoint.with_suffix(".part")
        torch.save(
            {
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "epoch": epoch + 1,
                "history": history,
                "options": vars(options),
            },
            partial,
        )
        partial.replace(checkpoint)
    (work / f"{options.name}.json").write_text(json.dumps({"options": vars(options), "history": history}, indent=1))
    return average.module


def export(model: nn.Module, target: Path, size: int, outputs: tuple[str, ...]) -> float:
    """Write a network as ONNX and compare it with what Mien runs.

    Returns
    -------
    float
        Largest difference of any output on eight random pictures.

    Raises
    ------
    RuntimeError
        If that is above 1e-4.
    """
    model = model.to("cpu").float().eval()
    torch.onnx.export(
        model,
        (torch.zeros(1, 1, size, size),),
        str(target),
        input_names=["image"],
        output_names=list(outputs),
        dynamic_axes={name: {0: "n"} for name in ("image", *outputs)},
        opset_version=13,
        dynamo=False,
    )
    pictures = np.random.default_rng(0).integers(0, 256, (8, size, size)).astype(np.uint8)
    with torch.no_grad():
        wanted = model(torch.from_numpy(pictures)[:, None].float() / 255)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    found = DeepNet(target, outputs)(pictures)
    gap = max(float(np.abs(a - b.numpy()).max()) for a, b in zip(found, wanted, strict=True))
    if gap > 1e-4:
        raise RuntimeError(f"{target.name} differs from torch by {gap}")
    return gap


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; the defaults are those of the shipped weights."""
    parser = argparse.ArgumentParser(description="Train Mien's expression network.")
    parser.add_argument("--name", default="expression_net", help="name of the checkpoint and of the ONNX file")
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=0.08)
    parser.add_argument("--decay", type=float, default=5e-4)
    parser.add_argument("--smooth", type=float, default=0.1)
    parser.add_argument("--mixup", type=float, default=0.0, help="share of batches that are mixed")
    parser.add_argument("--strength", type=float, default=0.35, help="of the augmentation")
    parser.add_argument("--ema", type=float, default=0.99)
    parser.add_argument("--common", type=int, default=800, help="pictures per class of muxspace in an epoch")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=7)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Train, then export to models/."""
    chosen = options(arguments)
    gap = export(train(chosen), MODELS / f"{chosen.name}.onnx", SIZE, ("features", "logits"))
    sys.stderr.write(f"torch and runtime differ by at most {gap:.1e}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
