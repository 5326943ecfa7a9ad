"""Run the committed study again from nothing, and hold its numbers against the committed ones: make verify.

HEAD is cloned into a folder of its own, with an empty cache. On the machine that made the committed results every
number is the same; on another, sums of float32 end in other digits, and what they decide (the epoch of a probe, the
threshold of a mask) may fall otherwise.
"""

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TOLERANCE = 0.02  # of a score; steps may move by one


def numbers(values: Any, name: str = "") -> Iterator[tuple[str, float | None]]:
    """Every number in nested JSON, with its keys joined by dots."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from numbers(value, f"{name}.{key}".lstrip("."))
    elif values is None or (isinstance(values, int | float) and not isinstance(values, bool)):
        yield name, values


def differences(committed: Path, again: Path) -> list[tuple[str, float | None, float | None]]:
    """Metrics of two checkouts that are not the same: file and key, the committed value, the new one."""
    found = []
    for file in sorted(committed.glob("metrics/**/*.json")):
        name = file.relative_to(committed)
        old, new = (dict(numbers(json.loads((home / name).read_text()))) for home in (committed, again))
        found += [
            (f"{name}: {key}", old.get(key), new.get(key)) for key in sorted(old | new) if old.get(key) != new.get(key)
        ]
    return found


def within(old: float | None, new: float | None) -> bool:
    """Whether two values of a metric are as near as another machine may bring them."""
    if old is None or new is None:
        return old is new
    if isinstance(old, int) and isinstance(new, int):
        return abs(old - new) <= 1
    return math.isclose(old, new, abs_tol=TOLERANCE)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="scenescope-verify-") as folder:
        home = Path(folder) / "again"
        subprocess.run(["git", "clone", "-q", ".", home], check=True)
        subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=home, check=True)
        # What git has at HEAD, not what lies in the working tree.
        committed = Path(folder) / "committed"
        subprocess.run(["git", "clone", "-q", ".", committed], check=True)
        found = differences(committed, home)
        same = (committed / "dvc.lock").read_bytes() == (home / "dvc.lock").read_bytes()
    far = [row for row in found if not within(*row[1:])]
    for name, old, new in far or found:
        print(f"{name}: {old} committed, {new} now")
    print(
        f"dvc.lock: {'the same' if same else 'differs'}; metrics: {len(found)} differ, {len(far)} by more than allowed"
    )
    return 1 if far else 0


if __name__ == "__main__":
    raise SystemExit(main())
