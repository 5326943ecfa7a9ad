"""Pictures for the page, as text: a strip holds the frames of all steps side by side, so one picture is one scrubber.

Maps are coloured here, with the figures' colours; the page only cuts frames out. What probes predict is kept token by
token, as PNG on its own grid. Pictures and label models' maps have at most ``SIDE`` and ``MAP_SIDE`` pixels a side.
"""

import base64
import io

import matplotlib
import numpy as np
from PIL import Image

from scenescope.figures.style import COLORMAPS, display_range
from scenescope.thumbnails import reduced

SIDE, MAP_SIDE = 256, 128  # pixels of a frame
THUMB = 64  # of the picture that an image is chosen by
QUALITY = 80  # of WebP: noise takes most of the room, and nobody counts its grains


def picture_strip(images: np.ndarray, side: int = SIDE) -> str:
    """uint8 images [S, H, H, 3] as a strip, of at most ``side`` pixels a frame."""
    return webp(_side_by_side(reduced(images, side)))


def map_strip(target: str, maps: np.ndarray, limits: tuple[float, float]) -> str:
    """Maps of label models [S, H, H], masks or numbers, as a strip; ``limits`` are the darkest and brightest values."""
    levels = _levels(reduced(maps.astype(np.float32)[..., None], MAP_SIDE)[..., 0], limits)
    if target == "saliency":
        return _paletted(_side_by_side(levels), target)
    return webp(_palette(target)[_side_by_side(levels)])


def token_strips(target: str, by_layer: list[np.ndarray]) -> str:
    """What a layer's probes predict [S, g, g], masks or numbers, a strip for every layer, below each other.

    Each layer has limits of its own, the same at all steps, so that colours do not flicker.
    """
    strips = []
    for maps in by_layer:
        limits = display_range(target, maps)
        strips.append(_side_by_side(_levels(maps.astype(np.float32), limits)))
    width = max(strip.shape[1] for strip in strips)
    return _paletted(np.concatenate([np.pad(s, ((0, 0), (0, width - s.shape[1]))) for s in strips]), target)


def colour_table(name: str, entries: int = 64) -> list[str]:
    """Colours of one of matplotlib's maps, evenly spaced, as #rrggbb."""
    colours = matplotlib.colormaps[name](np.linspace(0, 1, entries), bytes=True)[:, :3]
    return ["#" + bytes(colour).hex() for colour in colours]


def webp(pixels: np.ndarray) -> str:
    """uint8 pixels [H, W, 3] as an address that holds them."""
    return _address(Image.fromarray(pixels), "webp", quality=QUALITY, method=6)


def _paletted(levels: np.ndarray, target: str) -> str:
    """Levels uint8 [H, W] in a target's colours, as an address that holds them."""
    image = Image.frombytes("P", levels.shape[::-1], levels.tobytes())
    image.putpalette(_palette(target).tobytes())
    return _address(image, "png", optimize=True)


def _address(image: Image.Image, kind: str, **how) -> str:
    stream = io.BytesIO()
    image.save(stream, kind, **how)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def _side_by_side(frames: np.ndarray) -> np.ndarray:
    """Frames [S, h, w, ...] as one picture [h, S w, ...]."""
    return np.ascontiguousarray(np.concatenate(list(frames), axis=1))


def _levels(maps: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Numbers as uint8 between two limits; all dark where the limits are the same."""
    low, high = limits
    share = (maps - low) / (high - low) if high > low else np.zeros_like(maps)
    return (np.clip(share, 0, 1) * 255).round().astype(np.uint8)


def _palette(target: str) -> np.ndarray:
    """A target's 256 colours, uint8 [256, 3]."""
    return matplotlib.colormaps[COLORMAPS[target]](np.arange(256), bytes=True)[:, :3]
