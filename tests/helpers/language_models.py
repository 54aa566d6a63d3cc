"""Tiny random language models, a tokeniser made on the spot, and questions; nothing is fetched."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from pfedmoap.models.language.model import FrozenLM
from pfedmoap.seeding import generator

_SENTENCES = "Question Answer : ? . the a is of colour what yes no red green blue grass sky fire"
WORDS = tuple(_SENTENCES.split())
FAMILIES = ("gpt2", "opt", "llama")
SIZES: dict[str, Any] = {"vocab_size": 32, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def make_tokenizer(begin: bool = False) -> Any:
    """Split at spaces and punctuation; with ``begin``, put a token before every text."""
    tokenizers, transformers = map(pytest.importorskip, ("tokenizers", "transformers"))
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<s>", "</s>", "<unk>", *WORDS])}
    raw = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    if begin:
        raw.post_processor = tokenizers.processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 1)]
        )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )


def make_model(family: str, layers: int = 4, **more: Any) -> Any:
    """A random causal language model of a few thousand weights, with some spread in its logits."""
    transformers = pytest.importorskip("transformers")
    if family == "gpt2":
        config = transformers.GPT2Config(
            n_embd=16, n_layer=layers, n_head=4, n_positions=64, **SIZES, **more
        )
    elif family == "opt":  # one whose embedding is narrower than its layers
        config = transformers.OPTConfig(
            hidden_size=16,
            num_hidden_layers=layers,
            num_attention_heads=4,
            ffn_dim=32,
            word_embed_proj_dim=8,
            max_position_embeddings=64,
            **SIZES,
            **more,
        )
    else:  # grouped-query attention
        config = transformers.LlamaConfig(
            hidden_size=16,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
            **SIZES,
            **more,
        )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
    stream = generator(3, "weights", family)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.2 * torch.randn(value.shape, generator=stream))
    return model


def make_lm(family: str, **more: Any) -> FrozenLM:
    return FrozenLM(make_model(family, **more), make_tokenizer(), family)


def colour_questions(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Questions whose answer can be learned; two or three choices in changing order."""
    stream = generator(seed, "questions")
    things, colours = ("grass", "sky", "fire"), ("green", "blue", "red")
    found = []
    for i in range(count):
        thing = i % 3
        number = 2 + int(torch.randint(2, (), generator=stream))
        order = [thing, *[c for c in range(3) if c != thing]][:number]
        order = [order[j] for j in torch.randperm(number, generator=stream).tolist()]
        choices = [f"the {colours[c]}." if c else colours[c] for c in order]
        found.append(
            {
                "question": f"what colour is the {things[thing]}?",
                "choices": choices,
                "answer": order.index(thing),
                "class": things[thing],
            }
        )
    return found


def write_lines(path: Path, entries: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


@pytest.fixture
def lm() -> FrozenLM:
    return make_lm("gpt2")


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """A saved GPT-2 with its tokeniser."""
    path = tmp_path_factory.mktemp("lm") / "tiny"
    make_model("gpt2").save_pretrained(path)
    make_tokenizer().save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def file(tmp_path_factory) -> Path:
    """Sixty questions."""
    return write_lines(tmp_path_factory.mktemp("data") / "colours.jsonl", colour_questions(60))
