"""Classifiers, in the role of VGG-16, one module each: uint8 images [N, H, W, 3] to probabilities [N, classes].

A module has ``CLASSES``, the names of its classes in order, and ``load(weights, device)``, where None stands for
the weights that are published. A model's folder may bring its own, as classifier.safetensors.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np

from scenescope.errors import UserError, nearest


def named(spec: str):
    """The module and the source that ``spec``, MODULE or MODULE:PATH, names.

    Raises UserError if there is no such module or no such file.
    """
    name, _, source = spec.partition(":")
    known = sorted(file.stem for file in Path(__file__).parent.glob("[a-z]*.py"))
    if name not in known:
        raise UserError(f"classify.classifier: no classifier {name!r}{nearest(name, known)}")
    if source and not Path(source).is_file():
        raise UserError(f"classify.classifier: {spec}: no file {source}")
    return import_module(f"scenescope.classifiers.{name}"), source or None


def load(spec: str, folder: Path, device: str) -> Callable[[np.ndarray], np.ndarray]:
    """The classifier that ``spec`` names, for the model in ``folder``."""
    module, source = named(spec)
    own = folder / "classifier.safetensors"
    return module.load(source or (own if own.is_file() else None), device)
