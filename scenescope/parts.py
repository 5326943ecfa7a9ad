"""A stage's work in parts, for several processes or machines: part k of n has every n-th shard, from the k-th on.

Shards do not depend on each other, on who computes them, or on how many parts there are, so parts can run at once,
in any order, and again; what they write is what one process would have written.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from scenescope.errors import UserError

Shard = TypeVar("Shard")


@dataclass(frozen=True)
class Part:
    """Part ``number`` of ``count``, counted from 1; as it stands, all of the work."""

    number: int = 1
    count: int = 1

    @property
    def whole(self) -> bool:
        return self.count == 1

    def of(self, shards: Sequence[Shard]) -> Sequence[Shard]:
        return shards[self.number - 1 :: self.count]


WHOLE = Part()


def parse(text: str) -> Part:
    """A part written as 2/8. Raises UserError if it is none."""
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UserError(f"--part {text}: expected K/N with K from 1 to N, such as 2/8")
    return Part(int(found[1]), int(found[2]))
