"""Local optimisers step like torch's own, client by client."""

import pytest
import torch

from pfedmoap.client.optimisers import SGD, Adam, Optimiser


def walk(optimiser: Optimiser, gradients: list[torch.Tensor], rate: float) -> torch.Tensor:
    params = {"prompt": torch.ones(gradients[0].shape)}
    state = optimiser.init(params)
    for gradient in gradients:
        direction, state = optimiser.direction(params, {"prompt": gradient}, state)
        params = {"prompt": params["prompt"] - rate * direction["prompt"]}
    return params["prompt"]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (SGD(0.9, 0.01), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01)),
        (Adam(), lambda p: torch.optim.Adam(p, 0.1, betas=(0.9, 0.98), eps=1e-6)),
        (
            Adam(0.9, 0.999, 1e-4, 0.05),
            lambda p: torch.optim.AdamW(p, 0.1, (0.9, 0.999), 1e-4, weight_decay=0.05),
        ),
    ],
)
def test_each_client_steps_as_it_would_alone_with_torch(ours, theirs):
    gradients = [torch.randn(3, 2, 4) for _ in range(5)]
    together = walk(ours, gradients, 0.1)
    for client in range(3):
        parameter = torch.ones(2, 4, requires_grad=True)
        alone = theirs([parameter])
        for gradient in gradients:
            parameter.grad = gradient[client].clone()
            alone.step()
        assert torch.allclose(together[client], parameter.detach(), atol=1e-6)


def test_adam_leaves_what_never_had_a_gradient_exactly_where_it_was():
    gradient = torch.randn(1, 3, 4)
    gradient[:, 1] = 0
    moved = walk(Adam(), [gradient] * 4, 0.1)
    assert torch.equal(moved[:, 1], torch.ones(1, 4))
    assert (moved[:, 0] != 1).all()
