"""A person as the unit: drawn as a whole, clipped as a whole, accounted like one example."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from eval.commands import train
from pfedmoap.client.batches import Batch, Stream
from pfedmoap.client.privatizer import PlannedTraining
from pfedmoap.errors import PrivacyError
from pfedmoap.methods.registry import method_class
from pfedmoap.wire.messages import ClientId
from privacy.mechanisms.adaptive_clipping import AdaptiveClipping
from privacy.mechanisms.groups import Examples, GroupMeans, Groups
from privacy.mechanisms.mechanism import SampledGaussian, with_penalty
from privacy.mechanisms.randomness import Randomness
from privacy.mechanisms.sampling import poisson_batches
from privacy.options import DPSGD
from tests.helpers.training_steps import last_steps, run_rounds

ME = ClientId(0)
OWNERS = torch.tensor([4, 4, 9, 4, 2, 9, 4])  # people 2, 4 and 9 are units 0, 1 and 2


def plan(units, steps=2000, rate=0.3, views=3, seed=1):
    return poisson_batches(
        [len(OWNERS)],
        views,
        [Stream(0, ME, 1)],
        steps=steps,
        rate=rate,
        normaliser=2.0,
        randomness=Randomness(seed),
        units=units,
    )


@pytest.mark.parametrize("most", [None, 1, 2, 10])
def test_a_person_is_in_a_step_with_all_examples_that_train_or_with_none(most):
    drawn = plan(Groups({ME: OWNERS}, most))
    kept = {
        int(person): (person == OWNERS).nonzero().flatten()[:most].tolist()
        for person in OWNERS.unique()
    }
    seen = dict.fromkeys(kept, 0)
    for step in range(len(drawn.index)):
        real = drawn.weight[step, 0] > 0
        index, owner = drawn.index[step, 0, real], drawn.owner[step, 0, real]
        present = set(index.tolist())
        assert len(present) == int(real.sum())
        expected = [person for person, examples in kept.items() if present & set(examples)]
        assert present == {example for person in expected for example in kept[person]}
        people = OWNERS[index]
        assert torch.equal(owner[:, None] == owner, people[:, None] == people)
        assert owner.unique().tolist() == list(range(len(expected)))
        for person in expected:
            seen[person] += 1
    for count in seen.values():
        assert count / 2000 == pytest.approx(0.3, abs=0.05)


def test_people_are_drawn_independently_of_each_other():
    drawn = plan(Groups({ME: OWNERS}), steps=20000)
    index, real = drawn.index[:, 0], drawn.weight[:, 0] > 0
    people = torch.stack(
        [((OWNERS[index] == person) & real).any(1).double() for person in (2, 4, 9)]
    )
    assert torch.corrcoef(people).fill_diagonal_(0).abs().max() < 0.03


def test_people_with_one_example_each_are_the_examples():
    alone, own = plan(Groups({ME: torch.arange(7) * 5})), plan(None)
    for name in ("index", "view", "weight"):
        assert torch.equal(getattr(alone, name), getattr(own, name))
    assert own.owner is None
    assert Examples().of(ME, 7).tolist() == list(range(7))


def with_people(batch):
    """The same batch, whose examples belong to people 0, 1, 0, 1, ... of each client."""
    owner = torch.arange(batch.labels.shape[1]).expand_as(batch.labels) % 2
    return replace(batch, owner=owner)


def data_part(mechanism, problem, params, batch, weight):
    """What the data add to a step's gradient without noise, one row of numbers a client."""
    quiet = [Randomness(0).stream("noise")] * len(weight)
    zero = {name: torch.zeros_like(value) for name, value in params.items()}
    penalty = with_penalty(problem, params, zero)
    found, _ = mechanism.gradients(problem, params, replace(batch, weight=weight), quiet)
    return torch.cat([(found[name] - penalty[name]).flatten(1) for name in sorted(found)], dim=1)


def only(weight, client, example):
    """Weights that leave one example of one client alone."""
    alone = torch.zeros_like(weight)
    alone[client, example] = 1.0
    return alone


@pytest.mark.parametrize("memory_bytes", [1, 2**30])
@pytest.mark.parametrize("name", ["promptfl", "pfedmoap", "fedpgp"])
def test_a_person_moves_the_noiseless_sum_by_at_most_the_clipping_norm(
    name, memory_bytes, setting, data
):
    """Against the brute force: one example at a time, the mean of a person's, clipped, summed."""
    norm = 1e-3
    clipped, raw = SampledGaussian(0.0, norm, 1.0, memory_bytes), SampledGaussian(0.0, 1e9, 1.0)
    for problem, params, plain in last_steps(method_class(name)(setting), data):
        batch = replace(
            plain, owner=torch.arange(plain.labels.shape[1]).expand_as(plain.labels) % 2
        )
        whole = data_part(clipped, problem, params, batch, batch.weight)
        for k in range(len(batch.weight)):
            expected = torch.zeros_like(whole[k])
            for person in (0, 1):
                mine = batch.owner[k] == person
                weight = batch.weight.clone()
                weight[k, mine] = 0
                without = data_part(clipped, problem, params, batch, weight)
                assert (whole[k] - without[k]).norm() <= norm * (1 + 1e-4)
                examples = (mine & (batch.weight[k] > 0)).nonzero().flatten().tolist()
                if examples:
                    alone = [only(batch.weight, k, example) for example in examples]
                    single = replace(batch, owner=None)
                    rows = [data_part(raw, problem, params, single, one)[k] for one in alone]
                    mean = torch.stack(rows).mean(0)
                    expected += mean * min(1.0, norm / float(mean.norm()))
            torch.testing.assert_close(whole[k], expected, rtol=2e-3, atol=2e-6)


def test_means_do_not_see_padding_or_other_clients():
    owner = torch.tensor([[0, 1, 0, 0], [0, 0, 0, 0]])
    present = torch.tensor([[True, True, True, False], [False] * 4])
    means = GroupMeans(owner, present)
    values = torch.tensor([[1.0, 5.0, 3.0, 0.0], [0.0] * 4])[..., None]
    for start in (0, 1, 3):
        stop = {0: 1, 1: 3, 3: 4}[start]
        means.add(start, {"x": values[:, start:stop]})
    assert means.means()["x"][..., 0].tolist() == [[2.0, 5.0, 0.0, 0.0], [0.0] * 4]


def test_a_person_costs_what_an_example_costs(setting, data):
    groups = {client: torch.arange(len(own)) // 2 for client, own in data.items()}
    people = PlannedTraining(3, 1, 3, groups)
    method = method_class("pfedmoap")(setting)
    one, whole = (
        DPSGD(sample_rate=0.5, unit=unit).privatizer(method, people, None)
        for unit in ("example", "group")
    )
    assert one.mechanism.noise_multiplier == whole.mechanism.noise_multiplier
    assert [one.ledgers.budget.spent(n) for n in (1, 6)] == [
        whole.ledgers.budget.spent(n) for n in (1, 6)
    ]
    _, _, results = run_rounds(method, data, whole, 2)
    assert all(result.cohort == tuple(sorted(data)) for result in results)
    said = whole.describe()
    assert said["unit"] == "one person: all training examples of one group at one client"
    assert said["neighbours"] == "add or remove all examples of one group"
    assert any("budgets of these clients add up" in what for what in said["not_covered"])
    assert not any("add up for them" in what for what in one.describe()["not_covered"])


def test_a_guarantee_for_people_needs_to_know_them(setting, data, caplog):
    method = method_class("promptfl")(setting)
    planned = PlannedTraining(3, 1, 3)
    with pytest.raises(PrivacyError, match="a column `group` with `--data csv`"):
        DPSGD(unit="group").privatizer(method, planned, None)
    with pytest.raises(PrivacyError, match=r"needs --privacy\.unit group"):
        DPSGD(max_per_group=3)
    with pytest.raises(PrivacyError, match="at least 1"):
        DPSGD(unit="group", max_per_group=0)
    wrong = replace(planned, groups={client: torch.zeros(2) for client in data})
    with pytest.raises(PrivacyError, match="the owners of 2 are known"):
        run_rounds(method, data, DPSGD(unit="group").privatizer(method, wrong, None), 1)
    caplog.clear()
    DPSGD().privatizer(method, wrong, None)
    assert "`--privacy.unit group` protects people" in caplog.text


@pytest.mark.parametrize("reader", ["csv", "folder"])
def test_people_are_protected_from_files_to_statement(reader, tmp_path, capsys):
    """Eight patients with three pictures each, in a folder tree and in a table of it."""
    rng, lines = np.random.default_rng(0), ["image,label,group"]
    for patient in range(8):
        for shot in range(3):
            label = "ill" if patient % 2 else "well"
            file = tmp_path / "root" / label / f"patient {patient}" / f"{shot}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(file)
            lines.append(f"{file.relative_to(tmp_path)},{label},patient {patient}")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    data = {
        "csv": ("--data", "csv", "--data.file", str(tmp_path / "list.csv")),
        "folder": (
            "--data",
            "folder",
            "--data.root",
            str(tmp_path / "root"),
            "--data.groups",
            "subfolder",
        ),
    }[reader]
    train.main(
        [
            *data,
            "--partition",
            "iid",
            "--partition.clients",
            "2",
            "--method",
            "promptfl",
            "--method.context_length",
            "2",
            "--privacy",
            "dpsgd",
            "--privacy.unit",
            "group",
            "--privacy.max_per_group",
            "2",
            "--training.epochs",
            "1",
            "--rounds.rounds",
            "1",
            "--quiet",
            "true",
            "--features.cache",
            str(tmp_path / "cache"),
            "--backbone.device",
            "cpu",
            "--out",
            str(tmp_path / "run"),
        ]
    )
    assert "for one person: all training examples of one group" in capsys.readouterr().out
    statement = json.loads((tmp_path / "run" / "privacy.json").read_text())
    assert statement["mechanism"]["unit"] == "group"
    assert statement["mechanism"]["max_per_group"] == 2


class Linear:
    """A problem in which the gradient of an example is its image."""

    def represent(self, params):
        return {"prompt": params["prompt"] * 1.0}

    def losses(self, params, shared, features, labels):
        return (shared["prompt"].unsqueeze(1) * features["image"]).sum(-1)

    def penalty(self, params):
        return params["prompt"].new_zeros(len(params["prompt"]))


@pytest.mark.parametrize("adaptive", [None, AdaptiveClipping(0.5, 0.2, 1.0, 1.0)])
def test_finite_gradients_whose_mean_is_not_do_not_show_in_the_step(adaptive):
    """One person's two images, whose gradients together exceed float32."""

    def step(images, owner):
        batch = Batch(
            features={"image": torch.tensor([images])},
            labels=torch.zeros(1, len(images), dtype=torch.long),
            weight=torch.ones(1, len(images)),
            streams=(Stream(0, ME, 1),),
            owner=torch.tensor([owner]),
        )
        mechanism = SampledGaussian(1.0, 1.0, 1.0, adaptive=adaptive)
        noise = [Randomness(0).stream("noise")]
        params = {"prompt": torch.zeros(1, 2)}
        found, _ = mechanism.gradients(Linear(), params, batch, noise)
        return found["prompt"], float(mechanism.norms[ME][1]), mechanism.tally.take()

    alone, norm, _ = step([[1.0, 0.0]], [0])
    together, following, shares = step([[1.0, 0.0], [3e38, 0.0], [3e38, 0.0]], [0, 1, 1])
    assert alone.isfinite().all()
    assert torch.equal(together, alone)
    assert following == norm
    assert shares == {ME: 0.0}
