"""Train the action unit network on rendered people and real photos, and export it to ONNX.

    python -m mien.core.training.action_unit_net

Needs `synthesis` and `faces` to have run. Rendered people have exact weights. Real photos
keep the network honest on skin, hair and lashes that the renders lack: there it follows
the landmark model in the channels which that is good at, and on photos labelled neutral
it learns that the channels which that is blind to are at rest.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..datasets import load_expression_set
from ..features.geometry import GeometryBasis, mesh_of, mirrored_points
from ..features.geometry import mirror as mirror_geometry
from ..ict_face import IctFace, arkit_shapes
from ..landmarks import Face
from ..preprocess import aligned_crop
from ..units import ARKIT, EXPRESSIONS
from .expression_net import HELD_OUT_BLOCKS, Block, Conv, trapezoid
from .expression_net import export as export_onnx
from .paths import MODELS, data_folder, work_folder
from .synthesis import GREY, load

SIZE = 96
FEATURES = 96
COMPONENTS = 80

TRUSTED: dict[str, tuple[float, float]] = {
    "eyeBlink": (0.15, 0.62),
    "eyeLookDown": (0.0, 1.0),
    "eyeLookIn": (0.0, 1.0),
    "eyeLookOut": (0.0, 1.0),
    "eyeLookUp": (0.0, 1.0),
    "jawOpen": (0.03, 0.75),
    "jawLeft": (0.03, 0.25),
    "jawRight": (0.03, 0.25),
    "mouthSmile": (0.03, 0.92),
    "mouthPucker": (0.08, 0.98),
    "mouthFunnel": (0.05, 0.55),
    "mouthUpperUp": (0.05, 0.90),
    "mouthLowerDown": (0.05, 0.75),
    "mouthLeft": (0.03, 0.80),
    "mouthRight": (0.03, 0.80),
    "mouthRollLower": (0.08, 0.75),
    "mouthRollUpper": (0.08, 0.75),
    "browDown": (0.05, 0.85),
    "browInnerUp": (0.05, 0.95),
    "browOuterUp": (0.05, 0.95),
}
"""Blendshapes of the landmark model that are alive on real faces, with the values that they
take at rest and at their strongest: as targets they are stretched to 0..1. The ranges are those
of `action_units`, where they were read off clips."""

AT_REST = (
    *("cheekPuff", "cheekSquint", "cheekRaiser", "noseSneer", "jawForward", "mouthFrown", "mouthDimple"),
    *("mouthStretch", "mouthShrugUpper", "mouthShrugLower", "mouthPress", "eyeWide"),
)
"""Shapes that a face labelled neutral does not show."""

HELD_OUT = 5
"""Every fifth person is never trained on."""


class ActionUnitNet(nn.Module):
    """Small residual network on one 96 x 96 grey crop, joined by the mesh's numbers.

    The crop is aligned, so that the last convolution's map of places is kept, not averaged.
    Input (n, 1, 96, 96), 0..1, and geometry (n, g). Output: shapes (n, outputs). In
    training one or the other source is hidden now and then, so that either works alone.
    """

    def __init__(self, outputs: int, geometry: int, width: int = 24):
        super().__init__()
        self.body = nn.Sequential(
            Conv(1, 16, 2),
            Conv(16, width),
            Conv(width, 2 * width, 2),
            Block(2 * width),
            Conv(2 * width, 4 * width, 2),
            Block(4 * width),
            Conv(4 * width, 2 * width, 2),
            nn.Flatten(),
            nn.Linear(2 * width * 36, FEATURES),
            nn.BatchNorm1d(FEATURES),
            nn.ReLU(inplace=True),
        )
        self.join = nn.Linear(FEATURES + geometry, 128)
        self.head = nn.Linear(128, outputs)

    def features(self, x):
        x = x - x.mean((2, 3), keepdim=True)
        return self.body(x / ((x * x).mean((2, 3), keepdim=True) + 1e-4).sqrt())

    def forward(self, x, geometry):
        features = self.features(x)
        if self.training:
            hidden = torch.rand(len(x), 1, device=x.device)
            features = features * (hidden > 0.15)
            geometry = (geometry + 0.1 * torch.randn_like(geometry)) * (hidden < 0.85)
        joined = self.join(torch.cat([features, geometry], 1))
        return self.head(F.dropout(F.relu(joined), 0.1, self.training))


def mirror(names: tuple[str, ...]) -> np.ndarray:
    """Return for each shape the index of the one across the face."""
    other = {"_L": "_R", "_R": "_L"}
    result = []
    for name in names:
        twin = name[:-2] + other.get(name[-2:], name[-2:])
        if name.startswith(("jaw", "mouth")) and name.endswith(("Left", "Right")):
            twin = name.replace("Left", "*").replace("Right", "Left").replace("*", "Right")
        result.append(names.index(twin))
    return np.array(result)


def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Jitter the alignment a little, and light, sharpness and noise a lot; (n, 1, 96, 96), 0..1."""
    n = len(images)

    def uniform(low, high, *shape):
        return low + (high - low) * torch.rand(n, *shape, generator=generator, device=images.device)

    angle, scale = uniform(-0.05, 0.05), torch.exp(uniform(-0.06, 0.06))
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    theta = torch.stack(
        [
            torch.stack([cos, -sin, uniform(-0.04, 0.04)], 1),
            torch.stack([sin, cos, uniform(-0.04, 0.04)], 1),
        ],
        1,
    )
    x = F.grid_sample(images, F.affine_grid(theta, images.shape, False), padding_mode="border", align_corners=False)
    low = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2.0, mode="bilinear", align_corners=False)
    x = torch.lerp(x, low, (uniform(0, 1, 1, 1, 1) < 0.3).float() * uniform(0.2, 1.0, 1, 1, 1))
    x = x.clamp(0, 1) ** torch.exp(uniform(-0.5, 0.5, 1, 1, 1))
    grid = torch.linspace(-1, 1, SIZE, device=images.device)
    direction = uniform(0, 6.283, 1, 1, 1)
    place = torch.cos(direction) * grid[None, None, None, :] + torch.sin(direction) * grid[None, None, :, None]
    edge = torch.sigmoid((place - uniform(-0.7, 0.7, 1, 1, 1)) * torch.exp(uniform(0.3, 2.5, 1, 1, 1)))
    x = x * (1 - edge * uniform(0.0, 0.6, 1, 1, 1) * (uniform(0, 1, 1, 1, 1) < 0.4))
    return x + torch.randn(x.shape, generator=generator, device=images.device) * uniform(0, 0.04, 1, 1, 1)


def rendered(names: tuple[str, ...], model: IctFace) -> dict[str, np.ndarray]:
    """Return crops, weights and persons of the rendered pictures in which a face was found."""
    arrays = load(work_folder() / "synthesis")
    found = np.flatnonzero(arrays["found"])
    scale = GREY / arrays["size"][found, None, None]
    points = (arrays["landmarks"][found, :, :2] + 0.5) * scale - 0.5
    return {
        "crops": np.stack([aligned_crop(arrays["grey"][i], p, SIZE) for i, p in zip(found, points, strict=True)]),
        "targets": arrays["weights"][found][:, [model.index[name] for name in names]],
        "person": arrays["person"][found],
        "meshes": _meshes(arrays, found),
        "blendshapes": arrays["blendshapes"][found],
    }


def _meshes(arrays: dict[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    parts = (arrays["landmarks"][rows], arrays["blendshapes"][rows], arrays["matrix"][rows])
    return np.stack([mesh_of(Face((0, 0), *face)) for face in zip(*parts, strict=True)])


def photos(names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return crops of real photos with targets and a mask of those that count."""
    faces = dict(np.load(work_folder() / "faces_mux.npz", allow_pickle=False))
    photo_set = load_expression_set(data_folder() / "expression" / "muxspace_train.tar")
    chosen = np.flatnonzero(faces["found"] & ~np.isin(photo_set.blocks, HELD_OUT_BLOCKS))
    targets = np.zeros((len(chosen), len(names)), np.float32)
    counts = np.zeros((len(chosen), len(names)), np.float32)
    base = [name[:-2] if name[-2:] in ("_L", "_R") else name for name in names]
    for column, shape in enumerate(ARKIT):
        for name in arkit_shapes(shape):
            if name in names and base[names.index(name)] in TRUSTED:
                low, high = TRUSTED[base[names.index(name)]]
                targets[:, names.index(name)] = np.clip(
                    (faces["blendshapes"][chosen, column] - low) / (high - low), 0, 1
                )
                counts[:, names.index(name)] = 1
    neutral = photo_set.labels[chosen] == EXPRESSIONS.index("neutral")
    for column, name in enumerate(base):
        if name in AT_REST:
            counts[neutral, column] = 1
    crops = np.stack([aligned_crop(photo_set.images[i], faces["landmarks"][i], SIZE) for i in chosen])
    return {
        "crops": crops,
        "targets": targets,
        "counts": counts,
        "meshes": _meshes(faces, chosen),
        "blendshapes": faces["blendshapes"][chosen],
    }


def train(options: argparse.Namespace) -> tuple[nn.Module, tuple[str, ...], GeometryBasis, np.ndarray]:
    """Run the training; return the averaged model, its output names, geometry basis and `full_range`."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = IctFace(data_folder() / "face3d" / "ict_facekit.npz")
    names = tuple(name for name in model.names if not name.startswith("Pupil"))
    people, real = rendered(names, model), photos(names)
    twin = mirror(names)
    test = people["person"] % HELD_OUT == HELD_OUT - 1
    train_rows = np.flatnonzero(~test)

    images = torch.from_numpy(np.concatenate([people["crops"], real["crops"]]))
    targets = np.concatenate([people["targets"], real["targets"]])
    counts = np.concatenate([np.ones_like(people["targets"]), options.real * real["counts"]])
    real_rows = np.arange(len(people["crops"]), len(images))
    targets, counts = torch.from_numpy(targets), torch.from_numpy(counts)

    basis = GeometryBasis.fit(np.concatenate([people["meshes"][train_rows], real["meshes"]]), COMPONENTS)
    meshes = np.concatenate([people["meshes"], real["meshes"]])
    scores = np.concatenate([people["blendshapes"], real["blendshapes"]])
    across = mirror_geometry(meshes, scores, mirrored_points(basis.mean))
    geometry = torch.from_numpy(np.stack([basis.describe(meshes, scores), basis.describe(*across)]))

    net = ActionUnitNet(len(names), basis.length).to(device, memory_format=torch.channels_last)
    average = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.985), use_buffers=True
    )
    optimizer = torch.optim.AdamW(net.parameters(), options.rate, weight_decay=0.02)
    per_epoch = len(train_rows) + min(len(real_rows), len(train_rows) // 2)
    steps = per_epoch // options.batch
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, trapezoid(steps, options.epochs))
    checkpoint = work_folder() / "action_unit_net.pt"
    first = 0
    if checkpoint.is_file():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        if state["pictures"] == len(images):
            for part, name in ((net, "net"), (average, "average"), (optimizer, "optimizer")):
                part.load_state_dict(state[name])
            first = state["epoch"]
            for group in optimizer.param_groups:
                group["initial_lr"] = options.rate
            schedule.last_epoch = first * steps - 1
            schedule.step()
    for epoch in range(first, options.epochs):
        net.train()
        generator = torch.Generator(device).manual_seed(options.seed * 100_003 + epoch)
        rng = np.random.default_rng([options.seed, epoch])
        chosen = rng.permutation(
            np.concatenate([train_rows, rng.choice(real_rows, per_epoch - len(train_rows), replace=False)])
        )[: steps * options.batch]
        began, total = time.monotonic(), 0.0
        for step, rows in enumerate(chosen.reshape(steps, options.batch)):
            index = torch.from_numpy(rows)
            x = images[index].to(device)[:, None].float() / 255
            y, count = targets[index], counts[index]
            half = options.batch // 2
            g = torch.cat([geometry[1, index[:half]], geometry[0, index[half:]]])
            x[:half] = x[:half].flip(3)
            y[:half], count[:half] = y[:half][:, twin], count[:half][:, twin]
            x = augment(x, generator).contiguous(memory_format=torch.channels_last)
            with torch.autocast(device, torch.bfloat16):
                found = net(x, g.to(device))
            loss = (count.to(device) * (found.float() - y.to(device)) ** 2).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            average.update_parameters(net)
            total += float(loss.detach())
            if step % 10 == 9:
                speed = (step + 1) * options.batch / (time.monotonic() - began)
                sys.stderr.write(f"\repoch {epoch + 1}/{options.epochs} {step + 1}/{steps} {speed:.0f} pictures/s ")
        guess = predict(average, people["crops"][test], geometry[0, : len(test)][test], device)
        truth = people["targets"][test]
        correlation = [np.corrcoef(a, b)[0, 1] for a, b in zip(guess.T, truth.T, strict=True) if b.std() > 0]
        sys.stderr.write(
            f"\repoch {epoch + 1}/{options.epochs} loss {total / steps:.5f} "
            f"held-out people: mean PCC {np.mean(correlation):.3f} {time.monotonic() - began:.0f} s\n"
        )
        torch.save(
            {
                "net": net.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "epoch": epoch + 1,
                "pictures": len(images),
            },
            checkpoint.with_suffix(".part"),
        )
        checkpoint.with_suffix(".part").replace(checkpoint)
    held = predict(average, people["crops"][test], geometry[0, : len(test)][test], device)
    return average.module, names, basis, full_range(held, people["targets"][test])


def full_range(guess: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return what each shape reads at rest and the gain that brings it back to full strength.

    A regression that is unsure stays small. `guess` and `truth`, (n, outputs), are of people
    that were not trained on; the gain is at most 2.5, so that noise is not blown up.

    Returns
    -------
    ndarray, shape (2, outputs)
        Rest and gain.
    """
    result = np.zeros((2, truth.shape[1]), np.float32)
    for column, (said, real) in enumerate(zip(guess.T, truth.T, strict=True)):
        result[0, column] = max(np.median(said[real < 0.02]), 0)
        strong = real > 0.3
        reached = np.mean(said[strong] - result[0, column]) / np.mean(real[strong]) if strong.any() else 1.0
        result[1, column] = np.clip(1 / max(reached, 0.1), 1.0, 2.5)
    return result


@torch.no_grad()
def predict(net: nn.Module, crops: np.ndarray, geometry: torch.Tensor, device: str) -> np.ndarray:
    """Return the shapes, (n, outputs)."""
    net.eval()
    result = []
    for start in range(0, len(crops), 256):
        x = torch.from_numpy(crops[start : start + 256]).to(device)[:, None].float() / 255
        result.append(net(x, geometry[start : start + 256].to(device)).cpu().numpy())
    return np.concatenate(result)


class _Features(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net.features(x)


def export(net: ActionUnitNet, names: tuple[str, ...], basis: GeometryBasis, ranges: np.ndarray) -> None:
    """Write the convolutional part as ONNX, and what comes after it as arrays."""
    gap = export_onnx(_Features(net), MODELS / "action_unit_net.onnx", SIZE, ("features",))
    sys.stderr.write(f"torch and runtime differ by at most {gap:.1e}\n")
    np.savez(
        MODELS / "action_units.npz",
        shapes=np.array(names),
        mean=basis.mean,
        axes=basis.axes.astype(np.float16),
        join=net.join.weight.detach().numpy(),
        join_bias=net.join.bias.detach().numpy(),
        head=net.head.weight.detach().numpy(),
        head_bias=net.head.bias.detach().numpy(),
        rest=ranges[0],
        gain=ranges[1],
    )


def main(arguments: list[str] | None = None) -> int:
    """Train, then export to models/."""
    parser = argparse.ArgumentParser(description="Train Mien's action unit network.")
    parser.add_argument("--epochs", type=int, default=22)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--real", type=float, default=0.3, help="weight of real photos' targets")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=11)
    export(*train(parser.parse_args(arguments)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
