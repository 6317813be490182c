"""The QM9 network of Nash-MTL: messages weighted by an edge network, a GRU, Set2Set (Gilmer et al. 2017, 1704.01212).

It computes what torch-geometric's `NNConv(aggr="mean")`, `GRU` and `Set2Set` compute, from parameters of the same
shapes and distributions, but in dense arrays of one fixed shape, and in another order. NNConv makes a 64 x 64 matrix
an edge. A message is linear in the edge's 128 hidden numbers h and in the sender's state x: so h x^T is summed over an
atom's edges first, and the weights behind h are applied to the sum, once an atom, not once an edge.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments_vision.contract import MultiTaskModel, Outputs

MESSAGE_STEPS = READ_STEPS = 3
EDGE_HIDDEN = 128
MAX_ATOMS = 29  # QM9's largest molecules


class MoleculeBatch(Protocol):
    """The used part of a torch-geometric `Batch` of B graphs with N atoms and E edges in all."""

    x: Tensor  # atom features [N, A]
    edge_index: Tensor  # from which atom to which, [2, E]; no edge twice
    edge_attr: Tensor  # edge features [E, F]
    batch: Tensor  # each atom's graph, [N], rising
    ptr: Tensor  # each graph's first atom, and the end, [B + 1]


class MPNN(MultiTaskModel):
    """Three rounds of messages between all atoms, a read-out by attention, one linear head a task.

    Outputs: a tensor [B] a task; the features are the 64 numbers that the heads read.

    Args:
        tasks: The properties' names.
        dim: Width of an atom's state.
        atom_features, edge_features: How many each has.
        max_atoms: Of the largest graph; a larger one in a batch gives nonsense, the data set does not let it through.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        dim: int = 64,
        atom_features: int = 11,
        edge_features: int = 5,
        max_atoms: int = MAX_ATOMS,
    ) -> None:
        super().__init__(tasks)
        self.max_atoms = max_atoms
        self.enter = nn.Linear(atom_features, dim)
        self.edges = EdgeConv(edge_features, dim)
        self.gru = nn.GRUCell(dim, dim)
        self.read = ReadOut(dim)
        self.leave = nn.Linear(2 * dim, dim)
        self.heads = nn.ModuleList(nn.Linear(dim, 1) for _ in self.tasks)

    def forward(self, inputs: MoleculeBatch) -> Outputs:
        """The properties of a batch of molecules."""
        atoms_BnA, there_Bn, edges_BnnF, linked_Bnn = dense(inputs, self.max_atoms)
        state_Bnd = F.relu(self.enter(atoms_BnA))
        hidden = self.edges.hidden(edges_BnnF, linked_Bnn)
        for _ in range(MESSAGE_STEPS):
            message_Bnd = F.relu(self.edges(state_Bnd, *hidden))
            state_Bnd = self.gru(message_Bnd.flatten(0, 1), state_Bnd.flatten(0, 1)).view_as(state_Bnd)
        features_Bd = F.relu(self.leave(self.read(state_Bnd, there_Bn)))
        return Outputs([head(features_Bd).squeeze(-1) for head in self.heads], (features_Bd,))


class EdgeConv(nn.Module):
    """Each atom's mean message, plus a linear map of its own state."""

    def __init__(self, edge_features: int, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.first = nn.Linear(edge_features, EDGE_HIDDEN)
        self.second = nn.Linear(EDGE_HIDDEN, dim * dim)
        self.root = nn.Linear(dim, dim)
        nn.init.zeros_(self.root.bias)

    def hidden(self, edges_BnnF: Tensor, linked_Bnn: Tensor) -> tuple[Tensor, Tensor]:
        """The edges' part of the messages, the same in all rounds, from what `dense` gives.

        Returns:
            The edges' hidden numbers and a last one that is 1, all divided by how many edges come in,
            [B, n * (128 + 1), n sender]; and the weights that make a message of them, [(128 + 1) * d, d].
        """
        graphs, atoms = linked_Bnn.shape[:2]
        share_Bn1n = (linked_Bnn / linked_Bnn.sum(2, keepdim=True).clamp(min=1)).unsqueeze(2)
        hidden_BnHn = F.relu(self.first(edges_BnnF)).transpose(2, 3) * share_Bn1n
        hidden_BnHn = torch.cat([hidden_BnHn, share_Bn1n], 2)
        weight_dod = torch.cat([self.second.weight, self.second.bias.unsqueeze(1)], 1).view(self.dim, self.dim, -1)
        weight_Hdd = weight_dod.permute(2, 0, 1)
        return hidden_BnHn.reshape(graphs, -1, atoms), weight_Hdd.reshape(-1, self.dim)

    def forward(self, state_Bnd: Tensor, hidden_BHn: Tensor, weight_Hd: Tensor) -> Tensor:
        """Messages [B, n, d] of the atoms' states [B, n, d]."""
        sums_BnH = torch.bmm(hidden_BHn, state_Bnd).view(*state_Bnd.shape[:2], -1)
        own_Bnd: Tensor = self.root(state_Bnd)
        return sums_BnH @ weight_Hd + own_Bnd


class ReadOut(nn.Module):
    """Set2Set (Vinyals et al. 2016, 1511.06391): an LSTM asks three times, a softmax over the atoms answers."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.lstm = nn.LSTMCell(2 * dim, dim)

    def forward(self, state_Bnd: Tensor, there_Bn: Tensor) -> Tensor:
        """Question and answer [B, 2d], from the states of the atoms that are there."""
        query_Bd = cell_Bd = state_Bnd.new_zeros(len(state_Bnd), state_Bnd.shape[2])
        both_B2d = torch.cat([query_Bd, query_Bd], 1)
        for _ in range(READ_STEPS):
            query_Bd, cell_Bd = self.lstm(both_B2d, (query_Bd, cell_Bd))
            score_Bn = (state_Bnd @ query_Bd.unsqueeze(2)).squeeze(2)
            answer_Bn = score_Bn.masked_fill(~there_Bn, -math.inf).softmax(1)
            both_B2d = torch.cat([query_Bd, (answer_Bn.unsqueeze(1) @ state_Bnd).squeeze(1)], 1)
        return both_B2d


def dense(inputs: MoleculeBatch, atoms: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Every graph padded to n atoms: no shape depends on the molecules, and nothing waits for the device.

    Returns:
        Atom features [B, n, A], whether an atom is there [B, n], edge features [B, n receiver, n sender, F], and 1
        where there is an edge [B, n receiver, n sender].
    """
    graphs = len(inputs.ptr) - 1
    sender, receiver = inputs.edge_index
    within_N = torch.arange(len(inputs.x), device=inputs.x.device) - inputs.ptr[inputs.batch]
    place_N = inputs.batch * atoms + within_N
    x = inputs.x.new_zeros(graphs * atoms, inputs.x.shape[1])
    there = torch.zeros(graphs * atoms, dtype=torch.bool, device=x.device)
    x[place_N] = inputs.x
    there.index_fill_(0, place_N, 1)
    pair_E = place_N[receiver] * atoms + within_N[sender]
    edges = inputs.edge_attr.new_zeros(graphs * atoms * atoms, inputs.edge_attr.shape[1])
    linked = edges.new_zeros(graphs * atoms * atoms)
    edges[pair_E] = inputs.edge_attr
    linked.index_fill_(0, pair_E, 1)
    return (
        x.view(graphs, atoms, -1),
        there.view(graphs, atoms),
        edges.view(graphs, atoms, atoms, -1),
        linked.view(graphs, atoms, atoms),
    )
