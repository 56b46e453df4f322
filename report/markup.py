"""The elements that the page's sections are made of: numbers, tables, figures, labels."""

from html import escape

from report.plot import Panel, draw_panel

BINS = (0.02, 0.1, 0.3, 1.0, 3.0)  # nats: where the next darker shade begins
CHART_WIDTH, CHART_HEIGHT = 21 * 16, 318  # px
CHART_LEFT, CHART_RIGHT = 50, 20  # px, beside the axes
NAMES = {
    "base": "Stage 0, base",
    "stage1": "Stage I",
    "stage2": "Stage II",
    "loss": "loss, nats per token",
    "valid": "valid rubrics, %",
    "correct": "right answers, %",
    "before": "Student before training",
    "after": "Student after training",
}
WRONG = "<span class=bad>✗ wrong</span>"


# -------------------------------------------------------------------------------- numbers and words
def level(x: float) -> int:
    """The shade of x nats, from 0 (none) to len(BINS)."""
    return sum(abs(x) >= edge for edge in BINS)


def num(x: float | None, digits: int = 2) -> str:
    """A number with a real minus sign, or a dash for None."""
    if x is None:
        return "–"
    rounded = round(x, digits) + 0.0  # + 0.0: no negative zero
    return f"{rounded:.{digits}f}".replace("-", "−")


def percent(x: float | None, digits: int = 1) -> str:
    """A share from 0 to 1 in percent, or a dash for None."""
    return num(None if x is None else 100 * x, digits)


def shown(text: str) -> str:
    """A token as HTML; a line break becomes a visible sign."""
    return escape(text.replace("\n", "⏎"))


def shade_edges() -> list[str]:
    """The range of each shade in words, lightest first."""
    edges = [f"below {BINS[0]:g}"]
    for low, high in zip(BINS, BINS[1:]):
        edges.append(f"{low:g} to {high:g}")
    edges.append(f"from {BINS[-1]:g}")
    return edges


def mean_divergence(tokens: list[dict], side: str) -> float:
    """Mean divergence of an answer's tokens, nats; `side` is "before" or "after" training."""
    return sum(token[side]["divergence"] for token in tokens) / len(tokens)


def rubric_text(rubric: list[dict]) -> str:
    """A rubric as the teacher reads it, one criterion a line."""
    return "\n".join(f"{c['weight']:g} {c['text']}" for c in rubric)


def example_title(example: dict) -> str:
    """The heading of one question, with its kind unless the question is the user's own."""
    if example["kind"] == "own":
        return escape(example["question"])
    return escape(f"{example['kind'].capitalize()}: {example['question']}")


def answer_title(answer: dict) -> str:
    """The heading of one answer: right or wrong where known, and who gave it."""
    mark = ""
    if "right" in answer:
        mark = "<span class=good>✓ right</span> " if answer["right"] else f"{WRONG} "
    return f"{mark}answer ({escape(answer['by'])})"


# -------------------------------------------------------------------------------------- HTML blocks
def table(head: list[str], rows: list[list[str]], caption: str, kind: str = "numbers") -> str:
    """A table; cells are HTML already, and the first cell of a row is the row's header."""
    headings = "".join(f"<th scope=col>{name}</th>" for name in head)
    body = ""
    for first, *rest in rows:
        cells = "".join(f"<td>{cell}</td>" for cell in rest)
        body += f"<tr><th scope=row>{first}</th>{cells}</tr>"
    return (
        f'<div class=box tabindex=0 role=region aria-label="{escape(caption)}">'
        f"<table class={kind}><caption>{escape(caption)}</caption>"
        f"<thead><tr>{headings}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def legend(what: str) -> str:
    """The key of the shades; `what` is the quantity in nats."""
    items = f'<li class=d0 style="border:0">{what}, nats:</li>'
    for i, edge in enumerate(shade_edges()):
        items += f"<li class=d{i}>{edge}</li>"
    return f'<ul class=key aria-label="Shades">{items}</ul>'


def figure(panel: Panel, words: str) -> str:
    """A chart of one panel with a caption."""
    width = CHART_WIDTH - CHART_LEFT - CHART_RIGHT
    parts = "\n".join(draw_panel(panel, CHART_LEFT, width))
    return (
        f'<figure><svg class=chart viewBox="0 0 {CHART_WIDTH} {CHART_HEIGHT}" role=img '
        f'aria-label="{escape(words)}">{parts}</svg>'
        f"<figcaption>{escape(words)}</figcaption></figure>"
    )


def select(label: str, names: dict[str, str]) -> str:
    """A labelled choice from {value: name}."""
    options = "".join(f'<option value="{value}">{name}</option>' for value, name in names.items())
    return f"<label>{label} <select>{options}</select></label>"


def details(title: str, content: str, is_open: bool) -> str:
    """A block that folds under its title."""
    attribute = " open" if is_open else ""
    return f"<details{attribute}><summary><h3>{title}</h3></summary>{content}</details>"


def section(key: str, title: str, content: str) -> str:
    """One section of the page; `key` is the target of its link."""
    return (
        f"<section id={key} aria-labelledby={key}-h><h2 id={key}-h>{title}</h2>{content}</section>"
    )
