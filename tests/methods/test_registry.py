"""The registry: what the command line shows before torch is there, and what users add."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, ValidationError

from mtrl_surgery.methods.config import MethodError
from mtrl_surgery.methods.options.gramian import CagradConfig
from mtrl_surgery.methods.options.jacobian import SamgsConfig
from mtrl_surgery.methods.options.losses import FamoConfig, LsConfig
from mtrl_surgery.methods.registry import METHODS, MethodEntry, find_method, make_method, register

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "methods"


def test_listing_the_methods_does_not_import_torch() -> None:
    program = (
        "import sys, mtrl_surgery.methods.registry as r\n"
        "[entry.options for entry in r.METHODS.values()]\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60)


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


def test_names_are_registered_once() -> None:
    with pytest.raises(MethodError, match="'ls' is registered already"):
        register(METHODS["ls"])
    with pytest.raises(MethodError, match="its config calls itself 'ls'"):
        register(MethodEntry("other", "-", "losses", "nowhere:Nothing", LsConfig, "-"))


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
