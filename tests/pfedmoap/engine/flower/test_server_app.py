"""The server app hands its loop a fleet and the run's configuration."""

from flwr.app import Context, RecordDict

from pfedmoap.engine.flower.server_app import make_server_app
from tests.helpers.flower_grid import MemoryGrid


def test_the_loop_is_given_the_nodes_and_the_configuration():
    seen = []
    app = make_server_app(lambda fleet, config: seen.append((fleet.present(), config)))
    app(MemoryGrid({}), Context(1, 1, {}, RecordDict(), {"folder": "x"}))
    assert seen == [({}, {"folder": "x"})]
