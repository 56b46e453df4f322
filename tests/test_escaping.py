"""Nothing that a run reads from a file becomes an element or an attribute of its page."""

import copy
import json
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

import evaluate
from pages import LINES
from report import page, picture
from report.markup import NAMES
from study import tables
from study_rows import everything, save
from tiny import FLAGS, link_run

POISON = (
    "\"'><img src=x onerror=alert(1)></style></script><script>alert(2)</script>&amp;<svg/onload=1>"
)
FROM_CODE = NAMES.keys() | {"own"}  # words by which the page looks things up: not from a file


class Elements(HTMLParser):
    """The elements of a page with the names of their attributes, and the text between them."""

    def __init__(self, html):
        super().__init__()
        self.found, self.text = [], ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, *(name for name, _ in attributes)))

    def handle_data(self, data):
        self.text += data


def leaves(value, path=()):
    """The paths of all texts and keys of a JSON value, one for each place in its structure."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from leaves(part, (*path, key))
    elif isinstance(value, list):
        for i, part in enumerate(value):
            yield from leaves(part, (*path, i))
    elif isinstance(value, str):
        yield path


def replaced(value, path):
    """The value with the text at a path poisoned."""
    value = copy.deepcopy(value)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = POISON
    return value


def test_no_text_of_a_report_becomes_an_element(report):
    small = copy.deepcopy(report)
    for example in small["examples"]:
        for answer in example["answers"]:
            answer["tokens"] = answer["tokens"][:2]
    plain = Elements(page.page(small))
    places = {}
    for path in leaves(small):
        places[tuple(p for p in path if not isinstance(p, int)), path[0] == "table"] = path
    shown = 0
    for path in places.values():
        word = small
        for key in path:
            word = word[key]
        if word in FROM_CODE:
            continue
        found = Elements(page.page(replaced(small, path)))
        assert sorted(found.found) == sorted(plain.found), path
        shown += "onerror" in found.text
    assert shown > 20  # most of them are seen, as text


@pytest.mark.parametrize("field", ["method", "rubrics", "teacher_context", "data", "seed", "wise"])
def test_no_setting_of_results_becomes_an_element(report, field):
    poisoned, run = copy.deepcopy(report), None
    for run in poisoned["runs"]:
        run["settings"][field] = run["changed"][field] = POISON
        run["machine"] = run["preset"] = POISON
    found = Elements(page.page(poisoned))
    assert sorted(found.found) == sorted(Elements(page.page(report)).found)


def test_a_poisoned_test_set_and_rubric_reach_the_page_as_text(finished, tmp_path):
    """The whole way, from the data file: meta.kind, question, answer, solution, criteria."""
    out = link_run(finished, tmp_path / "run")
    (out / "data").unlink()
    (out / "data").mkdir()
    for path in (finished / "data").iterdir():
        if path.name != "data.json":
            (out / "data" / path.name).symlink_to(path)
    path = out / "data" / "test_new.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    path.unlink()
    for i, row in enumerate(rows):
        row["question"] = f"{POISON} {i}?"
        row["id"] = row["answer"] = row["solution"] = POISON
        row["meta"] |= {"kind": POISON, "law": POISON, "field": POISON}
        criterion = {"title": POISON, "description": f"Essential: uses {POISON}", "weight": 5}
        row["rubric"] = [criterion | {"check": "answer-line"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert evaluate.main(["--out", str(out), *FLAGS]) == 0
    found = Elements((out / "report.html").read_text(encoding="utf-8"))
    assert "onerror" in found.text
    names = {name for _, *attributes in found.found for name in attributes}
    tags = [tag for tag, *_ in found.found]
    assert "onerror" not in names and "img" not in tags and tags.count("script") == 2


def test_a_poisoned_rubric_file_reaches_the_page_of_explain_as_text(finished, tmp_path):
    out = link_run(finished, tmp_path / "run")
    lines = LINES.replace("force", f"force {POISON}", 1)
    (tmp_path / "r.txt").write_text(lines, encoding="utf-8-sig")  # with a byte-order mark
    words = ["explain", "--out", str(out), *FLAGS, "--question", POISON]
    assert evaluate.main([*words, "--rubric", str(tmp_path / "r.txt")]) == 0
    found = Elements((out / "explain.html").read_text(encoding="utf-8"))
    tags = [tag for tag, *_ in found.found]
    assert "onerror" in found.text and "img" not in tags and tags.count("script") == 2


def test_the_picture_and_the_study_hold_poison_as_text(report, tmp_path):
    example = next(e for e in report["examples"] if any(not a["right"] for a in e["answers"]))
    poisoned = copy.deepcopy({"examples": [example]})
    for path in leaves(poisoned):
        if path[-1] in ("question", "answer", "text"):
            poisoned = replaced(poisoned, path)
    svg = ElementTree.fromstring(picture.picture(poisoned, example["kind"]))
    assert "onerror" in "".join(svg.itertext())
    assert all(e.tag.split("}")[1] in "svg title desc rect text path".split() for e in svg.iter())
    rows = [row | {"machine": POISON} for row in everything()]
    text = tables.make(save(tmp_path / "runs.jsonl", rows), tmp_path / "out", None)
    assert "<img" not in text and "&lt;img" in text


def test_the_reader_of_elements_sees_what_is_not_escaped():
    found = Elements(f"<p title=a>{POISON}</p>")
    assert ("img", "src", "onerror") in found.found and ("script",) in found.found
