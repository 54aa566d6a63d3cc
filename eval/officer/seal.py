"""Seal a statement with hashes of the run that it speaks of, and verify one."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eval.officer.document import divided, text_of, with_seal
from eval.officer.facts import audit_of, ledgers_of, read_facts
from eval.officer.wording import statement
from pfedmoap import __version__
from pfedmoap.errors import PFedMoAPError, RunError
from pfedmoap.runs.manifest import read_manifest
from pfedmoap.storage.atomic_files import json_bytes
from pfedmoap.storage.digests import sha256, sha256_of_file
from pfedmoap.storage.own_files import refuse_link
from pfedmoap.storage.signing import Signer, is_signed
from pfedmoap.storage.strict_json import fields, integer, text
from pfedmoap.wire.messages import ClientId
from privacy.ledgers.ledger_file import file_of, ledger_bytes, read_folder

SCHEMA, SCHEMA_VERSION = "pfedmoap.privacy-statement", 1
_PUBLIC = ("config.json", "task.json", "metrics.jsonl", "privacy.json")
_FIELDS = (
    "schema",
    "schema_version",
    "run",
    "at",
    "written_by",
    "files",
    "run_sha256",
    "text_sha256",
    "key",
    "signature",
)


def sealed_statement(folder: Path, signer: Signer | None) -> str:
    """Make a run's statement.

    **Not sealed**: clients' models, counts and results, which are private. A hash of something that
    can be guessed tells what it is.

    Args:
        folder: The run.
        signer: Who signs it; ``None`` seals it by hashes alone.

    Returns:
        Markdown.

    Raises:
        RunError: It is no private run with a complete round, or a file of it is damaged.
        PrivacyError: A ledger is damaged.
    """
    facts, files = read_facts(folder), hashes_of(folder)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    body = text_of(statement(facts), facts.name, at)
    seal: dict[str, Any] = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "run": facts.name,
        "at": at,
        "written_by": __version__,
        "files": files,
        "run_sha256": sha256(json_bytes(files)),
        "text_sha256": sha256(body.encode()),
        "key": None if signer is None else signer.public,
    }
    signature = None if signer is None else signer.sign(json_bytes(seal))
    return with_seal(body, seal | {"signature": signature})


def hashes_of(folder: Path) -> dict[str, str]:
    """SHA-256 of each file that a run's statement follows from, by name.

    Raises:
        RunError: One is missing, or a link.
    """
    manifest = read_manifest(folder)
    server = (
        () if manifest is None or manifest.server is None else (manifest.server, *manifest.rows)
    )
    files = {name: folder / name for name in (*_PUBLIC, *server)}
    place = ledgers_of(folder)
    if place is not None:
        files |= {
            _name(client): file_of(place.folder, client)
            for client, accounts in read_folder(place.folder).items()
            if any(account.run == place.run for account in accounts)
        }
    audit = audit_of(folder)
    if audit.exists():
        files[audit.relative_to(folder).as_posix()] = audit
    return {name: _hash(file) for name, file in sorted(files.items())}


@dataclass(frozen=True)
class Verdict:
    """What verifying a statement found.

    Attributes:
        faults: What is wrong, in words; none where it holds.
        remarks: What was not checked, or is worth knowing.
    """

    faults: tuple[str, ...]
    remarks: tuple[str, ...]


def verify(content: bytes, folder: Path, key: str | None) -> Verdict:
    """Hold a statement against the run that it speaks of.

    Its text has to be what its seal says, and the run's files, too; its signature has to be good;
    and the text has to follow from the run, or bear the signature of a key that is known, so that
    nobody can write another text and seal that anew. A ledger that runs share may have been charged
    by later ones since, behind all that it held: that is no fault of this statement.

    Args:
        content: The document.
        folder: The run.
        key: Whose signature it has to bear, a public key in hexadecimal digits; ``None`` takes the
            one that the seal names, which shows nothing of who signed.

    Raises:
        RunError: It is no statement.
    """
    body, seal = divided(content)
    try:
        fields(seal, _FIELDS)
        if seal["schema"] != SCHEMA or integer(seal["schema_version"], "version") != SCHEMA_VERSION:
            raise ValueError(f"schema {seal['schema']!r:.40}, expected {SCHEMA} {SCHEMA_VERSION}")
        if not isinstance(seal["files"], dict):
            raise ValueError("files must be an object")
        files = {file: text(found, "a hash") for file, found in seal["files"].items()}
        name, at = text(seal["run"], "run"), text(seal["at"], "at")
        author = text(seal["written_by"], "written_by")
    except ValueError as error:
        raise RunError(f"the statement's seal is damaged: {error}") from error
    faults, remarks = _signature(seal, key)
    if sha256(body.encode()) != seal["text_sha256"]:
        faults.append("its text is not the one that was sealed")
    if sha256(json_bytes(files)) != seal["run_sha256"]:
        faults.append("its list of files is not the one that was sealed")
    private = audit_of(folder).relative_to(folder).as_posix()
    partly = private in files and not audit_of(folder).parent.is_dir()
    if partly:
        remarks.append(f"{private} was not checked: this is the public part of the run")
        files = {file: found for file, found in files.items() if file != private}
    later = _charged_since(files, folder)
    if later:
        remarks.append(
            f"other runs have charged {len(later)} of its ledgers since: what all runs together "
            "have spent is more now than it says, and a new statement says how much"
        )
    faults += _changed(files, folder, later)
    if faults:
        return Verdict(tuple(faults), tuple(remarks))
    unlike = (
        "it cannot be written anew from a part of the run"
        if partly
        else _unlike(body, folder, name, at, author, later)
    )
    if unlike is not None and key is None:
        faults.append(f"{unlike}; to trust its signature instead, give --public_key")
    elif unlike is not None:
        remarks.append(unlike)
    return Verdict(tuple(faults), tuple(remarks))


def _signature(seal: Mapping[str, Any], key: str | None) -> tuple[list[str], list[str]]:
    unsigned = {name: value for name, value in seal.items() if name != "signature"}
    if seal["signature"] is None:
        if key is not None:
            return ["it bears no signature, and one of the given key is asked for"], []
        return [], ["it is not signed: that it follows from the run is shown, not who wrote it"]
    if key is not None and seal["key"] != key:
        return [f"it is signed with the key {seal['key']}, and {key} is asked for"], []
    if not is_signed(json_bytes(unsigned), str(seal["signature"]), str(seal["key"])):
        return ["its signature is not that of its key"], []
    who = f"it is signed with the key {seal['key']}"
    return [], [who if key else f"{who}; give --public_key to hold that against one that you know"]


def _charged_since(files: Mapping[str, str], folder: Path) -> dict[ClientId, int]:
    """How many runs were in a ledger when it was sealed, where only others came behind them."""
    found: dict[ClientId, int] = {}
    try:
        place = ledgers_of(folder)
        ledgers = {} if place is None else read_folder(place.folder)
    except PFedMoAPError:  # which is told of as a change
        return found
    for client, accounts in ledgers.items():
        sealed = files.get(_name(client))
        for count in range(1, len(accounts)):
            if sha256(ledger_bytes(client, accounts[:count])) == sealed:
                found[client] = count
    return found


def _changed(files: Mapping[str, str], folder: Path, later: Mapping[ClientId, int]) -> list[str]:
    try:
        now = hashes_of(folder) | {_name(client): files[_name(client)] for client in later}
    except PFedMoAPError as error:
        return [f"the run cannot be read: {error}"]
    return [
        *(
            f"{name} has changed since"
            for name in files
            if now.get(name, files[name]) != files[name]
        ),
        *(f"{name} is missing" for name in files if name not in now),
        *(f"{name} is new since" for name in now if name not in files),
    ]


def _unlike(
    body: str, folder: Path, name: str, at: str, author: str, later: Mapping[ClientId, int]
) -> str | None:
    """Why the text is not the one that this version makes of the run; ``None`` if it is."""
    try:
        again = text_of(statement(read_facts(folder, later)), name, at)
    except PFedMoAPError as error:
        return f"the run cannot be read: {error}"
    if again == body:
        return None
    if author == __version__:
        return "its text does not follow from the run"
    return f"version {author} wrote it, and {__version__} has other words for the run"


def _name(client: ClientId) -> str:
    """A ledger's name in a seal."""
    return f"ledgers/{client:04d}.json"


def _hash(file: Path) -> str:
    refuse_link(file)
    if not file.is_file():
        raise RunError(f"{file} is missing: use the folder that the run was trained in")
    return sha256_of_file(file)
