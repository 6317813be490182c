"""Options and entries of the Gramian weightings. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from mtrl_surgery.methods.config import MethodConfig, option
from mtrl_surgery.methods.entries import MethodEntry, register

_HERE = "mtrl_surgery.methods"


@dataclass
class PcgradConfig(MethodConfig):
    """PCGrad (arXiv 2001.06782)."""

    name: str = "pcgrad"
    reduction: str = option("sum", "sum (paper) or mean of the projected gradients", choices=("sum", "mean"))


register(
    MethodEntry(
        "pcgrad",
        "arXiv 2001.06782",
        "gramian",
        f"{_HERE}.pcgrad:PCGrad",
        PcgradConfig,
        "projects each gradient off those it conflicts with, in random order",
        traits=("homogeneous", "linear"),
        parity="TorchJD, loop",
    )
)


@dataclass
class CagradConfig(MethodConfig):
    """CAGrad (arXiv 2110.14048)."""

    name: str = "cagrad"
    c: float = option(0.4, "radius around the mean gradient, as a share of its norm", at_least=0, below=1)
    rescale: int = option(0, "divide by 1 (paper), 1+c^2 (official code) or 1+c (its toy)", choices=(0, 1, 2))
    reduction: str = option("mean", "the paper's scale (mean), or K times it (sum)", choices=("mean", "sum"))


register(
    MethodEntry(
        "cagrad",
        "arXiv 2110.14048",
        "gramian",
        f"{_HERE}.cagrad:CAGrad",
        CagradConfig,
        "the best worst-task direction in a ball around the mean gradient",
        traits=("equivariant", "homogeneous"),
        parity="cvxpy, TorchJD",
    )
)
