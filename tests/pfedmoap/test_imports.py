"""What imports load: a program pays only for the parts that it uses."""

import json
import subprocess
import sys

import pytest

import pfedmoap

HEAVY = {
    *("torch", "open_clip", "sklearn", "faiss", "opacus", "numpy", "PIL", "yaml", "jsonargparse"),
    *("starlette", "uvicorn"),
}
OURS = {"pfedmoap", "privacy", "eval"}


def loaded(code: str) -> set[str]:
    """Modules that a fresh interpreter has after some code, whose own output is swallowed."""
    report = "import json, sys; sys.stderr.write(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stderr))


@pytest.mark.parametrize(
    ("code", "ours"),
    [
        ("import pfedmoap", {"pfedmoap"}),
        ("from pfedmoap import PFedMoAPError", {"pfedmoap", "pfedmoap.errors"}),
        (
            "from eval.cli import main; main(['--help'])",
            {"eval", "eval.cli", "eval.output", "pfedmoap"},
        ),
        (
            "from eval.cli import main; main(['--version'])",
            {"eval", "eval.cli", "eval.output", "pfedmoap"},
        ),
        (
            "import pfedmoap.serving.listener",
            {
                *("pfedmoap", "pfedmoap.errors", "pfedmoap.serving", "pfedmoap.serving.limits"),
                *("pfedmoap.serving.listener", "pfedmoap.serving.place"),
                "pfedmoap.serving.service",
            },
        ),
    ],
)
def test_what_is_not_asked_for_is_not_loaded(code, ours):
    modules = loaded(code)
    assert {name for name in modules if name.split(".")[0] in OURS} == ours
    assert not HEAVY & modules


SLOW = {
    *("open_clip", "torchvision", "timm", "transformers", "sklearn", "scipy", "matplotlib"),
    *("opacus", "dp_accounting", "torch._dynamo", "flwr", "ray", "starlette", "uvicorn"),
}
"""What takes longer to load than torch does where it is not needed: all but torch itself, which in
older versions loads SymPy."""


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_help_loads_no_library_but_torch_that_takes_long(command):
    """Readers, backbones and accountants are known by their options; they load what they use."""
    code = f"""
from eval.cli import main
try:
    main([{command!r}, '--help'])
except SystemExit:
    pass
"""
    modules = loaded(code)
    assert "eval.commands." + command in modules
    assert not SLOW & modules


@pytest.mark.parametrize("name", pfedmoap.__all__)
def test_every_public_name_is_there_when_asked_for(name):
    scope: dict = {}
    exec(f"from pfedmoap import {name}", scope)
    assert name in dir(pfedmoap)
    assert scope[name].__name__ == name
    assert scope[name].__module__ == pfedmoap.PLACES[name]


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'pfedmoap' has no attribute 'Prompt'"):
        _ = pfedmoap.Prompt
