"""Controls for the attention gate: a linear gate, and no gate at all (pFedMoAP, table 7)."""

import torch
from torch import Tensor, nn

from pfedmoap.errors import ConfigError
from pfedmoap.seeding import generator


class LinearGate(nn.Module):
    """Weigh whole experts by a linear layer of the image feature.

    ``score(c) = sum_e w_e <I, T_e(c)>`` with ``w = softmax(A I + b)``. Output e of the layer
    belongs to the e-th expert as it is served, 0 being the client's own prompt and the others
    sorted by distance: unlike attention, it tells experts apart by their rank alone.

    Args:
        width: Width D of the image feature.
        experts: Largest number of experts E, own prompt included. Where fewer are served, the
            softmax is taken over their outputs alone, and the others wait.
        seed: Seed of the initial weights: uniform within 1 / sqrt(width), biases too.

    Examples:
        >>> gate = LinearGate(width=64, experts=4)
        >>> image, experts = torch.randn(5, 64), torch.randn(3, 10, 64)
        >>> [tuple(t.shape) for t in gate(image, experts)]
        [(5, 10), (5, 10, 3)]
    """

    def __init__(self, width: int, experts: int, seed: int = 0) -> None:
        super().__init__()
        self.linear = nn.utils.skip_init(nn.Linear, width, experts)
        stream = generator(seed, "gate")
        for parameter in self.linear.parameters():
            nn.init.uniform_(parameter, -(width**-0.5), width**-0.5, generator=stream)

    def forward(self, image: Tensor, experts: Tensor) -> tuple[Tensor, Tensor]:
        """Score every class for every image; see `AttentionGate.forward`.

        Raises:
            ConfigError: There are more experts than the gate has outputs.
        """
        most, served = self.linear.out_features, len(experts)
        if served > most:
            raise ConfigError(f"{served} experts are served, but the linear gate holds {most}")
        weights = self.linear(image)[..., :served].softmax(-1)  # (B, E)
        cosine = torch.einsum("bd,ecd->bce", image, experts)
        attention = weights.unsqueeze(-2).expand_as(cosine)  # (B, C, E)
        return (attention * cosine).sum(-1), attention


class MeanGate(nn.Module):
    """Average the experts' scores; there is nothing to learn."""

    def forward(self, image: Tensor, experts: Tensor) -> tuple[Tensor, Tensor]:
        """Score every class for every image; see `AttentionGate.forward`."""
        cosine = torch.einsum("bd,ecd->bce", image, experts)
        return cosine.mean(-1), torch.full_like(cosine, 1 / len(experts))
