"""A site's machine: it takes up federations, each with its own state, on the one set of data."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from eval.accuracy import score
from eval.deployment.accepted import accepted_config, accepted_privacy, with_published_classes
from eval.deployment.site_options import SiteOptions
from eval.predictions import predict_client
from eval.promise import is_private
from pfedmoap.client.privatizer import NoPrivacy, PlannedTraining, Privatizer
from pfedmoap.config.schema import Config
from pfedmoap.contract.capabilities import CanForget, personal_states
from pfedmoap.contract.method import AnyMethod
from pfedmoap.contract.tasks import ClientTask
from pfedmoap.data.federation import Client, Federation, build_federation
from pfedmoap.engine.flower.greeting import Greeting, Welcome, greeting_json, read_welcome
from pfedmoap.engine.flower.members import Profile
from pfedmoap.engine.flower.site import Scores, Site
from pfedmoap.engine.flower.site_state import SiteState
from pfedmoap.errors import ConfigError, DataError, PFedMoAPError, RunError, UpdateRejectedError
from pfedmoap.methods.made import make_method
from pfedmoap.storage.atomic_files import append_line, json_bytes, write_bytes
from pfedmoap.storage.strict_json import read_strict
from pfedmoap.wire.messages import Arrays, ClientId, Download
from privacy.mechanisms.central import ForTrustedServer

logger = logging.getLogger(__name__)

ONLY = ClientId(0)  # in a data set of one site


@dataclass(frozen=True)
class _TakenUp:
    """A federation that was taken up."""

    welcome: Welcome
    config: Config
    method: AnyMethod
    federation: Federation

    @property
    def own(self) -> Client:
        return self.federation.clients[ONLY]


@dataclass
class SiteHost:
    """A site's machine; see `pfedmoap.engine.flower.client_app.Host`.

    Attributes:
        folder: The site's own folder: its options, features, ledger, and state in each federation.
        options: What its operator decided.
    """

    folder: Path
    options: SiteOptions
    _taken: dict[str, _TakenUp] = field(default_factory=dict)
    _sites: dict[str, Site] = field(default_factory=dict)

    def server_key(self, record: object) -> str:
        """The operator's pinned key, or else that of the first server that was ever obeyed."""
        if self.options.server_key is not None:
            return self.options.server_key
        if not isinstance(record, dict) or "server_key" not in record:
            raise UpdateRejectedError("an order of a server that this site has not met")
        return str(record["server_key"])

    def hello(self, welcome: Mapping[str, Any]) -> Mapping[str, Any]:
        """Take up a federation; says why where it does not."""
        name = self.options.name
        try:
            published = read_welcome(welcome)
            if published != self._welcome(published.federation):
                self._taken.pop(published.federation, None)
                self._sites.pop(published.federation, None)
            taken = self._take_up(published)
            write_bytes(self._file(published.federation), json_bytes(welcome), private=True)
            if self.options.server_key is None:
                self.options = replace(self.options, server_key=published.server_key)
                self.options.write(self.folder)
        except PFedMoAPError as error:
            logger.warning("this site does not take part: %s", error)
            return greeting_json(Greeting(name, Profile(), str(error)[:900]))
        private = is_private(taken.config.sections)
        return greeting_json(Greeting(name, Profile() if private else _profile(taken)))

    def site(self, federation: str, client: ClientId) -> Site:
        """Return the site of a federation, with the number that it was given first."""
        made = self._sites.get(federation)
        if made is None:
            welcome = self._welcome(federation)
            if welcome is None:
                raise RunError(f"federation {federation!r:.60} was not taken up here")
            made = self._sites[federation] = self._make(self._take_up(welcome), client)
        if made.client != client:
            raise RunError(
                f"this site is client {made.client} of its federation, and is now called {client}"
            )
        return made

    def forget(self, federation: str, clients: list[int]) -> dict[int, int]:
        """Erase what is held of clients that have left, in all kept states."""
        nothing = dict.fromkeys(clients, 0)
        welcome = self._welcome(federation)
        if welcome is None:
            return nothing
        method = self._take_up(welcome).method
        folder = self._folder(federation)
        number = _number(folder)
        if number is None or not isinstance(method, CanForget):
            return nothing
        state, forget = SiteState(folder, number), method.forget_local

        def erased(client: int) -> int:
            return state.rewrite(lambda local: forget(local, ClientId(client)))

        return {client: erased(client) for client in clients}

    def _take_up(self, welcome: Welcome) -> _TakenUp:
        known = self._taken.get(welcome.federation)
        if known is not None:
            return known
        config = accepted_config(welcome, self.options, str(self.folder / "features"))
        accepted_privacy(config, self.options, str(self.folder / "ledgers"))
        backbone = config.build("backbone").load_any()
        if backbone.fingerprint != welcome.fingerprint:
            raise ConfigError(
                f"the frozen model here has the fingerprint {backbone.fingerprint[:12]}, the "
                f"server's has {welcome.fingerprint[:12]}: both need the same weights"
            )
        method = make_method(config, backbone, welcome.class_names, welcome.templates)
        federation = _own_data(config, method, welcome)
        taken = self._taken[welcome.federation] = _TakenUp(welcome, config, method, federation)
        return taken

    def _make(self, taken: _TakenUp, client: ClientId) -> Site:
        folder = self._folder(taken.welcome.federation)
        known = _number(folder)
        if known is not None and known != client:
            raise RunError(f"this site is client {known} of its federation, and not {client}")
        write_bytes(folder / "number.json", json_bytes({"client": client}), private=True)
        return Site(
            taken.welcome.federation,
            client,
            taken.method,
            taken.own.train,
            self._privatizer(taken, client),
            SiteState(folder, client),
            self._scores(taken, folder),
            is_private(taken.config.sections),
        )

    def _privatizer(self, taken: _TakenUp, client: ClientId) -> Privatizer:
        config = taken.config
        if config.name("privacy") == "central":  # cohorts, noise and the ledger are the server's
            return ForTrustedServer()
        rounds, training = config.build("rounds"), config.build("training")
        groups = taken.federation.groups
        planned = PlannedTraining(
            rounds.rounds,
            training.epochs,
            training.batch_size,
            groups=None if groups is None else {client: groups[ONLY]},
            clients=(client,),
            participation=rounds.participation,
            local_steps=training.local_steps,
        )
        ledgers = self.folder / "ledgers"
        options = accepted_privacy(config, self.options, str(ledgers))
        made: Any = options.privatizer(
            taken.method, planned, self._folder(taken.welcome.federation) / "ledgers"
        )
        if isinstance(made, NoPrivacy):
            return made
        own: Privatizer = replace(made, ledgers=replace(made.ledgers, identity=ONLY))
        return own

    def _scores(self, taken: _TakenUp, folder: Path) -> Scores:
        private = is_private(taken.config.sections)

        def scores(download: Download, local: Arrays | None) -> Mapping[str, float]:
            task = ClientTask(download, local, taken.own.train)
            states = personal_states(taken.method, [task], NoPrivacy())
            with torch.no_grad():
                predicted = predict_client(
                    taken.method, download, states[download.client], taken.own, private=private
                )
            [found] = score([predicted])
            figures = {
                "accuracy": found.accuracy,
                "macro_f1": found.macro_f1,
                "ece": found.ece,
                "train_images": float(found.train_images),
                "test_images": float(found.test_images),
            }
            if found.global_accuracy is not None:
                figures["global_accuracy"] = found.global_accuracy
            line = json.dumps({"round": download.round - 1, **figures})
            append_line(folder / "scores.jsonl", line, private=True)
            return figures

        return scores

    def _folder(self, federation: str) -> Path:
        return self.folder / "federations" / federation

    def _file(self, federation: str) -> Path:
        return self._folder(federation) / "welcome.json"

    def _welcome(self, federation: str) -> Welcome | None:
        try:
            return read_welcome(read_strict(self._file(federation)))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise RunError(f"{self._file(federation)} is damaged: {error}") from error


def _own_data(config: Config, method: AnyMethod, welcome: Welcome) -> Federation:
    """Read and encode the site's data, as a federation of one.

    Raises:
        DataError: They are of no use in this federation. Where privacy is promised, the message
            says nothing of them: the server is sent it.
    """
    private = is_private(config.sections)
    try:
        return build_federation(
            with_published_classes(config.build("data").read(), welcome),
            config.build("partition"),
            method.setting.backbone,
            tuple(method.features),
            sampling=replace(config.build("sampling"), unseen_clients=0, server_shots=0),
            seeds=config.build("seeds"),
            features=config.build("features"),
            idle_clients=private,
            progress=False,
        )
    except PFedMoAPError as error:
        if not private:
            raise
        logger.warning("%s", error)
        raise DataError("its own data are of no use here; its own log says why") from error


def _number(folder: Path) -> ClientId | None:
    try:
        return ClientId(int(read_strict(folder / "number.json")["client"]))
    except FileNotFoundError:
        return None


def _profile(taken: _TakenUp) -> Profile:
    classes = len(taken.welcome.class_names)
    train, test = (
        tuple(torch.bincount(part.labels, minlength=classes).tolist())
        for part in (taken.own.train, taken.own.test)
    )
    return Profile(train, test)
