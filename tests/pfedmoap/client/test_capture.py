"""What a step must be to be captured, seen without a GPU; and how CUDA is asked to capture it.

Every method's steps, recorded and replayed to the plain loop's bits, are in `test_static_step.py`
and `tests/privacy/mechanisms/test_sgd.py`. Here they run on a device that refuses what a GPU does.
"""

import inspect
from contextlib import contextmanager

import open_clip
import pytest
import torch
from open_clip import transformer

from pfedmoap.client.capture import CudaCapture, capture_for
from pfedmoap.client.local_training import Training
from pfedmoap.client.privatizer import NoPrivacy, PlannedTraining
from pfedmoap.contract.predicting import PredictionTask, predictions
from pfedmoap.contract.tasks import Setting
from pfedmoap.methods.registry import method_class
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.clip.half_precision import complete
from pfedmoap.models.clip.preprocessing import Preprocessing
from pfedmoap.wire.messages import ClientId
from privacy.options import DPSGD
from tests.helpers.elsewhere import PLACE, FaultError, elsewhere
from tests.helpers.models import tiny_clip
from tests.helpers.recorded_steps import Recordings
from tests.helpers.small_federation import make_data
from tests.helpers.training_steps import CLASSES, JOINT, run_rounds

FORMS = {
    **{name: {} for name in ("dpfpl", "fedclip", "fedkgcoop", "fedotp", "fedpgp", "fedprograd")},
    **{name: {} for name in ("fedtpg", "pfpt", "promptfolio", "scaffold_pt")},
    "fedsp": JOINT["fedsp"],
    "pfedmoap": {},
    "pfedmoap, linear gate": {"gate": "linear"},
    "pfedmoap, mean gate": {"gate": "mean"},
    "pfedmoap, cosine": {"score": "cosine", "pooling": "average", "renormalise": True},
    "pfedmoap, plain encoder": {"class_specific": True, "gate_schedule": "cosine"},
    "pfpt, trained head": {"head": "trained", "projection": True},
}
"""One form of each kind of problem."""

PRIVATE = {
    "pfedmoap": {},
    "pfedmoap, decoupled": {"mode": "decoupled"},
    "pfedmoap, people, adaptive": {"unit": "group", "clipping": "adaptive"},
    "pfedmoap, plain encoder": {},
    "fedavg_pt": {"memory_bytes": 1},
}
SIZES = {ClientId(0): 4, ClientId(3): 3}


@pytest.fixture
def device(monkeypatch):
    with elsewhere(monkeypatch) as entered:
        yield entered


HOST_INDICES = "torch.arange(x.shape[0])," in inspect.getsource(transformer.text_global_pool)
"""Whether the text tower of this open_clip indexes with a tensor of the host: no capture has it."""


def skip_unless_captured(form):
    if HOST_INDICES and "plain encoder" in form:
        pytest.skip("the tower of this open_clip copies indices from the host in every pass")


def two_rounds(clip, form, private=None):
    """Train, and evaluate all clients' models; returns what server and clients know."""
    training = Training(epochs=1, batch_size=4, learning_rate=0.02, graphs=True)
    server = make_data(ClientId(99), 4, clip.embed_dim)
    setting = Setting(clip, CLASSES, training, seed=3, server_data=server)
    method = method_class(form.split(",")[0])(setting, **FORMS.get(form, {}))
    data = {client: make_data(client, size, clip.embed_dim) for client, size in SIZES.items()}
    by = NoPrivacy()
    if private is not None:
        groups = {client: torch.arange(size) // 2 for client, size in SIZES.items()}
        planned = PlannedTraining(rounds=2, epochs=1, batch_size=4, groups=groups)
        made = DPSGD(sample_rate=0.9, insecure_seed=5, max_grad_norm=0.05, **private)
        by = made.privatizer(method, planned, None)
    state, kept, results = run_rounds(method, data, by, 2)
    assert not any(result.rejected for result in results)
    asked = [
        PredictionTask(download, kept.get(download.client), data[download.client].view())
        for download in method.plan(state, [*sorted(data), ClientId(7)][: len(data)], 3)
    ]
    assert all(
        len(each.logits) == task.images
        for each, task in zip(predictions(method, asked), asked, strict=True)
    )
    known = {"server": method.to_arrays(state), **kept}
    return {(who, name): value for who, own in known.items() for name, value in own.items()}


@pytest.mark.parametrize("form", sorted(FORMS))
def test_a_step_neither_waits_nor_leaves_the_device(form, device, caplog):
    skip_unless_captured(form)
    _, recorded = device
    found = two_rounds(tiny_clip(device=PLACE), form)
    assert recorded.made
    assert not caplog.records
    assert all(value.device.type == "cpu" for value in found.values())


@pytest.mark.parametrize("form", sorted(PRIVATE))
def test_a_private_step_neither_waits_nor_leaves_the_device(form, device, caplog):
    skip_unless_captured(form)
    _, recorded = device
    two_rounds(tiny_clip(device=PLACE), form, {"mode": "joint", **PRIVATE[form]})
    assert recorded.made
    assert not [r for r in caplog.records if "not captured" in r.getMessage()]


def half(device):
    """The tiny ViT in bf16, as open_clip makes it of an architecture."""
    tower = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16}
    text = {"context_length": 40, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 3}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.CLIP(128, tower, text, cast_dtype=torch.bfloat16)
    open_clip.convert_weights_to_lp(model, torch.bfloat16)
    complete(model, "bf16")
    preprocessing = Preprocessing(32, (0.5, 0.5, 0.5), (0.3, 0.3, 0.3))
    tokenizer = open_clip.SimpleTokenizer(context_length=40)
    return FrozenCLIP(model.to(device), tokenizer, preprocessing, "half")


def test_steps_in_half_precision_do_neither(device, caplog):
    _, recorded = device
    two_rounds(half(PLACE), "pfedmoap", {"mode": "joint"})
    assert recorded.made
    assert not [r for r in caplog.records if "not captured" in r.getMessage()]


def test_a_recording_takes_no_branch_again():
    """The stand-in is one: a step that decides by a value goes on as it was decided."""
    value, total = torch.ones(()), torch.zeros(())

    def step():
        total.add_(1 if value > 0 else 10)

    replay = Recordings()(step)
    value.fill_(-1.0)
    replay()
    assert total == 3
    step()
    assert total == 13


def test_a_recording_makes_all_it_reads_anew():
    """What an earlier step has left behind is gone."""
    buffer, kept, seen = torch.ones(2), [], torch.zeros(2)

    def step():
        kept.append(buffer * 2)
        seen.copy_(kept[0] + kept[-1])

    replay = Recordings()(step)
    buffer.fill_(3.0)
    replay()
    assert seen.tolist() == [8.0, 8.0]  # as a graph: the first step's 2, and 6


HOST, ONE, PLACES = torch.ones(2), torch.ones(()), torch.zeros(1, dtype=torch.int64)
FAULTS = {
    "waits": lambda there: float(there.sum()),
    "copies to the host": lambda there: there.cpu(),
    "copies to the device": lambda there: there.copy_(HOST),
    "mixes": lambda there: there + HOST,
    "is on the host": lambda _: HOST + 1,
    "mixes tensors": lambda there: there[PLACES],
    "where.self mixes": lambda there: torch.where(there > 0, there, ONE),
    "index.Tensor waits": lambda there: there[there > 0],
    "draws": torch.rand_like,
}


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_the_stand_in_refuses_what_a_gpu_refuses(fault, device):
    _, recorded = device
    there = torch.ones(2, device=PLACE)
    with pytest.raises(FaultError, match=fault):
        recorded(lambda: FAULTS[fault](there))


class Cuda:
    """What `CudaCapture` asks of ``torch.cuda``, written down."""

    def __init__(self, monkeypatch, broken=False):
        self.said, self.broken = [], broken
        self.now = "main"
        for name in ("device", "graph_pool_handle", "Stream", "stream", "graph", "set_stream"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda *_: self)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: self)

    @contextmanager
    def device(self, _):
        yield

    def graph_pool_handle(self):
        self.said.append("pool")
        return len(self.said)

    def Stream(self, _):  # noqa: N802
        return self

    def wait_stream(self, _):
        pass

    @contextmanager
    def stream(self, _):
        before, self.now = self.now, "aside"
        yield
        self.now = before

    @contextmanager
    def graph(self, graph, *, pool, stream, capture_error_mode):
        assert (graph, stream, capture_error_mode) == (self, self, "thread_local")
        self.said.append(f"capture in {pool}")
        self.now = "aside"
        yield
        if self.broken:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.now = "main"

    def set_stream(self, _):
        self.now = "main"

    def replay(self):
        self.said.append("replay")


def test_cuda_warms_up_and_captures_into_one_pool(monkeypatch):
    cuda = Cuda(monkeypatch)
    capture = capture_for(torch.device("cuda"))
    assert isinstance(capture, CudaCapture)
    steps = []
    for _ in "ab":
        capture(lambda: steps.append(cuda.now))()
    assert steps == ["aside"] * 6
    assert cuda.said == ["pool", *["capture in 1", "replay"] * 2]
    assert capture_for(torch.device("cpu")) is None


def test_a_capture_that_fails_leaves_no_stream_and_no_pool_behind(monkeypatch):
    cuda = Cuda(monkeypatch, broken=True)
    capture = CudaCapture(torch.device("cuda"))
    with pytest.raises(RuntimeError, match="not permitted"):
        capture(lambda: None)
    assert cuda.now == "main"
    cuda.broken = False
    capture(lambda: None)
    assert cuda.said == ["pool", "capture in 1", "pool", "capture in 3"]
