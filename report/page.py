"""The report of a run as one HTML page, and a question's explanation in a terminal. No torch: it draws what JSON says.

    text = page(json.loads(...))     # report.json of a run or of several, or explain.json's one question

A section is there if its numbers are. All figures in the text come from the JSON; the settings of the drawing itself are
the constants below.
"""
import json
import math
from html import escape
from pathlib import Path

from report.plot import Line, Panel, draw_panel

BINS = (0.02, 0.1, 0.3, 1.0, 3.0)        # nats: where the next darker shade begins
CHART = 21 * 16, 318, 50, 20             # px: width, height, left and right of the axes
SHELL_SHADES = ((None, None), (254, 16), (189, 16), (110, 16), (26, 231), (18, 231))   # 256 colours: background, text
NAMES = {"base": "Stage 0, base", "stage1": "Stage I", "stage2": "Stage II", "loss": "loss, nats per token",
         "valid": "valid rubrics, %", "correct": "right answers, %", "before": "Before training", "after": "After training"}

TAUGHT = {"sft": "it learned from reference solutions", "opsd": "its teacher saw the reference solution",
          "grpo": "it learned from rewards", "grpo-rubric": "it learned from rewards"}


# ---------------------------------------------------------------------------------------------------- small pieces
def level(x: float) -> int:
    """The shade of a number of nats, 0 (none) to len(BINS)."""
    return sum(abs(x) >= b for b in BINS)


def num(x, digits=2) -> str:
    return "–" if x is None else f"{round(x, digits) + 0.0:.{digits}f}".replace("-", "−")  # + 0.0: no negative zero


def percent(x, digits=1) -> str:
    return num(x if x is None else 100 * x, digits)


def shown(text: str) -> str:
    """A token as it is drawn: a line break has a sign, so that it can be pointed at."""
    return escape(text.replace("\n", "⏎"))


def table(head: list[str], rows: list[list[str]], caption: str, kind="numbers") -> str:
    """Cells are HTML already; the first of a row is its header."""
    heads = "".join(f"<th scope=col>{h}</th>" for h in head)
    body = "".join(f"<tr><th scope=row>{row[0]}</th>{''.join(f'<td>{c}</td>' for c in row[1:])}</tr>" for row in rows)
    return (f'<div class=box tabindex=0 role=region aria-label="{escape(caption)}"><table class={kind}>'
            f"<caption>{escape(caption)}</caption><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>")


def legend(what: str) -> str:
    edges = [f"below {BINS[0]:g}", *(f"{a:g} to {b:g}" for a, b in zip(BINS, BINS[1:])), f"from {BINS[-1]:g}"]
    return (f'<ul class=key aria-label="Shades"><li class=d0 style="border:0">{what}, nats:</li>'
            + "".join(f"<li class=d{i}>{edge}</li>" for i, edge in enumerate(edges)) + "</ul>")


def figure(panel: Panel, words: str) -> str:
    width, height, left, right = CHART
    parts = "\n".join(draw_panel(panel, left, width - left - right))
    return (f'<figure><svg class=chart viewBox="0 0 {width} {height}" role=img aria-label="{escape(words)}">{parts}</svg>'
            f"<figcaption>{escape(words)}</figcaption></figure>")


def section(key: str, title: str, content: str) -> str:
    return f"<section id={key} aria-labelledby={key}-h><h2 id={key}-h>{title}</h2>{content}</section>"


# -------------------------------------------------------------------------------------------------------- the run
def draw_run(report: dict) -> str:
    runs = report["runs"]
    def each(say):
        return "; ".join(dict.fromkeys(map(say, runs)))  # what all runs share is said once

    def preset(run):
        changed = ", ".join(f"--{k.replace('_', '-')} {v}" for k, v in run["changed"].items() if k != "seed")
        return run["preset"] + (f", with {changed}" if changed else ", unchanged")

    def method(run):
        made = run["settings"]
        rubrics = f" (rubrics: {made['rubrics']})" * ("rubric" in made["teacher_context"])
        return f"{made['method']}; " + TAUGHT.get(made["method"], f"its teacher saw {made['teacher_context']}{rubrics}")

    def minutes(stage):
        return ", ".join(num(run["seconds"][stage] / 60, 1) for run in runs)
    total = ", ".join(num(sum(run["seconds"].values()) / 60, 1) for run in runs)
    rows = {"Preset": each(preset), "Method": each(method), "Seed": ", ".join(str(run["settings"]["seed"]) for run in runs),
            "Parameters": each(lambda run: f"{run['parameters']:,}"), "Machine": each(lambda run: run["machine"]),
            "Minutes of training": "; ".join(f"{NAMES[s]}: {minutes(s)}" for s in runs[0]["seconds"]) + f"; in all: {total}"}
    parts = ["<dl>" + "".join(f"<dt>{k}</dt><dd>{escape(v)}</dd>" for k, v in rows.items()) + "</dl>"]
    spread = ", mean ± standard deviation over the runs" if len(runs) > 1 else ""
    for t in report["table"]:
        def cell(c):
            return num(c[0], 1) + (f" ± {num(c[1], 1)}" if c[1] is not None else "")
        parts.append(table([""] + ["n"] * t["counted"] + [escape(c) for c in t["columns"]],
                           [[escape(row["label"])] + ["" if row["n"] is None else str(row["n"])] * t["counted"]
                            + [cell(c) for c in row["cells"]] for row in t["rows"]], t["title"] + spread))
    charts = []
    for c in report["curves"]:
        scale = 1 if c["measure"] == "loss" else 100
        points = [(x, *(scale * v for v in values if v is not None)) for x, *values in c["points"]
                  if values[0] is not None]
        name = f"{NAMES[c['stage']]}: {NAMES[c['measure']]}"
        if points:
            charts.append(figure(Panel(NAMES[c["stage"]], "step", NAMES[c["measure"]], [Line(name, "currentColor", points)]),
                                 f"{name}, from {num(points[0][1])} to {num(points[-1][1])}"))
    band = ", and the band is the standard deviation over the runs" if len(runs) > 1 else ""
    parts.append(f"<h3>Learning curves</h3><p class=note>A point is the mean over a stretch of steps{band}.</p>"
                 f"<div class=charts>{''.join(charts)}</div>")
    return section("run", "What was run", "".join(parts))


# ---------------------------------------------------------------------------------------- strips and criteria of answers
def rubric_text(rubric: list[dict]) -> str:
    return "\n".join(f"{c['weight']:g} {c['text']}" for c in rubric)


def title_of(e: dict) -> str:
    return escape(e["question"]) if e["kind"] == "own" else f"{e['kind'].capitalize()}: {escape(e['question'])}"


def answer_title(a: dict) -> str:
    mark = {True: "<span class=good>✓ right</span> ", False: "<span class=bad>✗ wrong</span> "}.get(a.get("right"), "")
    return f"{mark}answer ({escape(a['by'])})"


def draw_strip(tokens: list[dict], side: str, e: int, a: int) -> str:
    """The student's line above the teacher's, the same token in both; page.js adds the popover."""
    cells = []
    for t, row in enumerate(tokens):
        text, d, clipped = shown(row["text"]), row[side]["divergence"], row[side]["clipped"]
        p, q = (num(math.exp(row[who]["logprob"])) for who in ("teacher", side))
        label = f"{text.strip() or 'space'}: student {q}, teacher {p}, divergence {num(d)} nats" + ", clipped" * clipped
        cells.append(f'<button type=button class="t d{level(d)}{" clipped" * clipped}" data-t={t} aria-label="{label}">'
                     f"<span>{text}<i>{q}</i></span><span>{text}<i>{p}</i></span></button>")
        if "\n" in row["text"]:
            cells.append("<span class=break></span>")
    mean = sum(row[side]["divergence"] for row in tokens) / len(tokens)
    return (f'<figure><div class=strip role=group aria-label="{NAMES[side]}: tokens of the answer" data-e={e} data-a={a} '
            f"data-side={side}>{''.join(cells)}</div>"
            f"<figcaption>{NAMES[side]}: mean divergence {num(mean, 3)} nats per token</figcaption></figure>")


def chosen(rights: list[bool]) -> str:
    """Which question is shown, as explain.right_and_wrong chooses it, from which of its answers there are."""
    if len(rights) > 1:
        return ("of those with both a right and a wrong one the one whose right answer has the best rubric score and, of equals, "
                "whose wrong answer diverges most from the teacher")
    return (f"the one whose {'right' if rights[0] else 'wrong'} answer diverges most from the teacher; no question had "
            + ("a wrong one" if rights[0] else "both a right and a wrong one"))


def draw_strips(report: dict) -> str:
    parts = ["<p>The student reads the question alone, the teacher also the rubric, and both score the same tokens. In each "
             "cell the upper line is the student with its probability of the token, the lower line the teacher with its own. "
             "Hover, focus or tap a token for the likeliest tokens of both and their entropies; the arrow keys walk along a "
             "strip. A dashed frame: clipped. Before training the student is the base model, as the teacher is throughout: "
             "only the rubric parts them.</p>", legend("divergence")]
    for i, e in enumerate(report["examples"]):
        choice = "" if e["kind"] == "own" else (
            f"<p class=note>Of the first {e['tried']} test questions of this kind about new laws, with {e['samples']} sampled "
            f"answers each, {chosen([a['right'] for a in e['answers']])}. Right or wrong is "
            "the final answer.</p>")
        facts = f"<p>Reference answer: {escape(e['answer'])}</p>" if e.get("answer") else ""
        reads = (("The student reads", e["question"]), ("The teacher reads", f"{e['question']}\n\n{rubric_text(e['rubric'])}"))
        sides = "".join(f"<div><h4>{who}</h4><pre>{escape(text)}</pre></div>" for who, text in reads)
        strips = "".join(f"<h4>{answer_title(a)}</h4>" + "".join(draw_strip(a["tokens"], side, i, k) for side in ("before", "after"))
                         for k, a in enumerate(e["answers"]))
        parts.append(f"<details{' open' * (i == 0)}><summary><h3>{title_of(e)}</h3></summary>{choice}{facts}"
                     f"<div class=sides>{sides}</div>{strips}</details>")
    return section("strips", "Which tokens the rubric changes", "".join(parts))


CONCLUDE = ("What to conclude: a shaded cell of log-probability says that this teacher, given the answer up to there, expects the "
            "token more (+) or less (−) because the criterion is in its context; it says nothing where the controls are shaded "
            "alike (a criterion repeated, one beside the point), it does not say that the criterion is right or what the student "
            "learns from it, and rows need not sum to the whole, as criteria that say the same hide each other when one is left "
            "out.")


def select(label: str, names: dict[str, str]) -> str:
    return (f"<label>{label} <select>" + "".join(f'<option value="{value}">{name}</option>' for value, name in names.items())
            + "</select></label>")


def draw_effects(a: dict, e: dict, i: int, k: int) -> str:
    """The heatmap of left-out effects on the teacher's log-probability; page.js shows the other three in its place."""
    effects, tokens = a["effects"]["logprob"], a["tokens"]
    head = "".join(f"<th scope=col>{shown(t['text'])}</th>" for t in tokens)
    rows = []
    for name, values in [("The whole rubric", effects["whole"]), *zip((c["text"] for c in e["rubric"]), effects["left out"]),
                         *zip((f"Control, added: {text}" for text in a["controls"]), effects["control"])]:
        def sign(x):
            return ("+" if x > 0 else "−") if level(x) else ""
        cells = "".join(f'<td class=d{level(x)} data-v={t} title="{num(x, 3)}">{sign(x)}</td>' for t, x in enumerate(values))
        rows.append(f"<tr><th scope=row>{escape(name)}</th><td class=sum>{num(sum(values))}</td>{cells}</tr>")
    return (f"<figure class=effects data-e={i} data-a={k}><h4>{answer_title(a)}</h4><div class=controls>"
            + select("Each criterion", {"left out": "left out of the rubric", "alone": "alone, against no rubric"})
            + select("Change of", {"logprob": "the teacher's log-probability", "divergence": "the divergence before training"})
            + "</div><div class=box tabindex=0 role=region aria-label='Criteria by tokens'><table class=heat><thead><tr>"
            f"<th scope=col>Criterion</th><th scope=col class=flat>sum</th>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
            f"</table></div><output></output><figcaption>{CONCLUDE}</figcaption></figure>")


def draw_criteria(report: dict) -> str:
    intro = ("<p>The teacher scores the same answer with each criterion left out of its rubric, or with each alone in it. A cell "
             "is the change that the criterion makes: of the log-probability of the token (what reads + is made likelier), or of "
             "the divergence. The changes of log-probability in a row sum to that of the whole answer's.</p>")
    return section("criteria", "Which criterion moves which token", intro + legend("change") + "".join(
        f"<details{' open' * (i == 0)}><summary><h3>{title_of(e)}</h3></summary>"
        + "".join(draw_effects(a, e, i, k) for k, a in enumerate(e["answers"])) + "</details>"
        for i, e in enumerate(report["examples"])))


# ------------------------------------------------------------------------------------------------------- the panels
def draw_stage1(report: dict) -> str:
    parts = ["<p>The rubric of the data, the one that the base model writes and the one that it writes after stage I, greedy. The "
             "same criterion stands in one row, whatever the order of its factors or words. <span class=bad>✗ wrong</span>: the "
             "reference solution would not pass it. Minor criteria differ between good rubrics too.</p>"]
    names = ("reference", "base", "stage I")

    def cell(c, name):
        text = f"{c['weight']:g} {escape(c['text'])}" + " <span class=bad>✗ wrong</span>" * c["wrong"] if c else "–"
        return f'<td class=words data-of="{name}">{text}</td>'

    for e in report["stage1"]:
        body = "".join(f"<tr>{''.join(cell(row.get(n), n) for n in names)}</tr>" for row in e["rows"])
        broken = "".join(f"<p class=bad>✗ {n}: not valid ({escape(why)})</p>" for n, why in e["problems"].items() if why)
        parts.append(f"<h3>{escape(e['question'])}</h3>{broken}<div class=box><table class=stack><thead><tr>"
                     + "".join(f"<th scope=col class=words>{n}</th>" for n in names)
                     + f"</tr></thead><tbody>{body}</tbody></table></div>")
    return section("stage1", "The rubrics of stage I", "".join(parts))


def draw_teacher(report: dict) -> str:
    t = report["teacher"]
    rows = {"right answers, %": ("right", percent), "answers that mention the rubric, %": ("leak", percent),
            "entropy of the teacher, nats": ("teacher_entropy", num), "entropy of the student, nats": ("student_entropy", num),
            "divergence, nats per token": ("divergence", num),
            f"student's mass outside the teacher's top {t['tail_k']}, %": ("tail", percent),
            f"tokens that --clip-mode scale --clip {t['scale_clip']:g} shrinks, %": ("clipped", percent),
            f"tokens that --clip-mode pointwise --clip {t['point_clip']:g} turns round, %": ("gradient_flipped", percent)}
    text = (f"<p>{t['questions']} test questions about new laws. Before training, student and teacher are the base model and the "
            "teacher sees what heads the column; the last column is the student after training, with no rubric in sight, scored by "
            "the teacher with the learned rubric. Right answers and mentions are of greedy answers, the rest is over the tokens of "
            "one sampled answer to each question.</p>")
    drawn = figure(Panel("Teacher with the learned rubric", "token of the answer", "divergence, nats", [
        Line(NAMES[name], "currentColor" if name == "after" else "#8a8f98", t["positions"][name], dashed=name == "before")
        for name in ("before", "after") if t["positions"].get(name)]),
        "Mean divergence by place in the answer: dashed before training, solid after it, each on the student's own samples.")
    cells = [[label, *(draw(c[key]) for c in t["columns"].values())] for label, (key, draw) in rows.items()]
    return section("teacher", "The teacher", text + table(["", *map(escape, t["columns"])], cells, "The teacher by what it sees")
                   + f"<div class=charts>{drawn}</div>")


def draw_clip(report: dict) -> str:
    t, c = report["teacher"], report["teacher"]["clip"]
    if not c:
        return section("clip", "Clip modes", "<p>In this run's samples no token's gradient was turned round by pointwise "
                       f"clipping at {t['point_clip']:g} nats.</p>")
    best = shown(c["top"][0]["text"])
    def bar(p):
        return (f"{num(p, 3)}<span class=track aria-hidden=true>"
                         f'<span class=bar style="width:{100 * p:.1f}%"></span></span>')
    up, down = "up, <span class=good>to the teacher</span>", "down, <span class=bad>away from the teacher</span>"
    rows = []
    for mode, m in c["modes"].items():
        g = m["gradient"][0]
        rows.append([escape(mode), num(m["loss"], 3), num(g, 4), down if g > 0 else up if g < 0 else "stays"])
    return section("clip", "Clip modes", (
        "<p>A token of this run, before training, on which clamping each term of the divergence turns the gradient round: the "
        "teacher's best token is less likely for the student than for the teacher, and yet a step would make it less likely "
        "still.</p>"
        f"<pre>{escape(c['before'])}<strong>[{shown(c['chosen'])}]</strong></pre>"
        + table(["next token", "teacher", "student"], [[f"“{shown(r['text'])}”", bar(r["p"]), bar(r["q"])] for r in c["top"]],
                "What teacher and student expect in the place of the token in brackets", "bars")
        + table(["clip mode", "loss, nats", f"gradient on the logit of “{best}”", f"“{best}” goes"], rows,
                f"The same token under each mode, bound {t['point_clip']:g} nats", "plain")))


# --------------------------------------------------------------------------------------------------------- the page
def page(report: dict) -> str:
    """A whole HTML document. `report` is report.json: any of runs + table + curves, examples, stage1, teacher."""
    found, folder = [], Path(__file__).parent
    if report.get("runs"):
        found.append(("run", "The run", draw_run))
    if report.get("examples"):
        found += [("strips", "Token by token", draw_strips), ("criteria", "Criteria", draw_criteria)]
    if report.get("stage1"):
        found.append(("stage1", "Stage I", draw_stage1))
    if report.get("teacher"):
        found += [("teacher", "The teacher", draw_teacher), ("clip", "Clip modes", draw_clip)]
    if report.get("runs"):
        methods = ", ".join(dict.fromkeys(r["settings"]["method"] for r in report["runs"]))
        title = f"Report: {methods}, seed {', '.join(str(r['settings']['seed']) for r in report['runs'])}"
    else:
        title = "One question, explained" if report.get("examples") else "Report"
    data = {"bins": BINS, "examples": [{"answers": [{k: a[k] for k in ("tokens", "effects")} for a in e["answers"]]}
                                       for e in report.get("examples", [])]}
    script = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    links = "".join(f'<li><a href="#{key}">{name}</a></li>' for key, name, _ in found)
    style, code = ((folder / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return ('<!DOCTYPE html>\n<html lang=en><head><meta charset=utf-8>'
            '<meta name=viewport content="width=device-width, initial-scale=1">'
            f"<title>{escape(title)}</title><style>{style}</style></head><body><header><h1>{escape(title)}</h1>"
            f"<nav aria-label=Sections><ul>{links}</ul></nav></header><main>{''.join(draw(report) for _, _, draw in found)}</main>"
            f'<div id=pop role=tooltip hidden></div><script type="application/json" id=data>{script}</script>'
            f"<script>{code}</script></body></html>\n")


# ------------------------------------------------------------------------------------------------------ the terminal
def paint(text: str, shade: int, colour: bool) -> str:
    back, front = SHELL_SHADES[shade]
    return f"\x1b[48;5;{back}m\x1b[38;5;{front}m{text}\x1b[0m" if colour and shade else text


def terminal_strip(tokens: list[dict], side: str, colour: bool) -> list[str]:
    """The answer, shaded, and the tokens on which the two differ most, with what each of them expected there."""
    text = "".join(paint(t["text"].replace("\n", "⏎"), level(t[side]["divergence"]), colour) + "\n" * t["text"].count("\n")
                   for t in tokens)
    lines = [f"  {line}" for line in text.split("\n")]
    for t in sorted(tokens, key=lambda t: -t[side]["divergence"])[:3]:
        if level(t[side]["divergence"]):
            said = (", ".join(f"{text!r} {num(p)}" for text, p in t[who]["top"][:3]) for who in (side, "teacher"))
            lines.append("  {!r}: {} nats; student {}; teacher {}".format(t["text"], num(t[side]["divergence"]), *said))
    return lines


def terminal_criteria(a: dict, rubric: list[dict]) -> list[str]:
    effects = a["effects"]["logprob"]
    def line(left, alone, words):
        return f"  {left:>9} {alone:>9}  {words}"
    lines = ["  change of the answer's log-probability under the teacher, nats",
             line("left out", "alone", "criterion (the token that leaving it out moves most)")]
    for c, left, alone in zip(rubric, effects["left out"], effects["alone"]):
        t = max(range(len(left)), key=lambda t: abs(left[t]))
        lines.append(line(num(sum(left)), num(sum(alone)), f"{c['text']} ({a['tokens'][t]['text']!r} {num(left[t])})"))
    lines.append(line(num(sum(effects["whole"])), "", "the whole rubric"))
    return lines + [line(num(sum(added)), "", f"control, added: {text}") for text, added in zip(a["controls"], effects["control"])]


def terminal(report: dict, colour: bool) -> str:
    """Of each question in report["examples"]: what is read, and each answer's strips and criteria."""
    lines = []
    for e in report["examples"]:
        lines += ["The student reads:", f"  {e['question']}", "The teacher reads in addition:",
                  *(f"  {line}" for line in rubric_text(e["rubric"]).split("\n"))]
        for a in e["answers"]:
            for side in ("before", "after"):
                mean = sum(t[side]["divergence"] for t in a["tokens"]) / len(a["tokens"])
                lines += ["", f"Answer ({a['by']}). {NAMES[side]}: divergence {num(mean, 3)} nats per token",
                          *terminal_strip(a["tokens"], side, colour)]
            lines += ["", *terminal_criteria(a, e["rubric"])]
    if colour:
        edges = [f"below {BINS[0]:g}", *(f"{x:g}" for x in BINS)]
        lines += ["", "shades, nats from: " + " ".join(paint(f" {edge} ", i, True) for i, edge in enumerate(edges))]
    return "\n".join(lines)
