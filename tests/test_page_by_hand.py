"""What the page and the terminal say of a report whose every number is set by hand."""

import re

import pytest

from pages import (
    STRIPS,
    Reader,
    Tree,
    by_hand,
    cells_of,
    effects_by_hand,
    near,
    part,
    read_off,
    words,
)
from report import page, terminal


def test_the_facts_of_the_runs_by_hand():
    def facts(report):
        return dict(
            zip(*([words(n) for n in part("run", report).iter(tag)] for tag in ("dt", "dd")))
        )

    assert facts(by_hand()) == {
        "Preset": "cpu, with --top-k-loss 7",
        "Method": "rcsd; its teacher saw rubric (rubrics: learned)",
        "Seed": "3, 8",
        "Parameters": "1,234,567",
        "Machine": "one; two",
        "Minutes of training": "Stage 0, base: 1.0, 2.0; Stage I: 1.5, 0.5; Stage II: 5.5, 10.0; in all: 8.0, 12.5",
    }
    assert words(Tree(page.page(by_hand())).root.find(".//h1")) == "Report: rcsd, seed 3, 8"
    mixed = by_hand()
    mixed["runs"][1] |= {"preset": "smoke", "changed": {}, "parameters": 99}
    mixed["runs"][1]["settings"]["method"] = "opsd"
    found = facts(mixed)
    assert (
        found["Preset"] == "cpu, with --top-k-loss 7; smoke, unchanged"
        and found["Parameters"] == "1,234,567; 99"
    )
    assert (
        found["Method"]
        == "rcsd; its teacher saw rubric (rubrics: learned); opsd; its teacher saw the reference solution"
    )
    assert words(Tree(page.page(mixed)).root.find(".//h1")) == "Report: rcsd, opsd, seed 3, 8"


def test_the_page_opens_with_the_summary():
    header = Tree(page.page(by_hand())).root.find(".//header")
    assert [words(node) for node in header][:2] == [
        "Report: rcsd, seed 3, 8",
        "Before, 12; after, 57.",
    ]
    without = Tree(page.page(by_hand() | {"summary": ""})).root.find(".//header")
    assert [node.tag for node in without] == ["h1", "nav"]


@pytest.mark.parametrize(
    "method, sees, said",
    [
        ("sft", "rubric", "it learned from reference solutions"),
        ("opsd", "rubric", "its teacher saw the reference solution"),
        ("grpo", "rubric", "it learned from rewards"),
        ("grpo-rubric", "rubric", "it learned from rewards"),
        ("reverse-kl-pg", "answer", "its teacher saw answer"),
        ("rcsd", "rubric+answer", "its teacher saw rubric+answer (rubrics: learned)"),
    ],
)
def test_what_a_method_learned_from(method, sees, said):
    made = by_hand()
    for run in made["runs"]:
        run["settings"] |= {"method": method, "teacher_context": sees}
    assert f"{method}; {said}" in [words(n) for n in part("run", made).iter("dd")]


def test_the_table_and_the_curves_by_hand():
    run = part("run")
    assert cells_of(run) == [
        ["", "n", "base", "student"],
        ["known", "50", "12.3 ± 1.3", "56.8 ± 0.9"],
        ["part", "", "1.0", "–"],
    ]
    titles = [
        "Stage 0, base: loss, nats per token, from 4.00 to 2.50",
        "Stage I: valid rubrics, %, from 10.00 to 40.00",
        "Stage II: right answers, %, from 25.00 to 50.00",
    ]
    assert (
        [words(n) for n in run.iter("figcaption")]
        == [n.get("aria-label") for n in run.iter("svg")]
        == titles
    )
    for svg, title, points, band in zip(
        run.iter("svg"),
        titles,
        ([(10, 4), (20, 2.5)], [(10, 10), (20, 40)], [(5, 25), (15, 50)]),
        (
            [(10, 4.5), (20, 2.75), (20, 2.25), (10, 3.5)],
            [(10, 15), (20, 50), (20, 30), (10, 5)],
            [(5, 31.25), (15, 62.5), (15, 37.5), (5, 18.75)],
        ),
    ):
        (_, dashed, line), (_, _, around) = read_off(svg)
        assert line == near(points) and around == near(band) and not dashed
        labels = [t.text for t in svg.iter("text")][:3]
        assert labels == [title.split(": ")[0], "step", title.split(": ")[1].rsplit(", from")[0]]


def test_the_strips_by_hand():
    strips = part("strips")
    found = {}
    for figure in strips.iter("figure"):
        group, caption = figure.find("div"), words(figure.find("figcaption"))
        key = int(group.get("data-e")), int(group.get("data-a")), group.get("data-side")
        name = {"before": "Student before training", "after": "Student after training"}[key[2]]
        assert group.get("aria-label").startswith(name) and key not in found
        tokens = []
        for t, button in enumerate(group.iter("button")):
            looks = button.get("class").split()
            (text, q), (again, p) = ((span.text, words(span.find("i"))) for span in button)
            label = re.fullmatch(
                r"(.*): student (.*), teacher (.*), divergence (.*) nats(, clipped)?",
                button.get("aria-label"),
            )
            assert (
                text == again
                and label[1] == text.strip()
                and label.group(2, 3) == (q, p)
                and button.get("data-t") == str(t)
            )
            assert ("clipped" in looks) == bool(label[5])
            tokens.append((text, q, p, label[4], int(looks[1][1:]), bool(label[5])))
        found[key] = (
            tokens,
            re.fullmatch(name + ": mean divergence (.*) nats per token", caption)[1],
        )
    assert found == STRIPS
    assert [words(h) for h in strips.iter("h4") if "answer" in words(h)] == [
        "✗ wrong answer (base, sampled)",
        "✓ right answer (base, sampled)",
        "✗ wrong answer (base, sampled)",
    ]
    read = [
        (words(d.find("h4")), words(d.find("pre")))
        for d in strips.iter("div")
        if d.find("pre") is not None
    ]
    rubric = "5 Essential: first\n-2 Pitfall: second"
    assert read == [
        (f"The {who} reads", q + more)
        for q in ("Q1?", "Q2?")
        for who, more in (("student", ""), ("teacher", f"\n\n{rubric}"))
    ]
    assert [words(h) for h in strips.iter("h3")] == ["One-step: Q1?", "Two-step: Q2?"]
    assert [words(p) for p in strips.iter("p") if words(p).startswith("Reference")] == [
        f"Reference answer: {a}" for a in ("1 N", "2 m")
    ]


@pytest.mark.parametrize(
    "rights, said",
    [
        (
            [True, False],
            "of those with both a right and a wrong one the one whose right answer has the best rubric score and, of equals, "
            "whose wrong answer diverges most from the teacher",
        ),
        (
            [False],
            "the one whose wrong answer diverges most from the teacher; no question had both a right and a wrong one",
        ),
        (
            [True],
            "the one whose right answer diverges most from the teacher; no question had a wrong one",
        ),
    ],
)
@pytest.mark.parametrize("subject", ["laws", "links"])
def test_why_a_question_is_shown(rights, said, subject):
    made = by_hand()
    made["examples"][0]["subject"] = subject
    made["examples"][0]["answers"] = [
        made["examples"][0]["answers"][0] | {"right": right} for right in rights
    ]
    assert words(next(p for p in part("strips", made).iter("p") if p.get("class") == "note")) == (
        f"Of the first 16 test questions of this kind about new {subject}, with 6 sampled answers each, {said}. "
        "Right or wrong is the final answer."
    )


@pytest.mark.parametrize("name", ["strips", "criteria"])
def test_the_legend_has_the_shade_of_each_number(name):
    first, *shades = next(n for n in part(name).iter("ul") if n.get("class") == "key")
    assert words(first) == {"strips": "divergence", "criteria": "change"}[name] + ", nats:"
    edges = [[float(x) for x in re.findall(r"[\d.]+", words(li))] for li in shades]
    assert (
        words(shades[0]).startswith("below")
        and words(shades[-1]).startswith("from")
        and len(shades) == 6
    )
    for (low, high), li in zip([(0, edges[0][0]), *edges[1:-1], (edges[-1][0], 99)], shades):
        made = by_hand()
        token, effects = (made["examples"][0]["answers"][0][k] for k in ("tokens", "effects"))
        for x in (low, (low + high) / 2):
            token[0]["before"]["divergence"] = effects["logprob"]["left out"][0][0] = x
            node = (
                next(part(name, made).iter("button"))
                if name == "strips"
                else next(
                    tr
                    for tr in part(name, made).iter("tr")
                    if words(tr).startswith("Essential: first")
                )[2]
            )
            assert li.get("class") in node.get("class").split(), (x, words(li))


def test_the_heatmap_by_hand():
    figures = [f for f in part("criteria").iter("figure")]
    assert [(f.get("data-e"), f.get("data-a")) for f in figures] == [
        ("0", "0"),
        ("1", "0"),
        ("1", "1"),
    ]
    for f in figures:
        e, a = int(f.get("data-e")), int(f.get("data-a"))
        head, *rows = f.iter("tr")
        texts = [
            t["text"].replace("\n", "⏎") for t in by_hand()["examples"][e]["answers"][a]["tokens"]
        ]
        assert [words(th) for th in head] == ["Criterion", "sum", *texts]
        assert [
            [words(r[0]), words(r[1]), *((td.get("title"), words(td)) for td in r[2:])]
            for r in rows
        ] == effects_by_hand(e, a, "left out", "logprob")
        assert all(
            [td.get("data-v") for td in r[2:]] == [str(t) for t in range(len(texts))] for r in rows
        )
        assert {o.get("value"): words(o) for o in f.iter("option")} == {
            "left out": "left out of the rubric",
            "alone": "alone, against no rubric",
            "logprob": "the teacher's log-probability",
            "divergence": "the divergence before training",
        }
    marks = [words(f.find("h4")) for f in figures]
    assert [m[:7] for m in marks] == ["✗ wrong", "✓ right", "✗ wrong"]


def test_the_tokens_of_links_by_hand():
    links = part("links")
    assert [words(h) for tag in ("h3", "h4") for h in links.iter(tag)] == [
        "Two-step: Q2?",
        "✗ wrong answer (base, sampled)",
    ]
    answer, means = map(cells_of, links.iter("table"))
    shares = ["share of tokens, %", "share of divergence, %"]
    assert answer == [
        ["criterion (what its line does)", "tokens of its line", *shares],
        ["Essential: says that a (states)", "7", "35.0", "62.5"],
        ["Essential: says that b (no line about it)", "0", "–", "–"],
    ]
    assert means == [
        ["the line of the criterion", "criteria", *shares],
        ["states the link", "19", "21.0", "11.0"],
        ["contradicts the link", "23", "21.0", "45.6"],
        ["either", "42", "21.0", "30.0"],
    ]
    assert "each of 37 test questions" in words(links) and "58 criteria" in words(links)


def test_the_rubrics_of_stage_1_by_hand():
    stage1 = part("stage1")
    assert cells_of(stage1) == [
        ["reference", "base", "stage I"],
        ["5 Essential: a", "4 Essential: b ✗ wrong", "3 Essential: c"],
        ["–", "–", "2 Important: d ✗ wrong"],
    ]
    assert [td.get("data-of") for td in stage1.iter("td")] == ["reference", "base", "stage I"] * 2
    assert [words(p) for p in stage1.iter("p") if p.get("class") == "bad"] == [
        "✗ stage I: not valid (line 1)"
    ]


def test_the_teachers_panel_by_hand():
    teacher = part("teacher")
    assert cells_of(teacher) == [
        ["", "nothing", "learned rubric", "student, after"],
        ["right answers, %", "10.0", "20.0", "30.0"],
        ["answers that mention the rubric, %", "1.0", "2.0", "3.0"],
        ["entropy of the teacher, nats", "1.01", "2.01", "3.01"],
        ["entropy of the student, nats", "1.02", "2.02", "3.02"],
        ["divergence, nats per token", "1.03", "2.03", "3.03"],
        ["student's mass outside the teacher's top 20, %", "5.0", "10.0", "15.0"],
        ["tokens that --clip-mode scale --clip 0.5 shrinks, %", "2.5", "5.0", "7.5"],
        ["tokens that --clip-mode pointwise --clip 0.05 turns round, %", "0.1", "0.2", "0.3"],
    ]
    assert "33 test questions" in words(
        teacher
    ) and "dashed before training, solid after it" in words(teacher.find(".//figcaption"))
    (_, dashed, before), (colour, solid, after) = read_off(next(teacher.iter("svg")))
    assert (dashed, solid, colour) == (True, False, "currentColor")
    assert before == near([(1, 2), (2, 3), (4, 4)]) and after == near([(1, 1), (2, 0.5)])


def test_the_clip_modes_by_hand():
    clip = part("clip")
    assert words(next(clip.iter("pre"))) == "so <far[9]"
    expect, modes = map(cells_of, clip.iter("table"))
    assert expect == [
        ["next token", "teacher", "student"],
        ["“8”", "0.610", "0.320"],
        ["“9”", "0.270", "0.530"],
    ]
    assert [s.get("style") for s in clip.iter("span") if s.get("class") == "bar"] == [
        f"width:{share}%" for share in ("61.0", "32.0", "27.0", "53.0")
    ]
    assert modes == [
        ["clip mode", "loss, nats", "gradient on the logit of “8”", "“8” goes"],
        ["none", "0.100", "−0.2000", "up, to the teacher"],
        ["pointwise", "−0.400", "0.5000", "down, away from the teacher"],
        ["token", "0.050", "0.0000", "stays"],
    ]


def test_every_text_of_others_is_escaped_everywhere():
    """Each string of the JSON that somebody else wrote, hostile: no element more, and the text is
    there as it was."""
    nasty = '<b>&amp;"</b></script>'
    plain = Reader(page.page(by_hand())).tags
    ways = [
        ("examples", 0, "question"),
        ("examples", 0, "answer"),
        ("examples", 0, "rubric", 0, "text"),
        ("examples", 0, "answers", 0, "by"),
        ("examples", 0, "answers", 0, "tokens", 0, "text"),
        ("examples", 0, "answers", 0, "controls", 0),
        ("stage1", 0, "question"),
        ("stage1", 0, "problems", "base"),
        ("stage1", 0, "rows", 0, "base", "text"),
        ("teacher", "clip", "before"),
        ("teacher", "clip", "chosen"),
        ("teacher", "clip", "top", 0, "text"),
        ("runs", 0, "machine"),
        ("table", 0, "rows", 0, "label"),
        ("summary",),
        ("examples", 1, "answers", 1, "links", 0, "criterion"),
    ]
    for *way, last in ways:
        made = by_hand()
        at = made
        for key in way:
            at = at[key]
        at[last] = nasty
        html = page.page(made)
        reader = Reader(html)
        differ = {k for k in reader.tags | plain if reader.tags[k] != plain[k]}
        assert differ <= ({"p"} if last == "base" else set()) and html.count("</script>") == 2, (
            way,
            last,
        )
        assert nasty in "".join(reader.text), (way, last)


def test_the_terminal_by_hand():
    made = by_hand()
    text = terminal.terminal({"examples": made["examples"][:1]}, False)
    assert text.split("\n") == [
        "The student reads:",
        "  Q1?",
        "The teacher reads in addition:",
        "  5 Essential: first",
        "  -2 Pitfall: second",
        "",
        "Answer (base, sampled). Student before training: divergence 0.737 nats per token",
        "  x = 9",
        "  '9': 2.00 nats; student 'B0' 0.32, 'B1' 0.11, 'B2' 0.04; teacher 'T0' 0.71, 'T1' 0.24, 'T2' 0.08",
        "  ' = ': 0.20 nats; student 'B0' 0.37, 'B1' 0.12, 'B2' 0.04; teacher 'T0' 0.81, 'T1' 0.27, 'T2' 0.09",
        "",
        "Answer (base, sampled). Student after training: divergence 1.850 nats per token",
        "  x = 9",
        "  '9': 5.00 nats; student 'A0' 0.53, 'A1' 0.18, 'A2' 0.06; teacher 'T0' 0.71, 'T1' 0.24, 'T2' 0.08",
        "  ' = ': 0.50 nats; student 'A0' 0.63, 'A1' 0.21, 'A2' 0.07; teacher 'T0' 0.81, 'T1' 0.27, 'T2' 0.09",
        "  'x': 0.05 nats; student 'A0' 0.73, 'A1' 0.24, 'A2' 0.08; teacher 'T0' 0.91, 'T1' 0.30, 'T2' 0.10",
        "",
        "  change of the answer's log-probability under the teacher, nats",
        "   left out     alone  criterion (the token that leaving it out moves most)",
        "       1.00      1.33  Essential: first ('x' 1.20)",
        "      −1.17     −1.50  Pitfall: second ('x' −1.40)",
        "       0.83            the whole rubric",
        "       0.00            control, one line more: Control one",
        "      −0.05            control, one line more: Control two",
    ]
    loud = terminal.terminal({"examples": made["examples"][:1]}, True).split("\n")

    def back(i):
        return f"\x1b[48;5;{terminal.SHELL_SHADES[i][0]}m\x1b[38;5;{terminal.SHELL_SHADES[i][1]}m"

    assert loud[7] == f"  x{back(2)} = \x1b[0m{back(4)}9\x1b[0m"
    assert loud[-1] == "shades, nats from:  below 0.02  " + " ".join(
        f"{back(i)} {edge} \x1b[0m" for i, edge in enumerate(("0.02", "0.1", "0.3", "1", "3"), 1)
    )
