"""An exported model as ONNX and as ``torch.export`` writes it: pixels in, probabilities out.

Both are made of one trace, whose batch is of any size, and are compared with the model before they
are kept.
"""

import json
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from pfedmoap.errors import ConfigError, MethodError
from pfedmoap.exported.folder import ONNX, ONNX_DATA, PROGRAM
from pfedmoap.exported.model import ExportedModel
from pfedmoap.seeding import generator

OPSET = 18
"""Version of ONNX's set of operators."""

OLDEST_TORCH = (2, 6)
"""The first torch that makes ONNX of a trace of ``torch.export``, as it is done here."""

LARGEST_ONNX_BYTES = 2**30
"""Weights of more bytes lie in a file beside the ONNX file, which may have 2 GiB at most."""

ONNX_AGREES, PROGRAM_AGREES = 1e-4, 1e-5
"""Largest difference in probabilities from the model."""

PIXELS, PROBABILITIES = "pixels", "probabilities"
_BATCH = Dim("batch", min=1, max=2**16)
_COMPARED = (1, 3)  # images


def require_onnx() -> None:
    """Refuse before any work where ONNX cannot be written.

    Raises:
        ConfigError: A package is missing.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"--onnx needs {error.name}: pip install 'pfedmoap[export]'") from error


def require_torch() -> None:
    """Refuse before any work where torch is older than what traces models here.

    Raises:
        ConfigError: It is.
    """
    if torch_release() < OLDEST_TORCH:
        wanted = ".".join(map(str, OLDEST_TORCH))
        raise ConfigError(
            f"--onnx and --torch_export need torch {wanted} or newer, and this is "
            f"{torch.__version__}"
        )


def torch_release() -> tuple[int, ...]:
    """Torch's version as numbers: the first two parts."""
    return tuple(int(part) for part in torch.__version__.split(".")[:2])


def trace(model: ExportedModel) -> ExportedProgram:
    """Trace a model on the CPU, for batches of any size.

    Raises:
        MethodError: It cannot be traced.
    """
    side = model.preprocessing.size
    try:
        with torch.no_grad(), _quietly():
            program = torch.export.export(
                model,
                (torch.zeros(2, 3, side, side),),
                dynamic_shapes=({0: _BATCH},),
                strict=False,  # the default of newer torch; features are recorded by hooks
            )
    except Exception as error:  # torch's tracer raises many kinds
        raise MethodError(
            f"torch.export cannot trace this model: {_first_line(error)}; leave out --onnx and "
            "--torch_export, and serve the folder with pfedmoap"
        ) from error
    for graph in program.graph_module.modules():
        for node in getattr(getattr(graph, "graph", None), "nodes", ()):
            node.meta.pop("stack_trace", None)  # paths of this machine
    return program


def write_program(program: ExportedProgram, model: ExportedModel, folder: Path) -> None:
    """Write ``model.pt2``, which ``torch.export.load`` reads.

    Raises:
        MethodError: It answers otherwise than the model; nothing is written.
    """
    with _workshop(folder) as shop:
        file = shop / PROGRAM
        with _quietly():
            torch.export.save(program, file)
            run = torch.export.load(file).module()
        _compare(model, run, PROGRAM_AGREES, "torch.export")
        os.replace(file, folder / PROGRAM)


def write_onnx(
    program: ExportedProgram,
    model: ExportedModel,
    folder: Path,
    largest_bytes: int = LARGEST_ONNX_BYTES,
) -> None:
    """Write ``model.onnx``, with ``model.onnx.data`` beside it where the weights are large.

    Class names and preprocessing are among its metadata, as JSON.

    Args:
        program: The trace.
        model: The model.
        folder: Where to.
        largest_bytes: Weights of more bytes go to the second file.

    Raises:
        MethodError: It cannot be written so, or answers otherwise than the model in onnxruntime.
    """
    import onnxruntime

    size = sum(value.nbytes for value in model.state_dict().values())
    with _workshop(folder) as shop:
        file = shop / ONNX
        try:
            with _quietly():
                made = torch.onnx.export(
                    program,
                    (),
                    dynamo=True,
                    dynamic_shapes=({0: _BATCH},),
                    opset_version=OPSET,
                    input_names=[PIXELS],
                    output_names=[PROBABILITIES],
                    verbose=False,
                )
                if made is None:
                    raise RuntimeError("torch made no program")
                told = made.model.metadata_props
                told["class_names"] = json.dumps(model.class_names)
                told["preprocessing"] = json.dumps(asdict(model.preprocessing))
                made.save(file, external_data=size > largest_bytes)
        except Exception as error:  # torch's exporter raises many kinds
            raise MethodError(
                f"torch.onnx cannot write this model: {_first_line(error)}; leave out --onnx"
            ) from error
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

        def run(pixels: Tensor) -> Tensor:
            return torch.from_numpy(session.run(None, {PIXELS: pixels.numpy()})[0])

        _compare(model, run, ONNX_AGREES, "ONNX")
        for name in (ONNX_DATA, ONNX):
            if (shop / name).exists():
                os.replace(shop / name, folder / name)


def _compare(
    model: ExportedModel, other: Callable[[Tensor], Tensor], most: float, what: str
) -> None:
    """Compare answers about noise; raises `MethodError` where they differ."""
    side = model.preprocessing.size
    stream = generator(0, "exported program")
    for count in _COMPARED:
        noise = torch.randn(count, 3, side, side, generator=stream)
        with torch.no_grad():
            apart = float((model(noise) - other(noise)).abs().max())
        if not apart <= most:  # true of what is no number, too
            raise MethodError(
                f"the file of {what} would answer otherwise than the model (probabilities differ "
                f"by {apart:.2g}, at most {most:g} is rounding), so that none is written"
            )


@contextmanager
def _workshop(folder: Path) -> Iterator[Path]:
    """A folder on the same disk, for files that are not finished."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unfinished-") as name:
        yield Path(name)


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep torch's exporters from warning and logging; what goes wrong is an error of ours."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    before = [each.level for each in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for each in loggers:
            each.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for each, was in zip(loggers, before, strict=True):
                each.setLevel(was)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]
