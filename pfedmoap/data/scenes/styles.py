"""Styles of whole pictures: each transforms a batch of plain photos."""

from collections.abc import Callable

import numpy as np

from pfedmoap.data.scenes.sdf import FloatArray
from pfedmoap.errors import DataError

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def apply_style(images: FloatArray, style: str, rng: np.random.Generator) -> FloatArray:
    """Render photos in another style.

    Args:
        images: RGB on the [0, 1] scale (n, H, W, 3).
        style: A name from ``vocabulary.STYLES``.
        rng: The random stream for noise and exact strength.

    Returns:
        New images of the same shape; values may leave [0, 1] slightly.

    Raises:
        DataError: The style is unknown.
    """
    photos: FloatArray = np.clip(images, 0, 1)
    if style in _FIXED:
        styled = _FIXED[style](photos)
    elif style in _RANDOM:
        styled = _RANDOM[style](photos, rng)
    else:
        known = ", ".join([*_FIXED, *_RANDOM])
        raise DataError(f"style is {style!r}, expected one of {known}")
    return styled.astype(np.float32)


def _uniform(rng: np.random.Generator, low: float, high: float, n: int) -> FloatArray:
    return rng.uniform(low, high, (n, 1, 1, 1)).astype(np.float32)


def _gray(images: FloatArray) -> FloatArray:
    return (images @ _LUMA)[..., None]


def _smooth(images: FloatArray, times: int = 1) -> FloatArray:
    for _ in range(times):
        padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
        rows = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
        images = (rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 4
    return images


def _edges(images: FloatArray) -> FloatArray:
    """Strength of the strongest colour edge at each pixel, (n, H, W, 1)."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    across = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
    down = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    strength: FloatArray = np.sqrt(across**2 + down**2).max(-1, keepdims=True)
    return strength


def _sketch(images: FloatArray, rng: np.random.Generator) -> FloatArray:
    ink = np.clip(_edges(images) * _uniform(rng, 1.0, 1.6, len(images)), 0, 1)
    return np.repeat(0.97 - 0.9 * ink, 3, axis=-1)


def _blurry(images: FloatArray, rng: np.random.Generator) -> FloatArray:
    mild = _smooth(images, 2)
    share = _uniform(rng, 0.0, 1.0, len(images))
    return share * mild + (1 - share) * _smooth(mild, 5)


def _pixelated(images: FloatArray) -> FloatArray:
    n, height, width, _ = images.shape
    blocks = images.reshape(n, height // 4, 4, width // 4, 4, 3).mean((2, 4))
    large: FloatArray = blocks.repeat(4, axis=1).repeat(4, axis=2)
    return large


def _noisy(images: FloatArray, rng: np.random.Generator) -> FloatArray:
    noise = rng.standard_normal(images.shape, dtype=np.float32)
    return images + noise * _uniform(rng, 0.15, 0.28, len(images))


def _thermal(images: FloatArray) -> FloatArray:
    heat = _gray(images)
    red, green = np.clip(2.2 * heat - 0.2, 0, 1), np.clip(2.4 * heat - 1.1, 0, 1)
    blue = np.clip(np.sin(np.pi * np.clip(1.6 * heat, 0, 1)), 0, 1) * 0.75 + 0.1
    return np.concatenate([red, green, blue], -1)


def _neon(images: FloatArray) -> FloatArray:
    tubes = np.clip(_edges(images) * 1.3, 0, 1)
    glow = np.clip(tubes + 0.6 * _smooth(tubes, 3), 0, 1)
    tint = np.array([1.0, 0.15, 0.85], dtype=np.float32)
    lit: FloatArray = 0.04 + glow * tint + 0.5 * tubes**3
    return lit


def _wavy(images: FloatArray, rng: np.random.Generator) -> FloatArray:
    n, height, width, _ = images.shape
    phase, size = rng.uniform(0, 6.3, (n, 1)), rng.uniform(1.5, 2.6, (n, 1))
    shift = np.rint(size * np.sin(2 * np.pi * np.arange(height) / 11 + phase)).astype(np.int64)
    columns = np.clip(np.arange(width) + shift[..., None], 0, width - 1)  # (n, H, W)
    shifted: FloatArray = images[np.arange(n)[:, None, None], np.arange(height)[:, None], columns]
    return shifted


def _lines(images: FloatArray, rng: np.random.Generator) -> FloatArray:
    n, height, _, _ = images.shape
    phase = rng.integers(5, size=(n, 1))
    dark = ((np.arange(height) + phase) % 5 < 2)[:, :, None, None]
    return np.where(dark, 0.25 * images, images)


_FIXED: dict[str, Callable[[FloatArray], FloatArray]] = {
    "photo": lambda images: images,
    "negative": lambda images: 1 - images,
    "pixelated": _pixelated,
    "faded": lambda images: 0.62 + 0.33 * images,
    "gray": lambda images: np.repeat(_gray(images), 3, axis=-1),
    "swapped": lambda images: images[..., [2, 0, 1]],
    "flipped": lambda images: images[:, ::-1],
    "thermal": _thermal,
    "solar": lambda images: np.where(images > 0.5, 1.6 * (1 - images), 1.6 * images),
    "neon": _neon,
    "rotated": lambda images: np.rot90(images, axes=(1, 2)),
}
_RANDOM: dict[str, Callable[[FloatArray, np.random.Generator], FloatArray]] = {
    "sketch": _sketch,
    "blurry": _blurry,
    "noisy": _noisy,
    "dark": lambda images, rng: images * _uniform(rng, 0.2, 0.4, len(images)),
    "wavy": _wavy,
    "lines": _lines,
}
