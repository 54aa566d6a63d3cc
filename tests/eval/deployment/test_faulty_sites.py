"""Kills, attackers, strangers and latecomers in one federation of real processes; then an erasure.

The site ``site-x`` is an attacker's (`tests.helpers.hostile_site`): it holds rounds back, so that
what happens within one is certain, and sends what it should not.
"""

import signal
from contextlib import ExitStack

import pytest

from eval.commands import forget
from eval.deployment.certificates import make_keys
from eval.deployment.federation_file import FederationFile
from pfedmoap.engine.flower.links import free_port
from pfedmoap.engine.flower.members import Members
from pfedmoap.engine.flower.site_state import SiteState
from pfedmoap.runs.directory import RunDirectory
from tests.helpers.deployed import left_over, wait_for
from tests.helpers.federations import Machines, assert_same_as_in_one_process
from tests.helpers.traces import traces_of

CONNECTED = "SuperNode ID"
PLAN = dict(
    enumerate(
        ("wait", "wait", "nan", "shape", "long", "other", "replay", "shout", "garbage", "wait"), 1
    )
)
LAST = len(PLAN)
REASONS = {
    2: "did not answer within 40 seconds",
    3: "not finite",
    4: "has shape (2, 256), expected (4, 128)",
    5: "4096 bytes of arrays, at most 2048",
    6: "has the client 1, expected 0",
    7: "has the round 1, expected 7: it is another one's, or was sent before",
    8: r"it is well\x0a\x1b[2Jround 99",
    9: "a message holds ['metrics']",
}


@pytest.mark.deployment
def test_faults_leave_no_trace_and_an_erasure_leaves_no_prompt(tmp_path):
    machines = Machines(tmp_path, f"127.0.0.1:{free_port()}", ("--rounds.evaluate_every", "100"))
    folder, log = machines.folder, tmp_path / "serve.log"
    make_keys(folder, ["127.0.0.1"], ["site-a", "site-b", "site-c", "site-d", "site-x"])
    with ExitStack() as stack:
        server = stack.enter_context(machines.serve(LAST, "--timeout_seconds", "40"))
        wait_for(log, "serving at", [server])
        assert_strangers_are_not_let_in(machines)
        plan = {str(round): fault for round, fault in PLAN.items()}
        attacker = stack.enter_context(machines.meddle("site-x", plan))
        held = tmp_path / "site-x"
        wait_for(tmp_path / "site-x.log", "round 1: wait", [server, attacker])
        # Round 1 is the attacker's alone, and waits for it. The others come meanwhile.
        stack.enter_context(machines.join("site-a"))
        second = stack.enter_context(machines.meddle("site-b", {"2": "hang"}))
        for name in ("site-a", "site-b"):
            wait_for(machines.connected(name), CONNECTED)
        with machines.meddle("site-d", {"hello": "name:site-a"}):
            wait_for(machines.connected("site-d"), CONNECTED)
            (held / "go-1").touch()
            wait_for(log, "it calls itself 'site-a', but its key is 'site-d''s", [server])
        # In round 2, site-b has trained and says nothing; it is killed, and comes back. The
        # attacker says nothing until it is too late. Meanwhile site-c comes, for round 3.
        wait_for(tmp_path / "site-b.log", "trained, and says nothing", [server])
        second.kill()
        second.wait()
        stack.enter_context(machines.join("site-b"))
        stack.enter_context(machines.join("site-c"))
        wait_for(machines.connected("site-c"), CONNECTED)
        wait_for(log, f"round 2 of {LAST}", [server])
        (held / "go-2").touch()
        # In the last round the server is killed while it waits for the attacker.
        wait_for(tmp_path / "site-x.log", f"round {LAST}: wait", [server, attacker])
        server.send_signal(signal.SIGKILL)
        server.wait()
        (held / f"go-{LAST}").touch()
        again = stack.enter_context(machines.serve(LAST, "--min_clients", "4"))
        again.wait(300)
        assert again.returncode == 0, log.read_text()
    assert left_over(tmp_path) == []
    check_records(machines)
    names = ("site-a", "site-b", "site-c", "site-x")
    assert_same_as_in_one_process(folder, machines.sites(*names))
    assert_an_erased_site_is_in_no_file(machines)


def assert_strangers_are_not_let_in(machines):
    """One has an authority and a key of its own, one the right authority and a key of its own."""
    other, unlisted = machines.root / "other", machines.root / "unlisted"
    for place in (other, unlisted):
        make_keys(place, ["127.0.0.1"], ["site-y"])
    (unlisted / "ca.pem").write_bytes((machines.folder / "ca.pem").read_bytes())
    log = machines.root / "site-y.log"
    for place, why in ((other, "CERTIFICATE_VERIFY_FAILED"), (unlisted, "does not know its key")):
        with machines.join("site-y", place):
            wait_for(log, "trying again")
        assert why in log.read_text()
        assert CONNECTED not in machines.connected("site-y").read_text()
        log.unlink()


def check_records(machines):
    records = RunDirectory(machines.folder / "run").metrics()
    clients = {name: one.client for name, one in Members.read(machines.folder).by_name.items()}
    assert clients == {"site-x": 0, "site-a": 1, "site-b": 2, "site-c": 3}
    assert Members.read(machines.folder).by_name["site-c"].joined == 3
    assert [record["cohort"] for record in records[:2]] == [[0], [1]]
    assert set(records[1]["sat_out"]) == {"0", "2"}, "one hung, and one was too slow"
    assert all({1, 3} <= set(record["cohort"]) for record in records[2:])
    assert all(2 in record["cohort"] for record in records[3:]), "it came back"
    for round, why in REASONS.items():
        record = records[round - 1]
        found = {**record["rejected"], **record["sat_out"]}["0"]
        assert why in found, (round, found)
        assert found.isprintable()
    assert records[-1]["cohort"] == [0, 1, 2, 3]
    assert records[-1]["rejected"] == records[-1]["sat_out"] == {}


def assert_an_erased_site_is_in_no_file(machines):
    """Also not in the others', once they have been greeted again."""
    folder, gone, client = machines.folder, "site-c", 3
    federation = FederationFile.read(folder).federation
    server = RunDirectory(folder / "run").load_server()
    prompts = [server["pool.contexts"][server["pool.clients"].tolist().index(client)]]
    for number, name in enumerate(("site-x", "site-a", "site-b")):
        local = SiteState(machines.root / name / "federations" / federation, number).load(LAST)
        held = local["expert_clients"].tolist()
        prompts += [local["experts"][held.index(client)]] if client in held else []
    assert len(prompts) > 1, "somebody holds it"
    for prompt in prompts:
        assert traces_of(prompt, machines.root)
    forget.main([str(folder), "--client", str(client)])
    with ExitStack() as stack:
        for name in ("site-a", "site-b", "site-x", gone):
            stack.enter_context(machines.join(name))
        server = stack.enter_context(machines.serve(LAST + 1, "--min_clients", "3"))
        server.wait(300)
        log = (machines.root / "serve.log").read_text()
        assert server.returncode == 0, log
        assert "has left" in log
    assert RunDirectory(folder / "run").metrics()[-1]["cohort"] == [0, 1, 2]
    own = machines.root / gone / "federations"
    for prompt in prompts:
        found = {machines.root / name for name in traces_of(prompt, machines.root)}
        assert {file for file in found if not file.is_relative_to(own)} == set()
