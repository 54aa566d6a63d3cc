"""Canaries: examples crafted for a large and distinct influence on an uploaded prompt.

Image features are a client's own data, so that an adversary may choose them freely. Each canary is
a random direction with the label that the model finds least likely, which makes its gradient long
(it fills the whole clipping norm); of many such candidates, those are kept whose gradients point
in the most different directions.
"""

from dataclasses import dataclass

import torch
from scipy.linalg import qr
from torch import Tensor
from torch.nn import functional as F

from pfedmoap.client.batches import Batch, Stream
from pfedmoap.models.clip.clip import PromptEncoder
from pfedmoap.models.logits import cosine_logits
from pfedmoap.prompts.tuning import PromptProblem
from pfedmoap.wire.messages import ClientId
from privacy.mechanisms.per_example import per_example_gradients
from privacy.mechanisms.randomness import SecureStream


@dataclass(frozen=True)
class Examples:
    """Some labelled image features.

    Attributes:
        image: Unit-norm features, (n, D).
        labels: (n,) int64.
    """

    image: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def example_gradients(
    encoder: PromptEncoder, scale: float, context: Tensor, examples: Examples
) -> Tensor:
    """Differentiate each example's own loss with respect to a prompt.

    Args:
        encoder: From contexts (1, L, W) to class features (1, C, D).
        scale: Logit scale.
        context: The prompt, (L, W).
        examples: n examples.

    Returns:
        Flat gradients, (n, L W).
    """
    batch = Batch(
        {"image": examples.image[None]},
        examples.labels[None],
        torch.ones(1, len(examples), device=context.device),
        (Stream(0, ClientId(0), 0),),
    )
    problem = PromptProblem(encoder, scale)
    params = {"context": context[None]}
    chunks = per_example_gradients(problem, params, batch, memory_bytes=2**28)
    return torch.cat([samples["context"][0] for samples, _ in chunks]).flatten(1)


def craft_canaries(
    encoder: PromptEncoder,
    scale: float,
    context: Tensor,
    dim: int,
    count: int,
    draws: SecureStream,
) -> Examples:
    """Make canaries for a known starting prompt.

    Args:
        encoder: From contexts (1, L, W) to class features (1, C, D).
        scale: Logit scale.
        context: The starting prompt, (L, W).
        dim: Width D of image features.
        count: Number of canaries.
        draws: Where candidates are drawn from.

    Returns:
        The canaries, on the device of the prompt.
    """
    candidates = draws.normal(4 * count, dim).to(context)
    image = F.normalize(candidates, dim=-1)
    with torch.no_grad():
        logits = cosine_logits(image, encoder(context[None])[0], scale)  # (n, C)
    made = Examples(image, logits.argmin(1))
    directions = F.normalize(example_gradients(encoder, scale, context, made), dim=1)
    *_, order = qr(directions.cpu().numpy().T, mode="economic", pivoting=True)
    kept = torch.as_tensor(order[:count].copy(), device=context.device)
    return Examples(image[kept], made.labels[kept])


def traces(moves: Tensor, gradients: Tensor, max_grad_norm: float) -> Tensor:
    """Estimate how strongly each example's clipped gradient is in one upload.

    The move of an upload is modelled as a mixture of the candidates' clipped gradients plus white
    noise, whose size is read off the residual; the estimate is the linear one of least mean square
    error. It uses only what was uploaded and what an adversary knows.

    Args:
        moves: Starting prompt minus upload, in units of the step size, flat (L W,).
        gradients: Gradients of n < L W candidates at the starting prompt, (n, L W).
        max_grad_norm: Clipping norm.

    Returns:
        One strength for each candidate, (n,).
    """
    norms = gradients.norm(dim=1, keepdim=True)
    columns = (gradients * (max_grad_norm / norms.clamp(min=max_grad_norm))).double()  # (n, L W)
    target = moves.double()
    gram = columns @ columns.T
    ridge = 1e-9 * gram.diagonal().mean() * torch.eye(len(gram), device=gram.device)
    fit = torch.linalg.solve(gram + ridge, columns @ target)
    free = max(1, columns.shape[1] - len(columns))
    noise = (target - fit @ columns).square().sum() / free
    prior = fit.square().mean().clamp(min=1e-30)
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    strengths: Tensor = torch.linalg.solve(gram + noise / prior * eye, columns @ target)
    return strengths.float()
