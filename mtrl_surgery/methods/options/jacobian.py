"""Options and entries of the Jacobian methods. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from mtrl_surgery.methods.config import MethodConfig, MethodError, option
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


@dataclass
class GraddropConfig(MethodConfig):
    """GradDrop (arXiv 2010.06808)."""

    name: str = "graddrop"
    leak: list[float] = option([0.0], "share of a gradient that is never dropped, one for all or one a task")  # noqa: RUF009
    reduction: str = option("sum", "sum (paper) or mean of what is kept", choices=("sum", "mean"))

    def __post_init__(self) -> None:
        """Checks every option; a leak is a share.

        Raises:
            MethodError: naming the option, its value and what it may be.
        """
        super().__post_init__()
        if not self.leak or not all(0 <= share <= 1 for share in self.leak):
            raise MethodError(f"{self.name}.leak={list(self.leak)!r}: must be shares, each >= 0 and <= 1")


register(
    MethodEntry(
        "graddrop",
        "arXiv 2010.06808",
        "jacobian",
        f"{_HERE}.graddrop:GradDrop",
        GraddropConfig,
        "keeps in each coordinate only the gradients of one sign, drawn by how much pulls that way",
        traits=("equivariant", "homogeneous"),
        parity="TorchJD, loop",
    )
)


@dataclass
class MocoConfig(MethodConfig):
    """MoCo (Fernando et al., ICLR 2023)."""

    name: str = "moco"
    beta: float = option(0.5, "rate at which a tracked gradient follows the new one", above=0)
    beta_sigma: float = option(0.5, "the rate is beta / step^beta_sigma", at_least=0)
    gamma: float = option(0.1, "step size of the weights", above=0)
    gamma_sigma: float = option(0.5, "the step size is gamma / step^gamma_sigma", at_least=0)
    rho: float = option(0.0, "regularisation of the weights towards equal ones", at_least=0)
    projection: str = option(
        "simplex",
        "how the weights come back to the simplex: its nearest point (paper), or a softmax (LibMTL)",
        choices=("simplex", "softmax"),
    )
    normalize: str = option(
        "none",
        "gradients as they are (paper), or each brought to the length of its loss (LibMTL)",
        choices=("none", "loss"),
    )


register(
    MethodEntry(
        "moco",
        "ICLR 2023",
        "jacobian",
        f"{_HERE}.moco:MoCo",
        MocoConfig,
        "the least combination of tracked gradients, followed one step at a time",
        traits=("equivariant",),
        parity="paper's equations",
    )
)


@dataclass
class DbmtlConfig(MethodConfig):
    """DB-MTL (arXiv 2308.12029)."""

    name: str = "dbmtl"
    beta: float = option(0.9, "decay of each task's averaged gradient", at_least=0, below=1)
    beta_sigma: float = option(0.0, "the decay is beta / step^beta_sigma", at_least=0)
    eps: float = option(1e-8, "least |loss| that a gradient is divided by", above=0)


register(
    MethodEntry(
        "dbmtl",
        "arXiv 2308.12029",
        "jacobian",
        f"{_HERE}.dbmtl:DBMTL",
        DbmtlConfig,
        "averaged gradients of the log-losses, all brought to the length of the longest",
        traits=("equivariant", "homogeneous", "scale-invariant"),
        parity="paper's equations",
    )
)
