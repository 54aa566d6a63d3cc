"""A backbone put to the test: weights, encoders, precision, speed, and known pictures."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from eval.doctor.finding import Finding, Status
from pfedmoap.data.digits import CLASS_NAMES, TEMPLATES, Digits
from pfedmoap.errors import BackboneError
from pfedmoap.methods.pfedmoap.attention_gate import gate_width
from pfedmoap.models.clip.clip import FrozenCLIP
from pfedmoap.models.language.model import FrozenLM
from pfedmoap.models.loading import BackboneOptions

GATE_HEADS = 8
DIGITS, EXPECTED_RIGHT, TOLERATED = 100, 81, 2  # zero-shot, measured with the embedded model
PHOTOGRAPHS = ("a Chinese temple", "a flower")
OTHERS = ("a dog", "a car", "a plate of food", "a handwritten digit")
LARGEST_DIFFERENCE = {"fp32": 1e-4, "bf16": 5e-2, "fp16": 1e-2}  # of shared and plain encoding
LARGEST_ANGLE = 2e-2  # 1 - cosine between features in half precision and in float32
SPEED_BATCH, SPEED_SECONDS = 32, 1.0


def look_at_backbone(options: BackboneOptions) -> Iterator[Finding]:
    """Load a backbone and try it.

    Args:
        options: Which one.

    Yields:
        What is found; nothing more where it cannot be loaded.
    """
    named = options.model + ("" if options.pretrained is None else f"/{options.pretrained}")
    try:
        loaded = options.load_any()
    except BackboneError as error:
        yield Finding("weights", "wrong", f"{named}: {str(error).splitlines()[0]}", _remedy(error))
        return
    yield Finding("weights", "ok", f"{named} is on this machine, in {options.precision}")
    if isinstance(loaded, FrozenLM):
        yield Finding("pictures", "note", "a language model reads none; it is for --method fedsp")
        return
    yield look_at_encoders(loaded, options.precision)
    yield _widths(loaded)
    pictures = torch.stack([loaded.preprocessing.centre(image) for image in photographs()])
    yield _precision(loaded, options, pictures)
    yield _speed(loaded, pictures)
    yield look_at_pictures(loaded, trained=options.pretrained != "random")


def photographs() -> list[Image.Image]:
    """Two photographs that come with scikit-learn: a temple and a flower."""
    from sklearn.datasets import load_sample_images  # takes a second

    return [Image.fromarray(array) for array in load_sample_images().images]


def look_at_encoders(clip: FrozenCLIP, precision: str) -> Finding:
    """Say whether prompts share their prefix, and compare it with the plain encoding."""
    if clip.sharing != "shared prefix":
        return Finding("prompts", "note", f"{clip.sharing}; training is slower, not worse")
    contexts = torch.randn(2, 4, clip.text_width, generator=torch.Generator().manual_seed(0))
    contexts = contexts.to(clip.device) * 0.02
    names = ("cat", "golden retriever", "hourglass")
    with torch.no_grad():
        shared, plain = (
            clip.prompt_encoder(names, 4, shared_prefix=share)(contexts) for share in (True, False)
        )
    difference = float((shared - plain).abs().max())
    found = f"shared prefix; differs from the plain encoding by {difference:.1e}"
    if difference > LARGEST_DIFFERENCE[precision]:
        return Finding(
            "prompts",
            "wrong",
            f"{found}, expected at most {LARGEST_DIFFERENCE[precision]:.0e}",
            "report this architecture: its shared prefix is wrong",
        )
    return Finding("prompts", "ok", found)


def look_at_pictures(clip: FrozenCLIP, *, trained: bool) -> Finding:
    """Classify bundled pictures by their class names alone, and compare with what to expect.

    Args:
        clip: The embedded model reads digits, all others photographs.
        trained: Whether the weights have been trained.
    """
    if clip.name == "embedded":
        digits = Digits().read()
        labels = digits.labels[:DIGITS]
        texts = [TEMPLATES[0].format(name) for name in CLASS_NAMES]
        found = _classified(clip, [digits.load(index) for index in range(DIGITS)], texts)
        right = int((found == labels).sum())
        status: Status = "ok" if abs(right - EXPECTED_RIGHT) <= TOLERATED else "wrong"
        return Finding(
            "zero-shot",
            status,
            f"{right} of {DIGITS} digits right, expected {EXPECTED_RIGHT} give or take {TOLERATED}",
            "" if status == "ok" else "install the package again: weights or torch are damaged",
        )
    names = (*PHOTOGRAPHS, *OTHERS)
    answers = _classified(clip, photographs(), [f"a photo of {name}." for name in names])
    said = ", ".join(names[answer] for answer in answers)
    expected = ", ".join(PHOTOGRAPHS)
    if said == expected:
        return Finding("zero-shot", "ok", f"two photographs: {said}, as expected")
    return Finding(
        "zero-shot",
        "note" if not trained else "wrong",
        f"two photographs: {said}; expected {expected}",
        "expected of random weights"
        if not trained
        else "weights, tokeniser and preprocessing may "
        "not belong together, or the model was not trained on photographs",
    )


def _widths(clip: FrozenCLIP) -> Finding:
    width = gate_width(clip.embed_dim, GATE_HEADS)
    found = (
        f"features have {clip.embed_dim} dimensions, pFedMoAP's gate {width} with {GATE_HEADS} "
        f"heads; image features: {', '.join(clip.feature_kinds)}"
    )
    if width >= clip.embed_dim:
        return Finding("widths", "wrong", found, "--method.gate_width with less than the features")
    return Finding("widths", "ok", found)


def _precision(clip: FrozenCLIP, options: BackboneOptions, pictures: Tensor) -> Finding:
    if options.precision == "fp32":
        return Finding("precision", "ok", "float32")
    reference = replace(options, precision="fp32").load()
    pair = [model.image_features(pictures).cpu().double() for model in (clip, reference)]
    angle = float((1 - (pair[0] * pair[1]).sum(-1)).max())
    found = f"{options.precision}; 1 - cosine to float32 is at most {angle:.1e}"
    if not angle <= LARGEST_ANGLE:  # also where it is not a number
        return Finding("precision", "wrong", found, "--backbone.precision fp32 or bf16")
    return Finding("precision", "ok", found)


def _speed(clip: FrozenCLIP, pictures: Tensor) -> Finding:
    batch = pictures[:1].expand(SPEED_BATCH, -1, -1, -1).contiguous()
    clip.image_features(batch).sum().item()  # the first pass pays for everything else
    images, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < SPEED_SECONDS:
        clip.image_features(batch).sum().item()
        images += SPEED_BATCH
    return Finding("speed", "ok", f"{images / seconds:,.0f} images a second, decoding apart")


def _classified(
    clip: FrozenCLIP, images: Sequence[Image.Image], texts: Sequence[str]
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    pixels = torch.stack([clip.preprocessing.centre(image) for image in images])
    similar = clip.image_features(pixels) @ clip.text_features(texts).T
    return similar.argmax(-1).cpu().numpy().astype(np.int64)


def _remedy(error: BackboneError) -> str:
    """The rest of a message, which says how to get the weights."""
    return " ".join(line.strip() for line in str(error).splitlines()[1:])
