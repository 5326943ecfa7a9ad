"""How a stage whose work can be shared out runs: here and whole, as one part of several, or on a cluster."""

import importlib
import sys
from collections.abc import Callable

from scenescope import parts
from scenescope.parts import WHOLE, Part
from scenescope.settings import Params, load_params
from stages.common import run


def run_in_parts(stage: Callable[[Params, Part], None]) -> None:
    """``run`` for such a stage: all of it; with ``--part K/N`` that part, whose shards stay in the scratch folder for
    the run that has all; or with compute.engine: ray, parts on the workers of a cluster."""

    def chosen(params: Params) -> None:
        if params.compute.engine == "ray" and "--part" not in sys.argv:
            from scenescope import cluster  # Ray takes a second to import

            cluster.spread(
                "stages.sharing:run_words",
                [stage.__name__, *sys.argv[1:]],
                params.compute.workers,
                gpu=params.device != "cpu",
            )
        else:
            stage(params, asked_part())

    run(chosen)


def run_words(words: list[str]) -> None:
    """The stage and arguments of a command, such as ["label", "depth", "--part", "2/8"], in a worker."""
    sys.argv = words
    stage = getattr(importlib.import_module(f"stages.{words[0]}"), words[0])
    stage(load_params(), asked_part())


def asked_part() -> Part:
    """The part that --part asks for, or all. Raises UserError if it is none."""
    if "--part" not in sys.argv:
        return WHOLE
    at = sys.argv.index("--part")
    return parts.parse(" ".join(sys.argv[at + 1 : at + 2]))
