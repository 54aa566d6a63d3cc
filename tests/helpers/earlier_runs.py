"""Run folders as earlier versions wrote them: one state file for each client and round."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

States = Mapping[int, tuple[int, Mapping[str, Tensor]]]
"""By client: the round that wrote its state, and the state."""


def write_earlier_run(
    path: Path, round: int, server: Mapping[str, Tensor], clients: States, *, sealed: bool = True
) -> None:
    """Put a run's states into the files of an earlier version, and its manifest.

    Args:
        path: A run of the present version with ``round`` rounds, of which all but the states stay.
        round: Its last round.
        server: The server's state.
        clients: The clients' states.
        sealed: Whether with checksums, as in the last such version, or as before it.
    """
    manifest = json.loads((path / "checkpoint.json").read_text())
    known = {name: found for name, found in manifest["sha256"].items() if "/" not in name}
    for folder in ("server", "clients"):
        for file in sorted((path / folder).glob("*.safetensors")):
            file.unlink()
    files = {f"server/round-{round:06d}.safetensors": (None, round, server)}
    for client, (wrote, state) in clients.items():
        files[f"clients/{client:04d}/round-{wrote:06d}.safetensors"] = (client, wrote, state)
    for name, (client, wrote, state) in files.items():
        about = {"pfedmoap": json.dumps({"client": client, "round": wrote})}
        content = save(dict(state), metadata=about if sealed else None)
        (path / name).parent.mkdir(exist_ok=True, parents=True)
        (path / name).write_bytes(content)
        known[name] = hashlib.sha256(content).hexdigest()
    record = {
        "round": round,
        "server": f"server/round-{round:06d}.safetensors",
        "clients": {str(c): name for name, (c, _, _) in files.items() if c is not None},
    }
    record |= {key: manifest[key] for key in ("charges", "privacy") if key in manifest}
    if sealed:
        record |= {"sha256": known, "lines": manifest["lines"]}
        text = json.dumps(record, indent=2, sort_keys=True) + "\n"
        record["check"] = hashlib.sha256(text.encode()).hexdigest()
    (path / "checkpoint.json").write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
    (path / "checkpoint-previous.json").unlink(missing_ok=True)
