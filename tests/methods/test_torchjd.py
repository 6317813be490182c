"""TorchJD's objects as methods: the same numbers, our random numbers, our state, our errors."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchjd.aggregation as aggregation
import torchjd.scalarization as scalarization
import yaml
from torch import Tensor, nn
from torchjd.linalg import QuadprogProjector

from mtrl_surgery.methods.base import JacobianMethod
from mtrl_surgery.methods.config import MethodConfig, MethodError
from mtrl_surgery.methods.registry import METHODS, make_method
from mtrl_surgery.methods.torchjd.options import (
    ConfigConfig,
    CrmogmConfig,
    DualprojConfig,
    ExcessmtlConfig,
    FairgradConfig,
    GlsConfig,
    GradvacConfig,
    ImtlLConfig,
    PcdConfig,
    SdmgradConfig,
    StchConfig,
    TorchjdConfig,
)
from mtrl_surgery.settings import settings_from_mapping
from tests.commands.conftest import Run, run  # noqa: F401
from tests.methods.cases import torchjd as torchjd_cases
from tests.methods.jacobians import direction, turn

TASKS = 4
PREFERENCE = [0.1, 0.2, 0.3, 0.4]


def preference() -> Tensor:
    return torch.tensor(PREFERENCE, dtype=torch.float64)


def target(name: str, **arguments: Any) -> TorchjdConfig:
    return TorchjdConfig(target=f"torchjd.{name}", arguments=arguments)


PAIRS: list[tuple[MethodConfig, Callable[[], nn.Module]]] = [
    (GradvacConfig(), lambda: aggregation.GradVac()),
    (GradvacConfig(beta=0.2, eps=1e-2), lambda: aggregation.GradVac(0.2, 1e-2)),
    (DualprojConfig(), lambda: aggregation.DualProj()),
    (
        DualprojConfig(pref_vector=PREFERENCE, norm_eps=1e-2, reg_eps=1e-2),
        lambda: aggregation.DualProj(preference(), QuadprogProjector(norm_eps=1e-2, reg_eps=1e-2)),
    ),
    (FairgradConfig(), lambda: aggregation.FairGrad(1.0)),
    (FairgradConfig(alpha=2.0, max_iters=5), lambda: aggregation.FairGrad(2.0, 5)),
    (ConfigConfig(), lambda: aggregation.ConFIG()),
    (ConfigConfig(pref_vector=PREFERENCE), lambda: aggregation.ConFIG(preference())),
    (SdmgradConfig(), lambda: aggregation.GramianWeightedAggregator(aggregation.SDMGradWeighting())),
    (
        SdmgradConfig(lr=1.0, momentum=0.1, n_iter=3, lambda_=0.6, pref_vector=PREFERENCE),
        lambda: aggregation.GramianWeightedAggregator(aggregation.SDMGradWeighting(1.0, 0.1, 3, 0.6, preference())),
    ),
    (ExcessmtlConfig(), lambda: aggregation.ExcessMTL()),
    (ExcessmtlConfig(robust_step_size=0.1, n_warmup_steps=1), lambda: aggregation.ExcessMTL(0.1, 1)),
    (
        CrmogmConfig(),
        lambda: aggregation.GramianWeightedAggregator(aggregation.CRMOGMWeighting(aggregation.MGDAWeighting(), 0.9)),
    ),
    (
        CrmogmConfig(weighting="torchjd.aggregation.UPGradWeighting", alpha=0.3),
        lambda: aggregation.GramianWeightedAggregator(aggregation.CRMOGMWeighting(aggregation.UPGradWeighting(), 0.3)),
    ),
    (PcdConfig(), lambda: aggregation.PCD()),
    (PcdConfig(tau=0.3, beta=0.5, eps=1e-2), lambda: aggregation.PCD(0.3, 0.5, 1e-2)),
    (StchConfig(), lambda: scalarization.STCH(0.1)),
    (
        StchConfig(mu=0.5, weights=PREFERENCE, reference=PREFERENCE),
        lambda: scalarization.STCH(0.5, preference(), preference()),
    ),
    (GlsConfig(), lambda: scalarization.GeometricMean()),
    (ImtlLConfig(), lambda: scalarization.IMTLL(TASKS)),
    (TorchjdConfig(), lambda: aggregation.Mean()),
    (target("aggregation.Krum", n_byzantine=1), lambda: aggregation.Krum(1)),
    (target("aggregation.TrimmedMean", trim_number=1), lambda: aggregation.TrimmedMean(1)),
    (target("aggregation.Random"), lambda: aggregation.Random()),
    (target("aggregation.Constant", weights=PREFERENCE), lambda: aggregation.Constant(preference())),
    (target("scalarization.UW"), lambda: scalarization.UW(TASKS)),
]


def batch(step: int) -> tuple[Tensor, Tensor]:
    """A Jacobian [TASKS, 9] and losses [TASKS]."""
    generator = torch.Generator().manual_seed(100 + step)
    jacobian_KP = torch.randn(TASKS, 9, generator=generator, dtype=torch.float64)
    return jacobian_KP, torch.rand(TASKS, generator=generator, dtype=torch.float64) + 0.1


def by_torchjd(module: nn.Module, steps: int) -> list[Tensor]:
    """The directions of a TorchJD object as its manual says to use it; a scalarizer's parameters learn by Adam."""
    learns = torch.optim.Adam(module.parameters(), lr=1e-3) if list(module.parameters()) else None
    directions = []
    for step in range(steps):
        jacobian_KP, losses_K = batch(step)
        if isinstance(module, aggregation.Aggregator):
            directions.append(module(jacobian_KP))
            continue
        losses_K.requires_grad_()
        module.zero_grad()
        module(losses_K).backward()
        assert losses_K.grad is not None
        directions.append(losses_K.grad @ jacobian_KP)
        if learns:
            learns.step()
    return directions


def test_every_named_method_is_compared() -> None:
    named = {name for name, entry in METHODS.items() if entry.origin == "TorchJD"}
    assert {config.name for config, _ in PAIRS} == named


@pytest.mark.parametrize(("config", "direct"), PAIRS, ids=[str(config)[:60] for config, _ in PAIRS])
def test_the_directions_are_torchjds(config: MethodConfig, direct: Callable[[], nn.Module]) -> None:
    method = make_method(config, TASKS, seed=5)
    got = [direction(method, *batch(step)) for step in range(3)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        expected = by_torchjd(direct(), 3)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("config", [config for config, _ in PAIRS], ids=lambda config: str(config)[:60])
def test_the_global_generator_is_left_alone_and_not_listened_to(config: MethodConfig) -> None:
    one, two = make_method(config, TASKS, seed=1), make_method(config, TASKS, seed=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        before = torch.get_rng_state()
        first = turn(one, 0, TASKS, 9)
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(1)
        assert torch.equal(turn(two, 0, TASKS, 9), first)


@pytest.mark.parametrize("label", torchjd_cases.CASES)
def test_the_state_goes_through_a_file_of_tensors(label: str) -> None:
    config = torchjd_cases.CASES[label].config
    method, file = make_method(config, TASKS, seed=1), io.BytesIO()
    for step in range(3):
        turn(method, step, TASKS, 9)
    torch.save(method.state_dict(), file)
    file.seek(0)
    restored = make_method(config, TASKS, seed=2)
    restored.load_state_dict(torch.load(file, weights_only=True))
    for step in range(3, 6):
        assert torch.equal(turn(restored, step, TASKS, 9), turn(method, step, TASKS, 9))


def test_the_state_of_another_class_is_refused() -> None:
    krum = make_method(target("aggregation.Krum", n_byzantine=1), TASKS, 0)
    with pytest.raises(MethodError, match="torchjd: state of another method: KrumWeighting, expected TrimmedMean"):
        make_method(target("aggregation.TrimmedMean", trim_number=1), TASKS, 0).load_state_dict(krum.state_dict())
    samgs = make_method(METHODS["samgs"].config(), TASKS, 0)
    with pytest.raises(MethodError, match="gradvac: state of another method"):
        make_method(GradvacConfig(), TASKS, 0).load_state_dict(samgs.state_dict())


@pytest.mark.parametrize("label", ["gradvac", "sdmgrad", "excessmtl", "crmogm", "pcd"])
def test_a_gradient_that_is_not_finite_leaves_no_trace(label: str) -> None:
    config = torchjd_cases.CASES[label].config
    hurt, sound = make_method(config, TASKS, 0), make_method(config, TASKS, 0)
    for method in (hurt, sound):
        turn(method, 0, TASKS, 9)
    assert direction(hurt, torch.full((TASKS, 9), torch.nan)).isnan().all()
    assert torch.equal(turn(hurt, 1, TASKS, 9), turn(sound, 1, TASKS, 9))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (target("aggregation.Crumb"), r"torchjd\.target='torchjd\.aggregation\.Crumb': .* has .*Krum, "),
        (TorchjdConfig(target="os.system"), r"torchjd\.target='os\.system': a path begins with torchjd\.aggregation"),
        (target("aggregation.NashMTL"), "its state cannot be saved; take method=nashmtl"),
        (target("aggregation.Krum"), r"Krum needs the arguments n_byzantine; it takes n_byzantine, n_selected"),
        (target("aggregation.Krum", n_byzantin=1), r"Krum takes n_byzantine, n_selected; not n_byzantin"),
        (target("aggregation.Krum", n_byzantine=-1), r"torchjd\.aggregation\.Krum: .*-1"),
        (CrmogmConfig(weighting="torchjd.aggregation.Nothing"), r"crmogm\.weighting='torchjd\.aggregation\.Nothing'"),
        (TorchjdConfig(arguments=[1]), r"torchjd\.arguments=\[1\]: must be a mapping"),
        (PcdConfig(tau=1.5), r"pcd: .*tau.*1\.5"),
    ],
)
def test_what_torchjd_does_not_have_is_named(config: MethodConfig, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        make_method(config, TASKS, 0)


def test_what_torchjd_refuses_at_a_call_is_our_error() -> None:
    with pytest.raises(MethodError, match=r"torchjd: .*at least 4 rows"):
        turn(make_method(target("aggregation.Krum", n_byzantine=1), 2, 0), 0, 2, 9)
    with pytest.raises(MethodError, match=r"gls: .*non-negative"):
        direction(make_method(GlsConfig(), 2, 0), torch.eye(2), torch.tensor([1.0, -1.0]))
    with pytest.raises(MethodError, match="stch: "):
        direction(make_method(StchConfig(weights=PREFERENCE), 2, 0), torch.eye(2))


def test_an_aggregator_without_weights_logs_each_tasks_share() -> None:
    method = make_method(target("aggregation.TrimmedMean", trim_number=1), TASKS, 0)
    assert isinstance(method, JacobianMethod)
    jacobian_KP, losses_K = batch(0)
    direction_P = direction(method, jacobian_KP, losses_K)
    expected_K = (jacobian_KP @ direction_P) / jacobian_KP.square().sum(1)
    torch.testing.assert_close(method.diagnostics()["weights_K"], expected_K)


def test_a_target_and_its_arguments_come_from_the_command_line(run: Run) -> None:  # noqa: F811
    words = ("method=torchjd", "method.target=torchjd.aggregation.Krum", "method.arguments={n_byzantine: 1}")
    said = run("train", "--cfg", "job", *words)
    assert said.code == 0, said.err
    settings = settings_from_mapping(yaml.safe_load(said.out), "what it printed")
    assert settings.method == target("aggregation.Krum", n_byzantine=1)
    assert turn(make_method(settings.method, TASKS, 0), 0, TASKS, 9).isfinite().all()
