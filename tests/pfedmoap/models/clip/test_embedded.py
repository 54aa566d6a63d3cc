"""The shipped model: loads offline, tokenises anything, knows what it was taught."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer

from pfedmoap.data.digits import Digits
from pfedmoap.data.scenes.captions import vocabulary_words
from pfedmoap.data.scenes.reader import Scenes
from pfedmoap.errors import BackboneError
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.clip.embedded import load_embedded
from pfedmoap.pretraining.evaluation import accuracy_of, zero_shot
from pfedmoap.pretraining.headroom import tuned_prompt

MODEL, TOKENIZER, PREPROCESSING = load_embedded()
CLIP = FrozenCLIP(MODEL, TOKENIZER, PREPROCESSING)


def test_it_is_frozen_float32_and_small() -> None:
    assert not MODEL.training
    for parameter in MODEL.parameters():
        assert not parameter.requires_grad
        assert parameter.dtype == torch.float32
        assert parameter.isfinite().all()
    folder = files("pfedmoap.models.clip") / "weights"
    assert sum(len(entry.read_bytes()) for entry in folder.iterdir()) < 4_000_000


def test_loading_leaves_the_global_stream_alone_and_gives_the_same_model() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    again, _, _ = load_embedded()
    torch.testing.assert_close(torch.rand(3), expected)
    for (name, a), b in zip(MODEL.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_any_text_tokenises_and_ends_with_the_largest_id() -> None:
    texts = ["", "a photo of a red circle.", "Zürich 日本 🙂 \x00", "very long " * 40]
    tokens = TOKENIZER(texts)
    assert tokens.shape == (4, 32)
    assert tokens.dtype == torch.int64
    assert (tokens.amax(1) == MODEL.vocab_size - 1).all()
    assert MODEL.encode_text(tokens).isfinite().all()


def test_our_words_segment_as_in_the_full_tokeniser() -> None:
    assert isinstance(TOKENIZER, SimpleTokenizer)
    full = SimpleTokenizer()
    for word in vocabulary_words():
        pieces = [TOKENIZER.decoder[i] for i in TOKENIZER.encode(word)]
        assert pieces == [full.decoder[i] for i in full.encode(word)]


def test_sixteen_context_vectors_fit_before_every_class_name() -> None:
    names = [*Scenes(grid="confus40", train_per_cell=1, test_per_cell=1).read().class_names]
    encode = CLIP.prompt_encoder([*names, *(f"the digit {i}" for i in range(10))], 16)
    assert encode(torch.zeros(1, 16, CLIP.text_width)).shape == (1, len(names) + 10, 128)


def test_zero_shot_is_above_chance_on_what_it_never_saw() -> None:
    assert zero_shot(CLIP, Scenes(train_per_cell=1, test_per_cell=8).read()) > 0.9
    assert zero_shot(CLIP, Digits().read()) > 0.75


def test_a_style_that_remaps_colours_leaves_room_for_a_prompt() -> None:
    negative = Scenes(styles=("negative",), train_per_cell=8, test_per_cell=8).read()
    tuned = tuned_prompt(CLIP, negative, shots=8, context_length=4, learning_rates=[0.1], epochs=10)
    assert tuned[0] > zero_shot(CLIP, negative) + 0.1


def test_accuracy_by_hand() -> None:
    images, texts = torch.eye(3)[[0, 1, 2, 2]], torch.eye(3)
    assert accuracy_of(images, texts, np.array([0, 1, 2, 0])) == 0.75


def test_a_damaged_folder_says_how_to_mend_it(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="pretrain_backbone"):
        load_embedded(tmp_path)
