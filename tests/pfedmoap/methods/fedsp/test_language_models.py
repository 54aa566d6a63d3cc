"""FedSP on a language model: rounds, the wire, and the commands on a saved run."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from eval.commands import evaluate, predict, report, train
from eval.predictions import predict_clients, states_for_prediction
from pfedmoap.client.local_training import Training
from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.config.sampling import Sampling, Seeds
from pfedmoap.contract.tasks import Setting
from pfedmoap.data.federation import Features, Federation, build_federation
from pfedmoap.data.partition import IID
from pfedmoap.data.questions.reader import Questions
from pfedmoap.engine.simulation import FederationState, Rounds, run_federation
from pfedmoap.errors import BackboneError, ConfigError
from pfedmoap.inference import PersonalizedClassifier
from pfedmoap.methods.fedsp.method import FedSP
from pfedmoap.methods.fedsp.protect import protect
from pfedmoap.models.language.model import FrozenLM
from pfedmoap.models.language.scoring import KINDS
from pfedmoap.models.protected.interface import Protection
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.wire.messages import Arrays
from tests.helpers.language_models import (
    FAMILIES,
    make_lm,
    make_model,
    make_tokenizer,
    write_lines,
)

pytest.importorskip("transformers")

PROTECTION = Protection("both", "text", 2, "looped", 1, 16)


def task(
    lm: FrozenLM, file: Path, learning_rate: float = 0.02, **options
) -> tuple[FedSP, Federation]:
    dataset = Questions(str(file)).read()
    federation = build_federation(
        dataset,
        IID(3),
        lm,
        KINDS,
        sampling=Sampling(server_shots=4),
        seeds=Seeds(),
        features=Features(),
        progress=False,
    )
    setting = Setting(
        lm,
        dataset.class_names,
        Training(epochs=1, batch_size=8, learning_rate=learning_rate),
        dataset.templates,
        server_data=federation.server,
    )
    defaults = {"prefix_length": 2, "distillation_steps": 10} | options
    return FedSP(setting, **defaults), federation


def run(method: FedSP, federation: Federation, rounds: int = 2) -> FederationState:
    return run_federation(method, federation.training_data, Rounds(rounds), 0, NoPrivacy())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("auxiliary", ["looped", "dropped"])
def test_three_clients_train_for_two_rounds(family, auxiliary, file):
    method, federation = task(make_lm(family), file, auxiliary=auxiliary, auxiliary_blocks=2)
    now = run(method, federation)
    first = method.init()
    assert now.state.prefix["text"].shape == method.uploads["prefix.text"].shape
    assert not torch.equal(now.state.prefix["text"], first.prefix["text"])
    weights = [
        {n: v for n, v in local.items() if n.startswith("auxiliary.")}
        for local in now.local_states.values()
    ]
    assert len(weights) == 3
    assert all(
        not torch.equal(value, weights[1][name])
        for name, value in weights[0].items()
        if "k_proj.bias" not in name
    )
    answers = predict_clients(
        method, now, states_for_prediction(method, now, federation), federation
    )
    assert all(one.shared is not None for one in answers)
    assert all((one.personal.confidence > 0.3).all() for one in answers)


def test_the_whole_model_learns_from_the_prefix_alone(file):
    method, federation = task(make_lm("gpt2"), file, learning_rate=0.1)
    model = protect(method.setting, PROTECTION)

    def loss(state) -> float:
        """Of the right choices in all test questions, in the whole model."""
        prefix = {name: value[None] for name, value in state.prefix.items()}
        with torch.no_grad():
            each = [
                model.losses(
                    prefix, {}, {k: v[None] for k, v in test.view().items()}, test.labels[None]
                )
                for test in (client.test for client in federation.clients.values())
            ]
        return float(torch.cat(each, dim=1).mean())

    before = {name: v.clone() for name, v in method.setting.backbone.model.state_dict().items()}
    now = run(method, federation, rounds=8)
    assert loss(now.state) < loss(method.init()) - 0.5
    for name, value in method.setting.backbone.model.state_dict().items():
        assert torch.equal(value, before[name])


def rows_of(arrays: Mapping[str, torch.Tensor]) -> set[bytes]:
    """Every tensor's rows along the last axis, and its columns, as bytes."""
    found: set[bytes] = set()
    for value in arrays.values():
        flat = value.detach().float().reshape(-1, *value.shape[-1:])
        for part in (flat, flat.T) if flat.dim() == 2 else (flat,):
            found |= {row.contiguous().numpy().tobytes() for row in part if row.numel() > 1}
    return found


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("auxiliary", ["looped", "dropped"])
def test_no_row_of_a_protected_layer_crosses_the_wire(family, auxiliary, file, monkeypatch):
    """Neither in what goes down nor in what comes up; embedding and head go down, as documented."""
    lm = make_lm(family)
    method, federation = task(lm, file, auxiliary=auxiliary, auxiliary_blocks=2)
    sent: list[Arrays] = []
    plan, train_clients, kind = FedSP.plan, FedSP.train, FedSP

    def spying_plan(self, state, cohort, round):
        downloads = plan(self, state, cohort, round)
        sent.extend(download.arrays for download in downloads)
        return downloads

    def spying_train(self, tasks, privatizer):
        results = train_clients(self, tasks, privatizer)
        sent.extend(result.update.arrays for result in results)
        return results

    monkeypatch.setattr(kind, "plan", spying_plan)
    monkeypatch.setattr(kind, "train", spying_train)
    now = run(method, federation)
    layers = f"{lm.decoder.layers}."
    secret = {n: v for n, v in lm.model.named_parameters() if n.startswith(layers)}
    assert len(sent) == 2 * 2 * 3
    for arrays in sent:
        assert not rows_of(arrays) & rows_of(secret)
        numbers = {name.split(layers)[1].split(".")[0] for name in arrays if layers in name}
        assert len(numbers) in (0, 2)
        assert all(name.startswith(("prefix.", "auxiliary.")) for name in arrays)
    assert {name for arrays in sent[3:6] for name in arrays} == {"prefix.text"}
    assert {name for arrays in sent[6:] for name in arrays} == {"prefix.text"}
    for local in now.local_states.values():
        assert not rows_of(local) & rows_of(secret)


def test_without_questions_of_its_own_the_server_says_so(file):
    method, _ = task(make_lm("gpt2"), file)
    bare = FedSP(Setting(method.setting.backbone, ("a", "b", "c"), Training()), server_step=False)
    with pytest.raises(ConfigError, match=r"sampling\.server_shots"):
        bare.init()


SMALL_METHOD = {"method": "fedsp", "method.prefix_length": 2, "method.distillation_steps": 5}


def command(folder: Path, data: Mapping, method: Mapping, **more) -> list[str]:
    options = {
        "backbone.model": f"lm:{folder}",
        "backbone.device": "cpu",
        "sampling.server_shots": 2,
        "partition": "iid",
        "partition.clients": 3,
        "training.epochs": 1,
        "rounds.rounds": 2,
        "quiet": "true",
    }
    everything = {**data, **method, **options, **more}
    return [str(word) for name, value in everything.items() for word in (f"--{name}", value)]


@pytest.fixture(scope="module")
def finished(folder, file, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "questions"
    data = {"data": "questions", "data.path": file}
    train.main(command(folder, data, SMALL_METHOD, out=out))
    return out


def test_a_run_on_the_command_line_is_evaluated_and_reported(finished, tmp_path, capsys):
    evaluate.main([str(finished), "--csv", str(tmp_path / "again.csv")])
    assert (tmp_path / "again.csv").read_text() == (finished / "per_client.csv").read_text()
    report.main([str(finished), "--out", str(tmp_path / "report.html")])
    page = (tmp_path / "report.html").read_text()
    assert "nan%" not in page.lower()
    assert ">nan<" not in page.lower()
    last = RunDirectory(finished).metrics()[-1]
    assert 0 <= last["evaluation"]["global_union"] <= 1
    assert json.loads((finished / "task.json").read_text())["server"]
    for row in last["traffic"]:  # layers, keys and values, places, width, bytes
        assert row["up_bytes"] == row["down_bytes"] == {"prefix.text": 4 * 2 * 2 * 16 * 4}
    assert "fedsp on colours" in capsys.readouterr().out


def test_a_finished_run_is_resumed_to_the_same_bytes(finished, folder, file):
    before = {path: path.read_bytes() for path in finished.rglob("*.safetensors")}
    data = {"data": "questions", "data.path": file}
    train.main(command(folder, data, SMALL_METHOD, out=finished, resume="true"))
    assert {path: path.read_bytes() for path in finished.rglob("*.safetensors")} == before


def test_predict_says_that_a_language_model_classifies_no_images(finished, tmp_path, capsys):
    with pytest.raises(BackboneError, match="language model"):
        PersonalizedClassifier.load(finished, 0, device="cpu")
    with pytest.raises(SystemExit):
        predict.main([str(finished), str(tmp_path / "photo.png"), "--client", "0"])
    assert "is a language model" in capsys.readouterr().err


def test_what_does_not_fit_is_refused_on_the_command_line(folder, file, tmp_path, capsys):
    questions = {"data": "questions", "data.path": file}
    cases = (
        (questions, {"method": "pfedmoap"}, {}, "is a language model and has no"),
        (questions, {"method": "promptfl"}, {}, "is a language model and has no"),
        ({"data": "digits"}, SMALL_METHOD, {}, "holds images, and a language model"),
        (questions, SMALL_METHOD, {"backbone.model": "embedded"}, "a CLIP cannot read them"),
        (questions, SMALL_METHOD, {"sampling.server_shots": 0}, "examples of its own"),
        (
            questions,
            SMALL_METHOD | {"method.stages": "prompt"},
            {"privacy": "dpsgd", "privacy.epsilon": 8},
            "no per-example gradient",
        ),
    )
    for i, (data, method, more, complaint) in enumerate(cases):
        with pytest.raises(SystemExit):
            train.main(command(folder, data, method, out=tmp_path / str(i), **more))
        assert complaint in capsys.readouterr().err


def test_a_model_that_knows_two_answers_is_brought_to_the_clients_one(tmp_path):
    """What prompts are for: the model knows both tables, and the prefix says which one is meant."""
    things, colours = ("grass", "sky", "fire"), ("green", "blue", "red")
    tokenizer, model = make_tokenizer(), make_model("gpt2", layers=2).requires_grad_(True)

    def text(cue: str, thing: int) -> str:
        answer = colours[(thing + (cue == "no")) % 3]
        return f"{cue} Question: what colour is the {things[thing]}? Answer: {answer}"

    rows = torch.tensor(
        [tokenizer(text(c, i))["input_ids"] for c in ("yes", "no") for i in (0, 1, 2)]
    )
    rows = torch.cat([rows, torch.cat([rows[:, 1:], rows[:, :1] * 0], dim=1)])  # and without cue
    labels = rows.masked_fill(rows == 0, -100)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(150):
        logits = model(input_ids=rows, attention_mask=(rows != 0).long()).logits
        loss = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    entries = [
        {
            "question": f"what colour is the {things[i % 3]}?",
            "choices": list(colours),
            "answer": (i + 1) % 3,
        }
        for i in range(60)
    ]
    file = write_lines(tmp_path / "other.jsonl", entries)
    method, federation = task(
        FrozenLM(model, tokenizer), file, 0.05, distillation_steps=30, stages="prompt"
    )

    def right(state) -> float:
        tests = [client.test for client in federation.clients.values()]
        return sum(
            int((method.predict_global(state, t.view()).logits.argmax(-1) == t.labels).sum())
            for t in tests
        ) / sum(map(len, tests))

    assert right(method.init()) < 0.7
    assert right(run(method, federation, rounds=4).state) == 1


def test_private_steps_and_options_of_two_towers_are_refused_beforehand(lm):
    setting = Setting(lm, ("yes", "no"), Training(), ("{}",))
    assert "no per-example gradient" in str(FedSP(setting, stages="prompt").privacy_gap("joint"))
    assert FedSP(setting).privacy_gap("release") is None
    for options in ({"protects": "text"}, {"prefixed": "both"}):
        with pytest.raises(ConfigError, match="one tower"):
            _ = FedSP(setting, **options).uploads
