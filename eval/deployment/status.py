"""How far a federation is, read from its folder alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.deployment.federation_file import RUN
from eval.erasure_record import confirmed
from pfedmoap.engine.flower.members import Members
from pfedmoap.runs.commit import layout_of
from pfedmoap.runs.directory import RunDirectory
from pfedmoap.runs.folder import claimed
from pfedmoap.wire.messages import ClientId


@dataclass(frozen=True)
class SiteStatus:
    """One site.

    Attributes:
        name: Its name.
        client: Its number.
        joined: The first round that it could take part in.
        rounds: Rounds in which its update was admitted.
        last_round: The last of them.
        down_bytes: Sent to it in all rounds.
        up_bytes: Received from it.
        epsilon: What it said that it has spent; ``None`` without a budget.
        news: Why it was left out of the last round, or that it has left.
    """

    name: str
    client: ClientId
    joined: int
    rounds: int
    last_round: int | None
    down_bytes: int
    up_bytes: int
    epsilon: float | None
    news: str


@dataclass(frozen=True)
class Status:
    """A federation.

    Attributes:
        round: Its last complete round.
        sites: Its sites, in the order of their numbers.
    """

    round: int
    sites: tuple[SiteStatus, ...]


def status_of(folder: Path) -> Status:
    """Read how far a federation is.

    Raises:
        RunError: A file of it is damaged.
    """
    run = folder / RUN
    started = claimed(run) is not None if run.exists() else False
    records = RunDirectory(run).metrics() if started else []
    members = Members.read(folder)
    sites, staying = [], [one.name for one in members.present.values()]
    for one in sorted(members.by_name.values(), key=lambda one: one.client):
        key = str(one.client)
        admitted = [
            int(record["round"])
            for record in records
            if one.client in record["cohort"] and key not in record["rejected"]
        ]
        traffic = [
            each for record in records for each in record["traffic"] if each["client"] == one.client
        ]
        spent = [record["epsilon"][key] for record in records if key in record["epsilon"]]
        last = records[-1] if records else {}
        news = last.get("rejected", {}).get(key) or last.get("sat_out", {}).get(key, "")
        sites.append(
            SiteStatus(
                one.name,
                one.client,
                one.joined,
                len(admitted),
                admitted[-1] if admitted else None,
                sum(sum(each["down_bytes"].values()) for each in traffic),
                sum(sum(each["up_bytes"].values()) for each in traffic),
                spent[-1] if spent else None,
                _left(run, one.client, staying) if one.left else news,
            )
        )
    return Status(RunDirectory(run).round if started else 0, tuple(sites))


def _left(run: Path, client: ClientId, staying: Sequence[str]) -> str:
    """Say that a site has left, and who has yet to erase what it holds of it."""
    known = confirmed(layout_of(run), client)
    missing = [name for name in staying if name not in known]
    return f"has left; still to erase its expert: {', '.join(missing)}" if missing else "has left"
