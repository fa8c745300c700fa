"""The pictures of the Pocket Shop: one small flat illustration per item, drawn from the item's attributes.

A category is a list of shapes in a unit square (x to the right, y down), a style says how shapes become polygons
(proportions, roundness, outlines), a pattern is a tile, and the item's ``look`` places and tints all of it. Everything
is painted as one byte per pixel, a *label*, on a canvas four times as wide as the picture; a palette then turns labels
into colours, and averaging 4 x 4 pixels smooths the edges.

The same arguments give the same pixels on any machine: lengths are rounded to whole pixels before Pillow sees them,
and the results of sines and square roots, whose last bits depend on the machine, are rounded before that.
"""

import colorsys
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from mmrec_helpers.pocket_shop.catalogue import CATEGORIES, COLOURS, MARK_BADGES, MARK_GLYPHS, PATTERNS, STYLES

DRAWING_VERSION = 1
"""Goes up whenever any pixel of any picture changes."""

SUPERSAMPLING = 4
SHADOW_RINGS = 6
RGB = tuple[float, float, float]

# --- Labels: what a pixel shows ---------------------------------------------------------------------------------------
SURROUNDINGS = ("wall", "halo", *(f"shadow {ring}" for ring in range(SHADOW_RINGS)), "rim", "sticker", "outline")
TONES = (
    *SURROUNDINGS, "light", "dark", "deep", "support", "support dark", "cream", "leaf", "badge rim", "badge", "glyph",
)  # fmt: skip
LABEL_OF = {tone: label for label, tone in enumerate(TONES)}
# Only the body carries the pattern, the shade and a style's finish: each adds its number to the body's label.
BODY = 128
FULL, HALF, ACCENT = 1, 2, 3
SHADED, TRIM, CORD, GLOSS = 4, 8, 16, 32
LABEL_OF |= {"body": BODY, "trim": TRIM, "cord": CORD, "gloss": GLOSS}


# --- Shapes -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Shape:
    """A rounded polygon or, with a ``width``, a rounded line. ``corners``: (x, y, radius) in the unit square."""

    tone: str
    corners: tuple[tuple[float, float, float], ...]
    width: float = 0.0
    is_detail: bool = False
    """Lies within another shape and gets no outline."""


def area(tone: str, *corners: tuple[float, ...], detail: bool = False) -> Shape:
    """A polygon; a corner is (x, y) or (x, y, radius). A curve reaches at most half-way to the next corner."""
    return Shape(tone, tuple((*corner, 0.02)[:3] for corner in corners), is_detail=detail)


def line(tone: str, width: float, *corners: tuple[float, ...], detail: bool = False) -> Shape:
    """A line with round ends through the corners, which are (x, y) or (x, y, radius)."""
    return Shape(tone, tuple((*corner, 0.02)[:3] for corner in corners), width, detail)


def symmetric(tone: str, *right_half: tuple[float, ...]) -> Shape:
    """A polygon that is its own mirror image at x = 0.5, given by its right half from top to bottom."""
    return area(tone, *right_half, *((1 - x, *rest) for x, *rest in reversed(right_half) if x != 0.5))


def box(tone: str, x0: float, y0: float, x1: float, y1: float, radius: float = 0.02, detail: bool = False) -> Shape:
    return area(tone, (x0, y0, radius), (x1, y0, radius), (x1, y1, radius), (x0, y1, radius), detail=detail)


def oval(tone: str, x: float, y: float, rx: float, ry: float, detail: bool = False) -> Shape:
    angles = np.arange(36) * (2 * np.pi / 36)
    ring = np.round([x + rx * np.cos(angles), y + ry * np.sin(angles)], 6).T.tolist()
    return area(tone, *((px, py, 0.0) for px, py in ring), detail=detail)


def sprig(x0: float, y0: float, x1: float, y1: float) -> list[Shape]:
    """A stem with round leaves, from (x0, y0) up to its tip (x1, y1)."""
    leaves = [oval("leaf", x1, y1, 0.035, 0.042)]
    for along, side in ((0.35, -1), (0.45, 1), (0.7, -1), (0.8, 1)):
        x, y = x0 + along * (x1 - x0), y0 + along * (y1 - y0)
        leaves.append(oval("leaf", x + 0.045 * side, y - 0.01, 0.038, 0.03))
    return [line("leaf", 0.018, (x0, y0), (x1, y1)), *leaves]


SHAPES = {  # back to front
    "mug": [
        line("dark", 0.08, (0.62, 0.36), (0.96, 0.34, 0.18), (0.93, 0.74, 0.2), (0.60, 0.72)),
        area("body", (0.14, 0.22, 0.035), (0.70, 0.22, 0.035), (0.67, 0.88, 0.12), (0.17, 0.88, 0.12)),
        oval("light", 0.42, 0.22, 0.28, 0.06),
        oval("deep", 0.42, 0.225, 0.235, 0.04, detail=True),
    ],
    "teapot": [
        area("dark", (0.62, 0.48), (0.78, 0.54, 0.1), (0.83, 0.34, 0.08), (0.96, 0.28), (0.91, 0.46, 0.1),
             (0.84, 0.72, 0.14), (0.60, 0.80)),
        line("dark", 0.065, (0.28, 0.46), (0.04, 0.36, 0.17), (0.07, 0.78, 0.2), (0.30, 0.75)),
        box("dark", 0.33, 0.80, 0.65, 0.89),
        oval("body", 0.49, 0.60, 0.31, 0.26),
        oval("dark", 0.49, 0.24, 0.05, 0.05),
        area("light", (0.30, 0.42), (0.34, 0.28, 0.1), (0.64, 0.28, 0.1), (0.68, 0.42)),
    ],
    "vase": [
        *sprig(0.48, 0.36, 0.32, 0.08), *sprig(0.52, 0.36, 0.69, 0.10), *sprig(0.50, 0.36, 0.50, 0.03),
        symmetric("body", (0.65, 0.32), (0.60, 0.42, 0.1), (0.84, 0.56, 0.3), (0.78, 0.82, 0.3), (0.62, 0.89, 0.04)),
        oval("deep", 0.5, 0.325, 0.12, 0.022, detail=True),
    ],
    "lamp": [
        line("support", 0.05, (0.5, 0.50), (0.5, 0.66)),
        oval("dark", 0.5, 0.73, 0.16, 0.13),
        box("support", 0.32, 0.84, 0.68, 0.90),
        line("support", 0.016, (0.66, 0.50), (0.66, 0.61)),
        oval("support", 0.66, 0.62, 0.024, 0.024),
        symmetric("body", (0.70, 0.07), (0.92, 0.54)),
    ],
    "chair": [
        line("support dark", 0.05, (0.33, 0.62), (0.31, 0.84)), line("support dark", 0.05, (0.67, 0.62), (0.69, 0.84)),
        line("support", 0.05, (0.33, 0.40), (0.31, 0.60)), line("support", 0.05, (0.67, 0.40), (0.69, 0.60)),
        line("support", 0.06, (0.22, 0.64), (0.17, 0.92)), line("support", 0.06, (0.78, 0.64), (0.83, 0.92)),
        symmetric("body", (0.77, 0.07, 0.1), (0.74, 0.47, 0.06)),
        symmetric("body", (0.75, 0.53, 0.04), (0.87, 0.71, 0.06)),
    ],
    "desk": [
        box("deep", 0.22, 0.40, 0.54, 0.60),
        box("body", 0.08, 0.40, 0.24, 0.89),
        box("body", 0.50, 0.40, 0.92, 0.89),
        box("dark", 0.525, 0.655, 0.895, 0.675, 0.005, detail=True),
        *(line(tone, width, (0.65, y), (0.77, y), detail=True)  # handles that stand out from any pattern
          for y in (0.55, 0.78) for tone, width in (("deep", 0.075), ("cream", 0.03))),
        box("body", 0.03, 0.25, 0.97, 0.44),
    ],
    "cushion": [
        *(oval("dark", x, y, 0.055, 0.055) for x in (0.09, 0.91) for y in (0.11, 0.87)),
        symmetric("body", (0.5, 0.18, 0.5), (0.92, 0.10, 0.06), (0.85, 0.49, 0.5), (0.92, 0.88, 0.06),
                  (0.5, 0.80, 0.5)),
    ],
    "t-shirt": [
        area("body", (0.68, 0.14), (0.99, 0.38, 0.04), (0.85, 0.55), (0.66, 0.42)),
        area("body", (0.32, 0.14), (0.01, 0.38, 0.04), (0.15, 0.55), (0.34, 0.42)),
        symmetric("body", (0.62, 0.10), (0.75, 0.16, 0.06), (0.77, 0.90, 0.03)),
        area("deep", (0.38, 0.085), (0.62, 0.085), (0.60, 0.20, 0.1), (0.40, 0.20, 0.1), detail=True),
        line("dark", 0.045, (0.37, 0.10), (0.40, 0.215, 0.1), (0.60, 0.215, 0.1), (0.63, 0.10), detail=True),
    ],
    "sneaker": [
        area("dark", (0.26, 0.24), (0.31, 0.09, 0.05), (0.49, 0.08, 0.05), (0.60, 0.46), (0.40, 0.50)),
        area("body", (0.12, 0.15, 0.03), (0.40, 0.15, 0.03), (0.49, 0.42, 0.12), (0.68, 0.52, 0.12), (0.92, 0.58, 0.2),
             (0.95, 0.80), (0.09, 0.80), (0.13, 0.5, 0.3)),
        area("cream", (0.77, 0.80), (0.75, 0.56, 0.1), (0.95, 0.58, 0.14), (0.97, 0.80), detail=True),
        *(line("cream", 0.03, (x - 0.06, y + 0.035), (x + 0.06, y - 0.015), detail=True)
          for x, y in ((0.42, 0.22), (0.455, 0.32), (0.51, 0.415), (0.60, 0.485))),
        box("cream", 0.04, 0.76, 0.99, 0.89, 0.05),
        line("dark", 0.024, (0.08, 0.82), (0.95, 0.82), detail=True),
    ],
    "cap": [
        oval("dark", 0.41, 0.17, 0.05, 0.035),
        area("body", (0.05, 0.77), (0.05, 0.50, 0.2), (0.12, 0.22, 0.3), (0.41, 0.12, 0.3), (0.70, 0.22, 0.3),
             (0.77, 0.50, 0.2), (0.77, 0.77)),
        line("dark", 0.014, (0.41, 0.18), (0.25, 0.30, 0.3), (0.22, 0.74), detail=True),
        line("dark", 0.014, (0.41, 0.18), (0.57, 0.30, 0.3), (0.60, 0.70), detail=True),
        area("dark", (0.37, 0.74), (0.60, 0.63, 0.3), (0.87, 0.64, 0.3), (1.00, 0.80, 0.06), (0.94, 0.83, 0.04),
             (0.80, 0.78, 0.3), (0.60, 0.78, 0.3), (0.40, 0.82)),
    ],
    "backpack": [
        line("dark", 0.075, (0.26, 0.42), (0.11, 0.46, 0.1), (0.12, 0.80, 0.1), (0.28, 0.84)),
        line("dark", 0.075, (0.74, 0.42), (0.89, 0.46, 0.1), (0.88, 0.80, 0.1), (0.72, 0.84)),
        line("dark", 0.05, (0.39, 0.16), (0.40, 0.03, 0.08), (0.60, 0.03, 0.08), (0.61, 0.16)),
        area("body", (0.20, 0.10, 0.2), (0.80, 0.10, 0.2), (0.83, 0.91, 0.1), (0.17, 0.91, 0.1)),
        line("deep", 0.018, (0.27, 0.45), (0.27, 0.18, 0.16), (0.73, 0.18, 0.16), (0.73, 0.45), detail=True),
        box("body", 0.28, 0.56, 0.72, 0.84, 0.05),
        area("dark", (0.27, 0.53), (0.73, 0.53), (0.72, 0.64, 0.06), (0.5, 0.68, 0.1), (0.28, 0.64, 0.06)),
        box("cream", 0.465, 0.62, 0.535, 0.72, 0.02, detail=True),
    ],
    "umbrella": [
        line("support", 0.035, (0.5, 0.50), (0.5, 0.94, 0.07), (0.66, 0.94, 0.07), (0.66, 0.84)),
        line("support", 0.03, (0.5, 0.03), (0.5, 0.12)),
        symmetric("body", (0.66, 0.06, 0.2), (0.92, 0.21, 0.2), (0.99, 0.59, 0), (0.88, 0.49, 0.1), (0.75, 0.59, 0),
                  (0.625, 0.49, 0.1), (0.5, 0.59, 0)),
        line("dark", 0.014, (0.5, 0.09), (0.5, 0.57), detail=True),
        line("dark", 0.014, (0.5, 0.09), (0.71, 0.20, 0.3), (0.75, 0.57), detail=True),
        line("dark", 0.014, (0.5, 0.09), (0.29, 0.20, 0.3), (0.25, 0.57), detail=True),
    ],
}  # fmt: skip


def bands(*heights: float) -> list[Shape]:
    """Level dark bands across the whole product, each with a light cord in its middle."""
    return [
        line(tone, width, (-0.1, y), (1.1, y)) for y in heights for tone, width in (("trim", 0.062), ("cord", 0.018))
    ]


# What a style adds to the body. It may be larger than the body: only what lies on the body shows.
TRIM_OF = {
    "mug": bands(0.36, 0.78), "teapot": bands(0.47, 0.75), "vase": bands(0.50, 0.79), "lamp": bands(0.13, 0.48),
    "chair": bands(0.14, 0.67), "desk": bands(0.40), "t-shirt": bands(0.83), "sneaker": bands(0.27, 0.69),
    "cap": bands(0.62), "backpack": bands(0.48, 0.79), "umbrella": bands(0.44), "cushion": bands(0.25, 0.73),
}  # fmt: skip
GLOSS_BANDS = [
    area("gloss", (0.30, -0.1), (0.52, -0.1), (-0.08, 1.1), (-0.30, 1.1)),
    area("gloss", (0.60, -0.1), (0.67, -0.1), (0.07, 1.1), (0.00, 1.1)),
]


# --- Styles -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Style:
    """How a style turns shapes into polygons; lengths are in units of the unit square."""

    width: float
    height: float
    roundness: float
    """Factor on the corners' radii."""
    weight: float
    """Factor on the lines' widths."""
    support: RGB
    outline: float
    outline_colour: RGB | None = None
    """None: a dark shade of the product's own colour."""
    sticker: float = 0.0
    """Width of the white edge around the whole product."""
    wobble: float = 0.0
    tilt: tuple[float, float] = (0.0, 0.025)
    """Least and greatest lean to either side, as the tangent of half the angle."""


STYLE_OF = {
    "modern": Style(0.86, 1.0, 0.8, 0.75, (92, 98, 108), 0.009),
    "classic": Style(0.96, 0.96, 1.0, 1.0, (122, 82, 58), 0.014, (52, 44, 52)),
    "rustic": Style(1.04, 0.92, 1.2, 1.3, (176, 134, 92), 0.030, (104, 66, 40), wobble=0.009),
    "playful": Style(0.94, 0.92, 1.6, 1.1, (98, 104, 128), 0.009, sticker=0.045, tilt=(0.05, 0.10)),
}
STICKER_RIM = 0.012


def _rounded(corners: np.ndarray, roundness: float, closed: bool) -> np.ndarray:
    """Corners (n, 3: x, y, radius) to points (m, 2): each corner becomes a quadratic curve of eleven points."""
    points = []
    for index, (x, y, radius) in enumerate(corners):
        corner = np.array([x, y])
        if radius == 0 or (not closed and index in (0, len(corners) - 1)):
            points.append(corner)
            continue
        before, after = corners[index - 1, :2] - corner, corners[(index + 1) % len(corners), :2] - corner
        start, end = (side * min(radius * roundness / np.hypot(*side), 0.5) for side in (before, after))
        steps = np.linspace(0, 1, 11)[:, None]
        points.extend(corner + (1 - steps) ** 2 * start + steps**2 * end)
    points = np.array(points)
    is_new = np.abs(points - np.roll(points, 1, axis=0)).max(axis=1) > 1e-6  # two curves may meet half-way
    is_new[0] |= not closed
    return points[is_new]


def _normals(points: np.ndarray, closed: bool) -> np.ndarray:
    """Vectors (n, 2), to the left of the way through the points, that move every edge by 1 if added to the points."""
    edges = np.roll(points, -1, axis=0) - points
    if not closed:
        edges[-1] = edges[-2]
    after = np.stack([edges[:, 1], -edges[:, 0]], axis=1) / np.hypot(edges[:, 0], edges[:, 1])[:, None]
    before = np.roll(after, 1, axis=0)
    if not closed:
        before[0] = after[0]
    # The divisor is small at sharp corners: its floor cuts long spikes.
    return (before + after) / np.maximum(1 + (before * after).sum(axis=1, keepdims=True), 0.6)


def _wobbly(points: np.ndarray, amount: float, phase: float) -> np.ndarray:
    """The polygon with its edges cut into short pieces and bent along a wavy field."""
    after = np.roll(points, -1, axis=0)
    # Rounded, so that the last bits of a length cannot decide about one piece more.
    pieces = np.ceil(np.round(np.abs(after - points).max(axis=1) / 0.05, 6)).astype(int)
    along = np.concatenate([np.arange(n) / n for n in pieces])[:, None]
    points = np.repeat(points, pieces, axis=0) * (1 - along) + np.repeat(after, pieces, axis=0) * along
    x, y = points.T
    return points + amount * np.stack([np.sin(17 * y + 5 * x + phase), np.sin(19 * x - 4 * y + 2 + phase)], axis=1)


def _polygon(shape: Shape, style: Style, grow: float = 0.0) -> np.ndarray:
    """The shape in a style as a polygon (n, 2) in the unit square, ``grow`` larger on each side."""
    corners = np.array(shape.corners)
    corners[:, :2] = 0.5 + (corners[:, :2] - 0.5) * (style.width, style.height)
    points = _rounded(corners, style.roundness, closed=not shape.width)
    normals = _normals(points, closed=not shape.width)
    if shape.width:  # along one side, around the end, back along the other side, around the start
        half = shape.width * style.weight / 2 + grow
        turns = np.linspace(0, np.pi, 9)[1:-1, None]
        caps = []
        for end, across in ((points[-1], normals[-1]), (points[0], -normals[0])):
            along = np.array([-across[1], across[0]])
            caps.append(end + half * (np.cos(turns) * across + np.sin(turns) * along))
        points = np.concatenate([points + half * normals, caps[0], (points - half * normals)[::-1], caps[1]])
    else:
        x, y = points.T
        direction = np.sign(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))
        points = points + direction * grow * normals
    if style.wobble:
        points = _wobbly(points, style.wobble, phase=40 * grow)  # an outline wobbles differently from its shape
    return np.round(points, 5)


@dataclass(frozen=True)
class Layers:
    """Polygons to paint one after the other, all their points in one array so that one step moves them all."""

    points: np.ndarray
    """(points, 2) in the unit square."""
    spans: list[tuple[int, int, int]]
    """(label, from, to) per polygon; from and to count numbers in the flat array of points."""


def _layers(polygons: list[tuple[str, np.ndarray]]) -> Layers:
    ends = np.cumsum([points.size for _, points in polygons]).tolist()
    spans = zip((LABEL_OF[tone] for tone, _ in polygons), [0, *ends[:-1]], ends, strict=True)
    return Layers(np.concatenate([points for _, points in polygons]), list(spans))


@lru_cache(maxsize=len(CATEGORIES) * len(STYLES))
def _product_layers(category: str, style_name: str) -> tuple[Layers, Layers | None]:
    """The product itself, and the finish that shows on its body only."""
    style, polygons = STYLE_OF[style_name], []
    # An outline would swallow a leaf, and one in the product's colour would look odd around wood and steel.
    bare = ("leaf",) if style.outline_colour else ("leaf", "support", "support dark")
    if style.sticker:  # all edges below all shapes, so that they join to one edge around the product
        for tone, grow in (("rim", style.sticker + STICKER_RIM), ("sticker", style.sticker)):
            polygons += [(tone, _polygon(shape, style, grow)) for shape in SHAPES[category] if not shape.is_detail]
        # What a handle encloses belongs to the sticker, as on a real one.
        bends = [shape for shape in SHAPES[category] if shape.width and len(shape.corners) > 2 and not shape.is_detail]
        polygons += [("sticker", _polygon(replace(shape, width=0.0), style)) for shape in bends]
    for shape in SHAPES[category]:
        if not shape.is_detail and shape.tone not in bare:
            polygons.append(("outline", _polygon(shape, style, style.outline)))
        polygons.append((shape.tone, _polygon(shape, style)))
    finish = {"modern": GLOSS_BANDS, "classic": TRIM_OF[category]}.get(style_name)
    return _layers(polygons), _layers([(s.tone, _polygon(s, style)) for s in finish]) if finish else None


# --- Patterns ---------------------------------------------------------------------------------------------------------
def _disc(draw: ImageDraw.ImageDraw, unit: int, x: float, y: float, radius: float, value: int) -> None:
    draw.ellipse([round(length * unit) for length in (x - radius, y - radius, x + radius, y + radius)], fill=value)


def _every(step: float) -> list[float]:
    return [step * k for k in range(int(2 / step) + 2)]


@lru_cache(maxsize=2 * len(PATTERNS))
def _pattern_tile(pattern: str, unit: int) -> Image.Image:
    """The pattern on a square of two by two units of ``unit`` pixels: 0, FULL, HALF or ACCENT per pixel."""
    tile = Image.new("L", (2 * unit, 2 * unit))
    draw = ImageDraw.Draw(tile)

    def bar(x0: float, y0: float, x1: float, y1: float, value: int) -> None:
        draw.rectangle([round(length * unit) for length in (x0, y0, x1, y1)], fill=value)

    if pattern == "striped":
        for x in _every(0.13):
            bar(x, 0, x + 0.06, 2, FULL)
    elif pattern == "dotted":
        for row, y in enumerate(_every(0.115)):
            for x in _every(0.15):
                _disc(draw, unit, x + 0.075 * (row % 2), y, 0.042, FULL)
    elif pattern == "checked":
        for along in _every(0.17):
            bar(along, 0, along + 0.085, 2, HALF)
            bar(0, along, 2, along + 0.085, HALF)
        for x in _every(0.17):
            for y in _every(0.17):
                bar(x, y, x + 0.085, y + 0.085, FULL)
    elif pattern == "zigzag":
        for y in _every(0.15):
            top = [(x, y + 0.075 * (k % 2)) for k, x in enumerate(_every(0.08))]
            bottom = [(x, y + 0.062) for x, y in reversed(top)]
            draw.polygon([round(length * unit) for point in top + bottom for length in point], fill=FULL)
    elif pattern == "floral":
        petals = ((0.0, -0.052), (0.049, -0.016), (0.031, 0.042), (-0.031, 0.042), (-0.049, -0.016))
        for row, y in enumerate(_every(0.2)):
            for column, x in enumerate(_every(0.23)):
                x, way_up = x + 0.115 * (row % 2), 1 - 2 * (column % 2)
                for dx, dy in petals:
                    _disc(draw, unit, x + dx, y + way_up * dy, 0.037, FULL)
                _disc(draw, unit, x, y, 0.027, ACCENT)
                _disc(draw, unit, x + 0.115, y, 0.018, HALF)
    return tile


# --- Brand marks ------------------------------------------------------------------------------------------------------
STAR = ((0.0, -1.1), (0.27, -0.4), (1.05, -0.34), (0.43, 0.15), (0.65, 0.89),
        (0.0, 0.47), (-0.65, 0.89), (-0.43, 0.15), (-1.05, -0.34), (-0.27, -0.4))  # fmt: skip
GLYPHS = {  # each in a square from -1 to 1
    "disc": [oval("glyph", 0, 0, 0.9, 0.9)],
    "square": [box("glyph", -0.8, -0.8, 0.8, 0.8, 0)],
    "triangle": [area("glyph", (0, -0.95, 0), (1.05, 0.85, 0), (-1.05, 0.85, 0))],
    "cross": [box("glyph", -0.3, -1, 0.3, 1, 0), box("glyph", -1, -0.3, 1, 0.3, 0)],
    "ring": [oval("glyph", 0, 0, 1, 1), oval("badge", 0, 0, 0.52, 0.52)],
    "diamond": [area("glyph", (0, -1.15, 0), (0.8, 0, 0), (0, 1.15, 0), (-0.8, 0, 0))],
    "bars": [box("glyph", x, -0.9, x + 0.42, 0.9, 0) for x in (-0.95, -0.21, 0.53)],
    "star": [area("glyph", *((x, y, 0) for x, y in STAR))],
}
BADGE = [box("badge rim", -1.72, -1.72, 1.72, 1.72, 0.6), box("badge", -1.52, -1.52, 1.52, 1.52, 0.5)]
BADGE_CENTRE, BADGE_UNIT = 0.878, 0.062


@lru_cache(maxsize=len(MARK_GLYPHS))
def _mark_layers(glyph: str) -> Layers:
    polygons = [(s.tone, _rounded(np.array(s.corners), 1.0, closed=True)) for s in BADGE + GLYPHS[glyph]]
    return _layers([(tone, np.round(BADGE_CENTRE + BADGE_UNIT * points, 5)) for tone, points in polygons])


# --- Colours ----------------------------------------------------------------------------------------------------------
HLS_OF = {  # hue, lightness and saturation, each from 0 to 1
    "red": (0.990, 0.47, 0.72), "orange": (0.072, 0.55, 0.90), "yellow": (0.132, 0.60, 0.92),
    "green": (0.385, 0.40, 0.50), "blue": (0.590, 0.47, 0.68), "purple": (0.757, 0.49, 0.46),
    "pink": (0.938, 0.76, 0.80), "grey": (0.600, 0.55, 0.05),
}  # fmt: skip
LIGHT_COLOURS = ("yellow", "pink")
"""Too light for a near-white pattern: theirs is dark."""
WHITE, BLACK, CREAM, INK, PLUM = (255, 255, 255), (0, 0, 0), (250, 243, 228), (38, 36, 42), (90, 30, 60)


def _rgb(hue: float, lightness: float, saturation: float) -> RGB:
    red, green, blue = colorsys.hls_to_rgb(hue % 1.0, lightness, saturation)
    return 255 * red, 255 * green, 255 * blue


def _mix(colour: RGB, other: RGB, share: float) -> RGB:
    return tuple(a + (b - a) * share for a, b in zip(colour, other, strict=True))


def _palette(body: RGB, is_light: bool, wall: RGB, style: Style, badge: str) -> bytes:
    """The colours of labels 0 to 191, three bytes each."""
    deep = _mix(_mix(body, BLACK, 0.48), PLUM, 0.28)
    pattern, accent = (_mix(body, deep, 0.92), CREAM) if is_light else (_mix(body, CREAM, 0.9), deep)
    mark, on_mark = (INK, CREAM) if badge == "black" else (CREAM, INK)
    tones = {
        "wall": wall, "halo": _mix(wall, WHITE, 0.38),
        **{f"shadow {ring}": _mix(wall, (90, 80, 100), 0.07 * (ring + 1)) for ring in range(SHADOW_RINGS)},
        "rim": (70, 66, 82), "sticker": WHITE, "outline": style.outline_colour or _mix(body, deep, 0.6),
        "light": _mix(body, WHITE, 0.4), "dark": _mix(body, deep, 0.42), "deep": deep,
        "support": style.support, "support dark": _mix(style.support, BLACK, 0.25), "cream": CREAM,
        "leaf": (124, 150, 124), "badge rim": on_mark, "badge": mark, "glyph": on_mark,
    }  # fmt: skip
    colours = [tones[tone] for tone in TONES] + [BLACK] * (BODY - len(TONES))
    for extras in range(64):  # every sum of a pattern's shade, SHADED, TRIM, CORD and GLOSS
        shown = {0: body, FULL: pattern, HALF: _mix(body, pattern, 0.5), ACCENT: accent}[extras & 3]
        shown = CREAM if extras & CORD else deep if extras & TRIM else shown
        shown = _mix(shown, BLACK, 0.13) if extras & SHADED else shown
        colours.append(_mix(shown, WHITE, 0.28) if extras & GLOSS else shown)
    return bytes(round(channel) for colour in colours for channel in colour)


# --- The picture ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Placement:
    """Where the unit square lies on the canvas: turned by the angle of (cosine, sine), scaled, moved."""

    cosine: float
    sine: float
    flip: int
    """-1: mirrored, else 1."""
    scale: float
    """Canvas pixels per unit."""
    centre: tuple[float, float]

    def whole_pixels(self, points: np.ndarray) -> np.ndarray:
        x, y = (points - 0.5).T * self.scale
        x = x * self.flip
        # Written out because a matrix product may add up differently on another machine.
        turned = [x * self.cosine - y * self.sine + self.centre[0], x * self.sine + y * self.cosine + self.centre[1]]
        return np.floor(np.stack(turned, axis=1) + 0.5).astype(int)


def _paint(draw: ImageDraw.ImageDraw, layers: Layers, points: np.ndarray) -> None:
    numbers = points.ravel().tolist()
    for label, start, end in layers.spans:
        draw.polygon(numbers[start:end], fill=label)


def _paint_shadow(draw: ImageDraw.ImageDraw, canvas: int, product_points: np.ndarray) -> None:
    """Ovals, each smaller and darker than the one before, pass for a soft shadow below the product."""
    left, right = product_points[:, 0].min(), product_points[:, 0].max()
    x, y = int(left + right) // 2, int(product_points[:, 1].max())
    for ring in range(SHADOW_RINGS):
        rx, ry = round((0.52 - 0.04 * ring) * float(right - left)), round((0.045 - 0.006 * ring) * canvas)
        draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=LABEL_OF[f"shadow {ring}"])


def _check(**values: tuple[object, tuple]) -> None:
    for name, (value, allowed) in values.items():
        if value not in allowed:
            raise ValueError(f"unknown {name} {value!r}; allowed: {', '.join(map(str, allowed))}")


def draw_item(
    category: str, colour: str, pattern: str, style: str, mark: tuple[int, int], look: int, size: int = 64
) -> Image.Image:
    """The picture of an item: RGB, ``size`` x ``size`` pixels.

    ``mark`` = (glyph, badge) is the brand's, as indices into MARK_GLYPHS and MARK_BADGES. ``look``, a whole number
    from 0 on, decides what tells items of equal attributes apart: lean, size, place, side, tint and background.
    """
    _check(
        category=(category, CATEGORIES), colour=(colour, COLOURS), pattern=(pattern, PATTERNS), style=(style, STYLES),
        glyph=(mark[0], tuple(range(len(MARK_GLYPHS)))), badge=(mark[1], tuple(range(len(MARK_BADGES)))),
    )  # fmt: skip
    canvas, own = SUPERSAMPLING * size, STYLE_OF[style]
    (lean, side, mirror, scale, x, y, hue, lightness, wall_hue, wall_lightness, *pattern_look) = (
        np.random.default_rng(look).random(13).tolist()
    )
    # The angle by the tangent of its half: sine and cosine functions differ between machines in their last bits.
    half = (own.tilt[0] + lean * (own.tilt[1] - own.tilt[0])) * (1 if side < 0.5 else -1)
    placement = Placement(
        cosine=(1 - half**2) / (1 + half**2),
        sine=2 * half / (1 + half**2),
        flip=1 if mirror < 0.5 else -1,
        scale=0.78 * (0.94 + 0.12 * scale) * canvas,
        centre=((0.465 + 0.03 * x) * canvas, (0.45 + 0.03 * y) * canvas),
    )
    product, finish = _product_layers(category, style)
    points = placement.whole_pixels(product.points)
    scene = Image.new("L", (canvas, canvas), LABEL_OF["wall"])
    draw = ImageDraw.Draw(scene)
    _disc(draw, canvas, 0.48, 0.46, 0.43, LABEL_OF["halo"])
    _paint_shadow(draw, canvas, points)
    _paint(draw, product, points)

    labels = np.array(scene)
    extras = _pattern_on(canvas, pattern, placement, *pattern_look)
    if finish:
        finish_image = Image.new("L", (canvas, canvas))
        _paint(ImageDraw.Draw(finish_image), finish, placement.whole_pixels(finish.points))
        extras += np.asarray(finish_image)
    # The light comes from the upper left: the body is darker where its edge lies a little to the lower right.
    across, down = round(0.045 * canvas), round(0.03 * canvas)
    extras[:-down, :-across] += np.uint8(SHADED) * (labels[down:, across:] < len(SURROUNDINGS))
    labels += extras * (labels == BODY)

    picture = Image.fromarray(labels)
    badge = _mark_layers(MARK_GLYPHS[mark[0]])
    _paint(ImageDraw.Draw(picture), badge, np.floor(badge.points * canvas + 0.5).astype(int))
    base_hue, base_lightness, saturation = HLS_OF[colour]
    body = _rgb(base_hue + 0.018 * (hue - 0.5), base_lightness + 0.05 * (lightness - 0.5), saturation)
    wall = _rgb(wall_hue, 0.85 + 0.05 * wall_lightness, 0.2)
    picture.putpalette(_palette(body, colour in LIGHT_COLOURS, wall, own, MARK_BADGES[mark[1]]))
    return picture.convert("RGB").reduce(SUPERSAMPLING)


def _pattern_on(canvas: int, pattern: str, placement: Placement, x: float, y: float, size: float) -> np.ndarray:
    """The pattern, lying on the canvas as the product does, as (canvas, canvas) bytes; x, y, size from 0 to 1."""
    if pattern == "plain":
        return np.zeros((canvas, canvas), np.uint8)
    per_pixel = canvas / (placement.scale * (0.92 + 0.16 * size))
    cosine, sine = placement.cosine * per_pixel, placement.sine * per_pixel
    # Pillow wants to know where in the tile each pixel of the canvas lies.
    matrix = (cosine, sine, (0.3 + 0.2 * x) * canvas, -sine, cosine, (0.3 + 0.2 * y) * canvas)
    return np.array(_pattern_tile(pattern, canvas).transform((canvas, canvas), Image.Transform.AFFINE, matrix))
