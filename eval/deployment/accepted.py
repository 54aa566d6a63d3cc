"""What a site accepts of a server's configuration, and what it refuses to do for anybody."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from eval.choices import schema
from eval.deployment.site_options import SiteOptions
from pfedmoap.config.schema import Config
from pfedmoap.config.suggestions import perhaps
from pfedmoap.contract.privacy_options import PrivacyOptions
from pfedmoap.data.dataset import ImageDataset
from pfedmoap.engine.flower.greeting import Welcome
from pfedmoap.errors import ConfigError, DataError, PrivacyError
from pfedmoap.methods.registry import Methods


def accepted_config(welcome: Welcome, options: SiteOptions, cache: str) -> Config:
    """Resolve what a server published, with the site's own data, device and cache.

    Args:
        welcome: What the server published.
        options: What the site's operator decided.
        cache: Folder of the site's own features.

    Returns:
        The configuration.

    Raises:
        ConfigError: It would run code or load files that the operator did not agree to.
    """
    sections: dict[str, Any] = {name: dict(of) for name, of in welcome.sections.items()}
    method = sections["method"].get("name")
    if method not in Methods().names and method not in options.methods:
        raise ConfigError(
            f"the server asks for method {str(method)!r:.100}, which is none of this package: name "
            "it with --methods if its code may run here"
        )
    for section in ("method", "backbone", "privacy"):
        kept = {"model", "pretrained"} if options.backbone is not None else set()
        for name, value in _places(sections[section]):
            if name == "name" or (section == "backbone" and name in kept):
                continue
            raise ConfigError(
                f"the server sets {section}.{name} to {value!r:.100}: a site opens no file and no "
                "address that a server names. Give a model's own place here with --backbone"
            )
    sections["backbone"]["device"] = options.device
    if options.backbone is not None:
        sections["backbone"] |= {"model": options.backbone, "pretrained": None}
    sections["features"]["cache"] = cache
    sections["data"] = options.reader()
    sections["partition"] = {"name": "iid", "clients": 1}
    sections["privacy"].pop("ledgers", None)
    return schema().resolve(sections)


def accepted_privacy(config: Config, options: SiteOptions, ledgers: str) -> PrivacyOptions:
    """Make the privacy options within the site's own limit.

    The limit takes the place of the server's where it is smaller. All runs on this site's data add
    up in its one ledger.

    Args:
        config: What the site accepted.
        options: What its operator decided.
        ledgers: Folder of the site's ledger.

    Raises:
        PrivacyError: The operator demands privacy, and the server none that a site can give.
    """
    name = config.name("privacy")
    made: Any = config.build("privacy")
    if name in ("none", "central") and options.max_epsilon is None:
        return made  # type: ignore[no-any-return]  # of the protocol's type
    if name not in ("dpsgd", "release"):
        raise PrivacyError(
            f"this site trains with differential privacy alone (max_epsilon is "
            f"{options.max_epsilon}), and the server asks for --privacy {name}: it is to ask for "
            "dpsgd or release, which need no trust in the server"
        )
    if made.insecure_seed is not None and not options.insecure_seed:
        raise PrivacyError(
            "the server sets privacy.insecure_seed: whoever knows it can subtract the noise. Only "
            "a test would, and says so here with insecure_seed in site.json"
        )
    if options.max_epsilon is not None and made.delta > options.max_delta:
        raise PrivacyError(
            f"the server asks for delta {made.delta:g}, and this site allows "
            f"{options.max_delta:g}: a large delta makes any epsilon worthless"
        )
    if made.counts == "public" and options.max_epsilon is not None:
        raise PrivacyError(
            "the server asks for the number of examples (privacy.counts public), which no noise "
            "covers: it is to withhold it, or this site is to join without max_epsilon"
        )
    epsilon = made.epsilon if options.max_epsilon is None else options.max_epsilon
    limited: PrivacyOptions = replace(made, epsilon=min(made.epsilon, epsilon), ledgers=ledgers)
    return limited


def with_published_classes(dataset: ImageDataset, welcome: Welcome) -> ImageDataset:
    """Number a site's classes as the server does; it may lack some, and may have no other.

    Args:
        dataset: The site's images.
        welcome: What the server published.

    Raises:
        DataError: It has others; they are named.
    """
    used = {dataset.class_names[label] for label in np.unique(dataset.labels)}
    if outside := sorted(used - set(welcome.class_names)):
        raise DataError(
            f"the classes {outside} are none of the federation's, which are "
            f"{list(welcome.class_names)}: rename or move their folders"
            f"{perhaps(outside, welcome.class_names)}"
        )
    number = {name: label for label, name in enumerate(welcome.class_names)}
    to = np.array([number.get(name, -1) for name in dataset.class_names], dtype=np.int64)
    return replace(
        dataset,
        class_names=welcome.class_names,
        labels=to[dataset.labels],
        templates=welcome.templates,
    )


def _places(section: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Options whose value could name a file or an address."""
    for name, value in section.items():
        if isinstance(value, str) and any(mark in value for mark in "/\\:"):
            yield name, value
