"""One answer as two aligned strips, student above teacher, as an SVG file.

    python -m report.picture out/cpu > strips.svg
    python -m report.picture out/cpu comparison > strips.svg

Shows the wrong answer to the one-step question of out/cpu/report.json, or to the question of
another kind. Sizes are in px.
"""

import math
import sys
from textwrap import wrap

from data.console import Parser, exit_code, file_path, open_console
from data.reading import read_json
from report.markup import level, num, rubric_text, shade_edges, shown

SHADES = (  # background and text, as in page.css on white
    ("#ffffff", "#1a1d21"),
    ("#e2edf9", "#1a1d21"),
    ("#bcd6f0", "#1a1d21"),
    ("#86b6e2", "#10151a"),
    ("#2c6cb0", "#ffffff"),
    ("#0b3a75", "#ffffff"),
)
WIDTH = 900  # of the picture
EDGE = 16  # margin of the picture
LEFT = 92  # where the strips begin
HIGH = 38  # height of a cell
WIDE = 8.1  # width of a character at size 13
CALLOUT = (590, 104)  # width and height of the box under the most divergent token
MARK = 'fill="none" stroke="#d55e00" stroke-width="2"'
HEAD = 'font-weight="bold"'
FONT = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
START = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" viewBox="0 0 {0} {1}" '
    'role="img"\n aria-labelledby="title desc" '
    f'fill="#1a1d21" font-family="{FONT}">\n'
    '<title id="title">One answer, read by student and teacher</title>'
    '<desc id="desc">{2}</desc>'
)


def text(x: float, y: float, words: str, look: str = "", size: int = 13) -> str:
    """A text element; `look` holds further attributes."""
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" {look}>{shown(words)}</text>'


def box(x: float, y: float, width: float, height: float, look: str) -> str:
    """A rectangle with the attributes `look`."""
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" {look}/>'


def cell(
    x: float, y: float, width: float, height: float, shade: int, *words: tuple[str, int]
) -> list[str]:
    """A shaded box with lines of text, (words, font size) each."""
    background, foreground = SHADES[shade]
    parts = [box(x, y, width, height, f'fill="{background}" stroke="#d3d8de"')]
    look = f'text-anchor="middle" fill="{foreground}"'
    for i, (line, size) in enumerate(words):
        parts.append(text(x + width / 2, y + 16 + 16 * i, line, look, size))
    return parts


def paragraph(y: float, head: str, lines: list[str]) -> list[str]:
    """A bold heading and wrapped lines under it."""
    rows = []
    for line in lines:
        rows += wrap(line, int((WIDTH - LEFT - EDGE) / WIDE))
    parts = [text(EDGE, y, head, HEAD)]
    for i, row in enumerate(rows):
        parts.append(text(LEFT, y + 20 + 19 * i, row))
    return parts


def callout(x: float, y: float, token: dict, title: str) -> list[str]:
    """The three likeliest tokens of student and teacher, in a box under (x, y)."""
    left = min(max(x - 60, LEFT), WIDTH - EDGE - CALLOUT[0])
    parts = [
        f'<path d="M{x:g} {y:g}v14" {MARK}/>',
        box(left, y + 14, *CALLOUT, MARK),
        text(left + 14, y + 34, title, HEAD),
    ]
    columns = ((left + 14, "student expects", "before"), (left + 304, "teacher expects", "teacher"))
    for column, head, who in columns:
        parts.append(text(column, y + 54, head))
        for i, (word, p) in enumerate(token[who]["top"][:3]):
            row = y + 18 * i
            parts += [
                text(column, row + 73, num(p, 3)),
                box(column + 48, row + 63, 60 * p, 11, 'fill="#2c6cb0"'),
                text(column + 116, row + 73, f"“{word}”"),
            ]
    return parts


def token_cells(token: dict, x: float, y: float, width: float) -> list[str]:
    """The student's cell of one token and the teacher's under it."""
    shade = level(token["before"]["divergence"])
    parts = []
    for top, who, its_shade in ((y, "before", shade), (y + HIGH + 4, "teacher", 0)):
        probability = num(math.exp(token[who]["logprob"]))
        parts += cell(x, top, width, HIGH, its_shade, (token["text"], 13), (probability, 11))
    return parts


def find_wrong(report: dict, kind: str) -> tuple[dict, dict]:
    """The first question of a kind with a wrong answer, and that answer.

    Raises ValueError if there is none.
    """
    for example in report.get("examples", []):
        if example["kind"] == kind:
            for answer in example["answers"]:
                if not answer["right"]:
                    return example, answer
    kinds = ", ".join(repr(example["kind"]) for example in report.get("examples", [])) or "none"
    raise ValueError(f"no wrong answer to a question of kind {kind!r}; the report has: {kinds}")


def printable(svg: str) -> str:
    """The text with "·" for characters that no font shows."""
    return "".join(c if c.isprintable() or c == "\n" else "·" for c in svg)


def picture(report: dict, kind: str = "one-step") -> str:
    """The text of the SVG file for a report.json.

    Raises ValueError if the report has no wrong answer to a question of this kind.
    """
    example, answer = find_wrong(report, kind)
    tokens = answer["tokens"]
    most = max(tokens, key=lambda token: token["before"]["divergence"])
    nats = num(most["before"]["divergence"])
    title = f"largest divergence: {nats} nats, at “{most['text']}”"

    parts = paragraph(28, "The student reads x:", [example["question"]])
    x = WIDTH  # no room: the first token starts a pair of strips
    y = 19 * len(parts) - 40
    heading = f"It answers, before training (wrong; right is {example['answer']}):"
    parts.append(text(EDGE, y + 82, heading, HEAD))
    told = []  # the callout under the current strips
    for token in tokens:
        width = max(34, 10 + WIDE * len(token["text"]))
        if x + width > WIDTH - EDGE:
            parts += told
            x, y = LEFT, y + 2 * HIGH + (142 if told else 20)
            told = []
            parts += [text(EDGE, y + 24, "student"), text(EDGE, y + HIGH + 28, "teacher")]
        parts += token_cells(token, x, y, width)
        if token is most:
            height = 2 * HIGH + 4
            told = [box(x, y, width, height, MARK)]
            told += callout(x + width / 2, y + height, token, title)
        x += width
    parts += told
    y += 2 * HIGH + (158 if told else 36)

    rubric = rubric_text(example["rubric"]).split("\n")
    lines = paragraph(y, "The teacher reads x and the rubric:", rubric)
    parts += lines
    y += 19 * len(lines) + 16
    for i, edge in enumerate(shade_edges()):
        parts += cell(EDGE + 100 * i, y + 10, 100, 22, i, (edge, 12))
    key = "Under a token: its probability. Shade: divergence between the two, nats"
    parts.append(text(EDGE, y, key))
    start = START.format(WIDTH, y + 46, shown(title))
    start += box(0, 0, WIDTH, y + 46, 'fill="#ffffff"')
    return printable("\n".join([start, *parts, "</svg>\n"]))


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code, 2 after a line that says what was not expected."""
    parser = Parser(__doc__, prog="picture.py")
    parser.add_argument("run", type=file_path, metavar="DIR", help="a run with a report.json")
    parser.add_argument("kind", nargs="?", default="one-step", help="of the question")
    args = parser.parse_args(arguments)

    def action() -> None:
        path = args.run / "report.json"
        report = read_json(path)
        open_console("utf-8")  # what this prints is a file
        try:
            print(picture(report, args.kind), end="")
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    return exit_code("picture.py", action)


if __name__ == "__main__":
    sys.exit(main())
