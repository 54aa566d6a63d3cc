"""The same pictures as PNG, for what shows no SVG (trackers)."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from matplotlib.figure import Figure

DOTS_PER_INCH = 110
_KEPT: ContextVar[dict[str, bytes] | None] = ContextVar("_KEPT", default=None)


@contextmanager
def rasterised() -> Iterator[dict[str, bytes]]:
    """Keep a PNG of each picture that is drawn in the block, by its caption."""
    kept: dict[str, bytes] = {}
    token = _KEPT.set(kept)
    try:
        yield kept
    finally:
        _KEPT.reset(token)


def rasterise(figure: Figure, caption: str) -> None:
    """Draw a figure as PNG on white paper, where somebody asked for it (`rasterised`).

    Args:
        figure: The figure.
        caption: Its caption, which no other picture of the block has.
    """
    if (kept := _KEPT.get()) is None:
        return
    buffer = io.BytesIO()
    figure.savefig(
        buffer, format="png", dpi=DOTS_PER_INCH, transparent=False, facecolor="white", metadata={}
    )
    kept[caption] = buffer.getvalue()
