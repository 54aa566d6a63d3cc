"""What a classifier is given: images in any form, or features; and which of the two it is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from pfedmoap.data.images import decode
from pfedmoap.data.suitability import warn_of_large_images
from pfedmoap.errors import DataError
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.seeding import numpy_generator

Space = Literal["clip", "any"]
AT_ONCE = 64  # images that are decoded and encoded together


def images_in(given: Any) -> list[Any] | None:
    """Return the images of what scikit-learn calls X; ``None`` where it holds features.

    Args:
        given: Paths, files' contents, PIL images or arrays in a sequence; an array (n, H, W) or
            (n, H, W, 3); a table with one column of paths. Everything else is taken for features.
    """
    if isinstance(given, str | bytes | Path | Image.Image):
        raise DataError("X is one image; put [ ] around it, or give more of them")
    if isinstance(given, np.ndarray) and given.ndim in (3, 4):
        return list(given)
    if hasattr(given, "iloc") or (isinstance(given, np.ndarray) and given.dtype == object):
        cells = np.asarray(given, dtype=object)
        given = list(cells[:, 0]) if cells.ndim == 2 and cells.shape[1] == 1 else list(cells)
    elif isinstance(given, np.ndarray) and given.dtype.kind in "US" and given.ndim == 1:
        given = given.tolist()
    if not isinstance(given, Sequence) or not len(given):
        return None
    first = given[0]
    single = isinstance(first, str | bytes | Path | Image.Image)
    array = isinstance(first, np.ndarray) and first.ndim in (2, 3)
    return list(given) if single or array else None


@torch.no_grad()
def encode_images(
    images: Sequence[Any], backbone: FrozenCLIP, kinds: Sequence[str], *, warn: bool = False
) -> dict[str, Tensor]:
    """Decode and encode images as a run's are, without a cache.

    Args:
        images: The images; see `pfedmoap.data.images.decode`.
        backbone: What encodes them.
        kinds: Kinds of features.
        warn: Whether to warn where they are photographs, and the backbone knows none.

    Returns:
        By kind, (n, ...) on the CPU.

    Raises:
        DataError: One cannot be decoded.
    """
    found: dict[str, list[Tensor]] = {kind: [] for kind in kinds}
    for start in range(0, len(images), AT_ONCE):
        some = [decode(image) for image in images[start : start + AT_ONCE]]
        if warn:
            warn = not warn_of_large_images(
                some, "X holds images", backbone.name, backbone.preprocessing
            )
        pixels = torch.stack([backbone.preprocessing.centre(image) for image in some])
        for kind, values in backbone.features(pixels.to(backbone.device), kinds).items():
            found[kind].append(values.cpu())
    return {kind: torch.cat(parts) for kind, parts in found.items()}


def laid_out(features: NDArray[np.float64], width: int, space: Space) -> Tensor:
    """Bring features into the space of the backbone's class features.

    Args:
        features: (n, d).
        width: D, the width of that space.
        space: ``clip`` for features of the backbone itself, d = D. ``any`` for all others: a
            constant is put beside them, so that their length counts, and a fixed map, which keeps
            angles (or nearly, where d is above D), lays them into the space.

    Returns:
        (n, D), float32, of unit norm; rows of zeros stay zeros.

    Raises:
        DataError: Features of the backbone have another width than it gives.
    """
    n, d = features.shape
    if space == "clip":
        if d != width:
            raise DataError(
                f"X has {d} features, and the backbone's images have {width}: give images, or "
                'features of this backbone, or say features="any" for those of something else'
            )
        return F.normalize(torch.from_numpy(features).float(), dim=-1)
    random = numpy_generator(0, "features of any width", d, width).standard_normal((d + 1, width))
    if d + 1 <= width:
        q, r = np.linalg.qr(random.T)  # (D, d + 1), with orthonormal columns
        random = (q * np.sign(np.diag(r))).T
    whole = np.concatenate([features, np.ones((n, 1))], axis=1)
    return F.normalize(torch.from_numpy(whole @ random).float(), dim=-1)
