"""Looking for a tensor in files, whatever their form."""

from pathlib import Path

import numpy as np
import torch


def traces_of(prompt: torch.Tensor, folder: Path, least: float = 0.999) -> list[str]:
    """Files in which some run of float32 numbers has a cosine with a tensor above ``least``."""
    wanted = prompt.flatten().double().numpy()
    wanted = wanted / np.linalg.norm(wanted)
    found = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = file.read_bytes()
        for shift in range(4):
            usable = content[shift : shift + (len(content) - shift) // 4 * 4]
            raw = np.frombuffer(usable, "<f4")
            with np.errstate(invalid="ignore"):
                sane = np.isfinite(raw) & (np.abs(raw) < 1e3)
            numbers = np.where(sane, raw, np.float32(0)).astype(np.float64)
            if len(numbers) < len(wanted):
                continue
            numbers = np.where(np.abs(numbers) < 1e6, np.nan_to_num(numbers), 0.0)
            size = 2 ** int(np.ceil(np.log2(len(numbers) + len(wanted))))
            product = np.fft.irfft(
                np.fft.rfft(numbers, size) * np.fft.rfft(wanted[::-1], size), size
            )[len(wanted) - 1 : len(numbers)]
            sums = np.concatenate([[0.0], np.cumsum(numbers**2)])
            norms = np.sqrt(np.maximum(sums[len(wanted) :] - sums[: -len(wanted)], 1e-6))
            if bool((product > least * norms).any()):
                found.append(str(file.relative_to(folder)))
                break
    return found
