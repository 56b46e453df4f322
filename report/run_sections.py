"""The sections about a whole run: settings and curves, stage I, the teacher, the clip modes."""

from collections.abc import Callable
from html import escape

from report.markup import NAMES, WRONG, figure, num, percent, section, shown, table
from report.plot import Line, Panel

TAUGHT = {
    "sft": "it learned from reference solutions",
    "opsd": "its teacher saw the reference solution",
    "grpo": "it learned from rewards",
    "grpo-rubric": "it learned from rewards",
}
STAGE1_INTRO = (
    "<p>The rubric of the data, the one that the base model writes and the one that it writes "
    "after stage I, greedy. The same criterion stands in one row, whatever the order of its "
    f"factors or words. {WRONG}: the reference solution would not pass it. Minor criteria differ "
    "between good rubrics too.</p>"
)
RUBRIC_WRITERS = ("reference", "base", "stage I")


# ------------------------------------------------------------------------------------------ the run
def preset_text(run: dict) -> str:
    """The preset of a run and the flags that differ from it."""
    changed = []
    for name, value in run["changed"].items():
        if name != "seed":
            changed.append(f"--{name.replace('_', '-')} {value}")
    return run["preset"] + (f", with {', '.join(changed)}" if changed else ", unchanged")


def method_text(run: dict) -> str:
    """The method of a run and what its student learned from."""
    settings = run["settings"]
    method, context = settings["method"], settings["teacher_context"]
    if method in TAUGHT:
        return f"{method}; {TAUGHT[method]}"
    rubrics = f" (rubrics: {settings['rubrics']})" if "rubric" in context else ""
    return f"{method}; its teacher saw {context}{rubrics}"


def minutes_text(runs: list[dict]) -> str:
    """Minutes of training by stage and in all, a number for each run."""
    parts = []
    for stage in runs[0]["seconds"]:
        minutes = ", ".join(num(run["seconds"][stage] / 60, 1) for run in runs)
        parts.append(f"{NAMES[stage]}: {minutes}")
    totals = ", ".join(num(sum(run["seconds"].values()) / 60, 1) for run in runs)
    return "; ".join(parts) + f"; in all: {totals}"


def draw_facts(runs: list[dict]) -> str:
    """What was run, as a list of terms; what several runs share is said once."""

    def each(say: Callable[[dict], str]) -> str:
        return "; ".join(dict.fromkeys(say(run) for run in runs))

    facts = {
        "Preset": each(preset_text),
        "Method": each(method_text),
        "Seed": ", ".join(str(run["settings"]["seed"]) for run in runs),
        "Parameters": each(lambda run: f"{run['parameters']:,}"),
        "Machine": each(lambda run: run["machine"]),
        "Minutes of training": minutes_text(runs),
    }
    items = "".join(f"<dt>{term}</dt><dd>{escape(text)}</dd>" for term, text in facts.items())
    return f"<dl>{items}</dl>"


def draw_result(result: dict, note: str) -> str:
    """One table of evaluate.py; `note` is added to its title."""
    decimals = result.get("decimals", 1)
    head = [""] + (["n"] if result["counted"] else []) + [escape(c) for c in result["columns"]]
    rows = []
    for row in result["rows"]:
        cells = [escape(row["label"])]
        if result["counted"]:
            cells.append("" if row["n"] is None else str(row["n"]))
        for mean, sd in row["cells"]:
            more = "" if sd is None else f" ± {num(sd, decimals)}"
            cells.append(num(mean, decimals) + more)
        rows.append(cells)
    return table(head, rows, result["title"] + note)


def draw_curve(curve: dict) -> str:
    """The chart of one learning curve, empty if no point has a mean."""
    scale = 1 if curve["measure"] == "loss" else 100
    points = []
    for step, mean, sd in curve["points"]:
        if mean is not None:
            points.append((step, scale * mean) if sd is None else (step, scale * mean, scale * sd))
    if not points:
        return ""
    stage, measure = NAMES[curve["stage"]], NAMES[curve["measure"]]
    name = f"{stage}: {measure}"
    panel = Panel(stage, "step", measure, [Line(name, "currentColor", points)])
    return figure(panel, f"{name}, from {num(points[0][1])} to {num(points[-1][1])}")


def draw_run(report: dict) -> str:
    """The section "What was run": facts, tables and learning curves."""
    runs, several = report["runs"], len(report["runs"]) > 1
    content = draw_facts(runs)
    spread = ", mean ± standard deviation over the runs" if several else ""
    for result in report["table"]:
        content += draw_result(result, spread)
    band = ", and the band is the standard deviation over the runs" if several else ""
    charts = "".join(draw_curve(curve) for curve in report["curves"])
    content += (
        "<h3>Learning curves</h3>"
        f"<p class=note>A point is the mean over a stretch of steps{band}.</p>"
        f"<div class=charts>{charts}</div>"
    )
    return section("run", "What was run", content)


# ------------------------------------------------------------------------------------------ stage I
def draw_criterion(criterion: dict | None, name: str) -> str:
    """One cell: the criterion that rubric `name` has in this row, or a dash."""
    text = "–"
    if criterion:
        text = f"{criterion['weight']:g} {escape(criterion['text'])}"
        if criterion["wrong"]:
            text += f" {WRONG}"
    return f'<td class=words data-of="{name}">{text}</td>'


def draw_stage1(report: dict) -> str:
    """The section "The rubrics of stage I": three rubrics of each question side by side."""
    content = STAGE1_INTRO
    head = "".join(f"<th scope=col class=words>{name}</th>" for name in RUBRIC_WRITERS)
    for example in report["stage1"]:
        content += f"<h3>{escape(example['question'])}</h3>"
        for name, problem in example["problems"].items():
            if problem:
                content += f"<p class=bad>✗ {escape(name)}: not valid ({escape(problem)})</p>"
        body = ""
        for row in example["rows"]:
            cells = "".join(draw_criterion(row.get(name), name) for name in RUBRIC_WRITERS)
            body += f"<tr>{cells}</tr>"
        content += (
            f"<div class=box><table class=stack><thead><tr>{head}</tr></thead>"
            f"<tbody>{body}</tbody></table></div>"
        )
    return section("stage1", "The rubrics of stage I", content)


# -------------------------------------------------------------------------------------- the teacher
def draw_positions(positions: dict[str, list]) -> str:
    """The chart of divergence by place in the answer."""
    lines = []
    for name, colour in (("before", "#8a8f98"), ("after", "currentColor")):
        if positions.get(name):
            lines.append(Line(NAMES[name], colour, positions[name], dashed=name == "before"))
    axes = ("Teacher with the learned rubric", "token of the answer", "divergence, nats")
    return figure(
        Panel(*axes, lines),
        "Mean divergence by place in the answer: dashed before training, solid after it, each on "
        "the student's own samples.",
    )


def draw_teacher(report: dict) -> str:
    """The section "The teacher": a column for each thing that the teacher can see."""
    teacher = report["teacher"]
    scale_flags = f"--clip-mode scale --clip {teacher['scale_clip']:g}"
    point_flags = f"--clip-mode pointwise --clip {teacher['point_clip']:g}"
    measures = {
        "right": ("right answers, %", percent),
        "leak": ("answers that mention the rubric, %", percent),
        "teacher_entropy": ("entropy of the teacher, nats", num),
        "student_entropy": ("entropy of the student, nats", num),
        "divergence": ("divergence, nats per token", num),
        "tail": (f"student's mass outside the teacher's top {teacher['tail_k']}, %", percent),
        "clipped": (f"tokens that {scale_flags} shrinks, %", percent),
        "gradient_flipped": (f"tokens that {point_flags} turns round, %", percent),
    }
    rows = []
    for key, (label, write) in measures.items():
        rows.append([label, *(write(column[key]) for column in teacher["columns"].values())])
    head = [""] + [escape(name) for name in teacher["columns"]]
    intro = (
        f"<p>{teacher['questions']} test questions about new laws and links. Before training, student and "
        "teacher are the base model and the teacher sees what heads the column; the last column is "
        "the student after training, with no rubric in sight, scored by the teacher with the "
        "learned rubric. Right answers and mentions are of greedy answers, the rest is over the "
        "tokens of one sampled answer to each question.</p>"
    )
    content = intro + table(head, rows, "The teacher by what it sees")
    content += f"<div class=charts>{draw_positions(teacher['positions'])}</div>"
    return section("teacher", "The teacher", content)


# ----------------------------------------------------------------------------------- the clip modes
def draw_share(p: float) -> str:
    """A probability with a bar of that length."""
    return (
        f"{num(p, 3)}<span class=track aria-hidden=true>"
        f'<span class=bar style="width:{100 * p:.1f}%"></span></span>'
    )


def direction(gradient: float) -> str:
    """Where a step moves the teacher's best token, given the gradient on its logit."""
    if gradient > 0:
        return "down, <span class=bad>away from the teacher</span>"
    if gradient < 0:
        return "up, <span class=good>to the teacher</span>"
    return "stays"


def draw_clip(report: dict) -> str:
    """The section "Clip modes": one token whose gradient pointwise clipping reverses."""
    clip, bound = report["teacher"]["clip"], f"{report['teacher']['point_clip']:g} nats"
    if not clip:
        text = "In this run's samples no token's gradient was turned round by pointwise clipping at"
        return section("clip", "Clip modes", f"<p>{text} {bound}.</p>")
    expected = []
    for token in clip["top"]:
        share = [draw_share(token["p"]), draw_share(token["q"])]
        expected.append([f"“{shown(token['text'])}”", *share])
    modes = []
    for name, mode in clip["modes"].items():
        gradient = mode["gradient"][0]
        cells = [num(mode["loss"], 3), num(gradient, 4), direction(gradient)]
        modes.append([escape(name), *cells])
    best = f"“{shown(clip['top'][0]['text'])}”"
    content = (
        "<p>A token of this run, before training, on which clamping each term of the divergence "
        "turns the gradient round: the teacher's best token is less likely for the student than "
        "for the teacher, and yet a step would make it less likely still.</p>"
        f"<pre>{escape(clip['before'])}<strong>[{shown(clip['chosen'])}]</strong></pre>"
    )
    content += table(
        ["next token", "teacher", "student"],
        expected,
        "What teacher and student expect in the place of the token in brackets",
        "bars",
    )
    content += table(
        ["clip mode", "loss, nats", f"gradient on the logit of {best}", f"{best} goes"],
        modes,
        f"The same token under each mode, bound {bound}",
        "plain",
    )
    return section("clip", "Clip modes", content)
