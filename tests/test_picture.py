"""The picture of README: its tokens, numbers and shades, and that nothing overlaps."""

import copy
import json
import math
import re
import subprocess
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pages import luminance
from report import markup, page, picture
from tiny import ROOT


def one_step(report):
    """The example of the picture and its wrong answer."""
    e = next(e for e in report["examples"] if e["kind"] == "one-step")
    return e, next(a for a in e["answers"] if not a["right"])


def elements(report, tag):
    """[(x0, y0, x1, y1, text, attributes)] of the picture's texts, as wide as they can be, or of
    its boxes."""
    found = []
    for at in ElementTree.fromstring(picture.picture(report)).iter(
        "{http://www.w3.org/2000/svg}" + tag
    ):
        x, y = float(at.get("x")), float(at.get("y"))
        if tag == "rect":
            found.append(
                (x, y, x + float(at.get("width")), y + float(at.get("height")), "", at.attrib)
            )
        else:
            size = float(at.get("font-size"))
            wide = picture.WIDE / 13 * size * len(at.text)
            x -= wide / 2 * (at.get("text-anchor") == "middle")
            found.append((x, y - size, x + wide, y + size / 4, at.text, at.attrib))
    return found


def test_the_picture_has_the_tokens_in_order_and_every_number_is_of_the_json(report):
    changed = copy.deepcopy(report)
    e, a = one_step(changed)
    tokens, e["question"] = a["tokens"], 'What is <1 & 2> "a"?'
    tokens[0]["text"], tokens[1]["text"], tokens[2]["text"] = '<i x="1">&', "\n", "\x07"
    tokens[1]["before"]["divergence"] = 123.456
    tokens[1]["before"]["top"][0], tokens[1]["teacher"]["top"][1] = [" a&", 0.5432], ["\n", 0.4321]
    texts = elements(changed, "text")
    cells = [
        words for *_, words, look in texts if look.get("text-anchor") and look["font-size"] == "13"
    ]
    wanted = [
        '<i x="1">&',
        "⏎",
        "·",
        *("".join(c if c.isprintable() else "·" for c in t["text"]) for t in tokens[3:]),
    ]
    assert cells[::2] == cells[1::2] == wanted
    shares = [words for *_, words, look in texts if look["font-size"] == "11"]
    probability = {
        who: [markup.num(math.exp(t[who]["logprob"])) for t in tokens]
        for who in ("before", "teacher")
    }
    assert shares[::2] == probability["before"] and shares[1::2] == probability["teacher"]
    top = [pair for who in ("before", "teacher") for pair in tokens[1][who]["top"][:3]]
    said = [
        e["question"],
        e["answer"],
        markup.rubric_text(e["rubric"]),
        *wanted * 2,
        *shares,
        "123.46",
        *(w for w, _ in top),
        *(markup.num(p, 3) for _, p in top),
        *(f"{b:g}" for b in markup.BINS for _ in (0, 1)),
    ]

    def numbers(words):
        return Counter(re.findall(r"\d+(?:\.\d+)?", " ".join(words)))

    assert numbers(words for *_, words, _ in texts) == numbers(said)
    assert {"“ a&”", "“⏎”", "0.543", "0.432"} <= {words for *_, words, _ in texts}


def test_another_number_makes_another_picture(report):
    a = one_step(report)[1]
    ways = [
        ("tokens", t, who, "logprob")
        for t in range(len(a["tokens"]))
        for who in ("before", "teacher")
    ]
    for *way, last in ways:
        changed = copy.deepcopy(report)
        at = one_step(changed)[1]
        for key in way:
            at = at[key]
        at[last] = math.log(0.987) if at[last] < -0.5 else math.log(0.123)
        assert picture.picture(changed) != picture.picture(report)
    for t in range(len(a["tokens"])):
        changed = copy.deepcopy(report)
        one_step(changed)[1]["tokens"][t]["before"]["divergence"] = 77.0
        darkest = [
            i
            for i, box in enumerate(
                b for b in elements(changed, "rect") if float(b[5]["height"]) == picture.HIGH
            )
            if box[5]["fill"] == picture.SHADES[-1][0]
        ]
        assert 2 * t in darkest and any(
            "77.00 nats" in words for *_, words, _ in elements(changed, "text")
        )
    changed = copy.deepcopy(report)
    one_step(changed)[0]["rubric"][0]["weight"] = 31
    assert any(words.startswith("31 Essential") for *_, words, _ in elements(changed, "text"))


@pytest.mark.parametrize("where", [0, 5, 17, -1])
def test_nothing_of_the_picture_overlaps_or_leaves_it(report, where):
    changed = copy.deepcopy(report)
    e, a = one_step(changed)
    e["question"] = "Why is the concentration so large? " * 9 + "w" * 150
    a["tokens"] = [copy.deepcopy(t) for _ in range(5) for t in a["tokens"]]
    a["tokens"][4]["text"] = " electromagnetism"
    a["tokens"][where]["before"] |= {"divergence": 99.0, "top": [[" electromagnetism", 1.0]] * 5}
    texts, boxes = elements(changed, "text"), elements(changed, "rect")
    width, height = boxes[0][2:4]
    assert (width, boxes[0][5]["fill"]) == (900, "#ffffff")
    assert all(
        0 <= x and 0 <= y and right <= width and bottom <= height
        for x, y, right, bottom, *_ in texts + boxes
    )

    def meet(a, b):
        return min(a[2], b[2]) - max(a[0], b[0]) > 0.1 and min(a[3], b[3]) - max(a[1], b[1]) > 0.1

    cells = [box for box in boxes if box[5].get("stroke") == "#d3d8de"]
    assert len(cells) == 2 * len(a["tokens"]) + len(markup.BINS) + 1
    for parts in (texts, cells):
        assert [
            (one[4], other[4]) for one, other in combinations(parts, 2) if meet(one, other)
        ] == []
    bars = [box for box in boxes if float(box[5]["height"]) == 11]
    assert len(bars) == 6 and not any(meet(bar, other) for bar in bars for other in texts + cells)


def test_the_picture_has_the_shades_of_the_page_and_can_be_read(report):
    css = (Path(page.__file__).parent / "page.css").read_text()
    colours = dict(
        reversed(re.findall(r"--([ct]\d): (#\w+)", css))
    )  # the first of a name is by day
    assert list(picture.SHADES) == [
        (colours[f"c{i}"], colours[f"t{i}"]) for i in range(len(markup.BINS) + 1)
    ]
    assert (
        1.05 / (luminance(re.search(r'fill="(#\w+)" font-family', picture.START)[1]) + 0.05) >= 4.5
    )
    root = ElementTree.fromstring(picture.picture(report))
    assert [
        root.find(f"*[@id='{name}']").text != "" for name in root.get("aria-labelledby").split()
    ] == [True, True]
    assert root.get("role") == "img" and not re.search(
        r"href|url\(|<script|<image", picture.picture(report)
    )


def test_the_command_of_the_picture(finished, tmp_path):
    def made(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "report.picture", *map(str, arguments)],
            capture_output=True,
            text=True,
            encoding="utf-8",
            cwd=ROOT,
        )

    kinds = {
        e["kind"]
        for e in json.loads((finished / "report.json").read_text(encoding="utf-8"))["examples"]
    }
    assert "one-step" in kinds
    assert all(
        ElementTree.fromstring(made(finished, kind).stdout).tag.endswith("svg") for kind in kinds
    )
    assert made(finished).stdout == made(finished, "one-step").stdout
    for done in (made(), made(tmp_path), made(finished, "no such kind")):
        assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1
