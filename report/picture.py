"""One answer as two aligned strips, student above teacher: python -m report.picture out/cpu > strips.svg

The wrong answer to the one-step question (a second argument: of another kind) of out/cpu/report.json. Sizes are in px.
"""
import json
import math
import sys
from pathlib import Path
from textwrap import wrap

from report.markup import BINS, level, num, rubric_text, shown

SHADES = (("#ffffff", "#1a1d21"), ("#e2edf9", "#1a1d21"), ("#bcd6f0", "#1a1d21"), ("#86b6e2", "#10151a"),
          ("#2c6cb0", "#ffffff"), ("#0b3a75", "#ffffff"))      # background and text, as in page.css on white
WIDTH, EDGE, LEFT, HIGH, WIDE = 900, 16, 92, 38, 8.1           # picture, its margin, left of strips, cell, character
MARK, HEAD = 'fill="none" stroke="#d55e00" stroke-width="2"', 'font-weight="bold"'
START = """<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" viewBox="0 0 {0} {1}" role="img"
 aria-labelledby="title desc" fill="#1a1d21" font-family="ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace">
<title id="title">One answer, read by student and teacher</title><desc id="desc">{2}</desc>"""


def text(x, y, words, more="", size=13) -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" {more}>{shown(words)}</text>'


def box(x, y, width, height, look) -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" {look}/>'


def cell(x, y, width, height, shade, *words) -> list[str]:       # words: (a line, its font size) each
    look = f'text-anchor="middle" fill="{SHADES[shade][1]}"'
    return [box(x, y, width, height, f'fill="{SHADES[shade][0]}" stroke="#d3d8de"'),
            *(text(x + width / 2, y + 16 + 16 * i, line, look, size) for i, (line, size) in enumerate(words))]


def lines(y, head, words) -> list[str]:
    rows = [row for line in words for row in wrap(line, int((WIDTH - LEFT - EDGE) / WIDE))]
    return [text(EDGE, y, head, HEAD), *(text(LEFT, y + 20 + 19 * i, row) for i, row in enumerate(rows))]


def callout(x, y, row, title) -> list[str]:
    """The three likeliest tokens of both, in a box under (x, y)."""
    left = min(max(x - 60, LEFT), WIDTH - EDGE - 590)
    parts = [f'<path d="M{x:g} {y:g}v14" {MARK}/>', box(left, y + 14, 590, 104, MARK), text(left + 14, y + 34, title, HEAD)]
    for at, head, who in ((left + 14, "student expects", "before"), (left + 304, "teacher expects", "teacher")):
        parts.append(text(at, y + 54, head))
        for i, (word, p) in enumerate(row[who]["top"][:3]):
            parts += [text(at, y + 73 + 18 * i, num(p, 3)), box(at + 48, y + 63 + 18 * i, 60 * p, 11, 'fill="#2c6cb0"'),
                      text(at + 116, y + 73 + 18 * i, f"“{word}”")]
    return parts


def picture(report: dict, kind="one-step") -> str:
    """The text of an SVG file. Raises ValueError if the report has no wrong answer to a question of this kind."""
    found = [(e, a) for e in report.get("examples", []) if e["kind"] == kind for a in e["answers"] if not a["right"]]
    if not found:
        raise ValueError(f"the report has no wrong answer to a question of kind {kind!r}")
    (e, a), told = found[0], []
    most = max(a["tokens"], key=lambda row: row["before"]["divergence"])
    title = f"largest divergence: {num(most['before']['divergence'])} nats, at “{most['text']}”"
    parts = lines(28, "The student reads x:", [e["question"]])
    x, y = WIDTH, 19 * len(parts) - 40                          # no room: the first token starts a pair of strips
    parts.append(text(EDGE, y + 82, f"It answers, before training (wrong; right is {e['answer']}):", HEAD))
    for row in a["tokens"]:
        width = max(34, 10 + WIDE * len(row["text"]))
        if x + width > WIDTH - EDGE:
            parts, x, y, told = parts + told, LEFT, y + 2 * HIGH + (142 if told else 20), []
            parts += [text(EDGE, y + 24, "student"), text(EDGE, y + HIGH + 28, "teacher")]
        for top, who, shade in ((y, "before", level(row["before"]["divergence"])), (y + HIGH + 4, "teacher", 0)):
            parts += cell(x, top, width, HIGH, shade, (row["text"], 13), (num(math.exp(row[who]["logprob"])), 11))
        if row is most:
            told = [box(x, y, width, 2 * HIGH + 4, MARK), *callout(x + width / 2, y + 2 * HIGH + 4, row, title)]
        x += width
    y += 2 * HIGH + (158 if told else 36)
    parts += told + (more := lines(y, "The teacher reads x and the rubric:", rubric_text(e["rubric"]).split("\n")))
    y += 19 * len(more) + 16
    edges = [f"below {BINS[0]:g}", *(f"{low:g} to {high:g}" for low, high in zip(BINS, BINS[1:])), f"from {BINS[-1]:g}"]
    parts += [part for i, edge in enumerate(edges) for part in cell(EDGE + 100 * i, y + 10, 100, 22, i, (edge, 12))]
    parts.append(text(EDGE, y, "Under a token: its probability. Shade: divergence between the two, nats"))
    start = START.format(WIDTH, y + 46, shown(title)) + box(0, 0, WIDTH, y + 46, 'fill="#ffffff"')
    return "".join(c if c.isprintable() or c == "\n" else "·" for c in "\n".join([start, *parts, "</svg>\n"]))


if __name__ == "__main__":
    try:
        print(picture(json.loads(Path(*sys.argv[1:2], "report.json").read_text(encoding="utf-8")), *sys.argv[2:]), end="")
    except (OSError, ValueError) as error:
        sys.exit(f"picture.py: {error}")
