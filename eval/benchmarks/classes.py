"""Measure seconds a step and peak memory of training a prompt for 1,000 classes.

The figure is the largest resident size of this process. A step for fewer classes is compared with
the plain encoder in the same run: features, gradients and time.
"""

import resource
from time import perf_counter

import torch
from torch import Tensor
from torch.nn import functional as F

from pfedmoap.data.published.names import CIFAR100
from pfedmoap.models.clip.clip import FrozenCLIP, PromptEncoder
from pfedmoap.models.loading import BackboneOptions

SIZES = ("", "small", "large", "old", "new", "red", "blue", "wooden", "painted", "broken")


def main(
    model: str = "ViT-B-16",
    classes: int = 1000,
    context_length: int = 16,
    batch_size: int = 32,
    steps: int = 3,
    plain_classes: int = 20,
    memory_gib: float = 2.0,
    threads: int = 2,
    precision: str = "fp32",
    device: str = "auto",
) -> None:
    """Print seconds, the ratio to the plain way, and the largest memory.

    Args:
        model: An open_clip architecture; with random weights.
        classes: Number of classes.
        context_length: Context vectors of the prompt.
        batch_size: Images in a step.
        steps: Training steps.
        plain_classes: Classes for which both ways are compared.
        memory_gib: Bound on activations, as `prompt_encoder` takes it.
        threads: CPU threads.
        precision: Number format of the frozen towers.
        device: Where to run.
    """
    torch.set_num_threads(threads)
    options = BackboneOptions(model, "random", precision, device)  # type: ignore[arg-type]  # a str
    clip = options.load()
    loaded = _resident_gib()
    names = [f"{size} {name}".strip() for size in SIZES for name in CIFAR100][:classes]
    memory_bytes = int(memory_gib * 2**30)

    def encoder(count: int, shared: bool) -> PromptEncoder:
        return clip.prompt_encoder(
            names[:count], context_length, shared_prefix=shared, memory_bytes=memory_bytes
        )

    seconds = _train(clip, encoder(classes, True), classes, context_length, batch_size, steps)
    print(f"{model} {precision} on {clip.device}: {classes} classes x {context_length} vectors")
    print(f"  {seconds:.2f} s a step; memory {_memory(clip, loaded)}")
    shared, plain = encoder(plain_classes, True), encoder(plain_classes, False)
    sizes = (plain_classes, context_length, batch_size, 1)
    fast, slow = _train(clip, shared, *sizes), _train(clip, plain, *sizes)
    contexts = torch.randn(1, context_length, clip.text_width, device=clip.device)
    gap = float((shared(contexts) - plain(contexts)).detach().abs().max())
    print(
        f"  {plain_classes} classes: {fast:.2f} s a step, the plain way {slow:.2f} s "
        f"({slow / fast:.1f} times), largest difference {gap:.1e}"
    )


def _train(
    clip: FrozenCLIP, encode: PromptEncoder, classes: int, length: int, batch: int, steps: int
) -> float:
    """Seconds of one step of SGD, the mean over ``steps``."""
    context = torch.nn.Parameter(0.02 * torch.randn(1, length, clip.text_width, device=clip.device))
    images = F.normalize(torch.randn(batch, clip.embed_dim, device=clip.device), dim=-1)
    labels = torch.randint(0, classes, (batch,), device=clip.device)
    optimiser = torch.optim.SGD([context], lr=0.002, momentum=0.9)
    started = perf_counter()
    for _ in range(steps):
        logits: Tensor = clip.logit_scale * images @ encode(context)[0].T
        optimiser.zero_grad()
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        optimiser.step()
    if not torch.isfinite(context).all():
        raise FloatingPointError("training diverged")
    return (perf_counter() - started) / steps


def _resident_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _memory(clip: FrozenCLIP, loaded: float) -> str:
    if clip.device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated(clip.device) / 2**30:.2f} GiB on the device"
    return f"{_resident_gib():.2f} GiB resident at most ({loaded:.2f} GiB with the model loaded)"
