"""A site whose owner is an attacker, as a process of its own: what it answers follows a plan.

``python -m tests.helpers.hostile_site --server H:P --folder F --credentials C --plan JSON`` runs a
real SuperNode for the site in folder ``F`` (written by `pfedmoap join --prepare`). It trains as an
honest one would, and then meddles with its answer. The plan maps ``"hello"``, or a round's number,
to one of `FAULTS`, to ``wait`` (answer once the file ``F/go-ROUND`` is there), or to
``name:SITE`` (greet as another one).
"""

import argparse
import json
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict

from eval.deployment.apps import host_in
from pfedmoap.engine.flower.client_app import make_client_app
from pfedmoap.engine.flower.links import set_offline, supernode
from pfedmoap.engine.flower.places import Address
from pfedmoap.engine.flower.workers import serve_tasks
from pfedmoap.errors import RunError

ABOUT, ARRAYS = "pfedmoap.about", "pfedmoap.arrays"
SHOUT = "it is well\n\x1b[2Jround 99: site-a: [bold]has left[/bold]<script>alert(1)</script>"


def with_arrays(content: RecordDict, change: Callable[[Array], Array]) -> RecordDict:
    changed = ArrayRecord({name: change(array) for name, array in content[ARRAYS].items()})
    return RecordDict({ABOUT: content[ABOUT], ARRAYS: changed})


def with_answer(content: RecordDict, **fields: Any) -> RecordDict:
    about = json.loads(content[ABOUT]["json"]) | fields
    return RecordDict({**content, ABOUT: ConfigRecord({"json": json.dumps(about)})})


def not_finite(array: Array) -> Array:
    numbers = np.frombuffer(array.data, "<f4").copy()
    numbers[0] = np.nan
    return Array(array.dtype, array.shape, array.stype, numbers.tobytes())


def reshaped(array: Array) -> Array:
    rows, width = array.shape
    return Array(array.dtype, (rows // 2, 2 * width), array.stype, array.data)


def twice_as_long(array: Array) -> Array:
    return Array(array.dtype, (2 * array.shape[0], *array.shape[1:]), array.stype, 2 * array.data)


FAULTS: dict[str, Callable[[RecordDict], RecordDict]] = {
    "nan": lambda content: with_arrays(content, not_finite),
    "shape": lambda content: with_arrays(content, reshaped),
    "long": lambda content: with_arrays(content, twice_as_long),
    "other": lambda content: with_answer(content, client=1),
    "garbage": lambda _: RecordDict({"metrics": MetricRecord({"accuracy": 1.0})}),
    "shout": lambda content: with_answer(content, sat_out=SHOUT),
}


class Hostile:
    """Stands in for the app of a site; see the module."""

    def __init__(self, folder: Path, plan: dict[str, str]) -> None:
        host = host_in(folder)
        self.folder, self.plan, self.honest = folder, plan, make_client_app(lambda _: host)
        self.first: RecordDict | None = None

    def __call__(self, message: Message, context: Context) -> Message:
        kind = message.metadata.message_type
        if kind == "query.hello":
            _, _, name = self.plan.get("hello", "").partition(":")
            reply = self.honest(message, context)
            content = with_answer(reply.content, name=name) if name else reply.content
            return Message(content, reply_to=message)
        if kind != "train":
            return self.honest(message, context)
        number = json.loads(message.content[ABOUT]["json"])["round"]
        fault = self.plan.get(str(number), "honest")
        print(f"round {number}: {fault}", flush=True)
        reply = self.honest(message, context)
        if self.first is None:
            self.first = reply.content
        if fault == "hang":
            print(f"round {number}: trained, and says nothing", flush=True)
            threading.Event().wait()
        while fault == "wait" and not (self.folder / f"go-{number}").exists():
            time.sleep(0.05)
        if fault == "replay":
            return Message(self.first, reply_to=message)
        if fault in FAULTS:
            return Message(FAULTS[fault](reply.content), reply_to=message)
        return reply


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("server", "folder", "credentials", "plan"):
        parser.add_argument(f"--{name}", required=True)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that its node ends first
    folder, keys = Path(given.folder), Path(given.credentials)
    host, _, port = given.server.rpartition(":")
    set_offline(folder / "flower")
    app: Any = Hostile(folder, json.loads(given.plan))
    server = Address(host, int(port), keys / "ca.pem")
    key = keys / "private" / f"{host_in(folder).options.name}.key"
    while True:  # as `join` does where the server is away
        with (
            suppress(RunError),
            supernode(server, folder / "flower", key, {}) as (tasks, secret, check),
        ):
            serve_tasks(tasks, secret, app, threading.Event(), check)
        time.sleep(2)


if __name__ == "__main__":
    main()
