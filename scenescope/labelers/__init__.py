"""Label models, one module each, behind one protocol.

A module says which ``TARGETS`` it can label, and has ``load(target, folder, device, source=None)``, which opens
its label model for one of them and returns a ``Labeler``. ``folder`` is the model's folder below models/.
``source`` says which weights: what stands behind the colon in ``labels.saliency: tracer:te7``, or None.
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

    Raises UserError if there is no such module, it does not label the target, or the source is a path to nothing.
    """
    name, _, source = spec.partition(":")
    known = sorted(file.stem for file in Path(__file__).parent.glob("[a-z]*.py"))
    if name not in known:
        raise UserError(f"labels.{target}: no label model {name!r}{nearest(name, known)}")
    module = import_module(f"scenescope.labelers.{name}")
    if target not in module.TARGETS:
        raise UserError(f"labels.{target}: {name} labels {' and '.join(module.TARGETS)}, not {target}")
    if "/" in source and not Path(source).exists():
        raise UserError(f"labels.{target}: {spec}: no file or folder {source}")
    return module, source or None
