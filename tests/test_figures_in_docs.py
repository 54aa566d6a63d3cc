"""Figures that pages state of the code are the code's."""

import re

import pytest

from pfedmoap.config.server import PoolOptions, ServerOptions
from pfedmoap.contract.tasks import ArraySpec
from pfedmoap.models.blackbox.white_box import IMAGES_IN_SLICE, TEXTS_IN_SLICE
from pfedmoap.seeding import derive_seed
from pfedmoap.server.admission import LARGEST_COUNT
from pfedmoap.server.pool_search import CHECK_EVERY
from pfedmoap.server.row_store import SEGMENT_BYTES
from pfedmoap.server.sketch_index import DIRECTIONS, Effort
from tests.helpers.places import ROOT

SERVER, POOL = ServerOptions(), PoolOptions()
STATED = {
    "architecture.md": (
        f"{DIRECTIONS} directions",
        f"{Effort().candidates} candidates",
        f"after every {CHECK_EVERY} updates",
        f"of {SEGMENT_BYTES // 2**20} MiB that are overwritten in place",
        f"({IMAGES_IN_SLICE} images, {TEXTS_IN_SLICE} texts)",
    ),
    "security.md": (
        f"| `server.max_change` | a = {SERVER.max_change:g} |",
        "| `server.max_examples` | a = 3 |",  # `test_bounding` has what it does
        f"a = {SERVER.max_change:g} leaves",
        f"a norm above 1e{len(f'{ArraySpec(()).max_norm:.0f}') - 1};",
        f"whole number from 1 to 10^{len(str(LARGEST_COUNT)) - 1}.",
        f"{SERVER.hostile_share:g} if not given",
        f"| `pool.copies` | {POOL.copies:g} |",
    ),
}


@pytest.mark.parametrize(
    ("page", "said"), [(page, said) for page in STATED for said in STATED[page]]
)
def test_a_figure_is_that_of_the_code(page, said):
    text = re.sub(r"\s+", " ", (ROOT / "docs" / page).read_text())
    assert said in text


def test_what_is_off_by_default_is_off():
    page = (ROOT / "docs/security.md").read_text()
    for name in ("screen", "max_served"):
        assert getattr(POOL, name) is None
        assert f"| `pool.{name}` | off |" in page


def test_streams_collide_as_the_page_says():
    """A seed has 63 bits, of which torch keeps 32: of n streams n^2 / 2^33 pairs are the same."""
    seeds = [derive_seed(0, "client", client) for client in range(200)]
    assert 2**62 < max(seeds) < 2**63
    said = re.search(r"one in about ([\d,]+) streams", (ROOT / "docs/architecture.md").read_text())
    assert said
    assert int(said[1].replace(",", "")) ** 2 / 2**33 == pytest.approx(1, rel=0.02)
