"""Products with frozen matrices on a CPU, laid out once for oneDNN's kernels.

On processors with AVX-512 torch multiplies float32 matrices with MKL, whose kernels use half of the
width on processors that are not Intel's; oneDNN's use all of it, whoever made the processor, and
take weights in a layout of their own. Of frozen weights that layout is made once: on a Zen 5 core
products take .43 of the time in float32, and .9 in bfloat16. Gradients with respect to weights do
not exist here.

torch's compiler uses the same operators for frozen models. They differ from MKL by the order of
sums, about 1e-6 of a product's size. Small matrices gain little and stay as they are, with all
results of the embedded model.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SMALLEST = 256
"""Matrices with fewer rows or columns are multiplied as ever."""

_ROWS = 256  # for which the layout is chosen; it suits from 5 to 5,000


def packs(weight: Tensor) -> bool:
    """Whether products with a weight, (out, in), are faster when it is packed."""
    if weight.device.type != "cpu" or weight.requires_grad or min(weight.shape) < SMALLEST:
        return False
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops, "mkldnn"):
        return False
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    return weight.dtype == torch.float32 or (
        weight.dtype == torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


class FrozenLinear:
    """``F.linear`` with a weight that never changes.

    Args:
        weight: (out, in).
        bias: (out,), or ``None``.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight, self._bias = weight, bias
        self._packs = packs(weight)
        self._made: dict[bool, Tensor] = {}
        self._version = weight._version

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply: (..., in) to (..., out)."""
        plainly = not self._packs or x.dtype != self._weight.dtype or not x.numel()
        if plainly or torch.compiler.is_compiling() or torch._C._get_tracing_state():
            return F.linear(x, self._weight, self._bias)
        return cast(Tensor, _Product.apply(x, self, False, self._bias))

    def product(self, x: Tensor, transposed: bool, bias: Tensor | None) -> Tensor:
        """``x @ weight.T + bias``, or ``x @ weight + bias``, from packed weights."""
        if self._weight._version != self._version:  # loaded anew
            self._made.clear()
            self._version = self._weight._version
        if transposed not in self._made:
            weight = self._weight.detach()
            weight = weight.T.contiguous() if transposed else weight
            self._made[transposed] = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)
        weight = self._made[transposed]
        flat = x.reshape(-1, x.shape[-1])
        made = torch.ops.mkldnn._linear_pointwise(flat, weight, bias, "none", [], "")
        return cast(Tensor, made.view(*x.shape[:-1], made.shape[-1]))


class _Product(torch.autograd.Function):
    """A product whose gradient is one, too; under ``vmap`` the batch is only more rows."""

    @staticmethod
    def forward(x: Tensor, layer: FrozenLinear, transposed: bool, bias: Tensor | None) -> Tensor:
        return layer.product(x, transposed, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004
        _, ctx.layer, ctx.transposed, _ = inputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        found = _Product.apply(gradient, ctx.layer, not ctx.transposed, None)
        return cast(Tensor, found), None, None, None

    @staticmethod
    def vmap(
        info: Any,  # noqa: ARG004
        in_dims: tuple[int | None, ...],
        x: Tensor,
        *others: Any,
    ) -> tuple[Tensor, int]:
        return cast(Tensor, _Product.apply(x.movedim(in_dims[0] or 0, 0), *others)), 0


class PackedBlock:
    """A pre-norm block of open_clip with its matrices packed; see `blocks`.

    Args:
        block: The block, frozen, of the usual form.
    """

    def __init__(self, block: nn.Module) -> None:
        made: Any = block
        self.ln_1, self.ls_1, self.ln_2, self.ls_2 = made.ln_1, made.ls_1, made.ln_2, made.ls_2
        self.attn = PackedAttention(made.attn)
        self.mlp = _layers(made.mlp)


class PackedAttention:
    """The matrices of an attention layer.

    Args:
        attention: The layer, frozen.
    """

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        self.num_heads = attention.num_heads
        self.in_proj = FrozenLinear(attention.in_proj_weight, attention.in_proj_bias)
        self.out_proj = FrozenLinear(attention.out_proj.weight, attention.out_proj.bias)


def packed_blocks(blocks: tuple[nn.Module, ...]) -> tuple[nn.Module | PackedBlock, ...]:
    """Pack the blocks of a frozen tower; where nothing is gained, they are returned as they are."""
    frozen = all(not weight.requires_grad for block in blocks for weight in block.parameters())
    first: Any = blocks[0] if blocks else None
    if first is None or not frozen or not packs(first.attn.in_proj_weight):
        return blocks
    return tuple(PackedBlock(block) for block in blocks)


def _layers(mlp: nn.Module) -> Callable[[Tensor], Tensor]:
    """A chain of layers with its matrices packed; any other module as it is."""
    if not isinstance(mlp, nn.Sequential):
        return mlp
    layers = [
        FrozenLinear(layer.weight, layer.bias) if type(layer) is nn.Linear else layer
        for layer in mlp
    ]

    def run(x: Tensor) -> Tensor:
        for layer in layers:
            x = layer(x)
        return x

    return run
