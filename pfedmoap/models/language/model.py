"""`FrozenLM`: a frozen causal language model, in the place of a `FrozenCLIP`."""

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from pfedmoap.errors import BackboneError, DataError
from pfedmoap.models.fingerprint import PROBE, fingerprint
from pfedmoap.models.language.decoder import Decoder, find_decoder
from pfedmoap.models.language.question import Question
from pfedmoap.models.language.scoring import ANSWER, KINDS, TOKENS

UNTELLING = (
    "_name_or_path",
    "architectures",
    "dtype",
    "torch_dtype",
    "transformers_version",
    "id2label",
    "label2id",
    "pad_token_id",
    "task_specific_params",
    "use_cache",
    "attention_dropout",
    "attn_pdrop",
    "dropout",
    "embd_pdrop",
    "hidden_dropout",
    "resid_pdrop",
)
"""Entries of a configuration that change no answer, or whose effect the weights show."""


class FrozenLM:
    """A causal language model that is never trained.

    What only a CLIP has (image features, prompts of class names) raises a `BackboneError` here, so
    that a method for CLIPs says what is wrong.

    Args:
        model: A Hugging Face causal language model, wherever its weights come from. It is frozen
            and put into evaluation mode.
        tokenizer: Its tokeniser, also Hugging Face's.
        name: Its name in messages and tables.
    """

    feature_kinds: tuple[str, ...] = KINDS

    def __init__(self, model: nn.Module, tokenizer: Any, name: str = "custom") -> None:
        self.name = name
        self.model = model.eval().requires_grad_(False)
        self._tokenizer = tokenizer  # transformers has several types of them

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(iter(self.model.parameters())).device

    @cached_property
    def decoder(self) -> Decoder:
        """Where its layers are.

        Raises:
            BackboneError: A prefix cannot stand in them; the message says why.
        """
        return find_decoder(self.model)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the weights, the configuration, the vocabulary and how texts are cut."""
        config: dict[str, Any] = self.model.config.to_diff_dict()  # type: ignore[operator, union-attr]
        decides = {
            str(key): value
            for key, value in config.items()
            if key not in UNTELLING and value is not None
        }
        return fingerprint(
            self.model,
            json.dumps(decides, sort_keys=True, default=str),
            json.dumps(self._tokenizer.get_vocab(), sort_keys=True),
            repr([self._tokenizer(text)["input_ids"] for text in PROBE]),
        )

    def require_features(self, kinds: Sequence[str]) -> None:
        """Ask for kinds of features before any work begins.

        Raises:
            BackboneError: They are not a language model's.
        """
        if strange := [kind for kind in kinds if kind not in KINDS]:
            raise self._no_clip(f"features of kind {strange[0]!r}")

    def encode(self, questions: Sequence[Question], choices: int) -> dict[str, Tensor]:
        """Turn questions into tokens: each choice behind the prompt, as lm-eval-harness does it.

        The tokens of prompt and choice together, from where those of the prompt alone end, are the
        choice's; a space is between the two.

        Args:
            questions: n questions.
            choices: C, at least as many as any of them has.

        Returns:
            ``choice_tokens`` (n, C, T) int64, and ``choice_answer`` (n, C, T) bool, true for the
            choices' own tokens; choices that a question lacks, and padding, have none.

        Raises:
            DataError: A question has more tokens than the model has positions.
        """
        tokens, answers = [], []
        for question in questions:
            prompt = self._start + self.token_ids(question.prompt)
            for choice in question.choices:
                whole = self._start + self.token_ids(f"{question.prompt} {choice}")
                self._check_length(question, len(prompt), len(whole))
                tokens.append(torch.tensor(whole))
                answers.append(torch.arange(len(whole)) >= len(prompt))
            tokens += [torch.zeros(1, dtype=torch.int64)] * (choices - len(question.choices))
            answers += [torch.zeros(1, dtype=torch.bool)] * (choices - len(question.choices))
        shape = (len(questions), choices, -1)
        return {
            TOKENS: pad_sequence(tokens, batch_first=True).view(shape),
            ANSWER: pad_sequence(answers, batch_first=True).view(shape),
        }

    def token_ids(self, text: str) -> list[int]:
        """Cut a text into token ids, without special tokens."""
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    @cached_property
    def _start(self) -> list[int]:
        """The token that the tokeniser itself puts before every text, if it does (OPT, Llama)."""
        begin = self._tokenizer.bos_token_id
        return [begin] if self._tokenizer("")["input_ids"][:1] == [begin] else []

    def _check_length(self, question: Question, prompt: int, whole: int) -> None:
        if whole > self.decoder.positions:
            raise DataError(
                f"{question.prompt[:60]!r}... has {whole} tokens with a choice, and {self.name} "
                f"has {self.decoder.positions} positions; shorten it or leave it out"
            )
        if not 0 < prompt < whole:
            raise DataError(
                f"{question.prompt[:60]!r}: its tokens with and without a choice cannot be told "
                f"apart by the tokeniser of {self.name}; end the prompt otherwise (data.template)"
            )

    def _no_clip(self, what: str) -> BackboneError:
        return BackboneError(
            f"{self.name} is a language model and has no {what}: the method for it is fedsp "
            "(--method fedsp), on questions (--data questions). Other methods need a CLIP"
        )

    def __getattr__(self, name: str) -> NoReturn:
        """Say what is wrong where a method for CLIPs is run on a language model."""
        if name.startswith("_"):
            raise AttributeError(f"FrozenLM has no attribute {name!r}")
        raise self._no_clip(f"`{name}`")
