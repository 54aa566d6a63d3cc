"""Central privacy: bounded moves, secret cohorts, one account, noise once."""

import itertools
import json
import logging
import stat
from dataclasses import fields, replace

import pytest
import torch

from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.contract.tasks import ClientTask
from pfedmoap.engine.round import run_round
from pfedmoap.engine.simulation import Rounds, run_federation
from pfedmoap.errors import PrivacyError, RunError, UpdateRejectedError
from pfedmoap.methods.registry import method_class
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.wire.messages import ClientId, Download, Update
from pfedmoap.wire.transport import InProcess
from privacy.accounting.epsilon import sampled_gaussian_epsilon
from privacy.central_options import Central
from privacy.mechanisms.central import ForTrustedServer
from tests.helpers.central_privacy import (
    CLIENTS,
    EVERYBODY,
    PLAN,
    arrays_of,
    central,
    made,
)
from tests.helpers.training_steps import run_rounds


def silent(method, norm=0.1, plan=EVERYBODY):
    """The mechanism with its noise taken out."""
    return replace(central(method, plan, max_update_norm=norm), noise_multiplier=0.0)


def one_round(method, data, privatizer, cohort=None, wire=None):
    cohort = sorted(data) if cohort is None else cohort
    wire = wire or InProcess()
    return run_round(method, method.init(), cohort, 1, data, {}, wire, privatizer)


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
    site, sent = ForTrustedServer(), Download(1, ClientId(1), {})  # in a federation of machines
    assert site.release(Update(1, ClientId(1), {}, 12), sent).num_examples is None


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
