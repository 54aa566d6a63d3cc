"""Pretraining in miniature: its parts against slow truths, and the whole for a few steps."""

from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import nn
from torch.nn import functional as F

from pfedmoap.data.scenes.captions import vocabulary_words
from pfedmoap.data.scenes.sampling import in_style, sample
from pfedmoap.errors import RunError
from pfedmoap.models.clip.embedded import build, load_embedded
from pfedmoap.pretraining.batches import caption_tokens, scene_batches
from pfedmoap.pretraining.files import write_backbone, write_merges
from pfedmoap.pretraining.losses import HEADS, contrastive_loss, label_loss
from pfedmoap.pretraining.optimiser import MasterWeights
from pfedmoap.pretraining.training import (
    PretrainingOptions,
    backbone_config,
    encode_short_text,
    pretrain,
)

CPU = torch.device("cpu")
SHORT = PretrainingOptions(label_steps=2, caption_steps=2, label_batch=8, caption_batch=8)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> SimpleTokenizer:
    return write_merges(tmp_path_factory.mktemp("merges"), vocabulary_words(), 32)


def test_a_few_steps_give_the_same_model_each_time(tokenizer: SimpleTokenizer) -> None:
    config = backbone_config(tokenizer.vocab_size)
    first, again = (pretrain(config, tokenizer, SHORT, CPU).state_dict() for _ in range(2))
    for name, tensor in first.items():
        assert torch.equal(tensor, again[name]), name
        assert tensor.isfinite().all(), name


def test_what_is_written_is_what_is_loaded(tmp_path: Path) -> None:
    tokenizer = write_merges(tmp_path, vocabulary_words(), 32)
    config = backbone_config(tokenizer.vocab_size)
    model = build(config)
    write_backbone(tmp_path, model, config)
    loaded, read, preprocessing = load_embedded(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "merges.txt.gz",
        "model.safetensors",
    ]
    assert preprocessing.size == 32
    assert torch.equal(read(["a red circle."]), tokenizer(["a red circle."]))
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "merges.txt.gz"])
def test_another_models_files_are_not_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(RunError, match="another model's files"):
        write_merges(tmp_path, vocabulary_words(), 32)
    assert (tmp_path / name).read_bytes() == b"mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_short_texts_encode_as_in_full_length(tokenizer: SimpleTokenizer) -> None:
    model = build(backbone_config(tokenizer.vocab_size)).eval()
    full = tokenizer(["a red circle.", "two large striped blue stars on a white background."])
    short = full[:, : int(full.argmax(1).max()) + 1]
    assert short.shape[1] < 32
    torch.testing.assert_close(
        encode_short_text(model, short), model.encode_text(full), atol=1e-5, rtol=1e-5
    )


def test_filler_moves_captions_but_keeps_them_whole(tokenizer: SimpleTokenizer) -> None:
    scenes, rng = sample(64, np.random.default_rng(0)), np.random.default_rng(0)
    batches = [caption_tokens(scenes, tokenizer, rng) for _ in range(12)]
    lengths = [batch.shape[1] for batch in batches]
    assert min(lengths) < 24
    assert max(lengths) > 28
    for batch in batches:
        assert (batch[:, 0] == tokenizer.sot_token_id).all()
        assert (batch.amax(1) == tokenizer.eot_token_id).all()
        assert batch.shape[1] <= 32


def test_batches_are_a_function_of_the_stream() -> None:
    first, again = (
        scene_batches(64, np.random.default_rng(3), difficulty=1.0, shared=0.3) for _ in range(2)
    )
    assert len(first) == 16
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(first, again, strict=True))


def test_contrast_equals_cross_entropy_where_all_captions_differ() -> None:
    image, text = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    loss, _ = contrastive_loss(image, text, torch.tensor(1.0), torch.arange(6)[:, None])
    logits = torch.tensor(1.0).exp() * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    rows = F.cross_entropy(logits, torch.arange(6))
    columns = F.cross_entropy(logits.T, torch.arange(6))
    torch.testing.assert_close(loss, (rows + columns) / 2)


def test_equal_captions_are_all_right_answers() -> None:
    image = torch.eye(2)[[0, 0, 1]]
    tokens = torch.tensor([[7], [7], [8]])
    _, accuracy = contrastive_loss(image, image, torch.tensor(3.0), tokens)
    assert accuracy == 1.0


def test_colours_do_not_count_in_negatives() -> None:
    heads = nn.ModuleDict({name: nn.Linear(4, size) for name, (_, size) in HEADS.items()})
    scenes = in_style(sample(5, np.random.default_rng(0)), "negative")
    loss, _ = label_loss(heads, torch.ones(5, 4), scenes)
    loss.backward()
    for name, count in (("colours", 0), ("backgrounds", 0), ("kinds", 1)):
        gradient = next(iter(heads[name].parameters())).grad
        assert gradient is not None
        assert bool(gradient.any()) == bool(count)


@pytest.mark.parametrize("low_precision", [False, True])
def test_one_step_moves_by_the_learning_rate(low_precision: bool) -> None:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.ones_(layer.weight)
    weights = MasterWeights(layer, 0.25, weight_decay=0.0, low_precision=low_precision)
    weights.step(weights.working(torch.ones(1, 1, dtype=weights.dtype)).sum(), rate=1.0)
    # AdamW's first step has the size of the learning rate, whatever the gradient.
    torch.testing.assert_close(layer.weight.detach(), torch.full((1, 1), 0.75))
    torch.testing.assert_close(weights.working.weight.detach().float(), layer.weight.detach())
