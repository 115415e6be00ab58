"""Train the expression network (deep features) and export it to ONNX.

    python -m mien.core.training.expression_net

Needs `faces` to have run. Seeded, with a progress
line, and resumable: a run that was cut off goes on from its last finished epoch.
Everything drawn by chance in epoch e depends on (seed, e) alone, so a resumed run sees the
same pictures as one that was never cut off. Picks nothing on the training sets: settings
are chosen on FER2013's PublicTest.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..evaluate import accuracy_and_f1
from ..expression import DEEP_CROP, deep_view
from ..preprocess import aligned_crop
from ..units import EXPRESSIONS
from .checkpoint import save
from .export import export
from .faces import SETS, labelled_faces, made_of_faces
from .layers import Conv, standardised
from .paths import HELD_OUT_BLOCKS, MODELS, work_folder
from .schedule import course, size_at
from .variation import roughen, shade, soften, uniform_of

SIZE = DEEP_CROP


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
    drop : float
        Share of the features that training leaves out before the last layer.

    Notes
    -----
    Input (n, 1, H, W), 0..1: any size, since features are means over the picture. The net
    standardises each picture itself, so that gain and offset of the camera drop out.
    Output: features (n, 4 * width) and logits (n, 7).
    """

    def __init__(self, width: int = 64, drop: float = 0.3):
        super().__init__()
        self.body = nn.Sequential(
            Conv(1, width // 2),
            Conv(width // 2, width, 2),
            Block(width),
            Conv(width, 2 * width),
            nn.MaxPool2d(2),
            Block(2 * width, 0.05),
            Block(2 * width, 0.05),
            Conv(2 * width, 4 * width),
            nn.MaxPool2d(2),
            Block(4 * width, 0.1),
            Block(4 * width, 0.1),
        )
        self.drop = nn.Dropout(drop)
        self.head = nn.Linear(4 * width, len(EXPRESSIONS))

    def forward(self, x):
        features = self.body(standardised(x)).mean((2, 3))
        return features, self.head(self.drop(features))


def prepare(cache: Path) -> dict[str, np.ndarray]:
    """Return the sets' pictures at 48 px, as they are and aligned by their mesh; kept in a folder.

    Returns
    -------
    dict
        For ``fer``, ``public`` and ``mux``: ``KEY`` (n, 48, 48), ``KEY_aligned`` the same or,
        where no mesh was found, the picture as it is; ``KEY_labels``, ``KEY_blocks``.
    """

    def make():
        arrays = {}
        for key in SETS:
            found, faces = labelled_faces(key)
            has_mesh, landmarks = faces["found"], faces["landmarks"]
            plain = [image if image.shape == (SIZE, SIZE) else _shrink(image) for image in found.images]
            arrays[key] = np.stack(plain)
            arrays[f"{key}_aligned"] = np.stack(
                [
                    aligned_crop(image, points, SIZE) if mesh else whole
                    for image, points, mesh, whole in zip(found.images, landmarks, has_mesh, plain, strict=True)
                ]
            )
            arrays[f"{key}_labels"] = found.labels
            arrays[f"{key}_blocks"] = found.blocks
        return arrays

    return made_of_faces(cache / "expression_crops.npz", SETS, make)


def joined(arrays: dict[str, np.ndarray]) -> list[torch.Tensor]:
    """Return the training sets' pictures together, as they are and aligned, each (n, 48, 48)."""
    return [torch.from_numpy(np.concatenate([arrays[f"fer{kind}"], arrays[f"mux{kind}"]])) for kind in ("", "_aligned")]


def _shrink(image: np.ndarray) -> np.ndarray:
    """Cut a press photo roughly to the framing of FER2013 and bring it to 48 px."""
    height, width = image.shape
    inset_y, inset_x = height * 8 // 100, width * 8 // 100
    inner = image[inset_y : height - inset_y // 2, inset_x : width - inset_x]
    return cv2.resize(inner, (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def augment(images: torch.Tensor, size: int, generator: torch.Generator, strength: float = 1.0) -> torch.Tensor:
    """Vary pose, framing, light, sharpness and occlusion of a batch.

    Parameters
    ----------
    images : tensor, shape (n, 1, 48, 48)
        0..1.
    size : int
        Side of the result. It shows 78 to 100 % of the picture's side whatever its size.
    generator : torch.Generator
    strength : float
        Scales ranges and frequencies: long runs profit from 1, short ones from less.

    Returns
    -------
    tensor, shape (n, 1, size, size)
    """
    n, uniform = len(images), uniform_of(images, generator)

    def around(limit, *shape):
        return uniform(-limit * strength, limit * strength, *shape)

    angle, stretch, shear = around(0.35), torch.exp(around(0.1)), around(0.12)
    scale = uniform(0.78, 1.0)
    # The window moves as far as the picture goes, and a little over its edge.
    room = 1 - scale + 0.05
    flip = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    theta = torch.stack(
        [
            torch.stack([cos * stretch * flip, -sin + shear, uniform(-1, 1) * room], 1),
            torch.stack([sin * flip, cos / stretch, uniform(-1, 1) * room], 1),
        ],
        1,
    )
    places = F.affine_grid(theta, [n, 1, size, size], False)
    x = F.grid_sample(images, places, padding_mode="border", align_corners=False)

    x = soften(x, uniform, 0.2 * strength, 0.3)
    x = x.clamp(1e-4, 1) ** torch.exp(around(0.5, 1, 1, 1))
    x = shade(x, uniform, 0.5 * strength)
    x = roughen(x, uniform, generator, 0.04 * strength)
    # Erase a rectangle of up to 40 % of each side.
    grid = torch.linspace(-1, 1, size, device=images.device)
    centre_x, centre_y = uniform(-1, 1, 1, 1, 1), uniform(-1, 1, 1, 1, 1)
    hidden = ((grid[None, None, None, :] - centre_x).abs() < uniform(0.1, 0.4, 1, 1, 1)) & (
        (grid[None, None, :, None] - centre_y).abs() < uniform(0.1, 0.4, 1, 1, 1)
    )
    hidden &= uniform(0, 1, 1, 1, 1) < 0.5 * strength
    return torch.where(hidden, uniform(0, 1, 1, 1, 1), x)


def blend(
    x: torch.Tensor, y: torch.Tensor, generator: torch.Generator, frequency: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Lay another picture of the batch over some, up to half, and its target likewise (mixup).

    Parameters
    ----------
    x : tensor, shape (n, 1, size, size)
    y : tensor, shape (n, classes)
        Targets.
    generator : torch.Generator
    frequency : float
        Share of the pictures that are blended, 0..1.

    Returns
    -------
    x, y : tensor
        As given, blended.
    mixed : tensor of bool, shape (n,)
        Which were.

    References
    ----------
    Zhang et al., mixup: beyond empirical risk minimization, ICLR 2018.
    """
    uniform = uniform_of(x, generator)
    mixed = uniform(0, 1) < frequency
    share = torch.where(mixed, uniform(0, 0.5), 0.0)
    return torch.lerp(x, x.roll(1, 0), share[:, None, None, None]), torch.lerp(y, y.roll(1, 0), share[:, None]), mixed


def epoch_order(labels: np.ndarray, usable: np.ndarray, first: int, seed: int, epoch: int, common: int) -> np.ndarray:
    """Return the pictures of one epoch: all of FER2013, few of muxspace's commonest.

    Nine tenths of muxspace are neutral or happy; at most `common` pictures of each of
    those two take part in an epoch, and all of the rest.

    Parameters
    ----------
    labels, usable : ndarray, shape (n,)
        Of both sets joined.
    first : int
        Where muxspace begins.
    seed, epoch, common : int
    """
    rng = np.random.default_rng([seed, epoch])
    chosen = [np.flatnonzero(usable[:first])]
    for label in range(len(EXPRESSIONS)):
        found = first + np.flatnonzero(usable[first:] & (labels[first:] == label))
        chosen.append(rng.permutation(found)[:common])
    order = np.concatenate(chosen)
    rng.shuffle(order)
    return order


@torch.no_grad()
def predict(model: nn.Module, images: np.ndarray, device: str) -> np.ndarray:
    """Return the probabilities of each picture, shape (n, 7), in training's precision."""
    model.eval()
    result = []
    for start in range(0, len(images), 256):
        views = np.stack([deep_view(image) for image in images[start : start + 256]])
        x = torch.from_numpy(views).to(device)[:, None].float() / 255
        with torch.autocast(device, torch.bfloat16):
            logits = model(x.contiguous(memory_format=torch.channels_last))[1]
        result.append(logits.float().softmax(1).cpu().numpy())
    return np.concatenate(result)


def train(options: argparse.Namespace) -> nn.Module:
    """Run or resume the training and return the averaged model.

    Notes
    -----
    FER2013's labels are noisy. What the network said of a picture in the epochs before,
    averaged, is mixed into its target, the more the longer it has learnt: pictures whose
    label it never comes to believe lose their pull. The first epochs see smaller pictures
    (`size_at`). Pictures are varied less as the rate falls, and blended with each other: so the
    network comes to know fewer of them by heart.

    References
    ----------
    Laine & Aila, Temporal ensembling for semi-supervised learning, ICLR 2017.
    Kim et al., Self-knowledge distillation with progressive refinement of targets, ICCV 2021.
    """
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    work = work_folder()
    arrays = prepare(work)
    views = [pictures.to(device) for pictures in joined(arrays)]
    labels = np.concatenate([arrays["fer_labels"], arrays["mux_labels"]])
    truth = F.one_hot(torch.from_numpy(labels), len(EXPRESSIONS)).float().to(device)
    held = np.isin(arrays["mux_blocks"], HELD_OUT_BLOCKS)
    usable = np.concatenate([np.arange(len(arrays["fer"])) < (options.pictures or len(labels)), ~held])

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

    def order_of(epoch):
        return epoch_order(labels, usable, len(arrays["fer"]), options.seed, epoch, options.common)

    steps = len(order_of(0)) // options.batch
    rate = course(steps, options.epochs, 1 / 3)
    said, times_said = torch.zeros_like(truth), torch.zeros_like(truth[:, :1])
    checkpoint = work / "expression_net.pt"
    first, history = 0, []
    if checkpoint.is_file():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        there, here = (
            {name: value.shape for name, value in net.items()} for net in (state["model"], model.state_dict())
        )
        if there != here:
            raise SystemExit(f"{checkpoint} is another network's: delete it, and run restore.")
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        if "optimizer" in state:  # not in a checkpoint of `restore`
            optimizer.load_state_dict(state["optimizer"])
        elif state["epoch"] >= options.epochs:
            raise SystemExit(f"The restored network has had {state['epoch']} epochs: ask for more with --epochs.")
        said, times_said = state["said"], state["times_said"]
        first, history = state["epoch"], state["history"]
        sys.stderr.write(f"resuming after epoch {first}\n")

    for epoch in range(first, options.epochs):
        model.train()
        # Dropout draws from torch's own generator.
        torch.manual_seed(options.seed * 100_003 + epoch)
        generator = torch.Generator(device).manual_seed(options.seed * 100_003 + epoch)
        size = size_at(epoch, options.small_size, options.size, options.small_epochs)
        trust = options.trust * min(max(epoch - 4, 0) / 20, 1.0)
        fade = 0.35 + 0.65 * rate(max(epoch, 1) * steps)
        order = order_of(epoch)[: steps * options.batch]
        began, total = time.monotonic(), torch.zeros((), device=device)
        for step, index in enumerate(torch.from_numpy(order).to(device).reshape(steps, options.batch)):
            aligned = torch.rand(len(index), generator=generator, device=device) < 0.5
            x = torch.where(aligned[:, None, None], views[1][index], views[0][index])
            x = augment(x[:, None].float() / 255, size, generator, options.strength * fade)
            before = torch.where(times_said[index] > 0, said[index], truth[index])
            y = torch.lerp(truth[index], before, trust)
            x, y, mixed = blend(x, y, generator, options.mix * fade)
            with torch.autocast(device, torch.bfloat16):
                logits = model(x.contiguous(memory_format=torch.channels_last))[1].float()
            loss = F.cross_entropy(logits, y, label_smoothing=options.smooth * (1 - trust))
            for group in optimizer.param_groups:
                group["lr"] = options.rate * rate(epoch * steps + step)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            average.update_parameters(model)
            total += loss.detach()
            # A blended picture's word is about two. (Without a mask as an index, which would wait for the device.)
            alone, known = ~mixed[:, None], said[index]
            weight = torch.where(times_said[index] > 0, 0.3, 1.0)
            said[index] = torch.where(alone, torch.lerp(known, logits.detach().softmax(1), weight), known)
            times_said[index] += alone.float()
            if step % 20 == 19:
                done = (step + 1) * options.batch / (time.monotonic() - began)
                sys.stderr.write(f"\repoch {epoch + 1}/{options.epochs} {step + 1}/{steps} {done:.0f} pictures/s ")
        line = [epoch + 1, float(total) / steps]
        if epoch % 4 == 3 or epoch + 3 > options.epochs:
            for key, rows in (("public", slice(None)), ("mux", held)):
                both = [predict(average, arrays[f"{key}{kind}"][rows], device) for kind in ("", "_aligned")]
                for guess in (*both, both[0] + both[1]):
                    line += accuracy_and_f1(arrays[f"{key}_labels"][rows], guess)
        line.append(time.monotonic() - began)
        history.append(line)
        sys.stderr.write("\r" + " ".join(f"{value:.4g}" for value in line) + " " * 20 + "\n")
        save(
            {
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "said": said,
                "times_said": times_said,
                "epoch": epoch + 1,
                "history": history,
                "options": vars(options),
            },
            checkpoint,
        )
    (work / "expression_net.json").write_text(json.dumps({"options": vars(options), "history": history}, indent=1))
    return average.module


def mean_with(model: nn.Module, checkpoint: Path, share: float) -> None:
    """Move a network's weights towards those of a checkpoint of an earlier cycle of the same training.

    References
    ----------
    Izmailov et al., Averaging weights leads to wider optima and better generalization, UAI 2018.
    """
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["average"]
    other = {name.removeprefix("module."): value for name, value in state.items() if name.startswith("module.")}
    mine = model.state_dict()
    mixed = {k: torch.lerp(v, other[k].to(v), share) if v.is_floating_point() else v for k, v in mine.items()}
    model.load_state_dict(mixed)


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; docs/training.md tells in which stages the shipped weights came about."""
    parser = argparse.ArgumentParser(description="Train Mien's expression network.")
    parser.add_argument("--epochs", type=int, default=258)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--size", type=int, default=48, help="side of the augmented pictures")
    parser.add_argument("--small-size", type=int, default=40, help="the same in the first epoch, a multiple of 8 below")
    parser.add_argument("--small-epochs", type=int, default=236, help="over which pictures grow to their size")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--decay", type=float, default=5e-4)
    parser.add_argument("--smooth", type=float, default=0.1)
    parser.add_argument("--trust", type=float, default=0.5, help="largest share of the network's own word in a target")
    parser.add_argument("--strength", type=float, default=0.7, help="of the augmentation")
    parser.add_argument("--mix", type=float, default=0.6, help="share of the pictures that are blended with another")
    parser.add_argument("--ema", type=float, default=0.998)
    parser.add_argument("--common", type=int, default=1200, help="pictures per class of muxspace in an epoch")
    parser.add_argument("--pictures", type=int, default=0, help="of FER2013 Training, 0 for all")
    parser.add_argument("--mean-with", metavar="CHECKPOINT", help="average with an earlier cycle's weights")
    parser.add_argument("--mean-share", type=float, default=0.2, help="what that cycle counts for")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Train, then export to models/."""
    chosen = options(arguments)
    model = train(chosen)
    if chosen.mean_with is not None:
        mean_with(model, Path(chosen.mean_with), chosen.mean_share)
    pictures = prepare(work_folder())["public_aligned"][:8]
    views = np.stack([deep_view(picture) for picture in pictures])
    gap = export(model, views, MODELS / "expression_net.onnx", ("features", "logits"), bits=8)
    sys.stderr.write(f"torch and runtime differ by at most {gap:.1e}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
