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


@dataclass
class NashmtlConfig(MethodConfig):
    """Nash-MTL (arXiv 2202.01017)."""

    name: str = "nashmtl"
    update_every: int = option(1, "solve at every n-th step and keep the weights between (RL: 50 or 100)", at_least=1)
    limit: float = option(
        0.0, "bound of a unit gradient's weight, met where gradients cancel; 0: by the Gramian's precision", at_least=0
    )


register(
    MethodEntry(
        "nashmtl",
        "arXiv 2202.01017",
        "gramian",
        f"{_HERE}.nashmtl:NashMTL",
        NashmtlConfig,
        "the direction that maximises the product of all tasks' gains",
        traits=("non-conflicting", "equivariant", "scale-invariant"),
        parity="cvxpy, K=2 closed form",
    )
)


@dataclass
class MgdaConfig(MethodConfig):
    """MGDA (arXiv 1810.04650)."""

    name: str = "mgda"
    normalization: str = option(
        "none",
        "divide gradients by nothing, length, loss, or both, to find the weights",
        choices=("none", "l2", "loss", "loss+"),
    )
    reduction: str = option("mean", "weights of sum 1 (mean, paper) or K (sum)", choices=("mean", "sum"))


register(
    MethodEntry(
        "mgda",
        "arXiv 1810.04650",
        "gramian",
        f"{_HERE}.mgda:MGDA",
        MgdaConfig,
        "the shortest vector in the convex hull of the gradients",
        traits=("non-conflicting", "equivariant", "homogeneous"),
        parity="cvxpy, TorchJD, K=2 closed form, mpmath",
    )
)


@dataclass
class ImtlConfig(MethodConfig):
    """IMTL-G (ICLR 2021)."""

    name: str = "imtl"


register(
    MethodEntry(
        "imtl",
        "discovery.ucl.ac.uk/id/eprint/10120667",
        "gramian",
        f"{_HERE}.imtl:IMTL",
        ImtlConfig,
        "the combination with equal projections onto all gradients",
        traits=("equivariant", "homogeneous"),
        parity="TorchJD, K=2 closed form",
        aliases=("imtlg",),
    )
)


@dataclass
class AlignedmtlConfig(MethodConfig):
    """Aligned-MTL (arXiv 2305.19000)."""

    name: str = "alignedmtl"
    scale_mode: str = option(
        "min", "all principal components get this one of their squared lengths", choices=("min", "median", "rmse")
    )
    preference: list[float] = option([], "the tasks' own weights, one a task; empty: equal", at_least=0)  # noqa: RUF009
    reduction: str = option("sum", "equal weights are 1 (sum, official) or 1/K (mean)", choices=("sum", "mean"))
    rank_of: str = option(
        "directions",
        "what is dependent: directions; or components short beside the longest too (gramian, official code)",
        choices=("directions", "gramian"),
    )


register(
    MethodEntry(
        "alignedmtl",
        "arXiv 2305.19000",
        "gramian",
        f"{_HERE}.alignedmtl:AlignedMTL",
        AlignedmtlConfig,
        "the gradients made orthogonal and equally long, then added up",
        traits=("equivariant", "homogeneous"),
        parity="TorchJD, SVD, mpmath",
    )
)


@dataclass
class UpgradConfig(MethodConfig):
    """UPGrad (arXiv 2406.16232)."""

    name: str = "upgrad"
    preference: list[float] = option([], "the tasks' own weights, one a task; empty: 1/K", at_least=0)  # noqa: RUF009
    reg_eps: float = option(1e-9, "added to the unit gradients' Gramian, for dependent ones", at_least=0)


register(
    MethodEntry(
        "upgrad",
        "arXiv 2406.16232",
        "gramian",
        f"{_HERE}.upgrad:UPGrad",
        UpgradConfig,
        "the mean of the gradients, each projected to where no loss rises",
        traits=("non-conflicting", "equivariant", "homogeneous", "linear"),
        parity="cvxpy, TorchJD, K=2 closed form",
    )
)
