"""Erasing a client that has left: its prompt goes, and a signed record says what stays."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from eval.choices import schema
from eval.erasure_record import Erasure, read_record, write_record
from pfedmoap.contract.capabilities import CanForget
from pfedmoap.contract.method import AnyMethod
from pfedmoap.errors import RunError
from pfedmoap.methods.made import make_method
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.runs.folder import held
from pfedmoap.runs.rewrite import rewrite_states
from pfedmoap.storage.signing import Signer
from pfedmoap.wire.messages import Arrays, ClientId


def erase(
    run_folder: Path,
    client: ClientId,
    key: Path,
    leave: Callable[[], None] | None = None,
) -> Erasure:
    """Erase a client from a run.

    Its own state, its prompt in the server's state, and what other clients hold of it are gone from
    every file, also from damaged ones that a repair has kept. Nothing is trained anew. The privacy
    ledger stays: what was spent stays spent. One that was interrupted is repeated, and its record
    says what was found before anything was taken out.

    Args:
        run_folder: The run.
        client: Who has left.
        key: The operator's signing key; made where it is missing.
        leave: Takes it off the list of a federation's sites, whose states are their own: called
            once nobody else can write to the run, and before anything is taken out of it.

    Returns:
        What was done; where it had been done before, what was done then.

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
        if not rounds and client not in saved.local_states and leave is None:
            raise RunError(f"client {client} never took part in {run_folder}")
        method = _method_of(run)
        before = method.from_arrays(saved.server)
        prompts = _prompts_of(method, before, saved.local_states.get(client), client)
        after = method.forget(before, client) if isinstance(method, CanForget) else before
        server = method.to_arrays(after)
        states = _Erased(saved.local_states, method, client)
        changed = sum(states.changes(other) for other in states)
        share = _share(records[-1], _sizes(run), client) if records else 0.0
        found = Erasure(
            client,
            saved.round,
            datetime.now(UTC).isoformat(timespec="seconds"),
            len(rounds),
            changed if leave is None else None,
            isinstance(method, CanForget) and _differ(saved.server, server),
            share,
            _largest_cosine(prompts, server),
            _stays(len(rounds), share),
            complete=False,
        )
        done, signer = read_record(run.layout, client) or found, Signer.kept_in(key)
        nothing = not (changed or found.server_changed or client in saved.local_states)
        if done.complete and nothing:
            return done
        if done.complete:  # it came back, with a copy of the run that was restored
            done = found
        write_record(run.layout, done, signer)
        if leave is not None:
            leave()
        rewrite_states(run, replace(saved, server=server), states)
        done = replace(done, complete=True)
        write_record(run.layout, done, signer)
        return done


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
    return make_method(
        config,
        config.build("backbone").load_any(),
        tuple(task["class_names"]),
        tuple(task["templates"]),
    )


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
        "take training anew without it. Lines of the log, what trackers were told of it, its row "
        "in tables of results and its privacy ledger stay: they hold no model"
    )


def _differ(one: Arrays, other: Arrays) -> bool:
    return one.keys() != other.keys() or any(
        one[name].shape != other[name].shape or not bool((one[name] == other[name]).all())
        for name in one
    )
