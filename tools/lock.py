"""Write the lock: the exact versions, with hashes, that the commands of the Makefile install.

One resolution serves Python 3.11 to 3.13 on every platform. It is written in two parts, so that a
machine without CUDA can leave the second one out: ``requirements.lock``, and the libraries of
CUDA that torch's wheels for Linux ask for in ``requirements-cuda.lock``. Versions that the lock
holds already are kept where they still fit; ``--upgrade`` takes the newest. A pre-release is taken
only of a package that has no other release (parts of OpenTelemetry, for MLflow). Constraints of
your own go into the environment variable ``UV_CONSTRAINT``.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
CUDA = re.compile(r"(nvidia-|cuda-|triton\b)")
HEAD = "# Written by `make lock` from pyproject.toml; {what}. Python 3.11 to 3.13.\n"
FILES = {
    "requirements.lock": "all packages but CUDA's libraries",
    "requirements-cuda.lock": "CUDA's libraries for torch on Linux",
}


def resolve(before: str, upgrade: bool) -> str:
    """Resolve pyproject.toml with all that developers need.

    Args:
        before: The lock so far, whose versions are kept where they fit.
        upgrade: Take the newest versions instead.

    Returns:
        Requirements with hashes, without the place they came from.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "requirements.lock"
        out.write_text(before)
        subprocess.run(
            [
                sys.executable,
                "-m",
                "uv",
                "pip",
                "compile",
                "--quiet",
                "pyproject.toml",
                "--extra",
                "dev",
                "--universal",
                "--python-version",
                "3.11",
                "--generate-hashes",
                "--prerelease",
                "if-necessary-or-explicit",
                "--no-header",
                "--no-annotate",
                "--output-file",
                str(out),
                *(["--upgrade"] if upgrade else []),
            ],
            cwd=ROOT,
            check=True,
        )
        return out.read_text()


def split(requirements: str) -> dict[str, str]:
    """Divide a resolution into the lock's two files.

    Args:
        requirements: What ``resolve`` returns.

    Returns:
        Contents by file name.
    """
    blocks = re.findall(r"^[^\s#-].*\n(?:[ \t].*\n)*", requirements, re.MULTILINE)
    cuda = [bool(CUDA.match(block)) for block in blocks]
    parts = [
        "".join(block for block, is_cuda in zip(blocks, cuda, strict=True) if is_cuda == wanted)
        for wanted in (False, True)
    ]
    return {
        name: HEAD.format(what=what) + part
        for (name, what), part in zip(FILES.items(), parts, strict=True)
    }


def main() -> None:
    """Parse, resolve, write."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    args = parser.parse_args()
    before = "".join((ROOT / name).read_text() for name in FILES if (ROOT / name).exists())
    for name, content in split(resolve(before, args.upgrade)).items():
        (ROOT / name).write_text(content)


if __name__ == "__main__":
    main()
