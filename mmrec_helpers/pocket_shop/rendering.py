"""The images of the Pocket Shop: one small flat illustration per item, rendered from the item's attributes.

A category is a list of shapes in a unit square (x to the right, y down), stored in ``shapes.json``. A style determines
how shapes become polygons (proportions, roundness, outlines), a pattern is a tile, and the item's seed places and tints
all of it. Everything is painted as one byte per pixel, a *label*, on a canvas four times as wide as the image. A
palette then maps labels to colours, and averaging 4 x 4 pixels smooths the edges.

The same arguments give the same pixels on every machine: lengths are rounded to whole pixels before Pillow uses them,
and the results of sines and square roots, whose last bits depend on the machine, are rounded before that.
"""

import colorsys
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files

import numpy as np
from PIL import Image, ImageDraw

from mmrec_helpers.pocket_shop.catalogue import CATEGORIES, COLOURS, MARK_BADGES, MARK_GLYPHS, PATTERNS, STYLES

RENDERING_VERSION = 1
"""Raise it when any pixel of any image changes."""

SUPERSAMPLING = 4
SHADOW_RINGS = 6
RGB = tuple[float, ...]

# --- Labels of pixels ---------------------------------------------------------------------------------------
SURROUNDINGS = ("wall", "halo", *(f"shadow {ring}" for ring in range(SHADOW_RINGS)), "rim", "sticker", "outline")
TONES = (
    *SURROUNDINGS, "light", "dark", "deep", "support", "support dark", "cream", "leaf", "badge rim", "badge", "glyph",
)  # fmt: skip
LABEL_OF = {tone: label for label, tone in enumerate(TONES)}
# Only the body has pattern, shade and finish: each adds its number to the body's label.
BODY = 128
FULL, HALF, ACCENT = 1, 2, 3
SHADED, TRIM, CORD, GLOSS = 4, 8, 16, 32
LABEL_OF |= {"body": BODY, "trim": TRIM, "cord": CORD, "gloss": GLOSS}


# --- Shapes -----------------------------------------------------------------------------------------------------------
Corner = Sequence[float]
"""(x, y) or (x, y, radius) in the unit square. A curve extends at most half-way to the next corner."""


@dataclass(frozen=True)
class Shape:
    """A rounded polygon or, with a ``width``, a rounded line. ``corners``: (x, y, radius) in the unit square."""

    tone: str
    corners: tuple[tuple[float, ...], ...]
    width: float = 0.0
    is_detail: bool = False
    """Lies within another shape and has no outline."""


def area(tone: str, *corners: Corner) -> Shape:
    """A polygon."""
    return Shape(tone, tuple((*corner, 0.02)[:3] for corner in corners))


def line(tone: str, width: float, *corners: Corner) -> Shape:
    """A line with round ends through the corners."""
    return replace(area(tone, *corners), width=width)


def symmetric(tone: str, *right_half: Corner) -> Shape:
    """A polygon that is symmetric about x = 0.5, given by its right half from top to bottom."""
    return area(tone, *right_half, *((1 - x, *rest) for x, *rest in reversed(right_half) if x != 0.5))


def box(tone: str, x0: float, y0: float, x1: float, y1: float, radius: float = 0.02) -> Shape:
    """A rectangle with round corners."""
    return area(tone, (x0, y0, radius), (x1, y0, radius), (x1, y1, radius), (x0, y1, radius))


def oval(tone: str, x: float, y: float, rx: float, ry: float) -> Shape:
    """An ellipse around (x, y)."""
    angles = np.arange(36) * (2 * np.pi / 36)
    ring = np.round([x + rx * np.cos(angles), y + ry * np.sin(angles)], 6).T.tolist()
    return area(tone, *((px, py, 0.0) for px, py in ring))


SHAPE_TYPES: dict[str, Callable[..., Shape]] = {
    "area": area,
    "line": line,
    "symmetric": symmetric,
    "box": box,
    "oval": oval,
}


def _shapes(rows: list[list]) -> list[Shape]:
    """Shapes back to front, from rows of ``shapes.json``: type (and "detail"), tone, then the arguments of the type."""
    shapes = []
    for kind, *arguments in rows:
        name, _, detail = kind.partition(" ")
        shapes.append(replace(SHAPE_TYPES[name](*arguments), is_detail=bool(detail)))
    return shapes


def _bands(heights: list[float]) -> list[Shape]:
    """Horizontal dark bands across the whole product, each with a light cord in its middle."""
    return [
        line(tone, width, (-0.1, y), (1.1, y)) for y in heights for tone, width in (("trim", 0.062), ("cord", 0.018))
    ]


_DATA = json.loads(files(__package__).joinpath("shapes.json").read_text("utf-8"))
SHAPES = {category: _shapes(rows) for category, rows in _DATA["products"].items()}
# What a style adds to the body. It may be larger than the body: it is clipped to it.
TRIM_OF = {category: _bands(heights) for category, heights in _DATA["bands"].items()}
GLOSS_BANDS = _shapes(_DATA["gloss"])
GLYPHS = {glyph: _shapes(rows) for glyph, rows in _DATA["glyphs"].items()}  # each in a square from -1 to 1
BADGE = _shapes(_DATA["badge"])


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
    """None: a dark shade of the product's colour."""
    sticker: float = 0.0
    """Width of the white edge around the whole product."""
    wobble: float = 0.0
    tilt: tuple[float, float] = (0.0, 0.025)
    """Minimal and maximal tilt to either side, as the tangent of half the angle."""


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
    polygon = np.array(points)
    is_new = np.abs(polygon - np.roll(polygon, 1, axis=0)).max(axis=1) > 1e-6  # two curves may meet half-way
    is_new[0] |= not closed
    return polygon[is_new]


def _normals(points: np.ndarray, closed: bool) -> np.ndarray:
    """Vectors (n, 2), to the left of the path through the points, that move every edge by 1 if added to the points."""
    edges = np.roll(points, -1, axis=0) - points
    if not closed:
        edges[-1] = edges[-2]
    after = np.stack([edges[:, 1], -edges[:, 0]], axis=1) / np.hypot(edges[:, 0], edges[:, 1])[:, None]
    before = np.roll(after, 1, axis=0)
    if not closed:
        before[0] = after[0]
    # The divisor is small at sharp corners: its lower bound prevents long spikes.
    return (before + after) / np.maximum(1 + (before * after).sum(axis=1, keepdims=True), 0.6)


def _wobbly(points: np.ndarray, amount: float, phase: float) -> np.ndarray:
    """The polygon with its edges divided into short pieces and displaced along a wavy field."""
    after = np.roll(points, -1, axis=0)
    # Rounded, so that the last bits of a length cannot change the number of pieces.
    pieces = np.ceil(np.round(np.abs(after - points).max(axis=1) / 0.05, 6)).astype(int)
    along = np.concatenate([np.arange(n) / n for n in pieces])[:, None]
    points = np.repeat(points, pieces, axis=0) * (1 - along) + np.repeat(after, pieces, axis=0) * along
    x, y = points.T
    return points + amount * np.stack([np.sin(17 * y + 5 * x + phase), np.sin(19 * x - 4 * y + 2 + phase)], axis=1)


def _polygon(shape: Shape, style: Style, grow: float = 0.0) -> np.ndarray:
    """The shape in a style as a polygon (n, 2) in the unit square, ``grow`` larger on each side."""
    corners = np.array(shape.corners, dtype=float)
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
    """Polygons to paint in order, with all their points in one array so that one operation transforms them all."""

    points: np.ndarray
    """(points, 2) in the unit square."""
    spans: list[tuple[int, int, int]]
    """(label, start, end) per polygon; start and end are indices of the flattened array of points."""


def _layers(polygons: list[tuple[str, np.ndarray]]) -> Layers:
    """The polygons, each with its tone, as layers."""
    ends = np.cumsum([points.size for _, points in polygons]).tolist()
    spans = zip((LABEL_OF[tone] for tone, _ in polygons), [0, *ends[:-1]], ends, strict=True)
    return Layers(np.concatenate([points for _, points in polygons]), list(spans))


@lru_cache(maxsize=len(CATEGORIES) * len(STYLES))
def _product_layers(category: str, style_name: str) -> tuple[Layers, Layers | None]:
    """The product, and the finish of its body."""
    style, polygons = STYLE_OF[style_name], []
    # An outline would cover a leaf, and one in the product's colour would look odd around wood and steel.
    bare = ("leaf",) if style.outline_colour else ("leaf", "support", "support dark")
    if style.sticker:  # all edges below all shapes, so that they join to one edge around the product
        for tone, grow in (("rim", style.sticker + STICKER_RIM), ("sticker", style.sticker)):
            polygons += [(tone, _polygon(shape, style, grow)) for shape in SHAPES[category] if not shape.is_detail]
        # The area that a handle encloses belongs to the sticker, as on a real one.
        handles = [
            shape for shape in SHAPES[category] if shape.width and len(shape.corners) > 2 and not shape.is_detail
        ]
        polygons += [("sticker", _polygon(replace(shape, width=0.0), style)) for shape in handles]
    for shape in SHAPES[category]:
        if not shape.is_detail and shape.tone not in bare:
            polygons.append(("outline", _polygon(shape, style, style.outline)))
        polygons.append((shape.tone, _polygon(shape, style)))
    finish = {"modern": GLOSS_BANDS, "classic": TRIM_OF[category]}.get(style_name)
    return _layers(polygons), _layers([(s.tone, _polygon(s, style)) for s in finish]) if finish else None


# --- Patterns ---------------------------------------------------------------------------------------------------------
def _disc(draw: ImageDraw.ImageDraw, unit: int, x: float, y: float, radius: float, value: int) -> None:
    """Paint a disc; lengths are in units of ``unit`` pixels."""
    draw.ellipse([round(length * unit) for length in (x - radius, y - radius, x + radius, y + radius)], fill=value)


def _every(step: float) -> list[float]:
    """Positions along the pattern's tile, from 0 to just beyond its edge at 2."""
    return [step * k for k in range(int(2 / step) + 2)]


@lru_cache(maxsize=2 * len(PATTERNS))
def _pattern_tile(pattern: str, unit: int) -> Image.Image:
    """The pattern on a square of two by two units of ``unit`` pixels: 0, FULL, HALF or ACCENT per pixel."""
    tile = Image.new("L", (2 * unit, 2 * unit))
    draw = ImageDraw.Draw(tile)

    def bar(x0: float, y0: float, x1: float, y1: float, value: int) -> None:
        """Paint a rectangle of the tile."""
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
BADGE_CENTRE, BADGE_UNIT = 0.878, 0.062


@lru_cache(maxsize=len(MARK_GLYPHS))
def _mark_layers(glyph: str) -> Layers:
    """The badge with the glyph on it, at the same position in every image."""
    polygons = [(s.tone, _rounded(np.array(s.corners), 1.0, closed=True)) for s in BADGE + GLYPHS[glyph]]
    return _layers([(tone, np.round(BADGE_CENTRE + BADGE_UNIT * points, 5)) for tone, points in polygons])


# --- Colours ----------------------------------------------------------------------------------------------------------
HLS_OF = {  # hue, lightness and saturation, each from 0 to 1
    "red": (0.990, 0.47, 0.72), "orange": (0.072, 0.55, 0.90), "yellow": (0.132, 0.60, 0.92),
    "green": (0.385, 0.40, 0.50), "blue": (0.590, 0.47, 0.68), "purple": (0.757, 0.49, 0.46),
    "pink": (0.938, 0.76, 0.80), "grey": (0.600, 0.55, 0.05),
}  # fmt: skip
LIGHT_COLOURS = ("yellow", "pink")
"""Too light for a near-white pattern: they have a dark one."""
WHITE, BLACK, CREAM, INK, PLUM = (255, 255, 255), (0, 0, 0), (250, 243, 228), (38, 36, 42), (90, 30, 60)


def _rgb(hue: float, lightness: float, saturation: float) -> RGB:
    """The colour as red, green and blue from 0 to 255."""
    red, green, blue = colorsys.hls_to_rgb(hue % 1.0, lightness, saturation)
    return 255 * red, 255 * green, 255 * blue


def _mix(colour: RGB, other: RGB, share: float) -> RGB:
    """The colour with a share of another in it."""
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


# --- The image -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Placement:
    """The map from the unit square to the canvas: rotated by the angle of (cosine, sine), scaled, moved."""

    cosine: float
    sine: float
    flip: int
    """-1: mirrored, else 1."""
    scale: float
    """Canvas pixels per unit."""
    centre: tuple[float, float]

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """Points (n, 2) of the unit square as pixels of the canvas."""
        x, y = (points - 0.5).T * self.scale
        x = x * self.flip
        # Written out because a matrix product may round differently on another machine.
        rotated = [
            x * self.cosine - y * self.sine + self.centre[0],
            x * self.sine + y * self.cosine + self.centre[1],
        ]
        return np.floor(np.stack(rotated, axis=1) + 0.5).astype(int)


def _paint(draw: ImageDraw.ImageDraw, layers: Layers, points: np.ndarray) -> None:
    """Paint the layers, with their points at these pixels."""
    coordinates = points.ravel().tolist()
    for label, start, end in layers.spans:
        draw.polygon(coordinates[start:end], fill=label)


def _paint_shadow(draw: ImageDraw.ImageDraw, canvas: int, product_points: np.ndarray) -> None:
    """Paint a soft shadow below the product: ovals, each smaller and darker than the one before."""
    left, right = product_points[:, 0].min(), product_points[:, 0].max()
    x, y = int(left + right) // 2, int(product_points[:, 1].max())
    for ring in range(SHADOW_RINGS):
        rx, ry = round((0.52 - 0.04 * ring) * float(right - left)), round((0.045 - 0.006 * ring) * canvas)
        draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=LABEL_OF[f"shadow {ring}"])


def _check(**values: tuple[object, tuple]) -> None:
    """Raise a ValueError for the first value that is not among those allowed for it."""
    for name, (value, allowed) in values.items():
        if value not in allowed:
            raise ValueError(f"unknown {name} {value!r}; allowed: {', '.join(map(str, allowed))}")


def render_item(
    category: str, colour: str, pattern: str, style: str, mark: tuple[int, int], seed: int, size: int = 64
) -> Image.Image:
    """Render the image of an item.

    Args:
        category: One of CATEGORIES.
        colour: One of COLOURS.
        pattern: One of PATTERNS.
        style: One of STYLES.
        mark: (glyph, badge) of the brand, as indices into MARK_GLYPHS and MARK_BADGES.
        seed: Seed of what distinguishes items of equal attributes: tilt, size, position, side, tint and background.
        size: Edge of the image in pixels.

    Returns:
        An RGB image, ``size`` x ``size`` pixels.

    Raises:
        ValueError: The catalogue has no such value.
    """
    _check(
        category=(category, CATEGORIES), colour=(colour, COLOURS), pattern=(pattern, PATTERNS), style=(style, STYLES),
        glyph=(mark[0], tuple(range(len(MARK_GLYPHS)))), badge=(mark[1], tuple(range(len(MARK_BADGES)))),
    )  # fmt: skip
    canvas, shape_style = SUPERSAMPLING * size, STYLE_OF[style]
    (tilt, side, mirror, scale, x, y, hue, lightness, wall_hue, wall_lightness, *pattern_offset) = (
        np.random.default_rng(seed).random(13).tolist()
    )
    # The angle by the tangent of its half: sine and cosine functions differ between machines in their last bits.
    half = (shape_style.tilt[0] + tilt * (shape_style.tilt[1] - shape_style.tilt[0])) * (1 if side < 0.5 else -1)
    placement = Placement(
        cosine=(1 - half**2) / (1 + half**2),
        sine=2 * half / (1 + half**2),
        flip=1 if mirror < 0.5 else -1,
        scale=0.78 * (0.94 + 0.12 * scale) * canvas,
        centre=((0.465 + 0.03 * x) * canvas, (0.45 + 0.03 * y) * canvas),
    )
    product, finish = _product_layers(category, style)
    points = placement.to_pixels(product.points)
    scene = Image.new("L", (canvas, canvas), LABEL_OF["wall"])
    draw = ImageDraw.Draw(scene)
    _disc(draw, canvas, 0.48, 0.46, 0.43, LABEL_OF["halo"])
    _paint_shadow(draw, canvas, points)
    _paint(draw, product, points)

    labels = np.array(scene)
    extras = _pattern_on(canvas, pattern, placement, *pattern_offset)
    if finish:
        finish_image = Image.new("L", (canvas, canvas))
        _paint(ImageDraw.Draw(finish_image), finish, placement.to_pixels(finish.points))
        extras += np.asarray(finish_image)
    # The light comes from the upper left: the body is darker near its edge to the lower right.
    across, down = round(0.045 * canvas), round(0.03 * canvas)
    extras[:-down, :-across] += np.uint8(SHADED) * (labels[down:, across:] < len(SURROUNDINGS))
    labels += extras * (labels == BODY)

    image = Image.fromarray(labels)
    badge = _mark_layers(MARK_GLYPHS[mark[0]])
    _paint(ImageDraw.Draw(image), badge, np.floor(badge.points * canvas + 0.5).astype(int))
    base_hue, base_lightness, saturation = HLS_OF[colour]
    body = _rgb(base_hue + 0.018 * (hue - 0.5), base_lightness + 0.05 * (lightness - 0.5), saturation)
    wall = _rgb(wall_hue, 0.85 + 0.05 * wall_lightness, 0.2)
    image.putpalette(_palette(body, colour in LIGHT_COLOURS, wall, shape_style, MARK_BADGES[mark[1]]))
    return image.convert("RGB").reduce(SUPERSAMPLING)


def _pattern_on(canvas: int, pattern: str, placement: Placement, x: float, y: float, size: float) -> np.ndarray:
    """The pattern, transformed as the product is, as (canvas, canvas) bytes; x, y and size from 0 to 1."""
    if pattern == "plain":
        return np.zeros((canvas, canvas), np.uint8)
    per_pixel = canvas / (placement.scale * (0.92 + 0.16 * size))
    cosine, sine = placement.cosine * per_pixel, placement.sine * per_pixel
    # Pillow needs the position in the tile of each pixel of the canvas.
    matrix = (cosine, sine, (0.3 + 0.2 * x) * canvas, -sine, cosine, (0.3 + 0.2 * y) * canvas)
    return np.array(_pattern_tile(pattern, canvas).transform((canvas, canvas), Image.Transform.AFFINE, matrix))
