"""The registry: what the command line shows before torch is there, and what users add."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, ValidationError

from mtrl_surgery.methods.cagrad import CagradConfig
from mtrl_surgery.methods.config import MethodConfig, MethodError
from mtrl_surgery.methods.famo import FamoConfig
from mtrl_surgery.methods.ls import LsConfig
from mtrl_surgery.methods.registry import METHODS, find_method, make_method, register
from mtrl_surgery.methods.samgs import SamgsConfig

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "methods"


@pytest.mark.parametrize(
    ("module", "spared"),
    [("methods.config", "torch"), ("methods.plugins", "torch"), ("settings", "torch"), ("methods.registry", "torchjd")],
)
def test_what_takes_long_to_import_is_left_until_it_is_needed(module: str, spared: str) -> None:
    program = f"import sys, mtrl_surgery.{module}; sys.exit({spared!r} in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=120)


def test_a_method_can_be_imported_before_the_registry() -> None:
    program = (
        "from mtrl_surgery.methods.samgs import SamgsConfig\n"
        "from mtrl_surgery.methods.registry import METHODS, make_method\n"
        "make_method(SamgsConfig(), 2, 0)\n"
        "print(*METHODS)"
    )
    registry = "from mtrl_surgery.methods.registry import METHODS; print(*METHODS)"
    first, second = (
        subprocess.run(
            [sys.executable, "-c", words], cwd=ROOT, check=True, timeout=120, capture_output=True, text=True
        ).stdout
        for words in (program, registry)
    )
    assert first == second, "lists and pages have one order, whatever was imported first"


@pytest.mark.parametrize("name", METHODS)
def test_every_method_lists_its_options_and_has_a_page_that_names_them(name: str) -> None:
    entry = METHODS[name]
    assert entry.config().name == name
    page = (PAGES / ("torchjd.md" if entry.origin == "TorchJD" else f"{name}.md")).read_text()
    for option in entry.options:
        assert option.summary
        assert option.default in option.choices or not option.choices
        assert f"`{option.name}`" in page
    assert "**Scale.**" in page


def test_options_carry_their_choices() -> None:
    options = {option.name: option for option in METHODS["samgs"].options}
    assert options["similarity"].choices == ("min", "mean")
    assert (options["beta2"].default, options["gamma"].default) == (0.99, 0.9)


def test_unknown_names_get_the_close_match_and_the_choices() -> None:
    with pytest.raises(MethodError, match=r"unknown method 'samsg'; did you mean 'samgs'\? choices: .*cagrad, .*famo"):
        find_method("samsg")
    with pytest.raises(MethodError, match="unknown method 'quux'; choices: "):
        find_method("quux")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LsConfig(reduction="avg"), r"ls\.reduction='avg': choose one of mean, sum"),
        (lambda: SamgsConfig(beta1=1.0), r"samgs\.beta1=1\.0: must be >= 0 and < 1"),
        (lambda: SamgsConfig(eps=float("nan")), r"samgs\.eps=nan: must be > 0"),
        (lambda: CagradConfig(rescale=3), r"cagrad\.rescale=3: choose one of 0, 1, 2"),
        (lambda: FamoConfig(w_lr=0.0), r"famo\.w_lr=0\.0: must be > 0"),
    ],
)
def test_bad_options_are_named_with_the_choices(make: type, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        make()


def test_configs_are_structured_configs() -> None:
    config = OmegaConf.structured(CagradConfig)
    config.c = 0.2
    assert OmegaConf.to_object(config) == CagradConfig(c=0.2)
    with pytest.raises(ConfigAttributeError):
        config.radius = 1
    with pytest.raises(ValidationError):
        config.c = "wide"
    assert OmegaConf.to_object(OmegaConf.structured(FamoConfig)) == FamoConfig()


def test_a_config_of_another_method_is_refused() -> None:
    with pytest.raises(MethodError, match="method 'samgs' takes SamgsConfig, got LsConfig"):
        make_method(LsConfig(name="samgs"), 2, 0)


@dataclass
class RidgeConfig(MethodConfig):
    name: str = "ridge"


def test_names_are_registered_once() -> None:
    with pytest.raises(MethodError, match=r"'ls' is registered already, as .*\.ls\.LinearScalarization"):
        register(LsConfig, paper="-", summary="-")
    with pytest.raises(MethodError, match=r"'imtlg' is registered already, as .*IMTL"):
        register(RidgeConfig, paper="-", summary="-", aliases=("imtlg",))
    assert "ridge" not in METHODS


def test_the_recipe_for_a_new_method_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every Python block of docs/methods/adding.md, in order, as one module of a user's."""
    blocks = re.findall(r"```python\n(.*?)```", (PAGES / "adding.md").read_text(), flags=re.DOTALL)
    module, use = blocks
    assert len([line for line in module.splitlines() if line.strip()]) <= 24, "a 20-line affair, imports aside"
    (tmp_path / "my_method.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        exec(compile(use, "adding.md", "exec"), {})
    finally:
        METHODS.pop("random", None)
