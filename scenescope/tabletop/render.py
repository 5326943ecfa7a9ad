"""The tabletop renderer: scenes in; images and the truth about them out.

Floor and walls are planes and met in closed form. The object is a signed distance function that is
sphere-traced (Hart 1996), only along the rays that meet its bounding sphere. Every scene of a batch
has the same shape, so that each evaluates its own distance function only.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scenescope.tabletop.scenes import BACKGROUNDS, COLOURS, FLOORS, Scene

AMBIENT, SKYLIGHT, SUN = 0.32, 0.10, 0.58  # sum to 1, so that an image never clips
MARCH_STEPS = 48
BATCH = 64
CENTRE_HEIGHT = {"sphere": 0.85, "cube": 0.68, "cylinder": 0.78, "cone": 0.85, "torus": 0.93}
FAR = 60.0


@dataclass(frozen=True)
class Renders:
    """Rendered scenes, N images of S × S pixels. All arrays are float32 but the first two."""

    image: np.ndarray  # uint8 [N, S, S, 3], round(255 · albedo · shading)
    mask: np.ndarray  # bool [N, S, S], the object
    depth: np.ndarray  # [N, S, S], inverse depth along the viewing direction, 1 / object radii
    shading: np.ndarray  # [N, S, S], irradiance in (0, 1]
    albedo: np.ndarray  # [N, S, S, 3], the irradiance-weighted mean over a pixel


def render(scenes: list[Scene], size: int, oversample: int = 2) -> Renders:
    """Render scenes at ``size`` × ``size`` pixels, each the mean of ``oversample``² rays."""
    groups = defaultdict(list)
    for index, scene in enumerate(scenes):
        groups[scene.words.shape].append(index)
    out = {
        "image": np.empty((len(scenes), size, size, 3), np.uint8),
        "mask": np.empty((len(scenes), size, size), bool),
        "depth": np.empty((len(scenes), size, size), np.float32),
        "shading": np.empty((len(scenes), size, size), np.float32),
        "albedo": np.empty((len(scenes), size, size, 3), np.float32),
    }
    for shape, indices in groups.items():
        for start in range(0, len(indices), BATCH):
            chunk = indices[start : start + BATCH]
            for name, value in _render_batch(shape, [scenes[i] for i in chunk], size, oversample).items():
                out[name][chunk] = value
    return Renders(**out)


def _render_batch(shape: str, scenes: list[Scene], size: int, oversample: int) -> dict[str, np.ndarray]:
    """Render scenes that share one shape."""
    count, side = len(scenes), size * oversample
    eye, rays, forward = _cameras(scenes, side)
    rays = rays.reshape(count, -1, 3)
    scene_of = torch.arange(count)[:, None].expand(count, rays.shape[1])
    yaw, height = _column(scenes, lambda s: s.yaw), CENTRE_HEIGHT[shape]
    light = _light(scenes)

    distance, normal, albedo = _room(scenes, eye, rays)
    on_object = _march(shape, eye[:, None].expand_as(rays), rays, yaw[:, None], height, distance)
    hit = on_object < distance
    distance = torch.where(hit, on_object, distance)
    points = eye[:, None] + distance[..., None] * rays
    normal[hit] = _normals(shape, points[hit], yaw[scene_of[hit]], height)
    colours = torch.tensor([COLOURS[s.words.colour] for s in scenes])
    albedo[hit] = colours[scene_of[hit]]

    sun = (normal * light[:, None]).sum(-1).clamp(min=0)
    shadow = _shadow(shape, points + 0.02 * normal, light[:, None].expand_as(rays), yaw[:, None], height, sun > 0)
    shading = AMBIENT + SKYLIGHT * (0.5 + 0.5 * normal[..., 1]) + SUN * sun * shadow

    def pixels(x: Tensor) -> Tensor:
        grid = x.reshape(count, size, oversample, size, oversample, -1)
        return grid.mean((2, 4)).squeeze(-1)

    light_in, light_out = pixels(shading), pixels(albedo * shading[..., None])
    depth = 1 / (distance * (rays * forward[:, None]).sum(-1))
    return {
        "image": (255 * light_out).round().to(torch.uint8).numpy(),
        "mask": (pixels(hit.float()) >= 0.5).numpy(),
        "depth": pixels(depth).numpy(),
        "shading": light_in.numpy(),
        "albedo": (light_out / light_in[..., None]).numpy(),
    }


def _column(scenes: list[Scene], get) -> Tensor:
    return torch.tensor(np.array([get(s) for s in scenes]), dtype=torch.float32)


def _direction(azimuth: Tensor, elevation: Tensor | float = 0.0) -> Tensor:
    elevation = torch.as_tensor(elevation).expand_as(azimuth)
    flat = torch.cos(elevation)
    return torch.stack([torch.sin(azimuth) * flat, torch.sin(elevation), torch.cos(azimuth) * flat], -1)


def _light(scenes: list[Scene]) -> Tensor:
    """Unit vectors towards the light, [N, 3]."""
    return _direction(_column(scenes, lambda s: s.light_azimuth), _column(scenes, lambda s: s.light_elevation))


def _cameras(scenes: list[Scene], side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Eye [N, 3], unit ray directions [N, side, side, 3] and viewing direction [N, 3]."""
    fov, pitch, roll = (_column(scenes, lambda s, k=k: getattr(s, k)) for k in ("fov", "pitch", "roll"))
    reach = torch.tan(fov / 2)
    away = 1 / torch.sin(torch.atan(reach * _column(scenes, lambda s: s.apparent)))
    towards_eye = _direction(torch.zeros_like(pitch), pitch)
    target = torch.tensor([0.0, 0.8, 0.0])
    forward = -towards_eye
    right = torch.tensor([1.0, 0.0, 0.0]).expand_as(forward)
    up = torch.linalg.cross(right, forward)
    right, up = (
        torch.cos(roll)[:, None] * right + torch.sin(roll)[:, None] * up,
        torch.cos(roll)[:, None] * up - torch.sin(roll)[:, None] * right,
    )
    # Sliding the eye sideways moves the object away from the middle of the image.
    slide = _column(scenes, lambda s: s.centre) * (away * reach)[:, None]
    eye = target + away[:, None] * towards_eye - slide[:, :1] * right - slide[:, 1:] * up
    eye[:, 1] = eye[:, 1].clamp(min=0.25)
    axis = (torch.arange(side) + 0.5) / side * 2 - 1
    x, y = axis[None, None, :, None], -axis[None, :, None, None]
    scale = reach[:, None, None, None]
    rays = forward[:, None, None] + scale * (x * right[:, None, None] + y * up[:, None, None])
    return eye, torch.nn.functional.normalize(rays, dim=-1), forward


def _room(scenes: list[Scene], eye: Tensor, rays: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where rays meet the room: distance [N, R], normal [N, R, 3], albedo [N, R, 3]."""
    first = _column(scenes, lambda s: s.wall_azimuth)
    second = first + _column(scenes, lambda s: s.wall_opening)
    walls = _column(scenes, lambda s: s.wall_distance)
    normals = torch.stack(
        [torch.tensor([0.0, 1.0, 0.0]).expand(len(scenes), 3), _direction(first), _direction(second)], 1
    )
    offsets = torch.cat([torch.zeros(len(scenes), 1), walls], 1)  # plane: normal · p + offset = 0
    heights = torch.einsum("npc,nc->np", normals, eye) + offsets
    slopes = torch.einsum("npc,nrc->nrp", normals, rays)
    reach = torch.where(slopes < -1e-6, heights[:, None] / -slopes, torch.full_like(slopes, FAR))
    distance, kind = reach.clamp(0, FAR).min(-1)
    normal = torch.gather(normals, 1, kind[..., None].expand(*kind.shape, 3)).clone()
    points = eye[:, None] + distance[..., None] * rays
    # The pattern fades where a pixel covers more than it: no moiré, and an easier picture to learn.
    fade = torch.exp(-((distance / 14) ** 2))
    albedo = torch.where((kind == 0)[..., None], _floor(scenes, points, fade), _walls(scenes, points, normal, fade))
    return distance, normal, albedo * _column(scenes, lambda s: s.tint)[:, None, None]


def _mix(low: tuple, high: tuple, t: Tensor) -> Tensor:
    """Colours between two, [..., 3], by t in [0, 1] of shape [...]."""
    return torch.tensor(low) + t.clamp(0, 1)[..., None] * (torch.tensor(high) - torch.tensor(low))


def _wave(x: Tensor, sharpness: float) -> Tensor:
    """A square-ish wave of period 1 in [0, 1] with soft edges."""
    return 0.5 + 0.5 * torch.tanh(sharpness * torch.sin(2 * torch.pi * x))


def _choose(options: list, chosen: list[str], names: tuple) -> Tensor:
    """Evaluate one pattern for each scene; ``options`` are functions of the scenes' indices."""
    parts, order = [], []
    for name, pattern in zip(names, options, strict=True):
        rows = [i for i, c in enumerate(chosen) if c == name]
        if rows:
            parts.append(pattern(torch.tensor(rows)))
            order += rows
    return torch.cat(parts)[torch.argsort(torch.tensor(order))]


def _floor(scenes: list[Scene], points: Tensor, fade: Tensor) -> Tensor:
    yaw = _column(scenes, lambda s: s.floor_yaw)[:, None]
    shift = _column(scenes, lambda s: s.phase[0])[:, None]
    u = torch.cos(yaw) * points[..., 0] + torch.sin(yaw) * points[..., 2] + shift
    v = torch.cos(yaw) * points[..., 2] - torch.sin(yaw) * points[..., 0]

    def wooden(i):
        plank = torch.frac(torch.sin(torch.floor(u[i] * 1.2) * 12.9898) * 437.585).abs()
        gap = torch.exp(-(((torch.frac(u[i] * 1.2).abs() - 0.5).abs() - 0.5) ** 2) / 0.004)
        return _mix((0.36, 0.22, 0.12), (0.66, 0.44, 0.26), 0.55 + fade[i] * (0.6 * (plank - 0.5) - 0.6 * gap))

    def checkered(i):
        product = torch.sin(u[i] * 2.6) * torch.sin(v[i] * 2.6)
        return _mix((0.20, 0.20, 0.22), (0.80, 0.80, 0.78), 0.5 + 0.5 * fade[i] * torch.tanh(6 * product))

    def grassy(i):
        blades = torch.sin(u[i] * 3.1 + 1.3 * torch.sin(v[i] * 2.3)) * torch.sin(v[i] * 3.7 + torch.sin(u[i] * 1.9))
        return _mix((0.16, 0.34, 0.10), (0.42, 0.60, 0.20), 0.5 + 0.5 * fade[i] * blades)

    def marble(i):
        vein = torch.sin(1.6 * u[i] + 1.8 * torch.sin(1.1 * v[i]) + 0.8 * torch.sin(2.1 * u[i]))
        return _mix((0.82, 0.83, 0.86), (0.52, 0.54, 0.60), fade[i] * torch.exp(-(vein**2) / 0.06))

    def sandy(i):
        ripple = torch.sin(4.2 * u[i] + 0.9 * torch.sin(1.3 * v[i]))
        return _mix((0.70, 0.58, 0.36), (0.86, 0.76, 0.54), 0.5 + 0.5 * fade[i] * ripple)

    return _choose([wooden, checkered, grassy, marble, sandy], [s.words.floor for s in scenes], FLOORS)


def _walls(scenes: list[Scene], points: Tensor, normal: Tensor, fade: Tensor) -> Tensor:
    shift = _column(scenes, lambda s: s.phase[1])[:, None]
    along = points[..., 0] * normal[..., 2] - points[..., 2] * normal[..., 0] + shift
    up = points[..., 1]

    def sunset(i):
        low = _mix((0.98, 0.72, 0.30), (0.92, 0.36, 0.34), up[i] / 2)
        high = torch.tensor((0.34, 0.22, 0.50))
        return low + ((up[i] - 1.6) / 2.6).clamp(0, 1)[..., None] * (high - low)

    def sky(i):
        cloud = torch.sin(1.3 * along[i] + torch.sin(1.9 * up[i])) * torch.sin(2.2 * up[i] + 0.7 * along[i])
        base = _mix((0.78, 0.88, 0.96), (0.36, 0.60, 0.92), up[i] / 3.5)
        return base + (0.6 * fade[i] * (cloud - 0.35).clamp(0, 1))[..., None] * (0.97 - base)

    def brick(i):
        row = torch.floor(up[i] * 1.5)
        x = torch.frac(along[i] * 0.75 + 0.5 * torch.remainder(row, 2) + 64)
        joint = torch.maximum(_line(x, 0.05), _line(torch.frac(up[i] * 1.5 + 64), 0.09))
        return _mix((0.56, 0.26, 0.20), (0.76, 0.70, 0.64), fade[i] * joint)

    def forest(i):
        trunk = _wave(0.42 * along[i] + 0.05 * torch.sin(1.7 * up[i]), 2.5)
        leaves = torch.sigmoid(3 * (up[i] - 2.4))[..., None]
        stems = _mix((0.12, 0.28, 0.14), (0.42, 0.34, 0.22), 0.15 + 0.85 * fade[i] * trunk)
        return stems + leaves * (torch.tensor((0.18, 0.44, 0.20)) - stems)

    def plain(i):
        return torch.tensor((0.72, 0.72, 0.74)).expand(*points[i].shape)

    return _choose([sunset, sky, brick, forest, plain], [s.words.background for s in scenes], BACKGROUNDS)


def _line(x: Tensor, width: float) -> Tensor:
    """A soft line where x in [0, 1) is near 0 or 1."""
    return torch.exp(-((torch.minimum(x, 1 - x) / width) ** 2))


def _distance(shape: str, points: Tensor, yaw: Tensor, height: float) -> Tensor:
    """Signed distance (or a lower bound of it) from points [..., 3] to the object turned by yaw [...]."""
    cos, sin = torch.cos(yaw), torch.sin(yaw)
    x = cos * points[..., 0] - sin * points[..., 2]
    z = sin * points[..., 0] + cos * points[..., 2]
    y = points[..., 1] - height
    if shape == "sphere":
        return torch.sqrt(x * x + y * y + z * z) - 0.85
    if shape == "cube":
        return torch.maximum(torch.maximum(x.abs(), y.abs()), z.abs()) - 0.68
    radial = torch.sqrt(x * x + z * z)
    if shape == "cylinder":
        return torch.maximum(radial - 0.60, y.abs() - 0.78)
    if shape == "cone":  # apex at y = 0.85, base of radius 0.85 at y = -0.85
        return torch.maximum((radial - (0.85 - y) / 2) * 0.8944, -0.85 - y)
    ring = torch.sqrt(x * x + y * y) - 0.64  # torus: stands upright, its axis is z
    return torch.sqrt(ring * ring + z * z) - 0.29


def _march(shape: str, start: Tensor, rays: Tensor, yaw: Tensor, height: float, limit: Tensor) -> Tensor:
    """Distance [N, R] along unit rays to the object, or infinity where they miss it."""
    found = torch.full(rays.shape[:-1], torch.inf)
    near, reach = _bounds(start, rays, height)
    active = reach & (near < limit)
    origin, ray, turn = start[active], rays[active], yaw.expand(rays.shape[:-1])[active]
    t = near[active].clamp(min=0)
    gap = torch.full_like(t, torch.inf)
    for _ in range(MARCH_STEPS):
        gap = _distance(shape, origin + t[:, None] * ray, turn, height)
        t = t + gap
    found[active] = torch.where(gap < 2e-3, t, torch.full_like(t, torch.inf))
    return found


def _bounds(start: Tensor, rays: Tensor, height: float, radius: float = 1.25) -> tuple[Tensor, Tensor]:
    """Where rays enter a sphere around the object, and whether they meet it ahead."""
    offset = start - torch.tensor([0.0, height, 0.0])
    along = (offset * rays).sum(-1)
    inside = along**2 - (offset**2).sum(-1) + radius**2
    root = torch.sqrt(inside.clamp(min=0))
    return -along - root, (inside > 0) & (-along + root > 0)


def _shadow(shape: str, start: Tensor, light: Tensor, yaw: Tensor, height: float, lit: Tensor) -> Tensor:
    """Share of the light [N, R] that reaches points, soft at the edge of the shadow (Quilez's min h/t rule)."""
    share = torch.ones(start.shape[:-1])
    near, reach = _bounds(start, light, height)
    active = reach & lit
    origin, ray, turn = start[active], light[active], yaw.expand(share.shape)[active]
    t = near[active].clamp(min=0.02)
    least = torch.ones_like(t)
    for _ in range(MARCH_STEPS // 2):
        gap = _distance(shape, origin + t[:, None] * ray, turn, height)
        least = torch.minimum(least, 10 * gap / t)
        t = t + gap.clamp(min=0.015)
    share[active] = least.clamp(0, 1)
    return share


def _normals(shape: str, points: Tensor, yaw: Tensor, height: float, step: float = 1e-3) -> Tensor:
    """Unit gradient of the distance at points [K, 3], by central differences on a tetrahedron."""
    corners = torch.tensor([[1.0, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]])
    slope = sum(c * _distance(shape, points + step * c, yaw, height)[:, None] for c in corners)
    return torch.nn.functional.normalize(slope, dim=-1)
