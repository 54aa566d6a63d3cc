"""What a site's operator decides, in a file of the site's own folder."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pfedmoap.engine.flower.members import check_name
from pfedmoap.errors import ConfigError, RunError
from pfedmoap.storage.atomic_files import write_json
from pfedmoap.storage.strict_json import fields, items, number, read_strict, text

FILE = "site.json"


@dataclass(frozen=True)
class SiteOptions:
    """One site's own decisions; no server can change them.

    Attributes:
        name: Its name.
        data: A folder of images (``root/class/*``), or a CSV file of paths and labels.
        max_epsilon: The most epsilon that all training on these data may ever spend. With it, the
            site takes part in private training alone; none sets no limit and demands nothing.
        max_delta: The largest delta that goes with it.
        groups: Whether each class folder holds a folder for each person.
        device: Where it computes.
        backbone: The only frozen model that it loads, e.g. ``local-dir:/models/clip``; none takes
            the server's choice where that is no path or address.
        methods: Methods that it runs beside this package's own, by the path of their file.
        server_key: The server's public key; none takes the first one that it meets for good.
        insecure_seed: Whether a server may set the seed of the noise, which voids all privacy; for
            tests.
    """

    name: str
    data: str
    max_epsilon: float | None = None
    groups: bool = False
    device: str = "auto"
    backbone: str | None = None
    methods: tuple[str, ...] = ()
    server_key: str | None = None
    insecure_seed: bool = False
    max_delta: float = 1e-5

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.max_epsilon is not None and not self.max_epsilon > 0:
            raise ConfigError(f"max_epsilon must be positive, got {self.max_epsilon}")

    def reader(self) -> dict[str, Any]:
        """The ``data`` section that reads its images."""
        place = Path(self.data).expanduser()
        if place.suffix.lower() == ".csv":
            return {"name": "csv", "file": str(place)}
        persons = "subfolder" if self.groups else "none"
        return {"name": "folder", "root": str(place), "groups": persons}

    def write(self, folder: Path) -> None:
        """Keep them in the site's folder."""
        write_json(folder / FILE, asdict(self), private=True)

    @classmethod
    def read(cls, folder: Path) -> "SiteOptions | None":
        """Read them from the site's folder; ``None`` where the site is new.

        Raises:
            RunError: The file is damaged.
        """
        names = tuple(cls.__dataclass_fields__)
        try:
            found = fields(read_strict(folder / FILE), names)
            most = found["max_epsilon"]
            if not all(type(found[name]) is bool for name in ("groups", "insecure_seed")):
                raise ValueError("groups and insecure_seed must be true or false")
            return cls(
                text(found["name"], "name"),
                text(found["data"], "data"),
                None if most is None else number(most, "max_epsilon"),
                found["groups"],
                text(found["device"], "device"),
                _text_or_none(found["backbone"], "backbone"),
                tuple(text(name, "a method") for name in items(found["methods"], "methods")),
                _text_or_none(found["server_key"], "server_key"),
                found["insecure_seed"],
                number(found["max_delta"], "max_delta"),
            )
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise RunError(f"{folder / FILE} is damaged: {error}") from error


def _text_or_none(value: object, what: str) -> str | None:
    return None if value is None else text(value, what)
