"""What a site takes up, what it refuses, and what it never does for a server."""

import json
from dataclasses import replace

import pytest

from eval.choices import schema
from eval.deployment.certificates import make_keys
from eval.deployment.federation_file import FederationFile
from eval.deployment.host import SiteHost
from eval.deployment.serving import prepare
from eval.deployment.site_options import SiteOptions
from pfedmoap.engine.flower.greeting import welcome_json
from pfedmoap.engine.flower.letters import Order
from pfedmoap.engine.flower.signing import Signer
from pfedmoap.errors import ConfigError, RunError, UpdateRejectedError
from pfedmoap.wire.messages import ClientId
from privacy.ledgers.ledger_file import file_of, read_accounts
from tests.helpers.deployed import CLASSES, digits_of

SMALL = {
    "method": {"name": "pfedmoap", "context_length": 2, "experts": 1},
    "training": {"epochs": 1, "learning_rate": 0.1, "clients_per_batch": 1},
    "rounds": {"rounds": 2},
    "backbone": {"device": "cpu"},
}
PRIVATE = {"name": "dpsgd", "epsilon": 8.0, "sample_rate": 0.5, "insecure_seed": 1}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return digits_of(0, tmp_path_factory.mktemp("images") / "data", each=4)


@pytest.fixture
def welcome(tmp_path):
    return welcome_of(tmp_path / "server")


def welcome_of(folder, **sections):
    config = schema().resolve({**SMALL, **sections})
    FederationFile("f0", dict(config.sections), CLASSES, ("a {}.",), 1, 10, 10).write(folder)
    signer = Signer.kept_in(folder / "server.key")
    return json.loads(json.dumps(welcome_json(prepare(folder).welcome(signer))))


@pytest.fixture
def host(tmp_path, images):
    return SiteHost(tmp_path / "site", SiteOptions("site-a", str(images), device="cpu"))


def test_a_site_says_what_it_is_and_keeps_its_number(host, welcome, tmp_path):
    greeting = host.hello(welcome)
    assert (greeting["name"], greeting["refused"]) == ("site-a", None)
    assert sum(greeting["profile"]["train"]) + sum(greeting["profile"]["test"]) == 40
    assert host.site("f0", ClientId(3)).client == 3
    again = SiteHost(host.folder, host.options)
    with pytest.raises(RunError, match="client 3 of its federation"):
        again.site("f0", ClientId(4))
    with pytest.raises(RunError, match="not taken up"):
        again.site("f1", ClientId(3))


def test_the_first_servers_key_is_the_only_one_from_then_on(host, welcome):
    with pytest.raises(UpdateRejectedError, match="has not met"):
        host.server_key({"federation": "f0"})
    assert host.server_key(welcome) == welcome["server_key"]
    host.hello(welcome)
    for other in ({**welcome, "server_key": "other"}, {"federation": "f0"}, {"federation": "f1"}):
        assert host.server_key(other) == welcome["server_key"]
    assert SiteOptions.read(host.folder).server_key == welcome["server_key"]
    host.options = replace(host.options, server_key="pinned")
    assert host.server_key(welcome) == "pinned"


def test_a_class_outside_the_list_is_named_and_one_that_is_lacking_does_no_harm(welcome, tmp_path):
    few = digits_of(1, tmp_path / "few", each=4, classes=3)
    options = SiteOptions("site-b", str(few), device="cpu")
    greeting = SiteHost(tmp_path / "b", options).hello(welcome)
    assert greeting["refused"] is None
    assert len(greeting["profile"]["train"]) == len(CLASSES)
    (few / CLASSES[0]).rename(few / "zebra")
    refused = SiteHost(tmp_path / "c", options).hello(welcome)["refused"]
    assert "['zebra'] are none of the federation's" in refused


def test_under_privacy_a_refusal_tells_the_server_nothing_of_the_data(tmp_path, caplog):
    few = digits_of(1, tmp_path / "few", each=4, classes=3)
    (few / CLASSES[0]).rename(few / "zebra")
    options = SiteOptions("site-b", str(few), device="cpu", insecure_seed=True)
    welcome = welcome_of(tmp_path / "server", privacy=PRIVATE)
    refused = SiteHost(tmp_path / "b", options).hello(welcome)["refused"]
    assert refused == "its own data are of no use here; its own log says why"
    assert "zebra" in caplog.text


@pytest.mark.parametrize(
    ("section", "option", "value"),
    [
        ("method", "name", "/tmp/method.py"),
        ("backbone", "model", "local-dir:/etc"),
        ("backbone", "pretrained", "../weights.pt"),
        ("privacy", "ledgers", "/tmp/ledgers"),
    ],
)
def test_a_server_names_no_file_and_no_code(host, welcome, section, option, value):
    welcome["sections"][section][option] = value
    assert host.hello(welcome)["refused"] is not None
    assert not (host.folder / "federations" / "f0" / "welcome.json").exists()


def test_a_server_names_no_address_that_images_could_go_to(host, welcome):
    bbpt = {"name": "fed_bbpt", "endpoint": "http://198.51.100.7:8080"}
    welcome["sections"]["method"] = bbpt
    assert "method.endpoint" in host.hello(welcome)["refused"]


def test_other_weights_are_refused(host, welcome):
    assert "fingerprint" in host.hello({**welcome, "fingerprint": "0" * 64})["refused"]


def test_a_site_that_demands_privacy_refuses_a_server_that_promises_none(host, welcome):
    host.options = replace(host.options, max_epsilon=2.0)
    assert "differential privacy alone" in host.hello(welcome)["refused"]


def test_a_site_trusts_a_server_with_its_updates_only_where_it_sets_no_limit(host, tmp_path):
    central = {"name": "central", "noise_multiplier": 1.0, "insecure_seed": 1}
    averaged = {"name": "promptfl", "context_length": 2}
    make_keys(tmp_path / "server", ["127.0.0.1"], ["site-a", "site-b"])
    welcome = welcome_of(tmp_path / "server", privacy=central, method=averaged)
    greeting = host.hello(welcome)
    assert greeting["refused"] is None
    assert greeting["profile"] == {"train": [], "test": []}, "counts are private"
    site = host.site("f0", ClientId(0))
    arrays = {"context": site.method.init()["context"]}
    answer, update = site.train(Order("f0", ClientId(0), 1, 0, "n"), arrays)
    assert (set(update), answer.num_examples, answer.epsilon) == ({"context"}, None, None)
    assert site.evaluate(Order("f0", ClientId(0), 2, 1, "n"), arrays).scores == {}
    host.options = replace(host.options, max_epsilon=2.0)
    host.folder = tmp_path / "other"
    again = SiteHost(tmp_path / "other", host.options)
    assert "need no trust in the server" in again.hello(welcome)["refused"]


def test_no_server_raises_the_sites_epsilon_and_the_ledger_is_the_sites(host, tmp_path):
    host.options = replace(host.options, max_epsilon=2.0)
    welcome = welcome_of(tmp_path / "server", privacy=PRIVATE)
    assert "insecure_seed" in host.hello(welcome)["refused"]
    host.options = replace(host.options, insecure_seed=True)
    greeting = host.hello(welcome)
    assert greeting["refused"] is None
    assert greeting["profile"] == {"train": [], "test": []}, "counts are private"
    site = host.site("f0", ClientId(7))
    arrays = {"context": site.method.init().context}
    answer, update = site.train(Order("f0", ClientId(7), 1, 0, "n"), arrays)
    assert answer.sat_out is None
    assert (answer.num_examples, dict(answer.metrics)) == (None, {})
    assert set(update) == {"context"}
    ledger = file_of(host.folder / "ledgers", ClientId(0))
    [account] = read_accounts(ledger, ClientId(0))
    assert 0 < answer.epsilon <= 2.0
    assert account.charges[-1].epsilon == answer.epsilon
    assert site.evaluate(Order("f0", ClientId(7), 2, 1, "n"), arrays).scores == {}
    assert "accuracy" in (host.folder / "federations" / "f0" / "scores.jsonl").read_text()
    other = json.loads(json.dumps(welcome)) | {"federation": "f1"}
    host.hello(other)
    second = host.site("f1", ClientId(2))
    again, _ = second.train(Order("f1", ClientId(2), 1, 0, "n"), arrays)
    assert len(read_accounts(ledger, ClientId(0))) == 2, "two federations, one ledger"
    assert again.epsilon is None or again.epsilon > answer.epsilon


def test_a_site_that_demands_privacy_says_no_count(host, tmp_path):
    host.options = replace(host.options, max_epsilon=2.0, insecure_seed=True)
    welcome = welcome_of(tmp_path / "server", privacy={**PRIVATE, "counts": "public"})
    assert "number of examples" in host.hello(welcome)["refused"]
    welcome = welcome_of(tmp_path / "loose", privacy={**PRIVATE, "delta": 0.1})
    assert "allows 1e-05" in host.hello(welcome)["refused"]


def test_an_order_for_another_site_is_refused(host, welcome):
    host.hello(welcome)
    site = host.site("f0", ClientId(1))
    for order in (Order("f0", ClientId(2), 1, 0, "n"), Order("f9", ClientId(1), 1, 0, "n")):
        with pytest.raises(UpdateRejectedError, match="this site is client 1"):
            site.train(order, {})


def test_options_are_read_as_they_were_written(tmp_path):
    options = SiteOptions("a", "/data", 2.0, True, "cpu", "local-dir:/m", ("m.py",), "key", True)
    options.write(tmp_path)
    assert SiteOptions.read(tmp_path) == options
    assert SiteOptions.read(tmp_path / "other") is None
    (tmp_path / "site.json").write_text("{}")
    with pytest.raises(RunError, match="damaged"):
        SiteOptions.read(tmp_path)
    with pytest.raises(ConfigError, match="positive"):
        SiteOptions("a", "/data", 0.0)
    assert SiteOptions("a", "x.csv").reader()["name"] == "csv"
