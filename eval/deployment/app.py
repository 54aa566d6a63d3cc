"""The Flower app of a federation: a few lines that name what is installed.

Flower sends an app's files to every node. Ours hold nothing but the names of the two apps of this
package; `pfedmoap join` does not even run them.
"""

from importlib.metadata import version
from pathlib import Path

from pfedmoap.storage.atomic_files import write_bytes

_PROJECT = """\
[project]
name = "pfedmoap-app"
version = "{version}"
description = "A federation of pFedMoAP: all code is in the installed package"
license = {{ file = "LICENSE" }}
dependencies = ["flwr>=1.42,<1.43", "pfedmoap"]

[tool.flwr.app]
publisher = "pfedmoap"
fab-format-version = 1
flwr-version-target = "1.42.0"

[tool.flwr.app.components]
serverapp = "pfedmoap_app.server:app"
clientapp = "pfedmoap_app.client:app"

[tool.flwr.app.config]
folder = "{folder}"
"""
_MODULE = """\
from eval.deployment.apps import {kind}_app

app = {kind}_app
"""


def write_app(place: Path, federation: Path) -> Path:
    """Write the app of a federation, for ``flwr run`` too.

    Args:
        place: The app's folder.
        federation: The federation's folder on the server.

    Returns:
        The app's folder.
    """
    project = _PROJECT.format(version=version("pfedmoap"), folder=federation.resolve().as_posix())
    files = {
        "pyproject.toml": project,
        "LICENSE": "Apache-2.0: https://www.apache.org/licenses/LICENSE-2.0\n",
        "pfedmoap_app/__init__.py": "",
        "pfedmoap_app/server.py": _MODULE.format(kind="server"),
        "pfedmoap_app/client.py": _MODULE.format(kind="client"),
    }
    for name, text in files.items():
        write_bytes(place / name, text.encode())
    return place
