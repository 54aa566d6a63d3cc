"""Private steps over fixed buffers: the plain loop's bits, charges and counts."""

from dataclasses import dataclass, replace

import pytest
import torch

from pfedmoap.client.batches import Stream
from pfedmoap.client.local_training import Training
from pfedmoap.client.privatizer import PlannedTraining
from pfedmoap.contract.tasks import Setting
from pfedmoap.engine.round import run_round
from pfedmoap.errors import PrivacyError
from pfedmoap.methods.registry import method_class
from pfedmoap.wire.messages import ClientId
from pfedmoap.wire.transport import InProcess
from privacy.mechanisms.mechanism import SampledGaussian
from privacy.options import DPSGD
from tests.helpers.models import rounding, tiny_clip
from tests.helpers.recorded_steps import record_steps
from tests.helpers.small_federation import make_data
from tests.helpers.training_steps import JOINT

SIZES = {ClientId(0): 6, ClientId(3): 5, ClientId(4): 1}
# Every example is in every step, and 4 rows hold 4 of them: the same kernels run in both loops.
EVEN = {ClientId(0): 4, ClientId(3): 4}
GROUPS = {client: torch.arange(size) // 2 for client, size in SIZES.items()}


def trained(clip, form, graphs, sizes=EVEN, rate=1.0, **options):
    """Two private rounds: all that server and clients know, and what was clipped."""
    training = Training(epochs=1, batch_size=4, learning_rate=0.02, graphs=graphs)
    server = make_data(ClientId(99), 4, clip.embed_dim)
    names = ("cat", "a small dog", "boat")
    setting = Setting(clip, names, training, seed=3, server_data=server)
    method = method_class(form.split(",")[0])(setting, **JOINT.get(form, {}))
    data = {client: make_data(client, size, clip.embed_dim) for client, size in sizes.items()}
    private = DPSGD(sample_rate=rate, insecure_seed=5, max_grad_norm=0.05, **options)
    planned = PlannedTraining(rounds=2, epochs=1, batch_size=4, groups=GROUPS)
    privatizer = private.privatizer(method, planned, None)
    state, kept, clipped = method.init(), {}, []
    for round in (1, 2):
        result = run_round(method, state, sorted(data), round, data, kept, InProcess(), privatizer)
        state, kept = result.state, {**kept, **result.local_states}
        clipped.append(dict(result.clipped))
        assert not result.rejected
    known = {"server": method.to_arrays(state), **kept}
    arrays = {(who, name): value for who, own in known.items() for name, value in own.items()}
    return arrays, clipped, setting.steps


def assert_equal(found, expected, atol=0.0):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=atol, msg=str(name))


@pytest.mark.parametrize("form", sorted(JOINT))
def test_every_private_method_trains_to_the_same_bits_over_buffers(clip, form, caplog, monkeypatch):
    """Steps are recorded once and replayed, as a GPU does."""
    expected, clipped, _ = trained(clip, form, False, mode="joint")
    recorded = record_steps(monkeypatch)
    found, again, steps = trained(clip, form, True, mode="joint")
    assert len(steps) == len(recorded.made) > 0
    assert not [r for r in caplog.records if "not captured" in r.getMessage()]
    assert_equal(found, expected)
    assert again == clipped


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "decoupled"},
        {"mode": "joint", "clipping": "adaptive"},
        {"mode": "joint", "unit": "group"},
        {"mode": "joint", "memory_bytes": 1},
    ],
)
def test_batches_of_poisson_and_all_options_agree_but_for_rounding(clip, options):
    """Padded clients and examples draw no noise, count nothing and are charged nothing."""
    expected, clipped, _ = trained(clip, "pfedmoap", False, SIZES, 0.6, **options)
    found, again, steps = trained(clip, "pfedmoap", True, SIZES, 0.6, **options)
    assert len(steps) > 0
    assert_equal(found, expected, atol=1e-5)
    assert again == clipped


def test_a_static_step_without_a_charge_is_refused(clip):
    """The host's half charges before anything is computed."""
    names = ("cat", "dog")
    method = method_class("promptfl")(Setting(clip, names, Training(batch_size=4)))
    planned = PlannedTraining(rounds=2, epochs=1, batch_size=4)
    privatizer = DPSGD(sample_rate=0.5).privatizer(method, planned, None)
    assert privatizer.device_step is not None
    params = {"context": torch.zeros(1, 4, 32)}
    with pytest.raises(PrivacyError, match="not charged"):
        privatizer.device_step.draw(params, [Stream(0, ClientId(0), 1)])


def charged_steps(clip, **options):
    """A privatizer for two rounds of two steps."""
    method = method_class("promptfl")(Setting(clip, ("cat", "dog"), Training(batch_size=4)))
    planned = PlannedTraining(rounds=2, epochs=1, batch_size=4)
    return DPSGD(sample_rate=0.5, **options).privatizer(method, planned, None)


def test_a_client_takes_the_steps_that_were_charged_and_one_that_sits_out_none(clip):
    one, two = ClientId(0), ClientId(1)
    privatizer = charged_steps(clip, max_rounds_per_client=1)
    assert privatizer.authorise([one], 1, {}).allowed == (one,)
    for _ in range(2):
        privatizer.take_step([Stream(0, one, 1)])
    with pytest.raises(PrivacyError, match="not charged"):
        privatizer.take_step([Stream(0, one, 1)])
    assert privatizer.authorise([one, two], 2, {}).allowed == (two,)
    privatizer.take_step([Stream(0, two, 2)])
    for client, round in ((one, 2), (two, 1), (two, 3)):
        with pytest.raises(PrivacyError, match="not charged"):
            privatizer.take_step([Stream(0, client, round)])


@pytest.mark.parametrize("seed", [None, 7])
def test_no_two_steps_share_noise_whether_there_is_a_seed_or_not(clip, seed):
    privatizer, who = charged_steps(clip, insecure_seed=seed), (ClientId(0), ClientId(1))
    drawn = []
    for round in (1, 2):
        privatizer.authorise(who, round, {})
        for _ in range(2):
            streams = privatizer.take_step([Stream(0, client, round) for client in who])
            drawn += [tuple(stream.words(4).tolist()) for stream in streams]
    assert len(set(drawn)) == len(drawn) == 8


def test_a_mechanism_that_is_replaced_has_no_static_step(clip):
    """Audits put broken mechanisms in the place of the real one; these run plainly."""

    @dataclass(frozen=True)
    class Other:
        real: SampledGaussian

        def gradients(self, problem, params, batch, noise):
            return self.real.gradients(problem, params, batch, noise)

    method = method_class("promptfl")(Setting(clip, ("cat", "dog"), Training(batch_size=4)))
    planned = PlannedTraining(rounds=2, epochs=1, batch_size=4)
    privatizer = DPSGD(sample_rate=0.5).privatizer(method, planned, None)
    assert replace(privatizer, mechanism=Other(privatizer.mechanism)).device_step is None


@pytest.mark.gpu
@pytest.mark.parametrize("form", sorted(JOINT))
def test_a_captured_private_step_gives_what_the_plain_loop_gives(form, caplog):
    clip = tiny_clip(device="cuda")
    expected, clipped, _ = trained(clip, form, False, mode="joint")
    found, again, steps = trained(clip, form, "auto", mode="joint")
    assert len(steps) > 0
    assert not [r for r in caplog.records if "not captured" in r.getMessage()]
    assert_equal(found, expected, atol=rounding(torch.device("cuda")))
    assert again == clipped
