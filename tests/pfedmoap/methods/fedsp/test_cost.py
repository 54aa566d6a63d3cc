"""What distillation costs is said before it starts, from a step that changes nothing."""

import logging

import pytest
import torch

from pfedmoap.methods.fedsp.cost import Cost, announce, estimate


def test_the_estimate_counts_weights_and_what_a_step_keeps():
    weights = {"w": torch.ones(1000, 10, requires_grad=True)}
    cost = estimate(lambda: (weights["w"].exp() ** 2).sum(), weights, steps=50, clients=3)
    assert cost.weights_bytes == 40_000
    assert 4 * 40_000 + 40_000 <= cost.step_bytes <= 4 * 40_000 + 4 * 40_000
    assert cost.seconds > 0
    assert weights["w"].grad is None


@pytest.mark.parametrize(
    ("cost", "level"),
    [
        (Cost(1000, 900.0, 10**8, 10**9, 1), logging.WARNING),
        (Cost(1000, 1.0, 10**8, 10**9, 14), logging.WARNING),
        (Cost(10, 1.0, 10**5, 10**6, 3), logging.INFO),
    ],
)
def test_minutes_and_gigabytes_are_a_warning(
    cost: Cost, level: int, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.INFO, "pfedmoap"):
        announce(cost)
    assert [record.levelno for record in caplog.records] == [level]


def test_a_quarter_of_an_hour_and_fourteen_gigabytes_are_said_in_words():
    said = str(Cost(1000, 900.0, 10**8, 10**9, 14))
    assert "1000 steps of about 15 min in all" in said
    assert "holds 100.0 MB, and 14 trained at once take about 14.0 GB" in said
