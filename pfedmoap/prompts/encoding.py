"""Encoding frozen prompts once each, however many clients classify or train with them."""

import hashlib
from collections.abc import Hashable, Mapping, Sequence

import torch
from torch import Tensor

from pfedmoap.client.placement import placed
from pfedmoap.contract.batch_size import encoded_at_once
from pfedmoap.contract.tasks import Setting
from pfedmoap.models.clip.clip import PromptEncoder

MOST_BYTES = 2**29
"""Class features that are kept for reuse; beyond it, all that were kept are dropped."""


class EncodedOnce:
    """Class features of prompts, of which equal ones are encoded once.

    Args:
        encoder: From contexts (E, L, W) to class features (E, C, D).
        at_most: Contexts to encode in one call.
        device: Where the encoder's weights are.
        known: Features that are there already, as another one has them in ``found``.
        most_bytes: Bound on what is kept between calls.

    Attributes:
        found: Class features (C, D) by `content` of the prompt.
    """

    def __init__(
        self,
        encoder: PromptEncoder,
        at_most: int,
        device: torch.device,
        known: Mapping[bytes, Tensor] | None = None,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._encoder, self._at_most, self._device = encoder, at_most, device
        self._most_bytes = most_bytes
        self.found: dict[bytes, Tensor] = dict(known or {})

    @torch.no_grad()
    def __call__(
        self, contexts: Sequence[Tensor], owners: Sequence[Hashable] | None = None
    ) -> list[Tensor]:
        """Encode any number of contexts, each (L, W), to class features (C, D).

        Args:
            contexts: The prompts.
            owners: Whose each of them is, or ``None``. Prompts of one owner are most often the
                same, and comparing two costs a tenth of a digest.
        """
        keys = _contents(contexts, owners or [None] * len(contexts))
        unique = dict(zip(keys, contexts, strict=True))
        here = {key: self.found[key] for key in unique if key in self.found}
        new = [key for key in unique if key not in here]
        for start in range(0, len(new), self._at_most):
            part = new[start : start + self._at_most]
            rows = placed(torch.stack([unique[key] for key in part]), self._device)
            here |= zip(part, self._encoder(rows), strict=True)
        self._keep({key: here[key] for key in new})
        return [here[key] for key in keys]

    def _keep(self, new: Mapping[bytes, Tensor]) -> None:
        """Keep features for the next call, within the bound."""
        if not new:
            return
        one = next(iter(new.values()))
        most = self._most_bytes // (one.numel() * one.element_size())
        if len(self.found) + len(new) > most:
            self.found.clear()
        if len(new) <= most:
            self.found.update(new)


class FeaturesOfRound:
    """Class features that the last training made, for the evaluation of its round.

    Args:
        setting: How many are encoded in one call, and where.
    """

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._last: Mapping[bytes, Tensor] = {}

    def of_round(self, encoder: PromptEncoder) -> EncodedOnce:
        """Forget the round before, and encode for this one: what is encoded is remembered."""
        encode = self._encode(encoder, {})
        self._last = encode.found
        return encode

    def with_last(self, encoder: PromptEncoder) -> EncodedOnce:
        """Encode beside what the last training made; nothing new is remembered."""
        return self._encode(encoder, self._last)

    def release(self) -> None:
        """Forget all; see `KeepsFeatures`."""
        self._last = {}

    def _encode(self, encoder: PromptEncoder, known: Mapping[bytes, Tensor]) -> EncodedOnce:
        at_most, device = encoded_at_once(self._setting), self._setting.backbone.device
        return EncodedOnce(encoder, at_most, device, known)


def _contents(contexts: Sequence[Tensor], owners: Sequence[Hashable]) -> list[bytes]:
    """The digest of each prompt; see `EncodedOnce`."""
    seen: dict[Hashable, tuple[Tensor, bytes]] = {}
    keys = []
    for context, owner in zip(contexts, owners, strict=True):
        last = seen.get(owner)
        if last is not None and last[0].dtype == context.dtype and last[0].equal(context):
            keys.append(last[1])
            continue
        keys.append(content(context))
        if owner is not None:
            seen[owner] = (context, keys[-1])
    return keys


def content(context: Tensor) -> bytes:
    """A digest of a prompt's numbers, shape and dtype."""
    array = context.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{tuple(array.shape)} {array.dtype}".encode())
    digest.update(array.view(torch.uint8).numpy().tobytes())
    return digest.digest()
