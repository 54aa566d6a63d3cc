"""Erasing a client that has left: its prompt goes, and a signed record says what stays."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from eval.choices import schema
from pfedmoap.contract.capabilities import CanForget
from pfedmoap.contract.method import AnyMethod
from pfedmoap.contract.tasks import Setting
from pfedmoap.errors import RunError
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.runs.folder import held
from pfedmoap.runs.layout import PRIVATE, Layout
from pfedmoap.runs.rewrite import rewrite_states
from pfedmoap.storage.atomic_files import json_bytes, write_bytes
from pfedmoap.storage.signing import Signer, is_signed
from pfedmoap.storage.strict_json import read_strict
from pfedmoap.wire.messages import Arrays, ClientId

FOLDER = "erasures"


@dataclass(frozen=True)
class Erasure:
    """What an erasure did, and what it could not do.

    Attributes:
        client: Who has left.
        round: The run's last round.
        at: When, in UTC.
        rounds: Rounds in which the client took part.
        states_changed: Other clients whose states in this folder held something of it; the sites
            of a federation keep their own, and erase it when they are greeted next.
        server_changed: Whether the server held something of it alone.
        share_of_last_average: Its weight in the average of the last round; 0 if it took no part.
        cosine_with_average: Largest cosine of its last prompt with a part of the server's state of
            the same size that stays; ``None`` where there is none.
        stays: What stays of it, in words.
    """

    client: ClientId
    round: int
    at: str
    rounds: int
    states_changed: int
    server_changed: bool
    share_of_last_average: float
    cosine_with_average: float | None
    stays: str


def erase(run_folder: Path, client: ClientId, key: Path) -> Erasure:
    """Erase a client from a run.

    Its own state, its prompt in the server's state, and what other clients hold of it are gone from
    every file, also from damaged ones that a repair has kept. Nothing is trained anew. The privacy
    ledger stays: what was spent stays spent.

    Args:
        run_folder: The run.
        client: Who has left.
        key: The operator's signing key; made where it is missing.

    Returns:
        What was done.

    Raises:
        RunError: The run has no complete round, or the client never took part in it.
    """
    run = RunDirectory(run_folder)
    with held(run_folder):
        saved = run.resume()
        if saved is None:
            raise RunError(f"{run_folder} has no complete round yet: there is nothing to erase")
        records = run.metrics()
        rounds = [r["round"] for r in records if client in r["cohort"]]
        if not rounds and client not in saved.local_states:
            raise RunError(f"client {client} never took part in {run_folder}")
        method = _method_of(run)
        before = method.from_arrays(saved.server)
        prompts = _prompts_of(method, before, saved.local_states.get(client), client)
        after = method.forget(before, client) if isinstance(method, CanForget) else before
        server = method.to_arrays(after)
        states = _Erased(saved.local_states, method, client)
        changed = sum(states.changes(other) for other in states)
        rewrite_states(run, replace(saved, server=server), states)
        share = _share(records[-1], _sizes(run), client) if records else 0.0
        done = Erasure(
            client,
            saved.round,
            datetime.now(UTC).isoformat(timespec="seconds"),
            len(rounds),
            changed,
            isinstance(method, CanForget) and _differ(saved.server, server),
            share,
            _largest_cosine(prompts, server),
            _stays(len(rounds), share),
        )
        _write(run.layout, done, Signer.kept_in(key))
        return done


def erased_clients(run_folder: Path) -> frozenset[ClientId]:
    """Clients that were erased from a run; they train no more."""
    folders = (run_folder / FOLDER, run_folder / PRIVATE / FOLDER)
    files = (file for folder in folders for file in folder.glob("[0-9]*.json"))
    return frozenset(ClientId(int(file.stem)) for file in files)


def record_of(layout: Layout, client: ClientId) -> Path:
    """Where the record of an erasure is: who took part and how far is private in a private run."""
    return layout.where(f"{FOLDER}/{client:04d}.json")


def check_record(file: Path) -> bool:
    """Whether an erasure's record is as it was signed."""
    record = read_strict(file)
    signature = record.pop("signature")
    return is_signed(json_bytes(record), str(signature), str(record["key"]))


def _write(layout: Layout, done: Erasure, signer: Signer) -> None:
    record = {**vars(done), "run": layout.run.name, "key": signer.public}
    signed = record | {"signature": signer.sign(json_bytes(record))}
    content = json.dumps(signed, indent=2).encode()
    write_bytes(record_of(layout, done.client), content, private=layout.divided)


@dataclass(frozen=True)
class _Erased(Mapping[ClientId, Arrays]):
    """The other clients' states without what they held of one; read one by one."""

    states: Mapping[ClientId, Arrays]
    method: AnyMethod
    client: ClientId

    def __getitem__(self, other: ClientId) -> Arrays:
        if other == self.client:
            raise KeyError(other)
        local = self.states[other]
        if not isinstance(self.method, CanForget):
            return local
        return self.method.forget_local(local, self.client)

    def __iter__(self) -> Any:
        return (other for other in self.states if other != self.client)

    def __len__(self) -> int:
        return len(self.states) - (self.client in self.states)

    def changes(self, other: ClientId) -> bool:
        return _differ(self.states[other], self[other])


def _method_of(run: RunDirectory) -> AnyMethod:
    config, task = schema().resolve(run.config), run.task
    setting = Setting(
        config.build("backbone").load_any(),
        tuple(task["class_names"]),
        config.build("training"),
        tuple(task["templates"]),
        config.build("seeds").training,
        server=config.build("server"),
        pool=config.build("pool"),
        rounds=config.build("rounds").rounds,
    )
    made: AnyMethod = config.build("method", setting=setting)
    return made


def _prompts_of(
    method: AnyMethod, state: Any, local: Arrays | None, client: ClientId
) -> list[Tensor]:
    """What is known of a client's last upload: in its own state, and in the server's."""
    found = [array for name, array in (local or {}).items() if name in method.uploads]
    if isinstance(method, CanForget):
        with_it, without = method.to_arrays(state), method.to_arrays(method.forget(state, client))
        for name, array in with_it.items():
            if name in without and len(without[name]) == len(array):
                continue
            rows = array if name not in without else array[_missing(array, without[name])]
            found += [row for row in rows if row.is_floating_point()]
    return found


def _missing(rows: Tensor, kept: Tensor) -> list[int]:
    return [i for i, row in enumerate(rows) if not any(bool((row == one).all()) for one in kept)]


def _largest_cosine(prompts: list[Tensor], server: Arrays) -> float | None:
    cosines = [
        float(F.cosine_similarity(prompt.flatten().double(), part.flatten().double(), dim=0))
        for prompt in prompts
        for part in server.values()
        if part.is_floating_point() and part.numel() == prompt.numel()
    ]
    return max(cosines, default=None)


def _sizes(run: RunDirectory) -> dict[int, int]:
    """How many training images a client's weight was made of; empty where the server knew none."""
    if run.divided and run.config["privacy"].get("counts") != "public":
        return {}
    return {one["client"]: sum(one["train"]) for one in run.task["clients"]}


def _share(record: Mapping[str, Any], sizes: Mapping[int, int], client: ClientId) -> float:
    """A client's weight in the last average, by its training images where they are known."""
    admitted = [one for one in record["cohort"] if str(one) not in record["rejected"]]
    if client not in admitted:
        return 0.0
    known = all(sizes.get(one) for one in admitted)
    weights = {one: sizes[one] if known else 1 for one in admitted}
    return float(weights[client] / sum(weights.values()))


def _stays(rounds: int, share: float) -> str:
    last = (
        f"its last update has a weight of {share:.3f} in the current average"
        if share
        else "it took no part in the last round, so that its last update is in the average only "
        "through what others trained from it"
    )
    return (
        f"it took part in {rounds} rounds: {last}. Prompts and gates that others trained from "
        "averages or beside its expert stay as they are; removing its influence from them would "
        "take training anew without it. Lines of the log, its row in tables of results and its "
        "privacy ledger stay: they hold no model"
    )


def _differ(one: Arrays, other: Arrays) -> bool:
    return one.keys() != other.keys() or any(
        one[name].shape != other[name].shape or not bool((one[name] == other[name]).all())
        for name in one
    )
