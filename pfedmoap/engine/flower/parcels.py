"""A batch of clients as one message, and what they trained as another.

Both ends are processes of one simulation, which its operator started; nothing here comes from
anybody else. Arrays have the form that they have between sites (`pfedmoap.engine.flower.arrays`).
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from pfedmoap.contract.tasks import ClientData, ClientResult, ClientTask
from pfedmoap.engine.flower.arrays import from_record, to_record
from pfedmoap.errors import RunError
from pfedmoap.wire.messages import Arrays, ClientId, Download, Update

_ABOUT, _TEXT = "about", "json"
_ANY_SIZE = 2**62  # both ends have one operator
_LABELS, _FEATURE = "labels", "feature."


@dataclass(frozen=True)
class Batch:
    """Clients that train side by side in one process.

    Attributes:
        tasks: Their tasks, all of one round.
        charged: Steps that their ledgers were charged for, by client; ``None`` without ledgers.
        silent: Whether nothing may be logged, since a line tells who takes part.
    """

    tasks: Sequence[ClientTask]
    charged: Mapping[ClientId, int] | None = None
    silent: bool = False


def pack_batch(batch: Batch) -> RecordDict:
    """Write a batch, without the clients' data: these are where it trains already."""
    clients: list[dict[str, int | bool]] = []
    records: dict[str, ArrayRecord] = {}
    for task in batch.tasks:
        client, download = task.download.client, task.download
        clients.append({"client": client, "round": download.round, "known": task.local is not None})
        records[f"{client}.download"] = to_record(download.arrays)
        if task.local is not None:
            records[f"{client}.local"] = to_record(task.local)
    charged = None if batch.charged is None else {str(c): n for c, n in batch.charged.items()}
    return _content({"clients": clients, "charged": charged, "silent": batch.silent}, records)


def unpack_batch(content: RecordDict, data_of: Callable[[ClientId], ClientData]) -> Batch:
    """Read a batch.

    Args:
        content: What `pack_batch` has written.
        data_of: Finds a client's training data.
    """
    about = _about(content)
    tasks = []
    for one in about["clients"]:
        client = ClientId(one["client"])
        download = Download(one["round"], client, _arrays(content, client, "download"))
        local = _arrays(content, client, "local") if one["known"] else None
        tasks.append(ClientTask(download, local, data_of(client)))
    charged = about["charged"]
    if charged is not None:
        charged = {ClientId(int(client)): steps for client, steps in charged.items()}
    return Batch(tasks, charged, about["silent"])


def pack_results(results: Iterable[ClientResult], clipped: Mapping[ClientId, float]) -> RecordDict:
    """Write what clients trained, and which share of their vectors was clipped."""
    said: list[dict[str, Any]] = []  # JSON
    records: dict[str, ArrayRecord] = {}
    for result in results:
        update = result.update
        said.append(
            {
                "client": update.client,
                "round": update.round,
                "num_examples": update.num_examples,
                "metrics": dict(update.metrics),
                "costs": dict(result.costs),
            }
        )
        parts = {"update": update.arrays, "local": result.local, "lasting": result.lasting}
        records |= {f"{update.client}.{part}": to_record(own) for part, own in parts.items()}
    shares = {str(client): share for client, share in clipped.items()}
    return _content({"results": said, "clipped": shares}, records)


def unpack_results(content: RecordDict) -> tuple[list[ClientResult], dict[ClientId, float]]:
    """Read what `pack_results` has written."""
    about = _about(content)
    results = []
    for one in about["results"]:
        client = ClientId(one["client"])
        update, local, lasting = (
            _arrays(content, client, part) for part in ("update", "local", "lasting")
        )
        sent = Update(one["round"], client, update, one["num_examples"], one["metrics"])
        results.append(ClientResult(sent, local, one["costs"], lasting))
    return results, {ClientId(int(client)): share for client, share in about["clipped"].items()}


def data_record(data: ClientData, kinds: Sequence[str]) -> ArrayRecord:
    """Write a client's training data: the kinds of features that a method needs, and labels."""
    features = {_FEATURE + kind: data.features[kind] for kind in kinds}
    return to_record({_LABELS: data.labels, **features})


def data_of_record(record: ArrayRecord) -> ClientData:
    """Read what `data_record` has written."""
    arrays = from_record(record, most=_ANY_SIZE)
    labels = arrays.pop(_LABELS)
    return ClientData({name.removeprefix(_FEATURE): own for name, own in arrays.items()}, labels)


def _content(about: Mapping[str, Any], records: Mapping[str, ArrayRecord]) -> RecordDict:
    content = RecordDict({_ABOUT: ConfigRecord({_TEXT: json.dumps(about)})})
    for name, record in records.items():
        content[name] = record
    return content


def _about(content: RecordDict) -> Any:  # JSON of the forms that are written above
    return json.loads(str(content.config_records[_ABOUT][_TEXT]))


def _arrays(content: RecordDict, client: ClientId, part: str) -> Arrays:
    name = f"{client}.{part}"
    if name not in content.array_records:
        raise RunError(f"a message of the simulation lacks {name}")
    return from_record(content.array_records[name], most=_ANY_SIZE)
