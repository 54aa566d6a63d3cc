"""How Ray is started: with the actors' cores and GPUs, for this machine alone, and quietly."""

from pathlib import Path

import pytest

from pfedmoap.engine.flower.room import Room, per_gpu


def test_ray_of_our_own_is_local_and_has_no_dashboard():
    started = Room(3, 2, 0.5).of_ray(Path("/somewhere"))
    assert started["num_cpus"] == 6
    assert started["num_gpus"] == 2
    assert started["address"] == "local"
    assert started["_node_ip_address"] == "127.0.0.1"
    assert started["_temp_dir"] == "/somewhere"
    assert started["include_dashboard"] is False
    assert started["log_to_driver"] is False


def test_a_cluster_is_joined_with_what_it_has():
    room = Room(None, 2, 0.5, "10.0.0.1:6379")
    assert room.of_ray(Path("/somewhere")).keys() == {"address", "log_to_driver", "logging_level"}
    assert room.of_ray(Path("/somewhere"))["address"] == "10.0.0.1:6379"
    assert room.each == {"num_cpus": 2, "num_gpus": 0.5}


@pytest.mark.parametrize(
    ("share", "actors"), [(1.0, 1), (0.5, 2), (1 / 3, 3), (0.1, 10), (0.4, 2), (2.0, 1)]
)
def test_a_gpu_takes_as_many_actors_as_their_shares_allow(share, actors):
    assert per_gpu(share) == actors
