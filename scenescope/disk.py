"""Count the room on disk before it is needed."""

import shutil
from pathlib import Path

from scenescope.errors import UserError


def check_room(folder: Path, needed: int, what: str) -> None:
    """Raise UserError unless the disk that ``folder`` is, or will be, on has ``needed`` bytes free."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise UserError(f"{folder}: {what} needs {size(needed)} of disk, {size(free)} are free; make room there")


def size(count: int) -> str:
    """Bytes as people read them: 23.7 GB."""
    for unit, power in (("GB", 1e9), ("MB", 1e6)):
        if count >= power:
            return f"{count / power:.1f} {unit}"
    return f"{count / 1e3:.1f} kB"
