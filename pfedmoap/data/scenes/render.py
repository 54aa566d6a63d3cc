"""Render scenes from attributes: place, deform, fill and compose their objects."""

import numpy as np

from pfedmoap.data.scenes.glyphs import pen_distance
from pfedmoap.data.scenes.sampling import Attributes, IntArray
from pfedmoap.data.scenes.sdf import FloatArray
from pfedmoap.data.scenes.shapes import SHAPE_DISTANCES
from pfedmoap.data.scenes.styles import apply_style
from pfedmoap.data.scenes.vocabulary import COLOURS, POSITIONS, SHAPES, STYLES, TEXTURES

SIZE = 32
"""Height and width of every scene, in pixels."""

_AXIS = ((np.arange(SIZE) + 0.5) / SIZE * 2 - 1).astype(np.float32)
_X, _Y = (grid.reshape(1, -1) for grid in np.meshgrid(_AXIS, _AXIS))
_PIXEL = 2 / SIZE
_RGB = np.array(list(COLOURS.values()), dtype=np.float32)
_SLOTS = (
    np.array([[0.0, 0.0]]),
    np.array([[-0.48, 0.0], [0.48, 0.0]]),
    np.array([[-0.48, 0.42], [0.48, 0.42], [0.0, -0.45]]),
    np.array([[-0.47, -0.47], [0.47, -0.47], [-0.47, 0.47], [0.47, 0.47]]),
)


def render(
    attributes: Attributes, rng: np.random.Generator, *, vigour: float = 1.0
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Draw scenes and apply their styles.

    Args:
        attributes: What to draw, ``n`` scenes.
        rng: The random stream for everything that has no name: exact place, turn, bend, light.
        vigour: Scale of turns and bends; 0 draws every object upright and undistorted.

    Returns:
        RGB images, uint8 (n, 32, 32, 3).
    """
    images = _photos(attributes, rng, vigour)
    for style in np.unique(attributes.styles):
        rows = np.flatnonzero(attributes.styles == style)
        images[rows] = apply_style(images[rows], STYLES[style], rng)
    return (np.clip(images, 0, 1) * 255 + 0.5).astype(np.uint8)


def _photos(attributes: Attributes, rng: np.random.Generator, vigour: float) -> FloatArray:
    n = len(attributes)
    owner, centres, radii = _place(attributes, rng)
    x, y = _object_frame(centres, radii, rng, vigour)
    distance = _distances(attributes.kinds[owner], x, y, rng, vigour)
    unit = (_PIXEL / radii)[:, None]
    inside, paint = _fill(attributes.textures[owner], distance, x, y, unit, rng)

    first = _jittered(_RGB[attributes.colours], rng)[owner]
    back = _jittered(_RGB[attributes.backgrounds], rng)
    light = first.mean(-1, keepdims=True) < 0.5
    accent = np.where(light, 0.25 * first + 0.75, 0.2 * first)
    canvas = back[:, None] + _gradient(n, rng)[..., None]  # (n, P, 3)
    colour = first[:, None] + (accent - first)[:, None] * paint[..., None]
    # One pass for each object number, so that objects of the same scene overwrite in order.
    number = np.concatenate([np.arange(c + 1) for c in attributes.counts])
    for i in range(int(number.max()) + 1):
        rows = np.flatnonzero(number == i)
        alpha = inside[rows][..., None]
        canvas[owner[rows]] += alpha * (colour[rows] - canvas[owner[rows]])
    return canvas.reshape(n, SIZE, SIZE, 3).astype(np.float32)


def _place(
    attributes: Attributes, rng: np.random.Generator
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Owner (m,), centre (m, 2) and radius (m,) of every object, in image units."""
    owner = np.repeat(np.arange(len(attributes)), attributes.counts + 1)
    slots = np.concatenate([_SLOTS[c] for c in attributes.counts])
    m = len(owner)
    large, many = attributes.sizes[owner] == 1, attributes.counts[owner] > 0
    low = np.where(many, np.where(large, 0.36, 0.26), np.where(large, 0.58, 0.34))
    high = np.where(many, np.where(large, 0.46, 0.33), np.where(large, 0.88, 0.46))
    radii = rng.uniform(low, high)
    steps = np.array(list(POSITIONS.values()))[attributes.positions[owner]]
    room = np.clip(0.98 - radii, 0.18, None)[:, None]
    centres = slots + steps * room * rng.uniform(0.75, 1.0, (m, 1))
    centres += rng.uniform(-0.1, 0.1, (m, 2)) * np.where(many, 0.5, 1)[:, None]
    return owner, centres.astype(np.float32), radii.astype(np.float32)


def _object_frame(
    centres: FloatArray, radii: FloatArray, rng: np.random.Generator, vigour: float
) -> tuple[FloatArray, FloatArray]:
    """Coordinates (m, P) of every pixel as each object sees them: turned, stretched, bent."""
    m = len(radii)
    x = (_X - centres[:, :1]) / radii[:, None]
    y = (_Y - centres[:, 1:]) / radii[:, None]
    angle = (vigour * np.radians(9) * rng.standard_normal((m, 1))).astype(np.float32)
    stretch = np.exp(vigour * 0.07 * rng.standard_normal((m, 1))).astype(np.float32)
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = (cos * x + sin * y) * stretch, (cos * y - sin * x) / stretch
    size, phase = rng.uniform(0, 0.06 * vigour, (2, m, 1)), rng.uniform(0, 6.3, (2, m, 1))
    bend_x = size[0].astype(np.float32) * np.sin(2.5 * y + phase[0].astype(np.float32))
    bend_y = size[1].astype(np.float32) * np.sin(2.5 * x + phase[1].astype(np.float32))
    return x + bend_x, y + bend_y


def _distances(
    kinds: IntArray, x: FloatArray, y: FloatArray, rng: np.random.Generator, vigour: float
) -> FloatArray:
    distance = np.empty_like(x)
    for kind in np.unique(kinds):
        rows = np.flatnonzero(kinds == kind)
        if kind < len(SHAPES):
            distance[rows] = SHAPE_DISTANCES[SHAPES[kind]](x[rows], y[rows])
        else:
            bends = np.full(len(rows), vigour, dtype=np.float32)
            distance[rows] = pen_distance(x[rows], y[rows], int(kind) - len(SHAPES), bends, rng)
    return distance


def _fill(
    textures: IntArray,
    distance: FloatArray,
    x: FloatArray,
    y: FloatArray,
    unit: FloatArray,
    rng: np.random.Generator,
) -> tuple[FloatArray, FloatArray]:
    """Cover of each object and share of its accent colour, both (m, P) in [0, 1]."""
    cover = np.clip(0.5 - distance / unit, 0, 1)
    paint = np.zeros_like(cover)
    phase = rng.uniform(0, 6.3, (len(textures), 2)).astype(np.float32)
    pitch = 2 * np.pi / np.maximum(0.52, 4.5 * unit)  # never finer than 4.5 pixels
    for name in TEXTURES[1:]:
        rows = np.flatnonzero(textures == TEXTURES.index(name))
        d, u, p = distance[rows], unit[rows], pitch[rows]
        wave_x = np.sin(p * x[rows] + phase[rows, :1])
        wave_y = np.sin(p * y[rows] + phase[rows, 1:])
        if name == "hollow":
            cover[rows] = np.clip(0.5 - (np.abs(d + 1.2 * u) - 1.1 * u) / u, 0, 1)
        elif name == "rimmed":
            paint[rows] = np.clip(0.5 + (d + 2.0 * u) / u, 0, 1)
        elif name == "striped":
            paint[rows] = np.clip(0.5 + 2 * wave_y, 0, 1)
        elif name == "checkered":
            paint[rows] = np.clip(0.5 + 4 * wave_x * wave_y, 0, 1)
        else:
            paint[rows] = np.clip(0.5 + 2.5 * (wave_x + wave_y - 0.75), 0, 1)
    return cover, paint


def _jittered(rgb: FloatArray, rng: np.random.Generator) -> FloatArray:
    hue = rng.uniform(-0.06, 0.06, rgb.shape)
    light = rng.uniform(-0.06, 0.06, (len(rgb), 1))
    jittered: FloatArray = np.clip(rgb + hue + light, 0, 1).astype(np.float32)
    return jittered


def _gradient(n: int, rng: np.random.Generator) -> FloatArray:
    slope = rng.uniform(-0.09, 0.09, (2, n, 1))
    plane: FloatArray = (slope[0] * _X + slope[1] * _Y).astype(np.float32)
    return plane
