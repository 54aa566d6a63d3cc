"""A federation of personal models as a classifier of scikit-learn."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d
from torch import Tensor

from eval.api.fitted import Fitted, fit, method_for
from eval.api.inputs import Space, encode_images, images_in, laid_out
from eval.api.options import resolved
from pfedmoap.config.schema import Config
from pfedmoap.contract.method import AnyMethod
from pfedmoap.errors import ConfigError, DataError

_OF_DATA = ("data", "partition", "sampling", "features")  # sections that X, y and groups replace


class FederatedPromptClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # untyped
    """Personalised federated prompt learning with ``fit``, ``predict`` and ``score``.

    Each site is a client; its images train its own prompt, and what is averaged or served to
    others is what the method says. This is the training of `pfedmoap.train` on data in memory:
    nothing is written to disk, and nothing is tested on.

    X is a sequence of images (paths, PIL images, arrays, files' contents), an array (n, H, W) or
    (n, H, W, 3), or features (n, d) of the backbone; see ``features``.

    Args:
        method: Name of the method, e.g. ``promptfl``; see ``pfedmoap train --help``.
        rounds: Communication rounds.
        class_names: What prompts call the classes: a name for each label, or names in the order of
            ``classes_``. Without it, a label's text is its name.
        features: What a two-dimensional X of numbers is. ``clip``: features of this backbone's
            image tower. ``any``: those of something else, which a fixed map lays into the
            backbone's space; names of classes then mean nothing, and prompts have to learn all.
        unknown_site: What a site that was not there in ``fit`` gets: an ``error`` that names those
            that were, or the model of a ``newcomer``: what the server would send to a client that
            never took part.
        backbone: Name of the model, as ``--backbone.model``.
        device: Where to compute.
        seed: Seed of training.
        options: More options, as keywords of `pfedmoap.train`:
            ``{"training": {"epochs": 3}, "method__experts": 5, "privacy": "dpsgd"}``.

    Attributes:
        classes_: The labels.
        sites_: The sites; without ``groups`` the only one is 0.
        learned_: What was learned; see `eval.api.fitted.Fitted`.
        privacy_: The statement of the guarantee; empty without privacy.
        n_features_in_: Number of features, where X held features.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> X, y = load_digits(return_X_y=True)
        >>> images = (X.reshape(-1, 8, 8) * 15.9).astype("uint8")
        >>> site = ["north", "south"] * 20
        >>> model = FederatedPromptClassifier("promptfl", rounds=2, options={"seed": 1})
        >>> model = model.fit(images[:40], y[:40], groups=site)
        >>> model.predict(images[40:43], groups=["north", "north", "south"]).shape
        (3,)
    """

    def __init__(
        self,
        method: str = "pfedmoap",
        *,
        rounds: int = 10,
        class_names: Mapping[Any, str] | Sequence[str] | None = None,
        features: Space = "clip",
        unknown_site: Literal["error", "newcomer"] = "error",
        backbone: str = "embedded",
        device: str = "auto",
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        # As scikit-learn wants it: taken as they are, and checked in `fit`.
        self.method = method
        self.rounds = rounds
        self.class_names = class_names
        self.features = features
        self.unknown_site = unknown_site
        self.backbone = backbone
        self.device = device
        self.seed = seed
        self.options = options

    def fit(
        self, X: Any, y: ArrayLike, groups: ArrayLike | None = None
    ) -> "FederatedPromptClassifier":
        """Train all sites.

        Args:
            X: Images or features; see the class.
            y: Labels, (n,).
            groups: The site of each image, (n,); ``None`` for one site.

        Returns:
            The classifier itself.

        Raises:
            ValueError: X, y or groups are not what they have to be. `PFedMoAPError`s of this
                package (a wrong option, an image that cannot be read) are such errors too, or say
                by their class what else is wrong.
        """
        config = self._config()
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        images = images_in(X)
        if images is None:
            X, labels = _validated(self, X, y)
        else:
            labels = column_or_1d(np.asarray(y), warn=True)
            check_consistent_length(images, labels)
        check_classification_targets(labels)
        self.classes_, numbers = np.unique(labels, return_inverse=True)
        self.sites_, clients = _sites(groups, len(labels))
        self._made = method_for(config, self._names())
        features = self._encoded(self._made, X, images, warn=True)
        self._apart = self._is_apart(images)
        self.learned_ = fit(config, self._made, features, numbers.astype(np.int64), clients)
        self.privacy_ = self.learned_.privacy
        return self

    def predict(self, X: Any, groups: ArrayLike | None = None) -> NDArray[Any]:
        """Classify each image with the model of its site.

        Args:
            X: Images or features, as in `fit`.
            groups: The site of each image, (n,). ``None`` asks the only site, where `fit` had one,
                and as a newcomer where it had several.

        Returns:
            Labels, (n,).

        Raises:
            ValueError: As in `fit`; or a site is unknown, and ``unknown_site`` is ``error``.
        """
        best = self.predict_proba(X, groups).argmax(axis=1)
        found: NDArray[Any] = self.classes_[best]
        return found

    def predict_proba(self, X: Any, groups: ArrayLike | None = None) -> NDArray[np.float64]:
        """Probabilities, (n, classes), in the order of ``classes_``; see `predict`."""
        check_is_fitted(self)
        images = images_in(X)
        if self._is_apart(images) != self._apart:
            raise DataError(
                "fit was given images or features of the backbone, and this is neither, or the "
                'other way round: with features="any", give features in both places'
            )
        if images is None:
            X = _validated(self, X)
        fitted: Fitted = self.learned_
        clients = self._clients(groups, len(X) if images is None else len(images))
        method: AnyMethod = self.__dict__.get("_made") or fitted.method()
        return fitted.probabilities(method, self._encoded(method, X, images), clients)

    def score(
        self,
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> float:
        """Accuracy of `predict`.

        Args:
            X: Images or features.
            y: Labels, (n,).
            sample_weight: Weight of each image, (n,).
            groups: The site of each image, (n,).
        """
        return float(accuracy_score(y, self.predict(X, groups), sample_weight=sample_weight))

    def _config(self) -> Config:
        for name, value, known in (
            ("features", self.features, ("clip", "any")),
            ("unknown_site", self.unknown_site, ("error", "newcomer")),
        ):
            if value not in known:
                raise ConfigError(f"{name} is {value!r}, expected {' or '.join(known)}")
        options = dict(self.options or {})
        if given := sorted(name for name in options if name.split("__")[0] in _OF_DATA):
            raise ConfigError(
                f"options has {', '.join(given)}; the data are X and y here, and groups says whose "
                "they are"
            )
        own = {"method": self.method, "seed": self.seed, "device": self.device}
        own |= {"rounds__rounds": self.rounds, "backbone__model": self.backbone}
        asked = {**own, **options}
        try:
            text = json.dumps(asked, sort_keys=True)
        except TypeError:  # paths, NumPy's numbers and the like
            return resolved(None, asked)
        return resolved(None, asked) if ".py" in text else _resolved(text)  # a file may change

    def _is_apart(self, images: list[Any] | None) -> bool:
        """Whether X has features of something else than the backbone."""
        return images is None and self.features == "any"

    def _names(self) -> list[str]:
        labels, given = self.classes_.tolist(), self.class_names
        if given is None:
            return [str(label) for label in labels]
        if isinstance(given, Mapping):
            if missing := [label for label in labels if label not in given]:
                raise ConfigError(f"class_names lacks {missing}; it has {list(given)}")
            return [str(given[label]) for label in labels]
        if len(given) != len(labels):
            raise ConfigError(
                f"class_names has {len(given)} names, and y {len(labels)} labels: {labels}"
            )
        return [str(name) for name in given]

    def _encoded(
        self, method: AnyMethod, X: Any, images: list[Any] | None, *, warn: bool = False
    ) -> dict[str, Tensor]:
        backbone, kinds = method.setting.backbone, tuple(method.features)
        if images is not None:
            return encode_images(images, backbone, kinds, warn=warn)
        if kinds != ("image",):
            raise ConfigError(
                f"method {self.method} needs more of an image than its features ("
                f"{', '.join(kinds)}): give images, or choose another method, e.g. pfedmoap"
            )
        return {"image": laid_out(X, backbone.embed_dim, self.features)}

    def _clients(self, groups: ArrayLike | None, n: int) -> NDArray[np.int64]:
        newcomer = len(self.sites_)
        if groups is None:
            return np.full(n, 0 if newcomer == 1 else newcomer)
        names = _checked_groups(groups, n)
        number = {site: i for i, site in enumerate(self.sites_.tolist())}
        unknown = sorted({str(site) for site in names.tolist() if site not in number})
        if unknown and self.unknown_site == "error":
            raise DataError(
                f"groups names sites that fit has not seen: {', '.join(unknown)}; it has seen "
                f'{", ".join(map(str, self.sites_.tolist()))}. Say unknown_site="newcomer" to '
                "classify with what the server would send to a new site"
            )
        return np.array([number.get(site, newcomer) for site in names.tolist()], dtype=np.int64)

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: what was learned, and not the backbone."""
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_made"}


@lru_cache(maxsize=8)
def _resolved(options: str) -> Config:
    """Resolve a configuration, once where many are fitted with it: it takes longer than a round."""
    return resolved(None, json.loads(options))


def _sites(groups: ArrayLike | None, n: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    if groups is None:
        return np.array([0]), np.zeros(n, dtype=np.int64)
    sites, clients = np.unique(_checked_groups(groups, n), return_inverse=True)
    return sites, clients


def _checked_groups(groups: ArrayLike, n: int) -> NDArray[Any]:
    names: NDArray[Any] = column_or_1d(np.asarray(groups))
    if len(names) != n:
        raise DataError(f"groups names the sites of {len(names)} images, and X has {n}")
    if missing := [i for i, name in enumerate(names.tolist()) if name is None or name != name]:
        raise DataError(
            f"groups has no site for {len(missing)} images, the first of them {missing[0]}"
        )
    if len(kinds := {type(name) for name in names.tolist()}) > 1:
        found = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise DataError(f"groups names sites in several types ({found}): use one")
    return names


def _validated(estimator: BaseEstimator, *given: Any) -> Any:
    """Have scikit-learn check numbers: finite, two-dimensional, as many columns as in `fit`.

    Args:
        estimator: The classifier.
        *given: X, and y where this is `fit`.
    """
    how = {"dtype": np.float64, "reset": len(given) > 1}
    try:
        from sklearn.utils.validation import validate_data
    except ImportError:  # before scikit-learn 1.6
        return estimator._validate_data(*given, **how)
    return validate_data(estimator, *given, **how)
