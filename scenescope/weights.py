"""Weights that others publish: fetched once, checked, kept in a cache, and read without pickle.

They come from a release of their authors (one file, by URL) or from the Hugging Face hub (a repository at a
pinned revision), when they are first needed. A path is read where it lies.
"""

import hashlib
from pathlib import Path
from typing import Any

import pooch
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.errors import HTTPError
from torch import Tensor, nn

from scenescope.disk import check_room
from scenescope.errors import UserError

CACHE = Path(pooch.os_cache("scenescope"))
pooch.get_logger().setLevel("WARNING")  # it would advise to pin the checksum, which ``fetch`` does


def fetch(url: str, sha256: str | None = None) -> Path:
    """The file at ``url``, downloaded into the cache unless it is there; its SHA-256 is checked each time.

    Where the publisher gives no checksum, the one of the first download is written beside the file, and every
    later use is held to it. Raises UserError where the file cannot be had or is not the right one.
    """
    name = f"{hashlib.sha256(url.encode()).hexdigest()[:8]}-{url.rsplit('/', 1)[-1]}"
    file, record = CACHE / name, CACHE / f"{name}.sha256"
    if not file.exists():
        try:
            pooch.retrieve(url, None, fname=name, path=CACHE, progressbar=True)
        except (OSError, ValueError) as error:  # what requests raises is an OSError
            raise UserError(f"{url}: cannot be downloaded ({_brief(error)}); is there a network?") from None
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    expected = sha256 or (record.read_text().strip() if record.exists() else found)
    if found != expected:
        raise UserError(f"{file}: its SHA-256 is {found}, expected {expected}; delete it to download it again")
    if not record.exists():
        record.write_text(found + "\n")
    return file


def snapshot(repository: str, revision: str, patterns: list[str]) -> Path:
    """The folder with those files of a hub repository at ``revision`` that match ``patterns``.

    Without network, what the hub's cache holds. Raises UserError where the files cannot be had, or the disk
    has no room for those still to be downloaded.
    """
    wanted = {"repo_id": repository, "revision": revision, "allow_patterns": patterns}
    try:
        plan = snapshot_download(**wanted, dry_run=True)
        if not isinstance(plan, str):
            missing = sum(file.file_size for file in plan if file.will_download)
            check_room(Path(HF_HUB_CACHE), missing, f"the download of {repository}")
        return Path(snapshot_download(**wanted))
    except (OSError, HTTPError) as error:  # what the hub raises is an OSError
        where = f"{repository} at revision {revision[:8]}"
        raise UserError(f"{where}: cannot be had from the hub ({_brief(error)}); is there a network?") from None


def read(file: Path) -> Any:
    """What ``torch.save`` wrote, tensors in plain containers only: nothing in it is run.

    Raises UserError if there is no such file, or it holds anything else.
    """
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{file}: no such file") from None
    except Exception as error:  # a file that is no file of weights breaks the reader in many ways
        raise UserError(f"{file}: not a file of weights ({_brief(error)})") from None


def fill(network: nn.Module, state: dict[str, Tensor], file: Path) -> None:
    """Load ``state``, which came from ``file``, into ``network``: every key and every shape, no more and no less."""
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"{file}: weights of another network ({_brief(error)})") from None


def _brief(error: Exception) -> str:
    """The first 120 characters of an error, in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 120 else f"{text[:117]}..."
