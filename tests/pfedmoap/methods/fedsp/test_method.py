"""FedSP: what crosses the wire, its stages, its ablations, and its known pitfalls."""

import copy
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.contract.tasks import ClientData, Setting
from pfedmoap.engine.round import run_round
from pfedmoap.errors import ConfigError, MethodError
from pfedmoap.methods.fedsp.method import FedSP
from pfedmoap.methods.fedsp.stages import server_stage
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.wire.messages import Arrays, ClientId, Download, Update
from pfedmoap.wire.transport import InProcess

ME = ClientId(4)


@pytest.fixture
def method(setting) -> FedSP:
    return FedSP(setting, prefix_length=2, distillation_steps=3)


class Spy(InProcess):
    """A wire that keeps all it carries."""

    def __init__(self) -> None:
        super().__init__()
        self.carried: list[Arrays] = []

    def down(self, download: Download) -> Download:
        self.carried.append(download.arrays)
        return super().down(download)

    def up(self, update: Update) -> Update:
        self.carried.append(update.arrays)
        return super().up(update)


def rows(tensor: torch.Tensor) -> Iterator[bytes]:
    """A tensor as the bytes of its rows and of its columns, whichever way it is stored."""
    flat = tensor.detach().float()
    if flat.dim() > 0 and flat.shape[-1] > 1:
        for matrix in (
            flat.reshape(-1, flat.shape[-1]),
            flat.flatten(1).mT if flat.dim() > 1 else flat[None],
        ):
            yield from (row.contiguous().numpy().tobytes() for row in matrix)


def leaks(method: FedSP, data, rounds: int = 3) -> list[str]:
    """Walk everything that crosses the wire, and name what holds a row of the protected model."""
    model = method.setting.backbone.model
    protected = {row for tensor in model.state_dict().values() for row in rows(tensor)}
    wire, state, local_states = Spy(), method.init(), {}
    for round in range(1, rounds + 1):
        cohort = sorted(data) if round > 1 else sorted(data)[:2]
        result = run_round(method, state, cohort, round, data, local_states, wire, NoPrivacy())
        state, local_states = result.state, {**local_states, **result.local_states}
    found = set()
    for arrays in wire.carried:
        for name, tensor in arrays.items():
            if protected.intersection(rows(tensor)):
                found.add(name)
    assert len(wire.carried) == 2 * (2 + 2 * len(data))
    return sorted(found)


@pytest.mark.parametrize("options", [{}, {"prefixed": "both"}, {"auxiliary_start": "random"}])
def test_no_tensor_of_the_protected_model_crosses_the_wire(method, data, options):
    assert leaks(replace(method, **options), data) == []


def test_the_walk_over_the_wire_does_find_a_tensor_of_the_protected_model(method, data):
    """Without distillation the cut-out blocks themselves are sent: the walk must see them."""
    found = leaks(replace(method, distillation_steps=0), data)
    assert "auxiliary.text.block0.attn.in_proj_weight" in found
    assert "auxiliary.image.patches" in found
    assert not any(name.startswith("prefix") for name in found)


def test_released_clients_upload_auxiliary_weights_and_these_do_not(method, small):
    _, local_states, results = small(method).rounds(2)
    assert set(method.uploads) == {"prefix.text"}
    for result in results:
        assert set(result.update.arrays) == {"prefix.text"}
    assert any(name.startswith("auxiliary.") for name in local_states[ME])


def test_clients_work_without_the_full_model(method, small, setting):
    """Training and the own prediction give the same where all weights of the backbone are NaN."""
    world = small(method)
    state, local_states, _ = world.rounds(1)
    empty = FrozenCLIP(
        copy.deepcopy(setting.backbone.model), *parts_of(setting.backbone), name="emptied"
    )
    for value in empty.model.state_dict().values():
        if value.dtype.is_floating_point:
            value.fill_(float("nan"))
    empty.logit_scale = setting.backbone.logit_scale
    client = replace(method, setting=replace(setting, backbone=empty))
    tasks = [
        replace(task, data=task.data.only(["pixels"]))
        for task in world.tasks(state, list(world.data), 2, local_states)
    ]
    for here, there in zip(
        method.train(tasks, NoPrivacy()), client.train(tasks, NoPrivacy()), strict=True
    ):
        assert torch.equal(here.update.arrays["prefix.text"], there.update.arrays["prefix.text"])
    (download,) = method.plan(state, [ME], 2)
    view = world.data[ME].only(["pixels"]).view()
    here, there = (m.predict(download, local_states[ME], view).logits for m in (method, client))
    assert torch.equal(here, there)


def parts_of(clip: FrozenCLIP):
    return clip.tokenizer, clip.preprocessing


def test_auxiliary_travels_once_and_bytes_equal_the_formula(method, data, setting):
    """Up ``2 N p W`` scalars a client; down the same, and the auxiliary the first time."""
    layers, width = 3, setting.backbone.text_width
    prefix_bytes = 4 * 2 * layers * 2 * width
    state, local_states = method.init(), {}
    auxiliary_bytes = 4 * sum(v.numel() for v in state.auxiliary.values())
    for round, cohort in enumerate(([ME], sorted(data), sorted(data)), start=1):
        wire = InProcess()
        result = run_round(method, state, cohort, round, data, local_states, wire, NoPrivacy())
        for traffic in result.traffic:
            new = traffic.client not in local_states
            assert sum(traffic.up_bytes.values()) == prefix_bytes
            assert sum(traffic.down_bytes.values()) == prefix_bytes + new * auxiliary_bytes
        state, local_states = result.state, {**local_states, **result.local_states}


@pytest.mark.parametrize(
    ("stages", "moves"),
    [
        ("alternate", {"auxiliary", "prefix"}),
        ("joint", {"auxiliary", "prefix"}),
        ("prompt", {"prefix"}),
        ("none", set()),
    ],
)
def test_each_plan_of_stages_trains_what_it_says(method, small, stages, moves):
    method = replace(method, stages=stages, server_step=False)
    world = small(method)
    state = method.init()
    (result,) = method.train(world.tasks(state, [ME], 1, {}), NoPrivacy())
    moved = set()
    if not torch.equal(result.update.arrays["prefix.text"], state.prefix["text"]):
        moved.add("prefix")
    weight = "text.block0.mlp.c_fc.weight"
    if not torch.equal(result.local[f"auxiliary.{weight}"], state.auxiliary[weight]):
        moved.add("auxiliary")
    assert moved == moves


def test_alternate_stage_trains_the_prefix_against_the_moved_auxiliary(method, small):
    """The auxiliary moves first; a prefix trained against the server's weights ends elsewhere."""
    world = small(method)
    state = method.init()
    tasks = world.tasks(state, [ME], 1, {})
    ends = [
        replace(method, stages=stages).train(tasks, NoPrivacy())[0].update.arrays["prefix.text"]
        for stages in ("alternate", "prompt")
    ]
    assert not torch.equal(*ends)


def test_each_stage_has_its_own_optimiser_and_it_is_kept_across_rounds(method, small):
    _, local_states, _ = small(method).rounds(3)
    steps = 3 * 3  # three rounds of three batches: eight images in threes
    assert int(local_states[ME]["optimiser.model.steps"]) == steps
    assert int(local_states[ME]["optimiser.prompt.steps"]) == steps
    states = {name.split(".")[1] for name in local_states[ME] if name.startswith("optimiser")}
    assert states == {"model", "prompt"}


def test_servers_labels_count_only_where_its_step_is_on(method, small, setting):
    """Otherwise a gain may come from the server's labels alone."""
    server = setting.server_data
    other = ClientData(server.features, (server.labels + 1) % 3)
    for on in (True, False):
        ends = []
        for held in (server, other):
            with_labels = replace(
                method, server_step=on, setting=replace(setting, server_data=held)
            )
            ends.append(small(with_labels).rounds(2)[0].prefix["text"])
        assert torch.equal(*ends) != on


def test_server_alone_is_the_same_whatever_the_clients_hold(method, small, data):
    alone = replace(method, stages="none")
    shuffled = {
        client: ClientData(own.features, (own.labels + 1) % 3) for client, own in data.items()
    }
    first = small(alone).rounds(2)[0].prefix["text"]
    second = replace(small(alone), data=shuffled).rounds(2)[0].prefix["text"]
    assert torch.equal(first, second)
    assert not torch.equal(first, alone.init().prefix["text"])


def test_server_step_lowers_the_full_models_loss(method, small, setting):
    method = replace(
        method,
        stages="none",
        setting=replace(setting, training=replace(setting.training, epochs=9)),
    )
    state = method.init()
    after, _, _ = small(method).rounds(3)
    server = setting.server_data
    losses = [
        torch.nn.functional.cross_entropy(
            method.predict_global(each, server.view()).logits, server.labels
        )
        for each in (state, after)
    ]
    assert losses[1] < 0.9 * losses[0]


def test_without_examples_the_server_says_what_to_do(method, setting: Setting):
    bare = replace(method, setting=replace(setting, server_data=None))
    with pytest.raises(ConfigError, match=r"sampling\.server_shots"):
        bare.init()
    with pytest.raises(ConfigError, match=r"sampling\.server_shots"):
        replace(bare, server_step=False).init()
    assert replace(bare, protects="text", server_step=False).init().equipped == frozenset()


def test_client_that_lost_its_auxiliary_is_named(method, small):
    world = small(method)
    state, _, _ = world.rounds(1)
    with pytest.raises(MethodError, match="client 4 took part before"):
        method.train(world.tasks(state, [ME], 2, {}), NoPrivacy())


def test_options_that_contradict_each_other_are_refused(setting):
    with pytest.raises(ConfigError, match="protects both"):
        FedSP(setting, protects="text", prefixed="both")
    with pytest.raises(ConfigError, match="prefix_length"):
        FedSP(setting, prefix_length=0)
    with pytest.raises(ConfigError, match="distillation_steps"):
        FedSP(setting, distillation_steps=-1)


def test_second_set_of_steps_is_not_paid_for_and_is_refused(method):
    """Alternate stages take two sets of private steps in a round; the budget is made for one."""
    assert "two sets of steps" in str(method.privacy_gap("joint"))
    for mode in ("joint", "release"):
        for stages in ("joint", "prompt", "none"):
            assert replace(method, stages=stages).privacy_gap(mode) is None
    assert method.privacy_gap("release") is None
    assert all(
        replace(method, stages=stages).privacy_gap("decoupled") is not None
        for stages in ("alternate", "joint", "prompt")
    )


def test_server_keeps_its_optimiser_and_draws_its_batches_anew(method, small, setting):
    state, _, _ = small(method).rounds(3)
    assert int(state.optimiser["steps"]) == 3 * 2  # four pictures in batches of three
    ends = [
        server_stage(method.protected, state.prefix, state.optimiser, setting, round)[0]["text"]
        for round in (4, 4, 5)
    ]
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])
    fresh = server_stage(method.protected, state.prefix, {}, setting, 4)[0]["text"]
    assert not torch.equal(ends[0], fresh)


def test_average_is_weighted_by_training_set_size_or_plain(method, small):
    method = replace(method, server_step=False)
    world = small(method)
    state = method.init()
    updates = [
        r.update for r in method.train(world.tasks(state, list(world.data), 1, {}), NoPrivacy())
    ]
    prefixes = torch.stack([update.arrays["prefix.text"] for update in updates])
    sizes = torch.tensor([float(update.num_examples) for update in updates])
    weighted = torch.einsum("k,k...->...", sizes / sizes.sum(), prefixes)
    assert torch.allclose(method.aggregate(state, updates).prefix["text"], weighted, atol=1e-6)
    plain = replace(method, weighting="uniform").aggregate(state, updates).prefix["text"]
    assert torch.allclose(plain, prefixes.mean(0), atol=1e-6)
    assert not torch.allclose(plain, weighted, atol=1e-6)


def test_clients_models_do_not_carry_over_to_other_classes(method):
    assert "know the words of the classes" in str(method.class_bond())


@pytest.mark.parametrize(
    "option", ["auxiliary_learning_rate", "distillation_learning_rate", "prefix_std"]
)
def test_step_sizes_and_spreads_below_zero_are_refused(setting, option):
    with pytest.raises(ConfigError, match=option):
        FedSP(setting, **{option: -1.0})


def test_diverged_distillation_is_named(method):
    with pytest.raises(ConfigError, match=r"method\.distillation_learning_rate"):
        replace(method, distillation_learning_rate=1e30, distillation_steps=8).init()
