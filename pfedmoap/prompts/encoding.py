"""Encoding frozen prompts once each, however many clients classify or train with them."""

import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

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
    def __call__(self, contexts: Sequence[Tensor]) -> list[Tensor]:
        """Encode any number of contexts, each (L, W), to class features (C, D)."""
        keys = [content(context) for context in contexts]
        unique = dict(zip(keys, contexts, strict=True))
        here = {key: self.found[key] for key in unique if key in self.found}
        new = [key for key in unique if key not in here]
        for start in range(0, len(new), self._at_most):
            part = new[start : start + self._at_most]
            rows = torch.stack([unique[key] for key in part]).to(self._device)
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


def content(context: Tensor) -> bytes:
    """A digest of a prompt's numbers, shape and dtype."""
    array = context.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{tuple(array.shape)} {array.dtype}".encode())
    digest.update(array.view(torch.uint8).numpy().tobytes())
    return digest.digest()
