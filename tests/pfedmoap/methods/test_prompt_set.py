"""FedAvg-PT, FedProx-PT, SCAFFOLD-PT, FedOpt-PT and GMM-PT against hand-written steps."""

from dataclasses import replace

import pytest
import torch

from pfedmoap.client.privatizer import NoPrivacy
from pfedmoap.errors import ConfigError
from pfedmoap.methods.fedavg_pt import FedAvgPT
from pfedmoap.methods.fedopt_pt import FedOptPT
from pfedmoap.methods.fedprox_pt import FedProxPT
from pfedmoap.methods.gmm_pt.method import GMMPT
from pfedmoap.methods.scaffold_pt import CHANGE, CONTROL, ScaffoldPT, control
from pfedmoap.prompts.set_elements import PROMPTS
from pfedmoap.wire.messages import ClientId, Update

ME = ClientId(4)


def update(client: int, prompts: torch.Tensor, count: int = 1) -> Update:
    return Update(1, ClientId(client), {PROMPTS: prompts}, count)


def test_fedavg_averages_by_position_and_training_set_size(setting):
    method = FedAvgPT(setting, prompts=3)
    first, second = torch.randn(3, 32), torch.randn(3, 32)
    state = method.aggregate(method.init(), [update(0, first, 3), update(1, second, 1)])
    assert torch.allclose(state[PROMPTS], 0.75 * first + 0.25 * second)


def test_all_prompts_are_trained_without_a_similarity_term(setting, small):
    plain = FedAvgPT(setting, prompts=4)
    weighted = replace(plain, similarity_weight=5.0)
    state, _, _ = small(plain).rounds(1)
    other, _, _ = small(weighted).rounds(1)
    assert torch.equal(state[PROMPTS], other[PROMPTS])
    assert (state[PROMPTS] != plain.init()[PROMPTS]).flatten(1).any(1).all()


def test_with_pfpts_selection_the_similarity_counts(setting, small):
    plain = FedAvgPT(setting, prompts=12, chosen=2, selection="batch")
    state, _, _ = small(plain).rounds(1)
    other, _, _ = small(replace(plain, similarity_weight=5.0)).rounds(1)
    assert not torch.equal(state[PROMPTS], other[PROMPTS])


def test_fedprox_holds_prompts_back(setting, small):
    setting = replace(setting, training=replace(setting.training, epochs=5))
    options = {"prompts": 4, "optimiser": "sgd"}
    free, _, _ = small(FedAvgPT(setting, **options)).rounds(1)
    start = FedAvgPT(setting, **options).init()
    same, _, _ = small(FedProxPT(setting, mu=0.0, **options)).rounds(1)
    held, _, _ = small(FedProxPT(setting, mu=20.0, **options)).rounds(1)
    assert torch.equal(same[PROMPTS], free[PROMPTS])
    start, free, held = (one[PROMPTS] for one in (start, free, held))
    assert (held - start).norm() < 0.9 * (free - start).norm()
    with pytest.raises(ConfigError, match="mu"):
        FedProxPT(setting, mu=-1)


def test_scaffolds_first_round_is_plain_sgd(setting, small):
    quiet = replace(setting, training=replace(setting.training, momentum=0.0))
    plain, _, _ = small(FedAvgPT(quiet, prompts=4, optimiser="sgd")).rounds(1)
    state, _, _ = small(ScaffoldPT(setting, prompts=4)).rounds(1)
    assert torch.allclose(state[PROMPTS], plain[PROMPTS], atol=1e-6)


def test_scaffolds_control_variates_are_mean_gradients_and_add_up(setting, small):
    """c_i+ = c_i - c + (x - y) / (S lr) (eq. 4), and the server's is the clients' mean."""
    method = ScaffoldPT(setting, prompts=4)
    world = small(method)
    state, local_states, _ = world.rounds(1)
    for _ in range(2):
        tasks = world.tasks(state, list(world.data), 2, local_states)
        results = method.train(tasks, NoPrivacy())
        for task, result in zip(tasks, results, strict=True):
            steps = -(-len(task.data) // setting.training.batch_size)
            moved = task.download.arrays[PROMPTS] - result.update.arrays[PROMPTS]
            expected = (
                task.local[CONTROL]
                - task.download.arrays[CONTROL]
                + moved / (steps * setting.training.learning_rate)
            )
            assert torch.allclose(result.local[CONTROL], expected, atol=1e-4)
            change = result.local[CONTROL] - task.local[CONTROL]
            assert torch.allclose(result.update.arrays[CHANGE], change, atol=1e-5)
        local_states = {result.update.client: result.local for result in results}
        state = method.aggregate(state, [result.update for result in results])
        mean = torch.stack([local[CONTROL] for local in local_states.values()]).mean(0)
        assert torch.allclose(control(state), mean, atol=1e-4)


def test_scaffold_corrects_the_step(setting, small):
    """One client, one step: y = x - lr (g + c - c_i) (eq. 3)."""
    method = ScaffoldPT(
        replace(setting, training=replace(setting.training, batch_size=8)), prompts=4
    )
    world = small(method)
    state = method.init()
    server, own = torch.randn(2, 4, 32)
    (task,) = world.tasks(state, [ME], 1, {})
    plain = method.train([task], NoPrivacy())[0].update.arrays[PROMPTS]
    steered = replace(
        task,
        download=replace(task.download, arrays={**task.download.arrays, CONTROL: server}),
        local={CONTROL: own},
    )
    found = method.train([steered], NoPrivacy())[0].update.arrays[PROMPTS]
    expected = plain - setting.training.learning_rate * (server - own)
    assert torch.allclose(found, expected, atol=1e-5)


def test_scaffold_says_that_noise_on_uploads_cannot_cover_it(setting):
    assert "starting point" in (ScaffoldPT(setting).privacy_gap("release") or "")
    assert ScaffoldPT(setting).privacy_gap("joint") is None


def test_fedopts_server_steps_like_adam_without_correction(setting):
    method = FedOptPT(setting, prompts=3, server_learning_rate=0.1)
    state = method.init()
    prompts, first, second = state[PROMPTS], 0.0, 0.0
    for _ in range(3):
        ahead = state[PROMPTS] + torch.randn(3, 32)
        move = ahead - state[PROMPTS]
        first, second = 0.9 * first + 0.1 * move, 0.99 * second + 0.01 * move**2
        prompts = prompts + 0.1 * first / (second.sqrt() + 1e-3)
        state = method.aggregate(state, [update(0, ahead)])
    assert torch.allclose(state[PROMPTS], prompts, atol=1e-5)


def test_gmm_is_blind_to_the_order_of_prompts(setting):
    method = GMMPT(setting, prompts=4)
    start = method.init()
    sets = [start[PROMPTS] + 0.05 * torch.randn(4, 32) for _ in range(5)]
    straight = method.aggregate(start, [update(i, one) for i, one in enumerate(sets)])
    turned = method.aggregate(start, [update(i, one.roll(i, 0)) for i, one in enumerate(sets)])
    assert torch.allclose(straight[PROMPTS], turned[PROMPTS], atol=1e-5)
    assert torch.allclose(straight[PROMPTS], torch.stack(sets).mean(0), atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (FedOptPT, {"server_learning_rate": 0.0}),
        (FedOptPT, {"second_decay": 1.0}),
        (GMMPT, {"concentration": 0.0}),
        (GMMPT, {"iterations": 0}),
    ],
)
def test_nonsense_is_refused(kind, options, setting):
    with pytest.raises(ConfigError, match=r"^method\.\w+ must be"):
        kind(setting, **options)
