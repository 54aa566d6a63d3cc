"""Fed-BBPT: what the contract suite does not know of queries, budgets and closed models."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from eval.predictions import predict_clients
from pfedmoap.client.privatizer import NoPrivacy, PlannedTraining
from pfedmoap.data.federation import Client, Federation
from pfedmoap.data.splits import ClientSplit
from pfedmoap.engine.round import run_round
from pfedmoap.engine.simulation import FederationState, Rounds, run_federation
from pfedmoap.errors import ConfigError, PrivacyError
from pfedmoap.methods.fed_bbpt.method import FedBBPT
from pfedmoap.methods.fed_bbpt.spsa import Gains
from pfedmoap.methods.fed_bbpt.training import Examples
from pfedmoap.methods.zero_shot import ZeroShot
from pfedmoap.models.blackbox.in_process import InProcessModel
from pfedmoap.models.blackbox.server import Endpoint
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.seeding import generator
from pfedmoap.serving.place import Place, read_token
from pfedmoap.wire.messages import ClientId
from pfedmoap.wire.transport import InProcess
from privacy.options import DPSGD, Release
from tests.helpers.serving import running
from tests.helpers.small_federation import make_data

SMALL = {"generator_width": 8, "steps": 2, "draws": 1}


@pytest.fixture(params=["image", "text"])
def method(request, setting) -> FedBBPT:
    return FedBBPT(setting, variant=request.param, **SMALL)


def test_trains_with_gradients_off_everywhere(method, small):
    """Pitfall (e): the whole method gives the same bytes where no gradient can exist."""
    state, _, _ = small(method).rounds(2)
    with torch.inference_mode():
        closed, _, _ = small(replace(method)).rounds(2)
    assert torch.equal(state, closed)
    assert not torch.equal(state, method.init())


def test_white_box_needs_what_the_black_box_withholds(method, small):
    open_method = replace(method, gradient="white-box", step_gain=0.05)
    state, _, results = small(open_method).rounds(2)
    assert not torch.equal(state, open_method.init())
    assert all(result.costs["queries"] == 0 for result in results)


def test_clients_count_their_queries_over_rounds(method, small):
    """Batches of 3 at one draw: 2 queries an example; client 1 has 3 images, client 7 has one."""
    _, local_states, results = small(method).rounds(3)
    cost = {result.update.client: result.costs["queries"] for result in results}
    assert cost[ClientId(1)] == 2 * 2 * 3
    assert cost[ClientId(7)] == 2 * 2 * 1
    assert cost[ClientId(0)] == 2 * (3 + 2)
    assert {client: int(local["queries"]) for client, local in local_states.items()} == {
        client: 3 * queries for client, queries in cost.items()
    }


def test_endpoint_gives_what_this_process_gives(method, small, clip, tmp_path):
    state, _, results = small(method).rounds(2)
    token = tmp_path / "token"
    token.write_text("0123456789abcdef\n")
    place = Place(token=read_token(token))
    with Endpoint(InProcessModel(clip), place) as endpoint, running(endpoint):
        remote = replace(method, endpoint=endpoint.url, token_file=str(token))
        there, local_states_there, results_there = small(remote).rounds(2)
        served = endpoint.served
    assert torch.equal(state, there)
    assert served.queries == sum(int(local["queries"]) for local in local_states_there.values())
    for here, away in zip(results, results_there, strict=True):
        assert here.costs["queries"] == away.costs["queries"]


def test_a_spent_budget_cuts_steps_and_then_sits_out(method, small, data, caplog):
    """16 queries: client 4 (batches of 3) takes 2 steps of 6 in round 1, and none in round 2."""
    method = replace(method, query_budget=16)
    state, local_states, _ = small(method).rounds(1)
    assert int(local_states[ClientId(4)]["queries"]) == 12
    assert not caplog.records
    cut = replace(method, query_budget=9)
    one = small(cut).tasks(cut.init(), [ClientId(4)], 1, {})
    (result,) = cut.train(one, NoPrivacy())
    assert (result.costs["steps"], result.costs["queries"]) == (1, 6)
    assert "stopped after 1 of 2 steps in round 1" in caplog.text
    second = run_round(method, state, list(data), 2, data, local_states, InProcess(), NoPrivacy())
    assert set(second.sat_out) == set(data)
    assert (
        "query budget of 16 is spent: 4 queries are left, and a step on a full batch costs 6"
        in (second.sat_out[ClientId(4)])
    )
    assert second.cohort == ()
    assert not second.traffic
    assert not second.costs


@pytest.mark.parametrize("options", [{}, {"variant": "words", "draws": 2}])
def test_who_takes_part_does_not_depend_on_how_much_a_client_has(setting, options):
    """Participation is seen by everybody, and the noise on the upload does not cover it."""
    method = FedBBPT(setting, **{"variant": "text", **SMALL, "query_budget": 40, **options})
    took_part = []
    for size in (0, 1, 4, 5, 10, 20):
        data = {ClientId(0): make_data(ClientId(0), size, setting.backbone.embed_dim)}
        privacy = Release().privatizer(method, PlannedTraining(9, 1, 3), None)
        state, local_states, rounds = method.init(), {}, []
        for round in range(1, 9):
            done = run_round(
                method, state, [*data], round, data, local_states, InProcess(), privacy
            )
            state, local_states = done.state, {**local_states, **done.local_states}
            rounds.append((done.cohort, dict(done.sat_out), done.rejected.keys()))
        assert int(local_states[ClientId(0)]["queries"]) <= 40
        took_part.append(rounds)
    assert 0 < sum(len(cohort) for cohort, _, _ in took_part[0]) < 8
    assert all(one == took_part[0] for one in took_part)


def test_a_federation_ends_cleanly_when_everybody_is_broke(method, data, tmp_path):
    """The run's metrics tell the queries of each round, and why clients sat out."""
    method = replace(method, query_budget=30)
    run = RunDirectory.create(tmp_path / "run", {}, {}, resume=False)
    now = run_federation(method, data, Rounds(rounds=6), 0, NoPrivacy(), run=run)
    assert now.round == 6
    assert all(int(local["queries"]) <= 30 for local in now.local_states.values())
    records = run.metrics()
    assert records[0]["costs"]["1"]["queries"] == 12
    assert records[0]["sat_out"] == {}
    assert records[5]["costs"] == {}
    assert "query budget" in records[5]["sat_out"]["1"]


def test_a_refused_upload_does_not_pay_the_budget_back(setting, data, tmp_path):
    """Steps of this size are refused; client 4 can pay one of 6 queries twice, and no more."""
    options = {**SMALL, "steps": 1, "step_gain": 1e9, "query_budget": 16}
    method = FedBBPT(setting, variant="text", **options)
    mine = {ClientId(4): data[ClientId(4)]}

    def outcome(name: str, *stops: int):
        for rounds in stops:
            run = RunDirectory.create(tmp_path / name, {}, {}, resume=rounds > stops[0])
            now = run_federation(method, mine, Rounds(rounds=rounds), 0, NoPrivacy(), run=run)
        records = [
            {key: record[key] for key in ("costs", "rejected", "sat_out")}
            for record in run.metrics()
        ]
        return now, records

    now, records = outcome("whole", 4)
    assert [list(record["rejected"]) for record in records] == [["4"], ["4"], [], []]
    assert [list(record["sat_out"]) for record in records] == [[], [], ["4"], ["4"]]
    assert {name: int(value) for name, value in now.local_states[ClientId(4)].items()} == {
        "queries": 12,
        "reckoned": 12,
    }
    again, resumed = outcome("in parts", 1, 2, 4)
    assert resumed == records
    assert torch.equal(now.state, again.state)
    assert again.local_states[ClientId(4)]["queries"] == 12


class Counting:
    """A model that counts the images that it is asked about."""

    def __init__(self, model):
        self.model, self.queries = model, 0

    def ask(self, question):
        self.queries += len(question.images)
        return self.model.ask(question)


class Personal:
    """A method that does not say that its clients all have one model."""

    def __init__(self, method):
        self.plan, self.predict = method.plan, method.predict
        self.predict_global = method.predict_global


def test_evaluation_asks_about_an_image_once(method, data):
    """Clients 1 and 7 never took part, or are held out: it is one model all the same."""
    split = ClientSplit(np.arange(1), np.arange(1))
    clients = {client: Client(own, own, split, None) for client, own in data.items()}
    everybody, unseen = Federation(None, clients), frozenset({ClientId(7)})
    generator = torch.Generator().manual_seed(3)
    state = method.init() + 0.1 * torch.randn(method.init().shape, generator=generator)
    now = FederationState(1, state, {ClientId(0): {"queries": torch.tensor(5)}})
    method.__dict__["model"] = model = Counting(method.model)
    once = predict_clients(method, now, {}, everybody, unseen)
    assert model.queries == sum(len(own) for own in data.values())
    for one, two in zip(
        once, predict_clients(Personal(method), now, {}, everybody, unseen), strict=True
    ):
        assert (one.client, one.unseen, one.gate) == (two.client, two.unseen, two.gate)
        for found, expected in ((one.personal, two.personal), (one.shared, two.shared)):
            assert np.array_equal(found.predicted, expected.predicted)
            np.testing.assert_allclose(found.confidence, expected.confidence, atol=1e-6)


def test_velocity_starts_at_zero_in_each_round(method, small):
    """Pitfall (b): in each round's first step m = g, so that it moves by -a_k (1 + beta) g."""
    single = replace(method, steps=1)
    me = [ClientId(7)]  # one image: every batch is the same
    state, local_states, _ = small(single).rounds(1, me)
    _, _, (result,) = small(single).round(state, local_states, me, 2)
    images, labels = data_of(small(single), me[0])
    estimate, _ = single.estimator.estimate(
        state,
        single.prompting.about(images),
        Examples(images, labels, torch.ones(1)),
        2,
        generator(single.setting.seed, "client", 7, "round", 2, "perturbations"),
    )
    expected = state - Gains().step_size(2) * 1.9 * estimate.gradient
    assert estimate.gradient.norm() > 0
    assert torch.allclose(result.update.arrays[single.prompting.name], expected, atol=1e-5)


def data_of(world, client: ClientId) -> tuple[torch.Tensor, torch.Tensor]:
    """Second view of a client's images: what round 2 trains on."""
    order = torch.rand(1, 2, generator=generator(11, "client", client, "views")).argsort(1)
    data = world.data[client]
    return data.view(int(order[0, 1]))["pixels"], data.labels


def test_gain_index_counts_the_federations_steps(method, small, monkeypatch):
    asked = []
    estimator = method.estimator
    spy = SimpleNamespace(
        queries=estimator.queries,
        estimate=lambda w, ask, examples, k, stream: (
            asked.append(k) or estimator.estimate(w, ask, examples, k, stream)
        ),
    )
    method.__dict__["estimator"] = spy
    world = small(method)
    state, local_states, _ = world.rounds(1, [ClientId(0)])
    world.round(state, local_states, [ClientId(0), ClientId(4)], 3)
    assert asked == [1, 2, 5, 6, 5, 6]  # round 3 begins at 5 whoever took part in round 2


def test_words_are_learned_in_plain_text(setting, small):
    """The model is asked with templates alone, and the server averages the distributions."""
    method = FedBBPT(setting, variant="words", steps=3, draws=3, step_gain=1.0)
    world = small(method)
    with torch.inference_mode():
        state, _, results = world.rounds(2)
    assert method.prompting.sentence(method.init()) == "a photo of a {}."
    assert not torch.equal(state, method.init())
    assert results[1].costs["queries"] == 3 * 3 * 3  # client 1: steps, draws, images
    images, _ = data_of(world, ClientId(7))
    asked = method.prompting.about(images)(state)
    assert asked.text.context is None
    assert set(asked.text.templates[0].split()[:-1]) <= set(method.vocabulary)
    assert torch.equal(asked.images, images)


def test_parameters_are_float32_and_all_that_travels(method):
    state = method.init()
    assert state.dtype == torch.float32
    assert method.uploads.keys() == method.to_arrays(state).keys()
    (spec,) = method.uploads.values()
    assert spec.shape == tuple(state.shape)


def test_training_starts_from_zero_shot(setting, small, data):
    method = FedBBPT(setting, **SMALL)
    pixels = data[ClientId(4)].view()["pixels"].clamp(-1, 1)
    features = {"image": setting.backbone.image_features(pixels), "pixels": pixels}
    expected = ZeroShot(setting).predict_global(None, features).logits
    found = method.predict_global(method.init(), features).logits
    assert torch.allclose(found, expected, atol=1e-4)


def test_only_noise_on_the_upload_is_analysed(method):
    planned = PlannedTraining(rounds=2, epochs=1, batch_size=3)
    privatizer = Release(epsilon=8.0, insecure_seed=0).privatizer(method, planned, None)
    assert privatizer.describe()
    with pytest.raises(PrivacyError, match="per-example gradient"):
        DPSGD().privatizer(method, planned, None)


def test_release_hides_how_many_queries_there_were(method, data):
    planned = PlannedTraining(rounds=1, epochs=1, batch_size=3)
    privatizer = Release(epsilon=8.0, insecure_seed=0).privatizer(method, planned, None)
    privatizer.authorise([ClientId(4)], 1, {})
    (download,) = method.plan(method.init(), [ClientId(4)], 1)
    task = SimpleNamespace(download=download, local=None, data=data[ClientId(4)])
    (result,) = method.train([task], privatizer)
    released = privatizer.release(result.update, download)
    assert released.metrics == {}
    assert released.num_examples is None


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 0},
        {"draws": 0},
        {"images_per_call": 0},
        {"query_budget": -1},
        {"momentum": 1.0},
        {"endpoint": "http://127.0.0.1:80", "token_file": "/no/such/file"},
        {"timeout_seconds": 0.0},
        {"timeout_seconds": -1.0},
        {"endpoint": "http://127.0.0.1:99999"},
        {"gradient": "white-box", "endpoint": "http://127.0.0.1:1"},
        {"gradient": "white-box", "variant": "words"},
    ],
)
def test_impossible_options_are_refused(setting, options):
    with pytest.raises(ConfigError):
        FedBBPT(setting, **options)
