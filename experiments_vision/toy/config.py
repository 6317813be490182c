"""The settings of a toy run, and the published facts of the problems."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any

from experiments_vision.errors import VisionError
from mtrl_surgery.cli.schema import check_choice, check_least, mapping_hash
from mtrl_surgery.cli.words import PATH
from mtrl_surgery.methods.config import MethodConfig
from mtrl_surgery.methods.registry import METHODS, find_method

Point = tuple[float, float]

SIGNS = ("code", "paper")
"""The sign of tanh in the second task's upper half: all published code has +, three papers print -."""
OPTIONS = ("published", "defaults")
"""A method's options: those of the published toy code, or the ones that the method has everywhere."""


@dataclass(frozen=True)
class ProblemFacts:
    """A problem as published."""

    bowl: str  # the shape of the lower half: `quadratic`, or `sextic` with two minima
    scales: str  # what `scale=s` multiplies the two losses with: (s, 1), or (s, 1 - s) for `complement`
    scale: float  # the default s
    starts: dict[str, tuple[Point, ...]]  # by their source; `paper` is always there
    steps: int  # of Adam
    floor: float  # a lower bound of both unscaled losses
    balanced: bool  # whether the minimum of L1 + L2 is what the paper's methods are to reach; else it is the Pareto set


_UPPER: tuple[Point, ...] = ((-8.0, 5.0), (-3.0, 7.5), (0.0, 10.0), (3.0, 7.5), (8.0, 5.0))
_CAGRAD: tuple[Point, ...] = ((-8.5, 7.5), (-8.5, -5.0), (9.0, 9.0))
_NASH: tuple[Point, ...] = ((-8.5, 7.5), (0.0, 0.0), (9.0, 9.0), (-7.5, -0.5), (9.0, -1.0))

# SAM-GS (arXiv 2506.06130) for toy1o and toy2o; Nash-MTL (2202.01017), CAGrad (2110.14048), Aligned-MTL (2305.19000).
PROBLEMS: dict[str, ProblemFacts] = {
    "toy1o": ProblemFacts(
        "quadratic", "first", 1.0,
        {"paper": (*_UPPER, (-10.0, -2.5), (10.0, -2.5)), "code": (*_UPPER, (-10.0, -3.0), (10.0, -3.0))},
        20_000, -21.0, balanced=True,
    ),
    "toy2o": ProblemFacts(
        "sextic", "first", 1.0,
        {"paper": ((-3.5, 5.5), (3.5, 5.5), (-6.5, 2.5), (6.5, 2.5), (0.0, 10.0), (0.0, -8.0))},
        21_000, -55.0, balanced=True,
    ),
    "nashmtl": ProblemFacts("quadratic", "first", 0.1, {"paper": _NASH}, 35_000, -21.0, False),
    "cagrad": ProblemFacts("quadratic", "first", 1.0, {"paper": _CAGRAD}, 100_000, -21.0, True),
    "aligned": ProblemFacts("quadratic", "complement", 0.1, {"paper": _NASH}, 35_000, -21.0, False),
}  # fmt: skip

NAMELESS = ("plugins", "out", "workers", "plot", "gif")
"""Keys that do not decide the numbers; they take no part in a run's name."""

OURS = tuple(name for name, entry in METHODS.items() if entry.origin == "ours")
"""The methods of `method=all`."""


@dataclass
class ToySettings:
    """Everything that decides a toy run."""

    method: Annotated[Any, "a method's options; null (on the command line, method=all): every method of ours"] = None
    methods: Annotated[list[str], "those to compare; method=[samgs,ls] says the same"] = field(default_factory=list)
    problem: Annotated[str, "toy1o | toy2o | nashmtl | cagrad | aligned"] = "toy1o"
    options: Annotated[str, "options left out: published (those of the toy code) | defaults (the method's own)"] = (
        "published"
    )
    starts: Annotated[Any, "paper | code | a list of points, such as [[0,10],[3,7.5]]"] = "paper"
    sign: Annotated[str, "of tanh in the second loss: code (+) | paper (-)"] = "code"
    scale: Annotated[float | None, "of the first loss; null: the problem's"] = None
    steps: Annotated[int | None, "of Adam; null: the problem's"] = None
    lr: Annotated[float, "learning rate of Adam"] = 1e-3
    max_norm: Annotated[
        float | None, "every method's direction is clipped to it, as SAM-GS's code does; null: no clipping"
    ] = 1.0
    within: Annotated[float, "how near the optimum counts as there, in units of theta"] = 0.1
    every: Annotated[int, "steps between two rows that are written"] = 10
    seed: Annotated[int, "of methods that draw"] = 0
    plot: Annotated[bool, "draw the figures"] = True
    gif: Annotated[bool, "also draw an animation"] = False
    workers: Annotated[int | None, "processes that share the starts of all methods; null: one a core"] = None
    plugins: Annotated[list[str], "modules of yours that add methods, imported first: plugins=my_methods"] = field(
        default_factory=list
    )
    out: Annotated[str, PATH, "the folder that run folders are made in"] = "runs/toy"

    @property
    def facts(self) -> ProblemFacts:
        """The problem's."""
        return PROBLEMS[self.problem]

    @property
    def points(self) -> tuple[Point, ...]:
        """The starts."""
        if isinstance(self.starts, str):
            return self.facts.starts[self.starts]
        return tuple((float(x), float(y)) for x, y in self.starts)

    @property
    def scales(self) -> Point:
        """The factors of the two losses."""
        facts = self.facts
        scale = facts.scale if self.scale is None else self.scale
        return (scale, 1.0 - scale) if facts.scales == "complement" else (scale, 1.0)

    @property
    def configs(self) -> list[MethodConfig]:
        """The methods to run."""
        if self.method is None:
            return [published(find_method(name).config(), self) for name in self.methods or OURS]
        return [self.method]

    @property
    def run_name(self) -> str:
        """`<problem>_<method>_s<seed>_<hash>`: runs that differ in anything but where they lie differ in name."""
        digits = mapping_hash(self.to_mapping(), NAMELESS)
        names = [self.method.name] if self.method is not None else self.methods or ["all"]
        return f"{self.problem}_{'-'.join(names) if len(names) <= 4 else 'several'}_s{self.seed}_{digits}"

    @property
    def num_steps(self) -> int:
        """The steps of Adam."""
        return self.facts.steps if self.steps is None else self.steps

    def to_mapping(self) -> dict[str, Any]:
        """Plain values, as config.yaml holds them."""
        return asdict(self)


def validate(settings: ToySettings) -> None:
    """Check every key.

    Raises:
        VisionError, MethodError: naming the key, its value and what it may be.
    """
    check_choice("problem", settings.problem, PROBLEMS)
    check_choice("sign", settings.sign, SIGNS)
    check_choice("options", settings.options, OPTIONS)
    if settings.method is not None and not isinstance(settings.method, MethodConfig):
        raise VisionError(f"method={settings.method!r} is no method; choices: all, {', '.join(METHODS)}")
    if settings.methods and settings.method is not None:
        raise VisionError(f"methods={settings.methods}: beside method={settings.method.name}; give method=[...] alone")
    chosen = [find_method(name).name for name in settings.methods]
    if len(set(chosen)) < len(chosen):
        raise VisionError(f"methods={settings.methods}: each must be there once")
    if isinstance(settings.starts, str):
        check_choice("starts", settings.starts, settings.facts.starts)
    else:
        try:
            points = settings.points
        except (TypeError, ValueError) as error:
            raise VisionError(
                f"starts={settings.starts!r}: choose paper or code, or give points such as [[0,10],[3,7.5]]"
            ) from error
        if not points or not all(math.isfinite(number) for point in points for number in point):
            raise VisionError(f"starts={settings.starts!r}: give at least one point, of finite numbers")
    least = {"steps": 1, "every": 1, "seed": 0, "workers": 1}
    check_least({key: (getattr(settings, key), number) for key, number in least.items()})
    for key in ("lr", "max_norm", "within", "scale"):
        value = getattr(settings, key)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise VisionError(f"{key}={value}: must be a finite number above 0")
    if settings.facts.scales == "complement" and settings.scales[1] <= 0:
        raise VisionError(f"scale={settings.scale}: {settings.problem} scales by s and 1 - s, so s must be below 1")


def published(config: MethodConfig, settings: ToySettings, given: Collection[str] = ()) -> MethodConfig:
    """The options of the published toy code, where there are any, but for those that the user has given.

    With `options=defaults` nothing changes.
    """
    if settings.options == "defaults":
        return config
    first, second = settings.scales
    floor = settings.facts.floor
    known: dict[str, dict[str, Any]] = {
        "samgs": {"similarity": "mean", "gamma": 0.1, "beta2": 0.9 if settings.problem == "toy2o" else 0.99},
        "famo": {"gamma": 0.0, "min_losses": [floor * first, floor * second], "compare_every": 1},
        "cagrad": {"c": 0.5, "rescale": 2},
    }
    changes = known.get(config.name, {})
    return replace(config, **{name: value for name, value in changes.items() if name not in given})
