"""Options and entries of the Jacobian methods. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from mtrl_surgery.methods.config import MethodConfig, option
from mtrl_surgery.methods.entries import MethodEntry, register

_HERE = "mtrl_surgery.methods"


@dataclass
class SamgsConfig(MethodConfig):
    """SAM-GS (arXiv 2506.06130); the defaults are the paper's for RL."""

    name: str = "samgs"
    similarity: str = option(
        "min",
        "magnitude similarity: of the least alike pair (RL) or the mean (vision)",
        choices=("min", "mean"),
    )
    beta1: float = option(0.9, "decay of each task's momentum", at_least=0, below=1)
    beta2: float = option(0.99, "decay of the dissimilarity's second moment", at_least=0, below=1)
    gamma: float = option(0.9, "norms are equalised where the similarity is below this", at_least=0)
    eps: float = option(1e-8, "keeps the second moment above zero", above=0)
    rescale: str = option(
        "none",
        "the momentum branch's length: as in the paper, or that of the equalised direction",
        choices=("none", "equalised_norm"),
    )


register(
    MethodEntry(
        "samgs",
        "arXiv 2506.06130",
        "jacobian",
        f"{_HERE}.samgs:SAMGS",
        SamgsConfig,
        "equalises the norms of dissimilar gradients, else weights each coordinate by its momentum",
        traits=("equivariant",),
        parity="paper's equations",
    )
)
