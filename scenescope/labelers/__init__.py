"""Label models, one module each, behind one protocol.

A module says which ``TARGETS`` it can label, and which ``VARIANTS`` of its weights it knows by name, if there is
a choice. It has ``load(target, folder, device, source=None)``, which opens its label model for one of the targets
and returns a ``Labeler``. ``folder`` is the model's folder below models/; ``source`` is a variant or a path to
weights, as behind the colon of ``labels.saliency: tracer:te7``, or None for the usual ones.
"""

from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np

from scenescope.errors import UserError, nearest


class Labeler(Protocol):
    """Labels uint8 images [N, H, W, 3] with maps [N, H, W]: bool for saliency, float32 for the others."""

    def __call__(self, images: np.ndarray) -> np.ndarray: ...


def named(spec: str, target: str):
    """The module and the source that ``spec``, MODULE or MODULE:SOURCE, names for a target.

    Raises UserError if there is no such module, it does not label the target, or the source is neither a variant
    of its nor a path to something.
    """
    name, _, source = spec.partition(":")
    known = sorted(file.stem for file in Path(__file__).parent.glob("[a-z]*.py"))
    if name not in known:
        raise UserError(f"labels.{target}: no label model {name!r}{nearest(name, known)}")
    module = import_module(f"scenescope.labelers.{name}")
    if target not in module.TARGETS:
        raise UserError(f"labels.{target}: {name} labels {' and '.join(module.TARGETS)}, not {target}")
    variants = getattr(module, "VARIANTS", ())
    if source and source not in variants and not Path(source).exists():
        choice = f", nor a variant{nearest(source, variants)}" if variants else ""
        raise UserError(f"labels.{target}: {spec}: no file or folder {source}{choice}")
    return module, source or None


def opened(specs: dict[str, str], folder: Path, device: str) -> dict[str, Labeler]:
    """The label model of every target that ``specs`` names, for the model in ``folder``. Raises as ``named``."""
    models = {}
    for target, spec in specs.items():
        module, source = named(spec, target)
        models[target] = module.load(target, folder, device, source)
    return models
