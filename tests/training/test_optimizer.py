"""The action unit network's steps: Muon's for hidden layers, whatever their shape, AdamW's for the others."""

import pytest
import torch
from torch import nn

from mien.core.training.optimizer import Optimizer, as_matrix


def network() -> nn.Module:
    torch.manual_seed(1)
    layers = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 8, 3), nn.Flatten(), nn.Linear(32, 4), nn.Linear(4, 2)
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def loss_of(net: nn.Module) -> torch.Tensor:
    pictures = torch.randn(16, 1, 6, 6, generator=torch.Generator().manual_seed(2))
    return (net(pictures) - pictures.mean((1, 2, 3))[:, None]).square().mean()


def test_each_layer_takes_the_step_of_its_own_optimizer():
    net, twin = network(), network()
    Optimizer(net, [net[4].weight]).descend(loss_of(net), 0.01)
    loss_of(twin).backward()
    for name, weights in twin.named_parameters():
        before = weights.detach().clone()
        if name in ("1.weight", "3.weight"):
            # A convolution's steps are those of the matrix with a row for each output.
            matrix = nn.Parameter(before.flatten(1).clone())
            matrix.grad = weights.grad.flatten(1).clone()
            torch.optim.Muon([matrix], 0.01, 0.02, adjust_lr_fn="match_rms_adamw").step()
            moved, tolerance = matrix.detach().reshape(before.shape), 2e-4  # torch reckons in bfloat16
        else:
            torch.optim.AdamW([weights], 0.01, weight_decay=0.02).step()
            moved, tolerance = weights.detach(), 1e-6
        torch.testing.assert_close(net.get_parameter(name).detach(), moved, atol=tolerance, rtol=0)
        assert not torch.equal(moved, before)


def test_steps_lead_down():
    net = network()
    optimizer, before = Optimizer(net), loss_of(net).item()
    for _ in range(40):
        optimizer.descend(loss_of(net), 0.005)
    assert loss_of(net).item() < 0.1 * before


def test_what_goes_on_from_a_checkpoint_steps_alike():
    whole, first = network(), network()
    optimizer, before = Optimizer(whole), Optimizer(first)
    for _ in range(3):
        optimizer.descend(loss_of(whole), 0.01)
        before.descend(loss_of(first), 0.01)
    second = network()
    second.load_state_dict(first.state_dict())
    after = Optimizer(second)
    after.load_state_dict(torch.optim.AdamW(second.parameters()).state_dict())  # as checkpoints held it before
    after.load_state_dict(before.state_dict())
    optimizer.descend(loss_of(whole), 0.01)
    after.descend(loss_of(second), 0.01)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))


def test_weights_that_a_matrix_cannot_share_are_refused():
    assert as_matrix(torch.zeros(4, 3)).shape == (4, 3)
    with pytest.raises(RuntimeError):
        as_matrix(torch.zeros(4, 3, 2, 2))
