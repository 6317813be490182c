"""Options and entries of the loss weightings, and of GradNorm, which learns such weights. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from mtrl_surgery.methods.config import MethodConfig, MethodError, option
from mtrl_surgery.methods.entries import MethodEntry, register

_HERE = "mtrl_surgery.methods"


@dataclass
class LsConfig(MethodConfig):
    """Linear scalarisation: equal weights."""

    name: str = "ls"
    reduction: str = option("mean", "weights 1/K (mean) or 1 (sum, the papers' LS)", choices=("mean", "sum"))


register(
    MethodEntry(
        "ls",
        "-",
        "losses",
        f"{_HERE}.ls:LinearScalarization",
        LsConfig,
        "equal weights, no surgery",
        traits=("equivariant", "homogeneous", "linear"),
        parity="closed form",
    )
)


@dataclass
class FamoConfig(MethodConfig):
    """FAMO (arXiv 2306.03792)."""

    name: str = "famo"
    w_lr: float = option(0.025, "Adam's step size on the task logits", above=0)
    gamma: float = option(1e-3, "weight decay of the task logits", at_least=0)
    min_losses: list[float] = option([0.0], "lower bounds of the losses, one for all or one a task")  # noqa: RUF009
    eps: float = option(1e-8, "keeps the logarithm of a loss at its bound finite", above=0)
    compare_with: str = option(
        "same_batch",
        "losses after the step: of the same batch (paper; one more forward pass) or of the next one (none)",
        choices=("same_batch", "next_batch"),
    )
    compare_every: int = option(16, "steps from one such forward pass to the next; 1: paper, official code", at_least=1)


register(
    MethodEntry(
        "famo",
        "arXiv 2306.03792",
        "losses",
        f"{_HERE}.famo:FAMO",
        FamoConfig,
        "learns weights so that all log-losses fall at the same rate",
        traits=("equivariant", "homogeneous", "linear"),
        parity="paper's equations",
    )
)


@dataclass
class ScaleinvlsConfig(MethodConfig):
    """Scale-invariant linear scalarisation (arXiv 2202.01017)."""

    name: str = "scaleinvls"
    reduction: str = option("sum", "sum (published) or mean of the log-losses", choices=("sum", "mean"))
    eps: float = option(1e-8, "added to the losses: what a loss of zero counts as", above=0)


register(
    MethodEntry(
        "scaleinvls",
        "arXiv 2202.01017",
        "losses",
        f"{_HERE}.scaleinvls:ScaleInvariantLS",
        ScaleinvlsConfig,
        "the sum of the logarithms of the losses",
        traits=("equivariant", "homogeneous", "linear"),
        parity="autograd",
    )
)


UW_FACTORS = {"regression": 0.5, "classification": 1.0}
"""What a kind of task multiplies e^(-s) loss with."""


@dataclass
class UwConfig(MethodConfig):
    """UW (arXiv 1705.07115)."""

    name: str = "uw"
    kinds: list[str] = option(["regression"], "regression or classification, one for all or one a task")  # noqa: RUF009
    lr: float = option(0.025, "Adam's step size on the log-variances", above=0)
    init: float = option(0.0, "the log-variances at the start; LibMTL: -0.5")

    def __post_init__(self) -> None:
        """Checks every option.

        Raises:
            MethodError: naming the option, its value and what it may be.
        """
        super().__post_init__()
        if unknown := set(self.kinds) - set(UW_FACTORS):
            raise MethodError(f"uw.kinds={list(self.kinds)}: {sorted(unknown)}: choose of {', '.join(UW_FACTORS)}")


register(
    MethodEntry(
        "uw",
        "arXiv 1705.07115",
        "losses",
        f"{_HERE}.uw:UW",
        UwConfig,
        "learns each task's uncertainty, and divides its loss by it",
        traits=("equivariant", "homogeneous", "linear"),
        parity="TorchJD, autograd",
    )
)


@dataclass
class DwaConfig(MethodConfig):
    """DWA (arXiv 1803.10704)."""

    name: str = "dwa"
    temperature: float = option(2.0, "the higher, the more alike the weights", above=0)
    epoch_updates: int = option(1000, "calls in an epoch", at_least=1)
    window: int = option(0, "0: epochs (paper); else moving windows of so many calls (benchmark code: 25)", at_least=0)
    reduction: str = option("sum", "weights of sum K (paper) or 1 (mean, benchmark code)", choices=("sum", "mean"))


register(
    MethodEntry(
        "dwa",
        "arXiv 1803.10704",
        "losses",
        f"{_HERE}.dwa:DWA",
        DwaConfig,
        "more weight to the tasks whose losses fall slowly",
        traits=("equivariant", "homogeneous", "linear"),
        parity="TorchJD, loop",
    )
)


@dataclass
class RlwConfig(MethodConfig):
    """RLW (arXiv 2111.10603)."""

    name: str = "rlw"
    distribution: str = option(
        "normal",
        "softmax of normal or uniform numbers, or the flat Dirichlet distribution",
        choices=("normal", "uniform", "dirichlet"),
    )


register(
    MethodEntry(
        "rlw",
        "arXiv 2111.10603",
        "losses",
        f"{_HERE}.rlw:RLW",
        RlwConfig,
        "random weights at every step",
        traits=("homogeneous", "linear"),
        parity="NumPy's quantiles",
    )
)


@dataclass
class StlConfig(MethodConfig):
    """Single-task learning."""

    name: str = "stl"
    task: int = option(0, "index of the task that is learned", at_least=0)


register(
    MethodEntry(
        "stl",
        "-",
        "losses",
        f"{_HERE}.stl:STL",
        StlConfig,
        "one task alone",
        traits=("homogeneous", "linear", "scale-invariant"),
        parity="TorchJD, closed form",
    )
)


@dataclass
class GradnormConfig(MethodConfig):
    """GradNorm (arXiv 1711.02257)."""

    name: str = "gradnorm"
    alpha: float = option(1.5, "how much longer slow tasks' gradients are made; 0: all alike", at_least=0)
    lr: float = option(0.025, "Adam's step size on the weights", above=0)
    initial_losses: list[float] = option([], "L(0), one for all or one a task; none: the first call's", above=0)  # noqa: RUF009


register(
    MethodEntry(
        "gradnorm",
        "arXiv 1711.02257",
        "gramian",
        f"{_HERE}.gradnorm:GradNorm",
        GradnormConfig,
        "learns loss weights that give slow tasks long gradients",
        traits=("equivariant", "homogeneous", "linear"),
        parity="autograd",
    )
)
