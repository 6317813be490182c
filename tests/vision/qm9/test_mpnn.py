"""The network against the same one made of torch-geometric's layers; its gradients against a plain loop's."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments_vision.contract import Targets
from experiments_vision.data.qm9 import TARGETS
from experiments_vision.errors import VisionError
from experiments_vision.models.mpnn import MPNN
from mtrl_surgery import Surgery
from tests.vision.qm9 import trees
from tests.vision.qm9.batches import batch, source

layers = pytest.importorskip("torch_geometric.nn")
TIGHT = {"rtol": 1e-9, "atol": 1e-12}


class Published(nn.Module):
    """Nash-MTL's network of torch-geometric's and torch's own layers, with an `MPNN`'s weights."""

    def __init__(self, ours: MPNN) -> None:
        super().__init__()
        dim = ours.enter.out_features
        network = nn.Sequential(ours.edges.first, nn.ReLU(), ours.edges.second)
        weights = [layer.state_dict() for layer in network]
        self.conv = layers.NNConv(dim, dim, network, aggr="mean").double()  # which draws the network's weights anew
        for layer, weight in zip(network, weights, strict=True):
            layer.load_state_dict(weight)
        self.gru = nn.GRU(dim, dim).double()
        self.set2set = layers.Set2Set(dim, processing_steps=3).double()
        self.conv.lin.weight.data.copy_(ours.edges.root.weight.data)
        self.conv.bias.data.copy_(ours.edges.root.bias.data)
        self.gru.load_state_dict({f"{key}_l0": value for key, value in ours.gru.state_dict().items()})
        self.set2set.lstm.load_state_dict({f"{key}_l0": value for key, value in ours.read.lstm.state_dict().items()})
        self.enter, self.leave, self.heads = ours.enter, ours.leave, ours.heads

    def forward(self, data: Any) -> Tensor:
        out = F.relu(self.enter(data.x))
        state = out[None]
        for _ in range(3):
            message = F.relu(self.conv(out, data.edge_index, data.edge_attr))
            new, state = self.gru(message[None], state)
            out = new[0]
        features = F.relu(self.leave(self.set2set(out, data.batch)))
        return torch.cat([head(features) for head in self.heads], 1)


def molecules(root: Path, size: int = 6) -> tuple[Any, Targets]:
    inputs, targets = batch(source(trees.tree(root)), size)
    for key in ("x", "edge_attr"):
        inputs[key] = inputs[key].double()
    return inputs, {"targets": targets["targets"].double()}


def network(dim: int = 8) -> MPNN:
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(3)
        model = MPNN(TARGETS, dim).double()
    nn.init.normal_(model.edges.root.bias)  # begins at zero, which would hide where it is added
    return model


def losses_of(model: MPNN, inputs: Any, targets: Targets) -> list[Tensor]:
    return [
        F.mse_loss(output, truth)
        for output, truth in zip(model(inputs).tasks, targets["targets"].unbind(1), strict=True)
    ]


def test_the_sizes_are_the_published_ones() -> None:
    model = MPNN(TARGETS)
    heads = sum(parameter.numel() for parameter in model.heads.parameters())
    assert (sum(parameter.numel() for parameter in model.parameters()) - heads, heads) == (616_960, 715)
    assert model.tasks == TARGETS and len(model.heads) == 11


def test_outputs_and_gradients_are_those_of_torch_geometrics_layers(tmp_path: Path) -> None:
    inputs, targets = molecules(tmp_path)
    ours = network()
    theirs = Published(ours)
    found = torch.stack(ours(inputs).tasks, 1)
    wanted = theirs(inputs)
    assert found.std() > 1e-3
    torch.testing.assert_close(found, wanted, **TIGHT)
    ours_by, theirs_by = dict(ours.named_parameters()), dict(theirs.named_parameters())
    same = {
        "enter.weight": "enter.weight",
        "edges.first.weight": "conv.nn.0.weight",
        "edges.first.bias": "conv.nn.0.bias",
        "edges.second.weight": "conv.nn.2.weight",
        "edges.second.bias": "conv.nn.2.bias",
        "edges.root.weight": "conv.lin.weight",
        "edges.root.bias": "conv.bias",
        "gru.weight_hh": "gru.weight_hh_l0",
        "read.lstm.weight_ih": "set2set.lstm.weight_ih_l0",
    }
    gradients = torch.autograd.grad(F.mse_loss(found, targets["targets"]), [ours_by[key] for key in same])
    expected = torch.autograd.grad(F.mse_loss(wanted, targets["targets"]), [theirs_by[same[key]] for key in same])
    for gradient, other in zip(gradients, expected, strict=True):
        assert other.abs().max() > 0
        torch.testing.assert_close(gradient, other, **TIGHT)


def test_the_initial_weights_are_spread_like_torch_geometrics() -> None:
    torch.manual_seed(0)
    ours = MPNN(TARGETS)
    edge_network = nn.Sequential(nn.Linear(5, 128), nn.ReLU(), nn.Linear(128, 64 * 64))
    conv, read = layers.NNConv(64, 64, edge_network, aggr="mean"), layers.Set2Set(64, processing_steps=3)
    pairs = [
        (ours.edges.first.weight, edge_network[0].weight),
        (ours.edges.second.weight, edge_network[2].weight),
        (ours.edges.root.weight, conv.lin.weight),
        (ours.gru.weight_ih, nn.GRU(64, 64).weight_ih_l0),
        (ours.read.lstm.weight_hh, read.lstm.weight_hh_l0),
    ]
    for one, other in pairs:
        assert one.shape == other.shape
        torch.testing.assert_close(one.std(), other.std(), rtol=0.08, atol=0)
        torch.testing.assert_close(one.abs().max(), other.abs().max(), rtol=0.02, atol=0)
    assert not ours.edges.root.bias.any() and not conv.bias.any()


def test_a_molecule_is_judged_alike_in_any_batch_and_any_padding(tmp_path: Path) -> None:
    found = source(trees.tree(tmp_path))
    model = network().float()
    whole = torch.stack(model(batch(found, 5)[0]).tasks, 1)
    alone = torch.stack(model(batch(found, 1)[0]).tasks, 1)
    torch.testing.assert_close(whole[:1], alone)
    model.max_atoms = 40
    torch.testing.assert_close(torch.stack(model(batch(found, 5)[0]).tasks, 1), whole)
    assert whole.std(0).min() > 0


def test_surgery_sees_the_gradients_of_a_plain_loop(tmp_path: Path) -> None:
    inputs, targets = molecules(tmp_path)
    model = network()
    shared = [parameter for key, parameter in model.named_parameters() if not key.startswith("heads")]
    losses = losses_of(model, inputs, targets)
    rows = [torch.autograd.grad(loss, shared, retain_graph=True) for loss in losses]
    jacobian_KP = torch.stack([torch.cat([gradient.flatten() for gradient in row]) for row in rows])
    pairs = zip(losses, model.heads, strict=True)
    own = [torch.autograd.grad(loss, list(head.parameters()), retain_graph=True) for loss, head in pairs]
    surgery = Surgery("pcgrad", num_tasks=11)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        surgery.backward(losses)
    weights_K = surgery.diagnostics()["weights_K"]
    assert weights_K.std() > 1e-3
    found_P = torch.cat([parameter.grad.flatten() for parameter in shared if parameter.grad is not None])
    torch.testing.assert_close(found_P, weights_K @ jacobian_KP, **TIGHT)
    for head, gradients in zip(model.heads, own, strict=True):
        for parameter, gradient in zip(head.parameters(), gradients, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, **TIGHT)


def test_all_shared_parameters_are_behind_the_features(tmp_path: Path) -> None:
    inputs, targets = molecules(tmp_path)
    model = network()
    torch.stack(losses_of(model, inputs, targets)).mean().backward()
    wanted = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    outputs = model(inputs)
    losses = [F.mse_loss(one, truth) for one, truth in zip(outputs.tasks, targets["targets"].unbind(1), strict=True)]
    Surgery("ls", 11).backward(losses, features=outputs.features)
    found = [parameter.grad for parameter in model.parameters()]
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, **TIGHT)


@pytest.mark.parametrize("tasks", [[], ["mu", "mu"]])
def test_tasks_that_make_no_sense(tasks: list[str]) -> None:
    with pytest.raises(VisionError, match=r"tasks=\[.*\]: give one at least, and each once"):
        MPNN(tasks)
