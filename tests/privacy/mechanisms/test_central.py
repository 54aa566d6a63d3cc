"""Central privacy: only averages, bounded moves, secret cohorts, one account, less noise."""

import itertools
import json
import logging
import re
import stat
from dataclasses import fields, replace
from types import SimpleNamespace

import pytest
import torch

from pfedmoap.client.privatizer import NoPrivacy, PlannedTraining
from pfedmoap.config.server import ServerOptions
from pfedmoap.contract.privacy_analysis import gap_in_analysis
from pfedmoap.contract.tasks import ClientTask
from pfedmoap.engine.round import run_round
from pfedmoap.engine.simulation import Rounds, run_federation
from pfedmoap.errors import PrivacyError, RunError, UpdateRejectedError
from pfedmoap.methods.registry import Methods, method_class
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.wire.messages import ClientId, Download, Update
from pfedmoap.wire.transport import InProcess
from privacy.accounting.epsilon import gaussian_noise, sampled_gaussian_epsilon
from privacy.central_options import Central
from privacy.options import Release
from tests.helpers.places import ROOT
from tests.helpers.training_steps import SIZES, run_rounds

QUICK = {"fedsp": {"distillation_steps": 2}}
CLIENTS = tuple(SIZES)
PLAN = PlannedTraining(3, 1, 3, clients=CLIENTS, participation=0.5)
EVERYBODY = replace(PLAN, participation=1.0)
AVERAGING = {
    "promptfl",
    "promptfl_ft",
    "fedprox",
    "fedper",
    "fedrep",
    "fedpgp",
    "fedotp",
    "fedkgcoop",
    "fedprograd",
    "fedclip",
    "pfedprompt",
    "promptfolio",
    "fedtpg",
    "dpfpl",
    "fedavg_pt",
    "fedprox_pt",
    "fedopt_pt",
    "fed_bbpt",
}


def made(name, setting):
    return method_class(name)(setting, **QUICK.get(name, {}))


def arrays_of(method, state):
    return {name: value.double() for name, value in method.to_arrays(state).items()}


def central(method, plan=EVERYBODY, **options):
    return Central(**{"insecure_seed": 3} | options).privatizer(method, plan, None)


def silent(method, norm=0.1, plan=EVERYBODY):
    """The mechanism with its noise taken out."""
    return replace(central(method, plan, max_update_norm=norm), noise_multiplier=0.0)


def one_round(method, data, privatizer, cohort=None, wire=None):
    cohort = sorted(data) if cohort is None else cohort
    wire = wire or InProcess()
    return run_round(method, method.init(), cohort, 1, data, {}, wire, privatizer)


def made_up_updates(method, state, counts):
    """Uploads that no training made: everything about them differs from client to client."""
    clients = [ClientId(i) for i in (2, 5, 11)]
    found = []
    for seed, (download, count) in enumerate(
        zip(method.plan(state, clients, 1), counts, strict=True)
    ):
        draws = torch.Generator().manual_seed(seed)
        found.append(
            Update(
                1,
                download.client,
                {
                    name: download.arrays[name].cpu()
                    + 0.1 * torch.randn(download.arrays[name].shape, generator=draws)
                    for name in method.uploads
                },
                count,
            )
        )
    return found


def test_the_methods_that_average_are_known_and_the_docs_list_them(setting):
    declared = {
        name for name in Methods() if gap_in_analysis(made(name, setting), "central") is None
    }
    assert declared == AVERAGING
    table = (ROOT / "docs" / "methods" / "README.md").read_text()
    assert set(re.findall(r"^\| \[`(\w+)`\].* c \|$", table, re.MULTILINE)) == declared


def test_a_method_that_overrides_the_average_is_no_longer_for_central(setting):
    """A base that is asked by a subclass with another average does not speak of its own."""

    class Median(method_class("promptfl")):
        def aggregate(self, state, updates):
            return state

        def privacy_gap(self, mode):
            return super().privacy_gap(mode)

    class Apart(method_class("fedavg_pt")):
        def plan(self, state, cohort, round):
            return super().plan(state, cohort, round)

        def privacy_gap(self, mode):
            return super().privacy_gap(mode)

    for kind in (Median, Apart):
        assert "otherwise than through their plain average" in gap_in_analysis(
            kind(setting), "central"
        )


@pytest.mark.parametrize("name", sorted(AVERAGING))
def test_a_method_that_says_central_sees_uploads_through_their_mean_alone(name, setting):
    """Three uploads, one upload that is their mean, and the mean from somebody else: one state."""
    method = made(name, setting)
    state = method.init()
    updates = made_up_updates(method, state, [None] * 3)
    mean = {
        name: torch.stack([update.arrays[name].double() for update in updates]).mean(0).float()
        for name in method.uploads
    }
    expected = arrays_of(method, method.aggregate(state, updates))
    for sender in (2, -1, 77):
        alone = method.aggregate(state, [Update(1, ClientId(sender), mean, None)])
        found = arrays_of(method, alone)
        assert found.keys() == expected.keys()
        assert all(torch.allclose(found[name], expected[name], atol=1e-5) for name in found)
    downloads = method.plan(alone, [ClientId(2), ClientId(77)], 2)
    for first in downloads[0].arrays:  # and what goes down is the same for everybody
        assert torch.equal(downloads[0].arrays[first], downloads[1].arrays[first])


@pytest.mark.parametrize("name", sorted(set(Methods()) - AVERAGING))
def test_all_others_are_refused_with_a_reason_and_a_way_out(name, setting):
    method = made(name, setting)
    with pytest.raises(PrivacyError, match=r"'central': .*([Uu]se |joint)"):
        Central().privatizer(method, EVERYBODY, None)
    with pytest.raises(PrivacyError, match="has no analysis"):
        Central().privatizer(object(), EVERYBODY, None)


@pytest.mark.parametrize("norm", [1e-3, 0.05, 1e3])
def test_one_client_moves_the_noiseless_sum_by_at_most_the_norm(norm, setting, data):
    method = made("promptfl", setting)
    all_in = arrays_of(method, one_round(method, data, silent(method, norm)).state)
    for left_out in data:
        others = [client for client in sorted(data) if client != left_out]
        found = arrays_of(method, one_round(method, data, silent(method, norm), others).state)
        moved = float((all_in["context"] - found["context"]).norm()) * len(data)
        assert 0 < moved <= norm * (1 + 1e-3)


def test_without_noise_and_clipping_it_is_the_unweighted_average(setting, data):
    method = method_class("promptfl")(setting, weighting="uniform")
    plain = arrays_of(method, one_round(method, data, NoPrivacy()).state)
    found = arrays_of(method, one_round(method, data, silent(method, norm=1e6)).state)
    assert torch.allclose(found["context"], plain["context"], atol=1e-6)


@pytest.mark.parametrize("clipping", ["fixed", "adaptive"])
def test_the_mean_is_that_of_clipped_moves_over_the_expected_cohort(clipping, setting, data):
    """By hand; the divisor is the public 1.5 however many took part."""
    method = made("promptfl", setting)
    start = method.init()["context"].double()
    sent = method.plan(method.init(), sorted(data), 1)
    trained = method.train([ClientTask(d, None, data[d.client]) for d in sent], NoPrivacy())
    norm = 0.2
    total = torch.zeros_like(start)
    for result in trained:
        move = result.update.arrays["context"].double() - start
        total += move * min(1.0, norm / float(move.norm()))
    loud = central(method, PLAN, max_update_norm=norm, clipping=clipping)
    quiet = central(method, PLAN, max_update_norm=norm, clipping=clipping)
    found = arrays_of(method, one_round(method, data, loud).state)["context"]
    noise = arrays_of(method, one_round(method, data, quiet, cohort=[]).state)["context"]
    assert torch.allclose(found - noise, total / 1.5, atol=2**-9 * loud.noise_multiplier * norm)


def test_an_empty_cohort_is_a_round_in_which_the_state_moves_by_noise_alone(setting, data):
    method = method_class("promptfl")(setting, context_length=16)
    steps = []
    for _ in range(4):  # rounds with noise of their own, for enough numbers
        privacy = central(method, PLAN, max_update_norm=0.3, insecure_seed=None)
        moved = one_round(method, data, privacy, cohort=[])
        assert moved.cohort == ()
        assert moved.epsilon.keys() == set(CLIENTS)
        steps.append(moved.state["context"] - method.init()["context"])
    expected = privacy.noise_multiplier * 0.3 / 1.5
    assert float(torch.stack(steps).std()) == pytest.approx(expected, rel=0.1)


def test_a_refused_upload_counts_like_a_client_that_was_not_drawn(setting, data):
    method = made("promptfl", setting)

    class Refusing(InProcess):
        def up(self, update):
            if update.client == 1:
                raise UpdateRejectedError("broken")
            return super().up(update)

    refused = one_round(method, data, silent(method), wire=Refusing())
    assert set(refused.rejected) == {1}
    absent = one_round(method, data, silent(method), [c for c in sorted(data) if c != 1])
    assert torch.equal(refused.state["context"], absent.state["context"])


def test_counts_never_weight_the_mean(setting, data):
    method = made("promptfl", setting)
    assert method.weighting == "examples"
    heard = []

    class Listening(InProcess):
        def up(self, update):
            heard.append(update.num_examples)
            return super().up(update)

    one_round(method, data, silent(method), wire=Listening())
    assert heard == [None] * len(data)


def test_clients_are_drawn_independently_in_secret(setting):
    plan = replace(PLAN, participation=0.3, clients=tuple(ClientId(i) for i in range(40)))
    method = made("promptfl", setting)
    privacy = central(method, plan, insecure_seed=None)
    cohorts = [privacy.draw(plan.clients, 1, ()) for _ in range(400)]  # one round, drawn anew
    sizes = torch.tensor([float(len(cohort)) for cohort in cohorts])
    assert float(sizes.mean()) == pytest.approx(12, abs=0.7)
    assert float(sizes.var()) == pytest.approx(40 * 0.3 * 0.7, rel=0.3)  # and not a fixed size
    each = torch.zeros(40)
    for cohort in cohorts:
        assert list(cohort) == sorted(cohort)
        each[list(cohort)] += 1
    assert each.min() > 70
    assert each.max() < 175
    assert central(method, EVERYBODY).draw(CLIENTS, 1, ()) == CLIENTS
    with pytest.raises(PrivacyError, match="planned for others"):
        privacy.draw(CLIENTS, 1, CLIENTS)


def test_a_run_draws_empty_cohorts_too_and_goes_on(setting, data):
    method = made("promptfl", setting)
    plan = replace(PLAN, rounds=12, participation=0.2)
    seen = []
    run_federation(
        method,
        data,
        Rounds(12, 0.2),
        0,
        central(method, plan),
        observe=lambda now: seen.append(now.state["context"]) or {},
    )
    assert len(seen) == 12
    assert all(not torch.equal(a, b) for a, b in itertools.pairwise(seen))


def test_the_budget_lasts_exactly_and_then_the_state_stands_still(setting, data):
    method = made("promptfl", setting)
    privacy = central(method, PLAN, epsilon=4.0)
    state, _, results = run_rounds(method, data, privacy, 5)
    spent = [result.epsilon for result in results]
    noise = privacy.noise_multiplier
    for round in (1, 2, 3):
        expected = sampled_gaussian_epsilon(Central().accountant, noise, 0.5, round, 1e-5)
        assert spent[round - 1] == dict.fromkeys(CLIENTS, expected)
    assert 3.6 < expected <= 4.0
    assert spent[3] == spent[4] == {}
    assert results[3].cohort == ()
    assert set(results[3].sat_out) == set(data)
    assert torch.equal(results[2].state["context"], state["context"])


def test_a_round_that_was_not_charged_releases_nothing(setting):
    method = made("promptfl", setting)
    privacy = central(method)
    start = method.init()
    download = Download(1, ClientId(0), start)
    update = Update(1, ClientId(0), {"context": start["context"] + 1}, None)
    assert privacy.settle(1, [update], {ClientId(0): download}, lambda: start) == ()
    privacy.authorise([ClientId(0)], 1, ())
    assert len(privacy.settle(1, [update], {ClientId(0): download}, lambda: start)) == 1
    assert privacy.settle(1, [update], {ClientId(0): download}, lambda: start) == ()
    privacy.authorise([ClientId(0)], 2, ())
    with pytest.raises(PrivacyError, match=r"cannot cover \['context'\]"):
        privacy.settle(2, [update], {ClientId(0): download}, lambda: {"other": torch.zeros(1)})


def noise_on_the_mean(expected, clients, rounds):
    """Standard deviation on a round's mean at epsilon 8: local release, and central."""
    norm = Release().max_update_norm
    assert Central().max_update_norm == norm
    local = 2 * norm * gaussian_noise(8.0, 1e-5, rounds) / expected**0.5
    everybody = tuple(ClientId(i) for i in range(clients))
    plan = PlannedTraining(rounds, 1, 3, clients=everybody, participation=expected / clients)
    privacy = Central().privatizer(_Averages(), plan, None)
    return local, privacy.noise_multiplier * norm / privacy.expected_cohort


class _Averages:
    setting = SimpleNamespace(server=ServerOptions())

    def privacy_gap(self, mode):
        return None


@pytest.mark.parametrize("rounds", [1, 10, 100])
def test_100_clients_a_round_need_20_times_less_noise_than_local_release(rounds):
    local, mean = noise_on_the_mean(100, 100, rounds)
    assert local / mean == pytest.approx(20, rel=1e-3)
    few_local, few_mean = noise_on_the_mean(25, 25, rounds)
    assert few_local / few_mean == pytest.approx(10, rel=1e-3)  # as the root of the clients


def test_the_table_in_the_docs_is_what_the_options_give():
    row = r"^\| ([\d,]+) of ([\d,]+)(?: expected)?, (\d+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$"
    rows = re.findall(row, (ROOT / "docs" / "privacy.md").read_text(), re.MULTILINE)
    assert len(rows) == 5
    for expected, clients, rounds, *shown in rows:
        sizes = [int(text.replace(",", "")) for text in (expected, clients, rounds)]
        local, mean = noise_on_the_mean(*sizes)
        assert [float(text) for text in shown] == pytest.approx(
            [local, mean, local / mean], rel=0.005
        )


def test_adaptive_norms_last_from_round_to_round_and_come_back(setting, data, tmp_path):
    method = made("promptfl", setting)
    plan = replace(EVERYBODY, rounds=4)
    options = {"clipping": "adaptive", "clip_learning_rate": 0.5, "epsilon": 50.0}

    def go(folder, rounds):
        privacy = Central(insecure_seed=3, **options).privatizer(method, plan, folder / "ledgers")
        run = RunDirectory(folder)
        end = run_federation(method, data, Rounds(rounds), 0, privacy, run=run)
        return end.state["context"], [record["privacy"] for record in run.metrics()]

    whole, norms = go(tmp_path / "whole", 4)
    go(tmp_path / "parts", 2)
    parts, again = go(tmp_path / "parts", 4)
    assert torch.equal(whole, parts)
    assert again == norms
    assert [record["releases"] for record in norms] == [1, 2, 3, 4]
    assert len({record["clip_norm"] for record in norms}) == 4


def test_the_statement_says_who_is_trusted(setting):
    adaptive = central(made("promptfl", setting), clipping="adaptive", insecure_seed=None)
    said = adaptive.describe()
    assert said["unit"] == "a client with all its data"
    assert said["neighbours"].startswith("add or remove one client")
    assert "server" in said["trusted"]
    assert any("trusted" in what for what in said["not_covered"])
    assert said["is_private"]
    assert said["epsilon_planned"] <= 8
    mechanism = said["mechanism"]
    assert mechanism["sum_noise_multiplier"] > mechanism["noise_multiplier"]
    json.dumps(said)
    with pytest.raises(PrivacyError, match="names none"):
        Central().privatizer(_Averages(), replace(PLAN, clients=()), None)


def test_a_delta_that_would_let_one_client_through_is_said(setting, caplog):
    with caplog.at_level(logging.WARNING):
        central(made("promptfl", setting), delta=0.4)
    assert "one in 2 of what it protects" in caplog.text
    assert "number of clients" in caplog.text


def test_what_tells_participants_is_in_the_private_folder_alone(setting, data, tmp_path):
    method = made("promptfl", setting)
    privacy = Central(max_update_norm=1e-4).privatizer(method, EVERYBODY, None)
    run = RunDirectory(tmp_path)
    run_federation(method, data, Rounds(2), 0, privacy, run=run)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        for name in ("cohort", "traffic", "train_loss", "sat_out", "rejected", "costs", "served"):
            assert not line[name]
        assert "clipped" not in line
        assert line["epsilon"].keys() == {str(client) for client in data}
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o700
    merged = run.metrics()
    assert [record["cohort"] for record in merged] == [sorted(data)] * 2
    assert merged[0]["clipped"] == dict.fromkeys(map(str, sorted(data)), 1.0)
    (tmp_path / "private" / "metrics.jsonl").unlink()
    with pytest.raises(RunError, match="has 0 complete lines, expected 2"):
        run.metrics()


@pytest.mark.parametrize("name", ["promptfl", "fed_bbpt"])
def test_no_log_tells_who_takes_part(name, setting, data, caplog):
    """Neither the engine's lines nor those of a method, of this package or of another one."""
    caplog.set_level(logging.DEBUG)
    method = made(name, setting)
    kind = type(method)

    class Talks(kind):
        def privacy_gap(self, mode):
            return super().privacy_gap(mode)

        def train(self, tasks, privatizer):
            logging.getLogger("elsewhere").error("client %d trains", tasks[0].download.client)
            results = super().train(tasks, privatizer)
            broken = {
                name: value * float("nan") for name, value in results[0].update.arrays.items()
            }
            return [replace(results[0], update=replace(results[0].update, arrays=broken))]

    limited = {"query_budget": method.price} if name == "fed_bbpt" else {}
    talks = replace(Talks(**vars_of(method)), **limited)
    privatizer = central(talks)
    caplog.clear()
    secret = one_round(talks, data, privatizer)
    assert len(secret.rejected) == 1
    assert not caplog.records
    logging.getLogger("elsewhere").error("rounds are over")
    assert len(caplog.records) == 1
    one_round(talks, data, NoPrivacy())
    assert any("trains" in record.getMessage() for record in caplog.records)


def vars_of(method):
    return {each.name: getattr(method, each.name) for each in fields(method) if each.init}
