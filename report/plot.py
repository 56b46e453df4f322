"""Tables as Markdown and line charts as SVG, without packages; equal numbers give equal bytes."""

import math
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH = 720  # px, of the picture
PLOT_HEIGHT = 230  # px, of a box of axes
LEFT, RIGHT, TOP, BOTTOM = 56, 18, 30, 48  # px, around the box
CHARACTER = 6.4  # px, about the width of a character in the legend

Point = tuple[float, ...]  # (x, y) or (x, y, sd), y and sd in percent


@dataclass
class Line:
    """A line through points; sd draws a band around it, cut at 0 and 100%."""

    label: str
    colour: str
    points: list[Point]
    dashed: bool = False
    """A level to compare with: no markers."""

    def stroke(self) -> str:
        """The attributes of the line."""
        dashes = ' stroke-dasharray="6 4"' if self.dashed else ""
        return f'fill="none" stroke="{self.colour}" stroke-width="2"{dashes}'


@dataclass
class Panel:
    """One pair of axes with its lines."""

    title: str
    x_label: str
    y_label: str
    lines: list[Line]
    ticks: list[float] | None = None
    """The marked x values; None: chosen here."""
    log: bool = False
    """A logarithmic x axis."""


def round_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """About `about` round numbers, the first at most `low` and the last at least `high`.

    They are multiples of 1, 2 or 5 times a power of ten.
    """
    if high - low < 1e-6:  # a constant: the axis reaches 1 below it, near 0 1 above
        low, high = (low - 1, high) if low >= 1 else (low, high + 1)
    span = (high - low) / about
    power = 10 ** math.floor(math.log10(span))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= span * 0.999)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [k * step for k in range(first, last + 1)]


def band(point: Point) -> tuple[float, float]:
    """Lower and upper end of a point's band, percent."""
    x, y, sd = point if len(point) == 3 else (*point, 0)
    return min(y, max(y - sd, 0)), max(y, min(y + sd, 100))


def text_element(x: float, y: float, words: str, look: str = "") -> str:
    """A text element; `look` holds further attributes."""
    return f'<text x="{x:.1f}" y="{y:.1f}" {look}>{escape(words)}</text>'


class Axes:
    """Where data lie in px: the box of one panel, `left` px from the left and `width` px wide."""

    def __init__(self, panel: Panel, left: float, width: float):
        points = [point for line in panel.lines for point in line.points]
        bands = [band(point) for point in points]
        self.left, self.width, self.bottom = left, width, TOP + PLOT_HEIGHT
        self.ticks = panel.ticks or round_ticks(min(points)[0], max(points)[0])
        self.heights = round_ticks(min(low for low, _ in bands), max(high for _, high in bands))
        self.scale = math.log10 if panel.log else float

    def x(self, value: float) -> float:
        start, end = self.scale(min(self.ticks)), self.scale(max(self.ticks))
        return self.left + self.width * (self.scale(value) - start) / (end - start or 1)

    def y(self, value: float) -> float:
        low, high = self.heights[0], self.heights[-1]
        return TOP + PLOT_HEIGHT * (high - value) / (high - low)


def draw_axes(panel: Panel, axes: Axes) -> list[str]:
    """Titles, grid, ticks and their numbers."""
    left, width, bottom = axes.left, axes.width, axes.bottom
    turn = f"translate({left - 40:.1f} {TOP + PLOT_HEIGHT / 2:.1f}) rotate(-90)"
    parts = [
        text_element(left, TOP - 12, panel.title, 'font-weight="bold"'),
        text_element(left + width / 2, bottom + 36, panel.x_label, 'text-anchor="middle"'),
        text_element(0, 0, panel.y_label, f'text-anchor="middle" transform="{turn}"'),
    ]
    for height in axes.heights:
        y = axes.y(height)
        parts += [
            f'<path d="M{left:.1f} {y:.1f}h{width:.1f}" stroke="#dddddd"/>',
            text_element(left - 6, y + 4, f"{height:.6g}", 'text-anchor="end"'),
        ]
    for tick in axes.ticks:
        x = axes.x(tick)
        parts += [
            f'<path d="M{x:.1f} {bottom}v5" stroke="#333333"/>',
            text_element(x, bottom + 18, f"{tick:.6g}", 'text-anchor="middle"'),
        ]
    parts.append(f'<path d="M{left:.1f} {bottom}h{width:.1f}" stroke="#333333"/>')
    return parts


def draw_band(line: Line, axes: Axes) -> str:
    """The area between the ends of all bands of a line."""
    upper = [(point[0], band(point)[1]) for point in line.points]
    lower = [(point[0], band(point)[0]) for point in reversed(line.points)]
    edge = " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in upper + lower)
    return f'<polygon points="{edge}" fill="{line.colour}" fill-opacity="0.13"/>'


def draw_line(line: Line, axes: Axes) -> list[str]:
    """The line and, unless it is dashed, a marker on each point."""
    places = [(f"{axes.x(point[0]):.1f}", f"{axes.y(point[1]):.1f}") for point in line.points]
    path = " ".join(f"{x},{y}" for x, y in places)
    parts = [f'<polyline points="{path}" {line.stroke()}/>']
    if not line.dashed:
        for x, y in places:
            parts.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{line.colour}"/>')
    return parts


def draw_panel(panel: Panel, left: float, width: float) -> list[str]:
    """The SVG elements of one panel; its box starts at `left` px and is `width` px wide."""
    axes = Axes(panel, left, width)
    parts = draw_axes(panel, axes)
    for line in panel.lines:  # all bands lie under all lines
        if any(len(point) == 3 for point in line.points):
            parts.append(draw_band(line, axes))
    for line in panel.lines:
        parts += draw_line(line, axes)
    return parts


def chart(panels: list[Panel]) -> str:
    """The text of an SVG file: panels side by side and one legend below them."""
    each = WIDTH / len(panels)
    parts, legend = [], {}
    for i, panel in enumerate(panels):
        parts += draw_panel(panel, i * each + LEFT, each - LEFT - RIGHT)
        for line in panel.lines:
            legend[line.label] = line
    x, y = LEFT, TOP + PLOT_HEIGHT + BOTTOM + 16
    for line in legend.values():
        needed = 30 + CHARACTER * len(line.label)
        if x > LEFT and x + needed > WIDTH - RIGHT:
            x, y = LEFT, y + 20
        parts += [
            f'<polyline points="{x:.1f},{y - 4} {x + 24:.1f},{y - 4}" {line.stroke()}/>',
            f'<text x="{x + 30:.1f}" y="{y}">{escape(line.label)}</text>',
        ]
        x += needed + 22
    height = y + 14
    start = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12" fill="#222222">\n'
        '<rect width="100%" height="100%" fill="#ffffff"/>'
    )
    return "\n".join([start, *parts, "</svg>\n"])


def cell(value: dict | None, scale: float = 100.0, digits: int = 1) -> str:
    """The text of {"mean", "sd"} times `scale`; sd is None for a single value, `value` for none."""
    if not value:
        return "–"
    text = f"{scale * value['mean']:.{digits}f}"
    if value["sd"] is not None:
        text += f" ± {scale * value['sd']:.{digits}f}"
    return text


def interval(found: dict | None, measure: str) -> str:
    """Points of accuracy in a measure with their 95% interval, or a dash for None."""
    if not found:
        return "–"
    value, low, high = (100 * found[measure][key] for key in ("value", "low", "high"))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table that is also aligned in a terminal: the first column left, the others right."""
    widths = [max(2, *map(len, column)) for column in zip(head, *rows)]
    rule = ["-" * widths[0]] + ["-" * (width - 1) + ":" for width in widths[1:]]
    lines = []
    for row in (head, rule, *rows):
        cells = [row[0].ljust(widths[0])]
        cells += [text.rjust(width) for text, width in zip(row[1:], widths[1:])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
