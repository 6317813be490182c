"""Options and entries of the methods that TorchJD brings; TorchJD itself is imported when one is made.

The fields of a named method's options are the arguments of its TorchJD class, unless the adapter says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from mtrl_surgery.methods.base import AnyMethod
from mtrl_surgery.methods.config import MethodConfig, option
from mtrl_surgery.methods.registry import Needs, Trait, register

_WAITS = "waits for the device"
_OF_A_WEIGHTED_SUM: tuple[Trait, ...] = ("equivariant", "homogeneous", "linear")
"""What holds where the weights are the losses' or constant."""


ConfigT = TypeVar("ConfigT", bound=type[MethodConfig])


def _method(paper: str, needs: Needs, summary: str, *traits: Trait) -> Callable[[ConfigT], ConfigT]:
    """Registers the method of the options that it decorates; for the arguments see `register`."""

    def add(config: ConfigT) -> ConfigT:
        register(config, paper=paper, summary=summary, needs=needs, origin="TorchJD", traits=traits, parity="TorchJD")(
            _make
        )
        return config

    return add


def _make(num_tasks: int, config: MethodConfig, seed: int = 0) -> AnyMethod:
    from mtrl_surgery.methods.torchjd.adapter import make  # and TorchJD, which takes a second

    return make(num_tasks, config, seed)


@dataclass
class NamedConfig(MethodConfig):
    """Options that are the arguments of one TorchJD class; an empty list or null leaves an argument at its default."""

    target: ClassVar[str]


@_method("arXiv 2010.05874", "gramian", f"turns conflicting pairs to their usual angle; {_WAITS}")
@dataclass
class GradvacConfig(NamedConfig):
    """GradVac (arXiv 2010.05874)."""

    target: ClassVar[str] = "torchjd.aggregation.GradVacWeighting"
    name: str = "gradvac"
    beta: float = option(0.5, "rate of the average of each pair's cosine", at_least=0)
    eps: float = option(1e-8, "added to denominators", at_least=0)


@_method("arXiv 1706.08840", "gramian", f"the mean, projected so that no task loses; {_WAITS}", "equivariant")
@dataclass
class DualprojConfig(NamedConfig):
    """DualProj (arXiv 1706.08840, 2406.16232)."""

    target: ClassVar[str] = "torchjd.aggregation.DualProjWeighting"
    name: str = "dualproj"
    pref_vector: list[float] = option([], "weights of what is projected, one a task; empty: the mean")  # noqa: RUF009
    norm_eps: float = option(1e-4, "a Gramian of a trace below this counts as zero", at_least=0)
    reg_eps: float = option(1e-4, "added to the diagonal of the normalised Gramian", at_least=0)


@_method("arXiv 2402.15638", "gramian", f"alpha-fair shares of the descent; {_WAITS}")
@dataclass
class FairgradConfig(NamedConfig):
    """FairGrad (arXiv 2402.15638)."""

    target: ClassVar[str] = "torchjd.aggregation.FairGradWeighting"
    name: str = "fairgrad"
    alpha: float = option(1.0, "kind of fairness: 0 is the mean, 1 proportional, large max-min", at_least=0)
    max_iters: int | None = option(None, "limit of the solver's iterations; null: SciPy's")


@_method(
    "arXiv 2408.11104",
    "jacobian",
    f"the direction at the same angle to every gradient; {_WAITS}",
    "equivariant",
    "homogeneous",
)
@dataclass
class ConfigConfig(NamedConfig):
    """ConFIG (arXiv 2408.11104)."""

    target: ClassVar[str] = "torchjd.aggregation.ConFIG"
    name: str = "config"
    pref_vector: list[float] = option([], "cosines that the tasks are given, up to a factor; empty: equal")  # noqa: RUF009


@_method("arXiv 2305.18409", "gramian", f"regularised min-norm weights by inner steps; {_WAITS}", "equivariant")
@dataclass
class SdmgradConfig(NamedConfig):
    """SDMGrad (arXiv 2305.18409)."""

    target: ClassVar[str] = "torchjd.aggregation.SDMGradWeighting"
    name: str = "sdmgrad"
    lr: float = option(10.0, "step size of the weights' inner iterations", above=0)
    momentum: float = option(0.5, "their momentum", at_least=0, below=1)
    n_iter: int = option(20, "their number", at_least=1)
    lambda_: float = option(0.3, "pull towards the preferred weights", at_least=0)
    pref_vector: list[float] = option([], "the preferred weights; empty: equal")  # noqa: RUF009


@_method("ICML 2024", "jacobian", f"more weight to tasks far from their optimum; {_WAITS}", "equivariant")
@dataclass
class ExcessmtlConfig(NamedConfig):
    """ExcessMTL (ICML 2024)."""

    target: ClassVar[str] = "torchjd.aggregation.ExcessMTLWeighting"
    name: str = "excessmtl"
    robust_step_size: float = option(1.0, "step size of the weights; official code 0.01", above=0)
    n_warmup_steps: int = option(0, "calls with equal weights that set the baseline", at_least=0)


@_method(
    "NeurIPS 2022",
    "gramian",
    f"averages the weights of another weighting over time; {_WAITS}",
    "equivariant",
    "homogeneous",
)
@dataclass
class CrmogmConfig(NamedConfig):
    """CR-MOGM (NeurIPS 2022)."""

    target: ClassVar[str] = "torchjd.aggregation.CRMOGMWeighting"
    name: str = "crmogm"
    weighting: str = option("torchjd.aggregation.MGDAWeighting", "the Gramian weighting whose weights are averaged")
    alpha: float = option(0.9, "decay of the averaged weights", at_least=0)


@_method("arXiv 2606.29521", "gramian", f"the first task's gradient, with progress for the others; {_WAITS}")
@dataclass
class PcdConfig(NamedConfig):
    """PCD (arXiv 2606.29521)."""

    target: ClassVar[str] = "torchjd.aggregation.PCDWeighting"
    name: str = "pcd"
    tau: float = option(0.02, "share of its own progress that every later task is given; at most 1", at_least=0)
    beta: float = option(0.999, "decay of the averaged squared lengths", at_least=0, below=1)
    eps: float = option(1e-8, "added to that average", at_least=0)


@_method("arXiv 2402.19078", "losses", "the gradient of a smooth maximum of the losses", *_OF_A_WEIGHTED_SUM)
@dataclass
class StchConfig(NamedConfig):
    """STCH (arXiv 2402.19078)."""

    target: ClassVar[str] = "torchjd.scalarization.STCH"
    name: str = "stch"
    mu: float = option(0.1, "smoothing; small: nearly the largest loss alone", above=0)
    weights: list[float] = option([], "preference of each task; empty: 1/K")  # noqa: RUF009
    reference: list[float] = option([], "ideal losses; empty: zeros")  # noqa: RUF009


@_method("CVPRW 2019", "losses", f"the gradient of the losses' geometric mean; {_WAITS}", *_OF_A_WEIGHTED_SUM)
@dataclass
class GlsConfig(NamedConfig):
    """GLS (CVPRW 2019)."""

    target: ClassVar[str] = "torchjd.scalarization.GeometricMean"
    name: str = "gls"


@_method("ICLR 2021", "losses", "learns scales that make the losses alike", *_OF_A_WEIGHTED_SUM)
@dataclass
class ImtlLConfig(NamedConfig):
    """IMTL-L (ICLR 2021)."""

    target: ClassVar[str] = "torchjd.scalarization.IMTLL"
    name: str = "imtl_l"
    lr: float = option(1e-3, "step size of Adam on the log-scales", above=0)


@_method("-", "jacobian", "any aggregator, weighting or scalarizer of TorchJD, by its path", *_OF_A_WEIGHTED_SUM)
@dataclass
class TorchjdConfig(MethodConfig):
    """Any aggregator, weighting or scalarizer of TorchJD, by its path."""

    name: str = "torchjd"
    target: str = option("torchjd.aggregation.Mean", "import path of its class")
    # Not a dict by default: hydra would take no new keys.
    arguments: Any = option(  # noqa: RUF009
        None, "mapping of its keyword arguments; a list is a tensor, a path of TorchJD an object of that class"
    )
    lr: float = option(1e-3, "step size of Adam on the parameters of a learnable scalarizer", above=0)
