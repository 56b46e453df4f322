"""The sections about single answers: their tokens as strips, and the criteria that move them."""

import math
from html import escape

from report.markup import (
    NAMES,
    answer_title,
    details,
    example_title,
    legend,
    level,
    mean_divergence,
    num,
    percent,
    rubric_text,
    section,
    select,
    shown,
    table,
)

STRIPS_INTRO = (
    "<p>The student reads the question alone, the teacher also the rubric, and both score the same "
    "tokens. In each cell the upper line is the student with its probability of the token, the "
    "lower line the teacher with its own. Hover, focus or tap a token for the likeliest tokens of "
    "both and their entropies; the arrow keys walk along a strip. A dashed frame: clipped. Before "
    "training the student is the base model, as the teacher is throughout: only the rubric parts "
    "them.</p>"
)
CRITERIA_INTRO = (
    "<p>The teacher scores the same answer with each criterion left out of its rubric, or with "
    "each alone in it. A cell is the change that the criterion makes: of the log-probability of "
    "the token (what reads + is made likelier), or of the divergence. The changes of "
    "log-probability in a row sum to that of the whole answer's.</p>"
)
LINKS_INTRO = (
    "<p>The rubric of a question that asks why has an Essential criterion for each link of a cause "
    "with its effect. Its line is the line of the answer about the same cause and effect. If all "
    "tokens diverged alike, a line would have the same share of both; a larger share of the "
    "divergence, before training, says that the teacher parts from the student there.</p>"
)
CONCLUDE = (
    "What to conclude: a shaded cell of log-probability says that this teacher, given the answer "
    "up to there, expects the token more (+) or less (−) because the criterion is in its context; "
    "it says nothing where the controls are shaded alike (a criterion repeated, one beside the "
    "point), it does not say that the criterion is right or what the student learns from it, and "
    "rows need not sum to the whole, as criteria that say the same hide each other when one is "
    "left out."
)


# ------------------------------------------------------------------------------------------- strips
def draw_token(token: dict, side: str, t: int) -> str:
    """One cell: the student's line above the teacher's."""
    text, student = shown(token["text"]), token[side]
    q = num(math.exp(student["logprob"]))
    p = num(math.exp(token["teacher"]["logprob"]))
    label = f"{text.strip() or 'space'}: student {q}, teacher {p}, "
    label += f"divergence {num(student['divergence'])} nats"
    classes = f"t d{level(student['divergence'])}"
    if student["clipped"]:
        label += ", clipped"
        classes += " clipped"
    return (
        f'<button type=button class="{classes}" data-t={t} aria-label="{label}">'
        f"<span>{text}<i>{q}</i></span><span>{text}<i>{p}</i></span></button>"
    )


def draw_strip(tokens: list[dict], side: str, e: int, a: int) -> str:
    """The tokens of one answer; page.js finds them as answer a of example e."""
    cells = ""
    for t, token in enumerate(tokens):
        cells += draw_token(token, side, t)
        if "\n" in token["text"]:
            cells += "<span class=break></span>"
    mean = num(mean_divergence(tokens, side), 3)
    return (
        f'<figure><div class=strip role=group aria-label="{NAMES[side]}: tokens of the answer" '
        f"data-e={e} data-a={a} data-side={side}>{cells}</div>"
        f"<figcaption>{NAMES[side]}: mean divergence {mean} nats per token</figcaption></figure>"
    )


def chosen(rights: list[bool]) -> str:
    """How explain.right_and_wrong chose the question, told by whether its answers are right."""
    if len(rights) > 1:
        return (
            "of those with both a right and a wrong one the one whose right answer has the best "
            "rubric score and, of equals, whose wrong answer diverges most from the teacher"
        )
    shown_one, missing = (
        ("right", "a wrong one") if rights[0] else ("wrong", "both a right and a wrong one")
    )
    return (
        f"the one whose {shown_one} answer diverges most from the teacher; "
        f"no question had {missing}"
    )


def draw_example(example: dict, e: int) -> str:
    """One question: how it was chosen, what both models read, and the strips of its answers."""
    content = ""
    if example["kind"] != "own":
        choice = chosen([answer["right"] for answer in example["answers"]])
        content += (
            f"<p class=note>Of the first {example['tried']} test questions of this kind about new "
            f"{escape(example['subject'])}, with {example['samples']} sampled answers each, {choice}. Right or wrong is "
            "the final answer.</p>"
        )
    if example.get("answer"):
        content += f"<p>Reference answer: {escape(example['answer'])}</p>"
    teacher_text = f"{example['question']}\n\n{rubric_text(example['rubric'])}"
    content += "<div class=sides>"
    for who, text in (("student", example["question"]), ("teacher", teacher_text)):
        content += f"<div><h4>The {who} reads</h4><pre>{escape(text)}</pre></div>"
    content += "</div>"
    for a, answer in enumerate(example["answers"]):
        content += f"<h4>{answer_title(answer)}</h4>"
        for side in ("before", "after"):
            content += draw_strip(answer["tokens"], side, e, a)
    return details(example_title(example), content, is_open=e == 0)


def draw_strips(report: dict) -> str:
    """The section "Which tokens the rubric changes"."""
    content = STRIPS_INTRO + legend("divergence")
    for e, example in enumerate(report["examples"]):
        content += draw_example(example, e)
    return section("strips", "Which tokens the rubric changes", content)


# ----------------------------------------------------------------------------------------- criteria
def draw_effect(x: float, t: int) -> str:
    """One cell of the heatmap: a shade and, if the shade is visible, a sign."""
    sign = ""
    if level(x):
        sign = "+" if x > 0 else "−"
    return f'<td class=d{level(x)} data-v={t} title="{num(x, 3)}">{sign}</td>'


def draw_effects(answer: dict, example: dict, e: int, a: int) -> str:
    """The heatmap of left-out effects on the teacher's log-probability.

    page.js shows the other three kinds in the same place.
    """
    effects = answer["effects"]["logprob"]
    rows = [("The whole rubric", effects["whole"])]
    for criterion, values in zip(example["rubric"], effects["left out"]):
        rows.append((criterion["text"], values))
    for text, values in zip(answer["controls"], effects["control"]):
        rows.append((f"Control, added: {text}", values))
    body = ""
    for name, values in rows:
        cells = "".join(draw_effect(x, t) for t, x in enumerate(values))
        body += (
            f"<tr><th scope=row>{escape(name)}</th>"
            f"<td class=sum>{num(sum(values))}</td>{cells}</tr>"
        )
    head = "".join(f"<th scope=col>{shown(token['text'])}</th>" for token in answer["tokens"])
    kinds = {"left out": "left out of the rubric", "alone": "alone, against no rubric"}
    measures = {
        "logprob": "the teacher's log-probability",
        "divergence": "the divergence before training",
    }
    return (
        f"<figure class=effects data-e={e} data-a={a}><h4>{answer_title(answer)}</h4>"
        f"<div class=controls>{select('Each criterion', kinds)}{select('Change of', measures)}"
        "</div><div class=box tabindex=0 role=region aria-label='Criteria by tokens'>"
        "<table class=heat><thead><tr><th scope=col>Criterion</th>"
        f"<th scope=col class=flat>sum</th>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        f"<output></output><figcaption>{CONCLUDE}</figcaption></figure>"
    )


def draw_criteria(report: dict) -> str:
    """The section "Which criterion moves which token"."""
    content = CRITERIA_INTRO + legend("change")
    for e, example in enumerate(report["examples"]):
        heatmaps = ""
        for a, answer in enumerate(example["answers"]):
            heatmaps += draw_effects(answer, example, e, a)
        content += details(example_title(example), heatmaps, is_open=e == 0)
    return section("criteria", "Which criterion moves which token", content)


# ------------------------------------------------------------------------------- a rubric's tokens
def draw_links(report: dict) -> str:
    """The section "A rubric's tokens": the share of divergence on the lines of its links."""
    content, measures = LINKS_INTRO, ("token share", "divergence share")
    head = ["share of tokens, %", "share of divergence, %"]
    for example in report["examples"]:
        if any(answer.get("links") for answer in example["answers"]):
            content += f"<h3>{example_title(example)}</h3>"
        for answer in example["answers"]:
            rows = []
            for row in answer.get("links", []):
                name = escape(f"{row['criterion']} ({row['line'] or 'no line about it'})")
                rows.append([name, str(row["tokens"]), *(percent(row[key]) for key in measures)])
            if rows:
                content += f"<h4>{answer_title(answer)}</h4>"
                head_of_rows = ["criterion (what its line does)", "tokens of its line", *head]
                content += table(head_of_rows, rows, "The lines of one answer", "plain")
    found, rows = report["link_tokens"], []
    for row in found["lines"]:
        name = escape(f"{row['line']} the link") if row["line"] else "either"
        rows.append([name, str(row["count"]), *(percent(row[key]) for key in measures)])
    words = (
        f"Means over one sampled answer to each of {found['questions']} test questions about new "
        f"links, whose rubrics have {found['criteria']} criteria with a link"
    )
    content += table(["the line of the criterion", "criteria", *head], rows, words, "plain")
    return section("links", "Which tokens the links of a rubric are about", content)
