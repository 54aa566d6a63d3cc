"""A run of a method in a file: resumed, evaluated and used as any other, with that file alone."""

import pytest
import torch
from PIL import Image

from eval.choices import schema
from eval.running import load_outcome, run_experiment
from pfedmoap.errors import MethodError, RunError
from pfedmoap.inference import PersonalizedClassifier
from pfedmoap.runs.directory import RunDirectory
from tests.helpers.runs import small

FILE = '''
from dataclasses import dataclass

from pfedmoap.methods.fedper import FedPer


@dataclass(frozen=True)
class Mine(FedPer):
    """The method.

    Attributes:
        local_vectors: Vectors that stay.
    """

    local_vectors: int = 1


METHOD = Mine
'''


def test_a_run_finds_its_methods_file_and_no_other(cache, loader, tmp_path):
    file, out = tmp_path / "mine.py", tmp_path / "run"
    file.write_text(FILE)
    chosen = {"name": str(file), "context_length": 2}

    def run(resume):
        config = schema().resolve(small(cache, method=chosen))
        return run_experiment(loader.prepare(config), out, resume=resume, progress=False)

    outcome = run(resume=False)
    experiment, now = load_outcome(RunDirectory(out), loader)
    assert type(experiment.method).__name__ == "Mine"
    assert torch.equal(now.state["shared"], outcome.final.state["shared"])
    assert run(resume=True).final.round == 2
    (answer,) = PersonalizedClassifier.load(out, 0).classify([Image.new("RGB", (32, 32))])
    assert len(answer.ranking) == 10
    file.write_text(FILE + "# another one\n")
    with pytest.raises(RunError, match=r"method.name was .*mine.py@"):
        run(resume=True)
    for use in (
        lambda: load_outcome(RunDirectory(out), loader),
        lambda: PersonalizedClassifier.load(out, 0),
    ):
        with pytest.raises(MethodError, match="has changed"):
            use()
