"""Networks by name, their seeds, and the single-task baseline."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from experiments_vision.data.registry import DATASETS
from experiments_vision.errors import VisionError
from experiments_vision.models.registry import MODELS, make_model
from experiments_vision.objectives.registry import OBJECTIVES
from experiments_vision.tasks import TASKS


def test_listing_the_networks_loads_no_torch() -> None:
    code = "import sys, experiments_vision.models.registry as r; assert r.MODELS and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_data_set_has_tasks_and_networks() -> None:
    assert set(MODELS) == set(DATASETS)
    assert {dataset: objective.tasks for dataset, objective in OBJECTIVES.items()} == TASKS
    assert [len(TASKS[dataset]) for dataset in DATASETS] == [3, 2, 40, 11, 2]


@pytest.mark.parametrize(("dataset", "name"), [(dataset, name) for dataset in MODELS for name in MODELS[dataset]])
def test_every_network_can_be_made_for_one_task(dataset: str, name: str) -> None:
    task = TASKS[dataset][-1]
    assert make_model(name, dataset, seed=0, only=task).tasks == (task,)


@pytest.mark.parametrize("name", ["lenet", "convnet"])
def test_the_seed_decides_the_weights_and_the_global_stream_stays(name: str) -> None:
    dataset = {"lenet": "multidigits", "convnet": "celeba"}[name]
    before = torch.random.get_rng_state()
    first, again, other = (make_model(name, dataset, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(3)
    later = make_model(name, dataset, seed=1).state_dict()
    for key, value in first.items():
        assert torch.equal(value, again[key]) and torch.equal(value, later[key])
    assert not all(torch.equal(value, other[key]) for key, value in first.items())


def test_only_one_task() -> None:
    alone, together = make_model("segnet", "nyuv2", seed=4, only="depth"), make_model("segnet", "nyuv2", seed=4)
    assert alone.tasks == ("depth",)
    trunk = together.trunk.state_dict()
    assert all(torch.equal(value, trunk[key]) for key, value in alone.trunk.state_dict().items())
    outputs = alone(torch.rand(2, 3, 32, 32))
    assert [tuple(output.shape) for output in outputs.tasks] == [(2, 1, 32, 32)]
    assert sum(parameter.numel() for parameter in alone.parameters()) == 24_943_296 + 36_928 + 65


def test_facts_of_the_data_replace_the_published_ones() -> None:
    model = make_model("lenet", "multidigits", seed=0, facts={"size": 16, "unknown": 3})
    assert model(torch.rand(2, 1, 16, 16)).tasks[1].shape == (2, 10)
    segnet = make_model("segnet", "cityscapes", seed=0, facts={"classes": 19}, only="segmentation")
    assert segnet(torch.rand(1, 3, 64, 32)).tasks[0].shape == (1, 19, 64, 32)


def test_what_is_unknown_is_named_with_the_choices() -> None:
    with pytest.raises(VisionError, match="dataset=imagenet is unknown; choose from nyuv2, cityscapes, celeba"):
        make_model("segnet", "imagenet", seed=0)
    with pytest.raises(VisionError, match="model=resnet is no network for nyuv2; choose from mtan, segnet"):
        make_model("resnet", "nyuv2", seed=0)
    with pytest.raises(VisionError, match="only=normal is no task of cityscapes; choose from segmentation, depth"):
        make_model("mtan", "cityscapes", seed=0, only="normal")
