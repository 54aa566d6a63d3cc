"""Captions of scenes, in many wordings, each naming some of the scene's attributes."""

from dataclasses import dataclass

import numpy as np

from pfedmoap.data.scenes.sampling import Attributes
from pfedmoap.data.scenes.vocabulary import (
    CLASSES,
    COLOURS,
    COUNTS,
    DIGIT_WORDS,
    POSITIONS,
    SHAPES,
    SIZES,
    STYLES,
    TEXTURES,
)

STYLE_PHRASES: dict[str, tuple[str, ...]] = {
    "photo": ("a photo of", "a photo of", "a picture of", "an image of", "a clean photo of"),
    "sketch": ("a sketch of", "a pencil sketch of", "a drawing of"),
    "negative": ("a negative of", "a photo negative of", "a negative photo of"),
    "blurry": ("a blurry photo of", "a blurry picture of"),
    "pixelated": ("a pixelated photo of", "a pixelated picture of"),
    "noisy": ("a noisy photo of", "a grainy photo of"),
    "dark": ("a dark photo of", "a dark picture of"),
    "faded": ("a faded photo of", "a pale photo of"),
    "gray": ("a gray scale photo of", "a colorless photo of"),
    "swapped": ("a color swapped photo of", "a swapped photo of"),
    "flipped": ("an upside down photo of", "a flipped photo of"),
}
"""How captions announce each style seen in pretraining."""

# fmt: off
FILLER = [
    "and", "at", "be", "by", "can", "do", "for", "from", "get", "have", "here", "how", "if", "it",
    "its", "just", "like", "look", "made", "may", "more", "my", "new", "next", "no", "not", "now",
    "of", "on", "one", "or", "our", "out", "over", "see", "so", "some", "that", "the", "then",
    "there", "they", "this", "to", "up", "use", "very", "was", "we", "what", "when", "which",
    "who", "will", "with", "you", "your", "good", "old", "set", "view", "scene", "art",
]
# fmt: on
"""Words with hardly a meaning in this world; pretraining puts some before captions."""

_COLOUR_BLIND = {"sketch", "gray"}
_MISLEADING = {"negative", "swapped", "flipped"}
_PLURALS = {"cross": "crosses", "hourglass": "hourglasses", "leaf": "leaves", "fish": "fish"}
_SIZE_WORDS = {"small": ("small", "little"), "large": ("large", "big")}


@dataclass(frozen=True)
class _Words:
    """The words of one scene that its caption may use; ``None`` for attributes left out."""

    colour: str | None
    texture: str | None
    size: str | None
    background: str | None
    position: str | None


def captions(attributes: Attributes, rng: np.random.Generator) -> list[str]:
    """Write one caption for each scene.

    Negatives, colour-swapped and upside-down pictures are described as what they were made
    from, so that only a caption that names the style makes sense of them; where such a style
    is not named, neither are colours and places.

    Args:
        attributes: The scenes, ``n`` of them, in styles seen in pretraining.
        rng: The random stream to draw from.

    Returns:
        ``n`` captions, most of them with a full stop at the end.
    """
    return [_caption(attributes, i, rng) for i in range(len(attributes))]


def vocabulary_words() -> list[str]:
    """List the words that the tokeniser treats as CLIP's does, sorted.

    Those of all captions, except for the plurals "objects" and "shapes", and a few more.
    """
    texts = [*CLASSES, *DIGIT_WORDS, *COLOURS, *TEXTURES, *POSITIONS, *COUNTS, *SIZES, *STYLES]
    texts += [phrase for phrases in STYLE_PHRASES.values() for phrase in phrases]
    texts += [word for words in _SIZE_WORDS.values() for word in words]
    texts += [_plural(shape) for shape in SHAPES]
    texts += [*FILLER, "number handwritten capital shape object thing times the a background"]
    texts += ["in front of color style and type x"]
    return sorted({word for text in texts for word in text.split()})


def _caption(attributes: Attributes, i: int, rng: np.random.Generator) -> str:
    style = STYLES[attributes.styles[i]]
    named = rng.random() < 0.75
    words = _chosen_words(attributes, i, style, named, rng)
    body = _subject(attributes, i, words, rng)
    places = []
    if words.position is not None:
        places.append(f"{_pick(rng, 'in', 'at')} the {words.position}")
    if words.background is not None:
        form = _pick(rng, "on a {} background", "on {}", "in front of {}")
        places.append(form.format(words.background))
    if places:
        where = " ".join(places)
        body = f"{where}, {body}" if rng.random() < 0.15 else f"{body} {where}"
    if named and style != "photo" and rng.random() < 0.25:
        body = f"{body}, {_pick(rng, *STYLE_PHRASES[style]).removesuffix(' of')}"
    elif named:
        body = f"{_pick(rng, *STYLE_PHRASES[style])} {body}"
    elif style not in _MISLEADING and rng.random() < 0.4:
        body = f"a photo of {body}"
    return body + "." if rng.random() < 0.75 else body


def _chosen_words(
    attributes: Attributes, i: int, style: str, named: bool, rng: np.random.Generator
) -> _Words:
    colours, positions = list(COLOURS), list(POSITIONS)
    keep = rng.random(5)
    truthful = named or style not in _MISLEADING
    coloured = truthful and style not in _COLOUR_BLIND
    texture = TEXTURES[attributes.textures[i]]
    position = positions[attributes.positions[i]]
    placed = truthful and attributes.counts[i] == 0
    return _Words(
        colour=colours[attributes.colours[i]] if coloured and keep[0] < 0.75 else None,
        texture=texture if keep[1] < (0.25 if texture == "solid" else 0.65) else None,
        size=_pick(rng, *_SIZE_WORDS[SIZES[attributes.sizes[i]]]) if keep[2] < 0.3 else None,
        background=colours[attributes.backgrounds[i]] if coloured and keep[3] < 0.3 else None,
        position=position if placed and keep[4] < (0.1 if position == "center" else 0.4) else None,
    )


def _subject(attributes: Attributes, i: int, words: _Words, rng: np.random.Generator) -> str:
    kind, count = CLASSES[attributes.kinds[i]], int(attributes.counts[i])
    is_shape = kind in _SHAPE_SET
    pair = [word for word in (words.texture, words.colour) if word is not None]
    if rng.random() < 0.25:
        pair.reverse()
    trailing = len(pair) > 0 and rng.random() < 0.15
    before = [] if trailing else pair
    if words.size is not None:
        before = [words.size, *before]
    noun = _noun(kind, rng) if not pair or rng.random() < 0.92 else _pick(rng, "shape", "object")
    counted = count > 0 and rng.random() < 0.7
    if counted and (is_shape or noun in ("shape", "object")):
        subject = " ".join([COUNTS[count], *before, _plural(noun)])
    else:
        articles = ("a", "a", "a", "the", "") if is_shape else ("the", "the", "a", "")
        article = _pick(rng, *articles)
        subject = " ".join([*([article] if article else []), *before, noun])
        if counted:
            subject = f"{COUNTS[count]} times {subject}"
    return f"{subject}{_pick(rng, ' in ', ', ')}{' and '.join(pair)}" if trailing else subject


_SHAPE_SET = frozenset(SHAPES)


def _noun(kind: str, rng: np.random.Generator) -> str:
    if kind in _SHAPE_SET:
        return kind
    group, name = kind.split()
    if group == "letter":
        return _pick(rng, f"letter {name}", f"letter {name}", f"handwritten letter {name}")
    if rng.random() < 0.3:
        name = DIGIT_WORDS[int(name)]
    return _pick(rng, f"digit {name}", f"digit {name}", f"number {name}", f"handwritten {name}")


def _plural(noun: str) -> str:
    return _PLURALS.get(noun, noun + "s")


def _pick(rng: np.random.Generator, *options: str) -> str:
    return options[int(rng.random() * len(options))]
