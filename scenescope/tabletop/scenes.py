"""What a tabletop scene is: the words that name it, and the numbers that place it.

A scene is one object on a floor in the corner of a room. The words (shape, colour, floor, background,
size) are what a caption says; the numbers (camera, walls, light, pose) are what it does not say, and
they vary so much that the layout of an image cannot be guessed from the position of a pixel.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np

SHAPES = ("sphere", "cube", "cylinder", "cone", "torus")
COLOURS = {
    "red": (0.85, 0.10, 0.10),
    "orange": (0.97, 0.50, 0.06),
    "yellow": (0.96, 0.88, 0.12),
    "green": (0.10, 0.62, 0.16),
    "cyan": (0.14, 0.82, 0.86),
    "blue": (0.12, 0.22, 0.86),
    "purple": (0.52, 0.14, 0.68),
    "white": (0.97, 0.97, 0.97),
}
FLOORS = ("wooden", "checkered", "grassy", "marble", "sandy")
BACKGROUNDS = ("sunset", "sky", "brick", "forest", "plain")
SIZES = ("small", "", "large")
# Apparent diameter of the object's bounding sphere, as a share of the image's height.
SIZE_RANGES = {"small": (0.44, 0.52), "": (0.52, 0.62), "large": (0.62, 0.74)}
TEMPLATES = (
    "a {object} on a {floor} floor with {background} background",
    "{background} background, a {object} on a {floor} floor",
    "a {object} standing on a {floor} floor, {background} background",
)
# One combination of words in this many is kept out of training, so that prompts can be new to the model.
HELD_OUT_ONE_IN = 8


@dataclass(frozen=True)
class Words:
    """The part of a scene that its caption names."""

    shape: str
    colour: str
    floor: str
    background: str
    size: str

    def caption(self, template: int = 0) -> str:
        """The caption of these words in one of the ``TEMPLATES``."""
        thing = " ".join(word for word in (self.size, self.colour, self.shape) if word)
        return TEMPLATES[template].format(object=thing, floor=self.floor, background=self.background)


@dataclass(frozen=True)
class Scene:
    """One scene. Lengths are in units of the object's bounding radius, angles in radians."""

    words: Words
    template: int
    yaw: float  # of the object about its vertical axis
    fov: float  # vertical field of view
    pitch: float  # of the camera, downwards
    roll: float  # of the camera about its viewing direction
    apparent: float  # diameter of the object as a share of the image's height
    centre: tuple[float, float]  # of the object in the image, in [-1, 1]
    wall_azimuth: float  # of the first wall's normal
    wall_opening: float  # angle from the first wall's normal to the second's
    wall_distance: tuple[float, float]  # from the object to either wall
    light_azimuth: float
    light_elevation: float
    floor_yaw: float  # direction of the floor's pattern
    phase: tuple[float, float]  # shift of the patterns of floor and walls
    tint: float  # brightness of floor and walls, a factor

    @property
    def caption(self) -> str:
        return self.words.caption(self.template)


def all_words() -> list[Words]:
    """Every combination of words, in a fixed order."""
    return [Words(*combo) for combo in product(SHAPES, COLOURS, FLOORS, BACKGROUNDS, SIZES)]


def held_out(words: Words) -> bool:
    """Whether this combination is kept out of training. Every single word is seen in training."""
    indices = (
        SHAPES.index(words.shape),
        list(COLOURS).index(words.colour),
        FLOORS.index(words.floor),
        BACKGROUNDS.index(words.background),
        SIZES.index(words.size),
    )
    weights = (3, 1, 5, 7, 2)  # a Latin-square-like rule: no pair of words is wholly held out
    return sum(w * i for w, i in zip(weights, indices, strict=True)) % HELD_OUT_ONE_IN == 0


def sample_scene(seed: int, words: Words | None = None) -> Scene:
    """Draw one scene from its seed; the words too, unless given. The same seed gives the same scene."""
    rng = np.random.default_rng([seed, 0x7AB1E])
    drawn = Words(
        SHAPES[rng.integers(len(SHAPES))],
        list(COLOURS)[rng.integers(len(COLOURS))],
        FLOORS[rng.integers(len(FLOORS))],
        BACKGROUNDS[rng.integers(len(BACKGROUNDS))],
        SIZES[rng.integers(len(SIZES))],
    )
    words = words or drawn
    turn = rng.choice([-1.0, 1.0])
    # A torus seen edge-on is no torus to anyone: it turns less than the others.
    yaw = rng.uniform(-0.9, 0.9) if words.shape == "torus" else rng.uniform(-np.pi, np.pi)
    apparent = rng.uniform(*SIZE_RANGES[words.size])
    spare = 1 - apparent  # how far the object can move before the image's border cuts it
    return Scene(
        words=words,
        template=int(rng.integers(len(TEMPLATES))),
        yaw=yaw,
        fov=np.radians(rng.uniform(35, 65)),
        pitch=np.radians(rng.uniform(12, 60)),
        roll=np.radians(rng.uniform(-30, 30)),
        apparent=apparent,
        centre=(rng.uniform(-0.9, 0.9) * spare, rng.uniform(-0.7, 0.7) * spare),
        wall_azimuth=turn * np.radians(rng.uniform(10, 80)),
        wall_opening=-turn * np.radians(rng.uniform(75, 110)),
        wall_distance=(rng.uniform(1.02, 1.8), rng.uniform(1.02, 1.8)),
        light_azimuth=rng.uniform(-2.2, 2.2),
        light_elevation=np.radians(rng.uniform(25, 65)),
        floor_yaw=rng.uniform(-np.pi, np.pi),
        phase=(rng.uniform(0, 7), rng.uniform(0, 7)),
        tint=rng.uniform(0.85, 1.0),
    )
