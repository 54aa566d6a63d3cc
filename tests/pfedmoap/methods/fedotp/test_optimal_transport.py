"""The transport plan against slow truths: linear programming, plain Sinkhorn, constraints."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from pfedmoap.errors import ConfigError
from pfedmoap.methods.fedotp.optimal_transport import transport_plan


def random_costs(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def linear_program(cost: np.ndarray, mass: float) -> float:
    """Least cost of moving ``mass`` from rows of at most 1/M to columns of exactly mass/N."""
    rows, columns = cost.shape
    row_sums = np.kron(np.eye(rows), np.ones(columns))
    column_sums = np.kron(np.ones(rows), np.eye(columns))
    found = linprog(
        cost.flatten(),
        A_ub=row_sums,
        b_ub=np.full(rows, 1 / rows),
        A_eq=column_sums,
        b_eq=np.full(columns, mass / columns),
    )
    return float(found.fun)


@pytest.mark.parametrize("mass", [0.5, 0.8, 1.0])
def test_small_entropy_approaches_the_linear_program(mass):
    cost = random_costs(6, 3)
    plan = transport_plan(cost, mass, entropy=0.003, iterations=20_000)
    assert float((plan * cost).sum()) == pytest.approx(linear_program(cost.numpy(), mass), abs=5e-3)


def test_full_mass_equals_slow_sinkhorn():
    cost = random_costs(5, 2)
    rows, columns = torch.ones(5).double(), torch.ones(2).double()
    kernel = torch.exp(-cost / 0.1)
    for _ in range(2000):
        rows = 0.2 / (kernel @ columns)
        columns = 0.5 / (kernel.T @ rows)
    truth = rows[:, None] * kernel * columns
    assert torch.allclose(transport_plan(cost, 1.0, 0.1, 2000), truth, atol=1e-9)


def test_plan_minimises_the_regularised_cost():
    """No feasible plan near by does better (optimality is checked, not the algorithm)."""
    cost, mass, entropy = random_costs(6, 2), 0.8, 0.1
    plan = transport_plan(cost, mass, entropy, 3000)

    def objective(candidate: torch.Tensor) -> float:
        return float((candidate * cost + entropy * candidate * candidate.log()).sum())

    stream = torch.Generator().manual_seed(0)
    tried = 0
    for _ in range(400):
        move = torch.randn(6, 2, generator=stream, dtype=torch.float64)
        move = move - move.mean(0)  # column sums stay
        other = plan + 1e-3 * move
        if bool((other > 0).all()) and bool((other.sum(1) <= 1 / 6 + 1e-12).all()):
            tried += 1
            assert objective(other) >= objective(plan) - 1e-9
    assert tried > 0


@pytest.mark.parametrize("mass", [0.3, 0.8, 1.0])
def test_marginals_hold(mass):
    plan = transport_plan(random_costs(4, 7, 2), mass, 0.1, 500)
    assert torch.allclose(plan.sum(-2), torch.full((4, 2), mass / 2).double())
    assert bool((plan.sum(-1) <= 1 / 7 + 1e-6).all())
    assert bool((plan >= 0).all())


def test_problems_in_a_batch_do_not_touch_each_other():
    cost = random_costs(4, 7, 2)
    together = transport_plan(cost, 0.8, 0.1, 100)
    for alone, row in zip(together, cost, strict=True):
        assert torch.allclose(alone, transport_plan(row, 0.8, 0.1, 100), rtol=0, atol=1e-12)


def test_the_few_shot_entropy_neither_overflows_nor_vanishes_in_single_precision():
    """Such costs divided by 0.01: a kernel without a shift would be all zeros."""
    cost = 1.5 + 0.4 * random_costs(3, 196, 2).float()
    plan = transport_plan(cost, 0.8, 0.01, 200)
    assert bool(plan.isfinite().all())
    assert torch.allclose(plan.sum((-2, -1)), torch.full((3,), 0.8), atol=1e-4)


def test_plan_has_no_gradient():
    assert not transport_plan(random_costs(3, 2).requires_grad_(), 0.8, 0.1, 5).requires_grad


@pytest.mark.parametrize(
    ("mass", "entropy", "iterations"), [(0, 1, 1), (1.1, 1, 1), (1, 0, 1), (1, 1, 0)]
)
def test_nonsense_is_refused(mass, entropy, iterations):
    with pytest.raises(ConfigError, match="transport needs"):
        transport_plan(torch.zeros(1, 1), mass, entropy, iterations)
