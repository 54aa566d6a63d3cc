"""A picture of what each client spent of its privacy budget."""

import numpy as np

from eval.report.run_data import Evidence
from eval.report.structure import Table
from eval.report.style import INK, PALETTE, Picture, grid, new_figure, picture, styled, thin
from eval.report.svg import tell


@styled
def spent_budgets(run: Evidence) -> Picture | None:
    """Draw epsilon by client; ``None`` if none was spent."""
    if not run.epsilon:
        return None
    clients = sorted(run.epsilon, key=lambda client: (run.epsilon[client], client))
    values = np.array([run.epsilon[client] for client in clients])
    figure, (axes,) = new_figure(2.4)
    bars = axes.bar(np.arange(len(values)), values, width=0.8, color=PALETTE[3], linewidth=0)
    for bar, client, value in zip(bars, clients, values, strict=True):
        tell(bar, f"client {client}: epsilon {value:.3g}", f"c{client}")
    budget = run.config["privacy"].get("epsilon")
    if isinstance(budget, int | float):
        axes.axhline(budget, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    ticks = list(range(len(values))) if len(values) <= 40 else thin(len(values), 25)
    axes.set_xticks(ticks, [str(clients[i]) for i in ticks])
    axes.set_xlim(-0.6, len(values) - 0.4)
    axes.set(xlabel="client", ylabel="epsilon spent")
    grid(axes)
    return picture(
        figure,
        "Privacy budget spent by client",
        "Epsilon that each client has spent over all rounds it took part in, the least on the "
        "left; the dashed line is every client's budget.",
        Table(
            ("client", "epsilon spent"),
            [(str(client), f"{run.epsilon[client]:.4g}") for client in clients],
            keys=[f"c{client}" for client in clients],
        ),
    )
