"""Exported models on the Hugging Face Hub: fetched when named so, pushed when asked to.

A token is never read, logged or written here: huggingface_hub finds its own (``hf auth login``, or
``HF_TOKEN``), and sends it to its own endpoint (``HF_ENDPOINT``).
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.utils.tqdm import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)

from pfedmoap.errors import ConfigError, PFedMoAPError, StorageError
from pfedmoap.exported.folder import FILES, HEAD, MOST_BYTES, RECORD, TOWER, read_model

HUB = "hf-hub:"
_REPOSITORY = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")
_READ = (RECORD, TOWER, HEAD)
_AFTER_FETCH = (
    ", and the Hub's cache does not have it. Use a folder: copy what `pfedmoap export` wrote"
)
_AFTER_PUSH = ". The folder is whole: `pfedmoap export {folder} --push {name}` tries again"


def fetch(name: str) -> Path:
    """Fetch a model from the Hub, or find it in the Hub's cache.

    Only the three files that are read are fetched, and only after their sizes were looked at.

    Args:
        name: ``hf-hub:user/repo`` or ``hf-hub:user/repo@revision``.

    Returns:
        The folder in the cache.

    Raises:
        ConfigError: The name is none of a repository.
        StorageError: It cannot be fetched: there is no network, no such repository, no access, or a
            file is larger than any of such a model.
    """
    repository, _, revision = name.removeprefix(HUB).partition("@")
    check_repository(repository)
    with _explained(repository, "fetch", _AFTER_FETCH):
        if not constants.HF_HUB_OFFLINE:
            info = HfApi().model_info(repository, revision=revision or None, files_metadata=True)
            _check_sizes(repository, {f.rfilename: f.size or 0 for f in info.siblings or ()})
        return Path(
            snapshot_download(
                repository,
                revision=revision or None,
                allow_patterns=list(_READ),
                local_files_only=constants.HF_HUB_OFFLINE,
            )
        )


def push(folder: Path, repository: str, *, private: bool) -> str:
    """Upload an exported model; the repository is made if there is none.

    Args:
        folder: The model.
        repository: ``user/repo``.
        private: Whether a repository that is made here is closed to others.

    Returns:
        Its address.

    Raises:
        ConfigError: The name is none of a repository.
        RunError: The folder holds no whole model.
        StorageError: The Hub cannot be reached, or refuses.
    """
    check_repository(repository)
    read_model(folder)
    with _explained(repository, "push", _AFTER_PUSH.format(folder=folder, name=repository)):
        api = HfApi()
        api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=list(FILES),
            commit_message="Upload a model that pfedmoap exported",
        )
    return f"{constants.ENDPOINT}/{repository}"


def check_repository(repository: str) -> None:
    """Refuse what is no name of a repository.

    Raises:
        ConfigError: It is not.
    """
    if not _REPOSITORY.fullmatch(repository) or ".." in repository:
        raise ConfigError(
            f"{repository!r} is no repository of the Hugging Face Hub: expected user/name"
        )


def _check_sizes(repository: str, sizes: dict[str, int]) -> None:
    if missing := [name for name in _READ if name not in sizes]:
        raise StorageError(
            f"{HUB}{repository} holds no model that pfedmoap exported: it has no "
            f"{', '.join(missing)}"
        )
    for name in _READ:
        if sizes[name] > MOST_BYTES[name]:
            raise StorageError(
                f"{HUB}{repository}: {name} has {sizes[name]:,} bytes, and none of an exported "
                f"model has over {MOST_BYTES[name]:,}; nothing was fetched"
            )


@contextmanager
def _explained(repository: str, doing: str, remedy: str) -> Iterator[None]:
    """Turn the library's errors into ours, without what a request held."""
    place = constants.ENDPOINT
    silenced = not sys.stderr.isatty() and not are_progress_bars_disabled()
    try:
        if silenced:
            disable_progress_bars()
        yield
    except RepositoryNotFoundError as error:
        raise StorageError(
            f"cannot {doing} {HUB}{repository}: {place} has no such repository, or it is closed to "
            "you (`hf auth login`, or HF_TOKEN)"
        ) from error
    except PFedMoAPError:
        raise
    except Exception as error:  # what the library's network code of the day raises
        answer = error.response if isinstance(error, HfHubHTTPError) else None
        if answer is not None:  # before version 1 a file that is not cached is such an error, too
            status = answer.status_code
            raise StorageError(
                f"cannot {doing} {HUB}{repository}: {place} answers with status {status}"
                + ("; log in first (`hf auth login`, or HF_TOKEN)" if status in (401, 403) else "")
            ) from error
        raise StorageError(
            f"cannot {doing} {HUB}{repository} ({type(error).__name__}): {place} cannot be reached "
            f"from here{remedy}"
        ) from error
    finally:
        if silenced:
            enable_progress_bars()
