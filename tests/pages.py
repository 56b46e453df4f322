"""What the tests of the report share: readers of a page, and a report by hand."""

import math
import re
from collections import Counter
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
import torch

from data.tokenizer import encode
from report import page
from rubrics import Criterion

CRITERIA = tuple(Criterion("", f"Essential: {name}", 5) for name in "abc")


IDS = [40, 41, 300, 77, 1]
QUESTION = 'Is <b>1 & 2</b> "a" force?</script>'
LINES = "5 Essential: uses force = mass × acceleration\n3 Important: gives the answer in N\n-1 Pitfall: does not add"


def plain_logits(run, model, sections, ids):
    """[n, V], one prefix at a time."""
    head = encode(run.tokenizer, sections)
    with torch.no_grad():
        return torch.stack(
            [
                model(torch.tensor([head + ids[:t]]))[0, -1] @ model.head_weight.T
                for t in range(len(ids))
            ]
        )


class Reader(HTMLParser):
    """Checks that elements nest and ids are unique; gathers text, ids, attributes."""

    VOID = {"meta", "br", "hr", "img", "input", "link"}

    def __init__(self, html):
        super().__init__()
        self.stack, self.text, self.ids, self.attributes, self.tags = (
            [],
            [],
            Counter(),
            [],
            Counter(),
        )
        self.feed(html)
        self.close()
        assert not self.stack and max(self.ids.values(), default=1) == 1

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes += [(tag, *pair) for pair in attrs]
        self.ids.update(value for name, value in attrs if name == "id")
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_endtag(self, tag):
        assert self.stack and self.stack.pop() == tag, (tag, self.getpos())

    def handle_data(self, data):
        if not self.stack or self.stack[-1] not in ("style", "script"):
            self.text.append(data)


class Tree(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.builder = ElementTree.TreeBuilder()
        self.feed(html.strip())
        self.root = self.builder.close()

    def handle_starttag(self, tag, attrs):
        self.builder.start(tag, {k: v or "" for k, v in attrs})
        if tag in Reader.VOID:
            self.builder.end(tag)

    def handle_startendtag(self, tag, attrs):
        self.builder.start(tag, dict(attrs))
        self.builder.end(tag)

    def handle_endtag(self, tag):
        self.builder.end(tag)

    def handle_data(self, data):
        self.builder.data(data)


def words(node):
    return "".join(node.itertext())


def part(name, report=None):
    return Tree(page.page(report or by_hand())).root.find(f".//section[@id='{name}']")


def cells_of(node):
    return [[words(c) for c in row if c.tag in ("th", "td")] for row in node.iter("tr")]


def read_off(svg):
    """The lines of a chart in the units of its axes, by the labels of these: [(colour, dashed, [(x,
    y)])]."""
    texts = list(svg.iter("text"))
    ys = [(float(t.get("y")) - 4, float(t.text)) for t in texts if t.get("text-anchor") == "end"]
    middle = [
        t
        for t in texts
        if t.get("text-anchor") == "middle" and re.fullmatch(r"[\d.]+", t.text or "")
    ]
    xs = [(float(t.get("x")), float(t.text)) for t in middle]

    def scale(marks):
        return lambda v: (
            marks[0][1]
            + (v - marks[0][0]) * (marks[-1][1] - marks[0][1]) / (marks[-1][0] - marks[0][0])
        )

    x, y = scale(xs), scale(ys)
    shapes = [*svg.iter("polyline"), *svg.iter("polygon")]
    return [
        (
            s.get("stroke") or s.get("fill"),
            s.get("stroke-dasharray") is not None,
            [
                (x(float(a)), y(float(b)))
                for a, b in (pair.split(",") for pair in s.get("points").split())
            ],
        )
        for s in shapes
    ]


def near(points):
    return [pytest.approx(p, abs=0.02 * max(1, *map(abs, p))) for p in points]


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return sum(
        w * (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4)
        for w, c in zip((0.2126, 0.7152, 0.0722), parts)
    )


def opinion(p, top, entropy, **more):
    return {
        "logprob": math.log(p),
        "entropy": entropy,
        "top": [[f"{top}{i}", p / 3**i] for i in range(3)],
    } | more


def by_hand():
    """Two runs, two questions (the second with two answers of three and two tokens); every number
    another one."""

    def settings(seed, **more):
        return {
            "method": "rcsd",
            "teacher_context": "rubric",
            "rubrics": "learned",
            "seed": seed,
        } | more

    def token(text, i, divergences, clips):
        return {
            "text": text,
            "teacher": opinion(0.91 - i / 10, "T", 1.5 + i),
            "before": opinion(
                0.42 - i / 20, "B", 2.25 + i, divergence=divergences[0], clipped=clips[0]
            ),
            "after": opinion(
                0.73 - i / 10, "A", 0.75 + i, divergence=divergences[1], clipped=clips[1]
            ),
        }

    def answer(right, tokens, shift):
        n = len(tokens)

        def values(start):
            return [(start + shift) * (-1) ** t / (t + 1) for t in range(n)]

        return {
            "right": right,
            "by": "base, sampled",
            "tokens": tokens,
            "links": [],
            "controls": ["Control one", "Control two"],
            "effects": {
                m: {
                    "whole": values(k),
                    "left out": [values(k + 0.2), values(-k - 0.4)],
                    "alone": [values(k + 0.6), values(-k - 0.8)],
                    "control": [values(0.005), values(-0.06)],
                }
                for m, k in (("logprob", 1.0), ("divergence", 4.0))
            },
        }

    first = answer(
        False,
        [
            token("x", 0, (0.01, 0.05), (False, True)),
            token(" = ", 1, (0.2, 0.5), (True, False)),
            token("9", 2, (2.0, 5.0), (False, False)),
        ],
        0,
    )
    others = [
        answer(True, [token("ok", 3, (0.4, 0.15), (True, False))], 0.1),
        answer(
            False,
            [
                token("no\n", 4, (1.25, 0.03), (False, True)),
                token("N", 5, (0.25, 3.5), (True, False)),
            ],
            0.3,
        ),
    ]
    others[1]["links"] = [
        {
            "criterion": "Essential: says that a",
            "line": "states",
            "tokens": 7,
            "token share": 0.35,
            "divergence share": 0.625,
        },
        {
            "criterion": "Essential: says that b",
            "line": "",
            "tokens": 0,
            "token share": None,
            "divergence share": None,
        },
    ]
    rubric = [
        {"weight": 5.0, "text": "Essential: first"},
        {"weight": -2.0, "text": "Pitfall: second"},
    ]
    question = {"tried": 16, "samples": 6, "rubric": rubric, "subject": "laws"}

    def criterion(weight, text, wrong):
        return {"weight": weight, "text": text, "wrong": wrong}

    def column(k):
        return {
            "right": k / 10,
            "leak": k / 100,
            "teacher_entropy": k + 0.01,
            "student_entropy": k + 0.02,
            "divergence": k + 0.03,
            "tail": k / 20,
            "clipped": k / 40,
            "gradient_flipped": k / 1000,
        }

    return {
        "runs": [
            {
                "preset": "cpu",
                "changed": {"seed": 3, "top_k_loss": 7},
                "settings": settings(3),
                "parameters": 1234567,
                "machine": "one",
                "seconds": {"base": 60, "stage1": 90, "stage2": 330},
            },
            {
                "preset": "cpu",
                "changed": {"seed": 8, "top_k_loss": 7},
                "settings": settings(8),
                "parameters": 1234567,
                "machine": "two",
                "seconds": {"base": 120, "stage1": 30, "stage2": 600},
            },
        ],
        "summary": "Before, 12; after, 57.",
        "table": [
            {
                "title": "accuracy, %",
                "columns": ["base", "student"],
                "counted": True,
                "rows": [
                    {"label": "known", "n": 50, "cells": [[12.34, 1.26], [56.78, 0.94]]},
                    {"label": "part", "n": None, "cells": [[1.0, None], [None, None]]},
                ],
            }
        ],
        "curves": [
            {"stage": stage, "measure": m, "points": points}
            for stage, m, points in (
                ("base", "loss", [[10, 4.0, 0.5], [20, 2.5, 0.25]]),
                ("stage1", "valid", [[10, 0.1, 0.05], [20, 0.4, 0.1]]),
                ("stage2", "correct", [[5, 0.25, 0.0625], [15, 0.5, 0.125], [20, None, None]]),
            )
        ],
        "examples": [
            {"kind": "one-step", "question": "Q1?", "answer": "1 N", "answers": [first]} | question,
            {"kind": "two-step", "question": "Q2?", "answer": "2 m", "answers": others} | question,
        ],
        "link_tokens": {
            "questions": 37,
            "criteria": 58,
            "lines": [
                {"line": line, "count": count, "token share": 0.21, "divergence share": share}
                for line, count, share in (
                    ("states", 19, 0.11),
                    ("contradicts", 23, 0.456),
                    ("", 42, 0.3),
                )
            ],
        },
        "stage1": [
            {
                "question": "Q3?",
                "problems": {"base": "", "stage I": "line 1"},
                "rows": [
                    {
                        "reference": criterion(5, "Essential: a", False),
                        "base": criterion(4, "Essential: b", True),
                        "stage I": criterion(3, "Essential: c", False),
                    },
                    {"stage I": criterion(2, "Important: d", True)},
                ],
            }
        ],
        "teacher": {
            "questions": 33,
            "tail_k": 20,
            "scale_clip": 0.5,
            "point_clip": 0.05,
            "columns": {
                name: column(k)
                for k, name in enumerate(("nothing", "learned rubric", "student, after"), 1)
            },
            "positions": {"before": [[1, 2.0], [2, 3.0], [4, 4.0]], "after": [[1, 1.0], [2, 0.5]]},
            "clip": {
                "before": "so <far",
                "chosen": "9",
                "top": [{"text": "8", "p": 0.61, "q": 0.32}, {"text": "9", "p": 0.27, "q": 0.53}],
                "modes": {
                    "none": {"loss": 0.1, "gradient": [-0.2, 0.3]},
                    "pointwise": {"loss": -0.4, "gradient": [0.5, -0.6]},
                    "token": {"loss": 0.05, "gradient": [0.0, 0.0]},
                },
            },
        },
    }


STRIPS = {  # (question, answer, side): tokens (text, student, teacher, divergence, shade, clipped), mean divergence
    (0, 0, "before"): (
        [
            ("x", "0.42", "0.91", "0.01", 0, False),
            (" = ", "0.37", "0.81", "0.20", 2, True),
            ("9", "0.32", "0.71", "2.00", 4, False),
        ],
        "0.737",
    ),
    (0, 0, "after"): (
        [
            ("x", "0.73", "0.91", "0.05", 1, True),
            (" = ", "0.63", "0.81", "0.50", 3, False),
            ("9", "0.53", "0.71", "5.00", 5, False),
        ],
        "1.850",
    ),
    (1, 0, "before"): ([("ok", "0.27", "0.61", "0.40", 3, True)], "0.400"),
    (1, 0, "after"): ([("ok", "0.43", "0.61", "0.15", 2, False)], "0.150"),
    (1, 1, "before"): (
        [("no⏎", "0.22", "0.51", "1.25", 4, False), ("N", "0.17", "0.41", "0.25", 2, True)],
        "0.750",
    ),
    (1, 1, "after"): (
        [("no⏎", "0.33", "0.51", "0.03", 1, True), ("N", "0.23", "0.41", "3.50", 5, False)],
        "1.765",
    ),
}


def effects_by_hand(e, a, how, measure):
    """Rows (name, sum, [(value, sign)]) of the heatmap."""
    example = by_hand()["examples"][e]
    answer = example["answers"][a]
    found = answer["effects"][measure]
    named = [
        ("The whole rubric", found["whole"]),
        ("Essential: first", found[how][0]),
        ("Pitfall: second", found[how][1]),
        ("Control, added: Control one", found["control"][0]),
        ("Control, added: Control two", found["control"][1]),
    ]

    def minus(x, digits):
        return f"{x:.{digits}f}".replace("-", "−")

    def sign(x):
        return "" if abs(x) < 0.02 else "+" if x > 0 else "−"

    return [[name, minus(sum(v), 2), *((minus(x, 3), sign(x)) for x in v)] for name, v in named]
