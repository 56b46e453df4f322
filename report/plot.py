"""Tables as Markdown and line charts as SVG, by hand: no package, and the same numbers give the same bytes."""
import math
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, PLOT_HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 230, 56, 18, 30, 48  # px: the picture, a box of axes, around it


@dataclass
class Line:
    """Of points (x, y) or (x, y, sd), y and sd in percent; sd draws a band, cut at 0 and 100%."""
    label: str
    colour: str
    points: list
    dashed: bool = False                 # a level to compare with: no markers

    def stroke(self) -> str:
        return f'fill="none" stroke="{self.colour}" stroke-width="2"' + ' stroke-dasharray="6 4"' * self.dashed


@dataclass
class Panel:
    """One pair of axes. `ticks`: the marked x values, None to choose them here; `log`: a logarithmic x axis."""
    title: str
    x_label: str
    y_label: str
    lines: list
    ticks: list | None = None
    log: bool = False


def round_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, some `about` of them, from at most `low` to at least `high`."""
    span = max(high - low, 1e-6) / about
    power = 10 ** math.floor(math.log10(span))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= span * 0.999)
    first = math.floor(low / step + 1e-9)
    return [k * step for k in range(first, max(math.ceil(high / step - 1e-9), first + 1) + 1)]


def band(point) -> tuple[float, float]:
    """Lower and upper end of a point's band, percent."""
    x, y, sd = point if len(point) == 3 else (*point, 0)
    return min(y, max(y - sd, 0)), max(y, min(y + sd, 100))


def draw_panel(panel: Panel, left: float, width: float) -> list[str]:
    """The elements of one panel whose box starts `left` px from the left edge and is `width` px wide."""
    points, bottom = [p for line in panel.lines for p in line.points], TOP + PLOT_HEIGHT
    ticks = panel.ticks or round_ticks(min(points)[0], max(points)[0])
    heights = round_ticks(min(band(p)[0] for p in points), max(band(p)[1] for p in points))
    along = math.log10 if panel.log else float

    def px(x):
        start, end = along(min(ticks)), along(max(ticks))
        return left + width * (along(x) - start) / (end - start or 1)

    def py(y):
        return TOP + PLOT_HEIGHT * (heights[-1] - y) / (heights[-1] - heights[0])

    def text(x, y, words, more=""):
        return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(words)}</text>'

    parts = [text(left, TOP - 12, panel.title, 'font-weight="bold"'),
             text(left + width / 2, bottom + 36, panel.x_label, 'text-anchor="middle"'),
             text(0, 0, panel.y_label, f'text-anchor="middle" transform="translate({left - 40:.1f} '
                                       f'{TOP + PLOT_HEIGHT / 2:.1f}) rotate(-90)"')]
    for y in heights:
        parts += [f'<path d="M{left:.1f} {py(y):.1f}h{width:.1f}" stroke="#dddddd"/>',
                  text(left - 6, py(y) + 4, f"{y:.6g}", 'text-anchor="end"')]
    for x in ticks:
        parts += [f'<path d="M{px(x):.1f} {bottom}v5" stroke="#333333"/>',
                  text(px(x), bottom + 18, f"{x:.6g}", 'text-anchor="middle"')]
    parts.append(f'<path d="M{left:.1f} {bottom}h{width:.1f}" stroke="#333333"/>')
    for line in panel.lines:  # all bands lie under all lines
        if any(len(p) == 3 for p in line.points):
            edge = [(p[0], band(p)[1]) for p in line.points] + [(p[0], band(p)[0]) for p in reversed(line.points)]
            parts.append(f'<polygon points="{" ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in edge)}" '
                         f'fill="{line.colour}" fill-opacity="0.13"/>')
    for line in panel.lines:
        at = [(f"{px(p[0]):.1f}", f"{py(p[1]):.1f}") for p in line.points]
        parts.append(f'<polyline points="{" ".join(map(",".join, at))}" {line.stroke()}/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{line.colour}"/>' for x, y in at if not line.dashed]
    return parts


def chart(panels: list[Panel]) -> str:
    """Panels side by side, one legend below them: the text of an SVG file."""
    each, x, y = WIDTH / len(panels), LEFT, TOP + PLOT_HEIGHT + BOTTOM + 16
    parts = [e for i, p in enumerate(panels) for e in draw_panel(p, i * each + LEFT, each - LEFT - RIGHT)]
    for line in {line.label: line for panel in panels for line in panel.lines}.values():
        needed = 30 + 6.4 * len(line.label)  # 6.4 px: about a character
        if x > LEFT and x + needed > WIDTH - RIGHT:
            x, y = LEFT, y + 20
        parts += [f'<polyline points="{x:.1f},{y - 4} {x + 24:.1f},{y - 4}" {line.stroke()}/>',
                  f'<text x="{x + 30:.1f}" y="{y}">{escape(line.label)}</text>']
        x += needed + 22
    start = (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 14}" viewBox="0 0 {WIDTH} {y + 14}" '
             f'font-family="sans-serif" font-size="12" fill="#222222">\n<rect width="100%" height="100%" fill="#ffffff"/>')
    return "\n".join([start, *parts, "</svg>\n"])


def cell(value: dict | None, scale=100.0, digits=1) -> str:
    """{"mean", "sd"} times the scale; sd is None for a single value, and all of it for none."""
    sd = f" ± {scale * value['sd']:.{digits}f}" if value and value["sd"] is not None else ""
    return f"{scale * value['mean']:.{digits}f}{sd}" if value else "–"


def interval(found: dict | None, m: str) -> str:
    """Points of accuracy in measure m, with their 95% interval."""
    return "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * found[m][k] for k in ("value", "low", "high"))) if found else "–"


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table that is aligned in a terminal too."""
    widths = [max(2, *map(len, column)) for column in zip(head, *rows)]
    rule = ["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])]
    cells = ([f"{c:{'>' if i else '<'}{w}}" for i, (c, w) in enumerate(zip(row, widths))] for row in (head, rule, *rows))
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)
