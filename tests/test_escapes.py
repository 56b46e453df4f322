r"""LaTeX whose backslashes were not doubled in JSON: what is put back, and what is left alone.

The oracle: a text is written as JSON by hand, once rightly (each backslash doubled) and once as
people write it (each single), and both must load alike.
"""

import json
from collections import Counter

import pytest

from data.escapes import COMMANDS, MENDED, UNSURE, WORDS, mend_escapes
from data.load import load_examples
from examples import load

SINGLE = [  # texts as their authors meant them; each backslash is one of LaTeX
    r"\frac{1}{2}",
    r"area \times height",
    r"\theta = \tau",
    r"so \beta \neq \bar{x}",
    r"\rho_0 \rightarrow \text{all}",
    r"\nabla \cdot \mathbf{E}",
    r"\alpha + \sum_i \upsilon_i",
    r"\(x\) and \[y\]",
    r"the frequency \nu is \lambda^{-1}",
    r"|\psi\rangle \to \langle\phi|",
    r"$\nu = 3$ and $a \ne b$",
    r"\( \nu \)",
    r"\forall x \notin A",
    r"\begin{aligned} a &= b \\\\ \end{aligned}".replace(r"\\\\", ""),
    r"5\% of \$4",
]


@pytest.mark.parametrize("text", SINGLE)
def test_single_and_doubled_backslashes_load_alike(tmp_path, text):
    single = '{"question": "' + text + '", "answer": "x"}'
    doubled = '{"question": "' + text.replace("\\", "\\\\") + '", "answer": "x"}'
    (mended,), report = load(tmp_path, single, name="single.jsonl")
    (right,), plain = load(tmp_path, doubled, name="doubled.jsonl")
    assert mended.question == right.question == text
    assert report.notes == {MENDED: text.count("\\")} and not plain.notes
    assert report.lines == {MENDED: [1]}


@pytest.mark.parametrize("command", sorted(COMMANDS | {"beta", "bar", "begin", "bullet"}))
def test_each_command_is_put_back_inside_a_formula(command):
    notes = Counter()
    mended = mend_escapes(f'"where $x \\{command} y$ holds"', notes)
    assert json.loads(mended) == f"where $x \\{command} y$ holds" and notes == {MENDED: 1}


@pytest.mark.parametrize("word", sorted(WORDS))
def test_a_word_on_a_new_line_stays_there_and_is_counted(word):
    """A tab and "an", a line break and "u": outside a formula none can tell."""
    notes, text = Counter(), f'"first \\{word} second"'
    assert mend_escapes(text, notes) == text and notes == {UNSURE: 1}


@pytest.mark.parametrize(
    "text",
    [
        "First line.\nAnswer: 3",
        "a\tb\tc",
        "one\r\ntwo\n\nthree",
        "not\next to it",
        "see, e.g.,\ne.g. this",
        "page\fChapter",
        'C:\\temp\\new "quoted" / ½ \\',
        "force = mass × acceleration = 3 kg × 4 m/s² = 12 N\nAnswer: 12 N",
    ],
)
def test_right_json_is_left_as_it_is(text):
    for line in (json.dumps(text), json.dumps(text, ensure_ascii=False)):
        notes = Counter()
        assert mend_escapes(line, notes) == line and not notes


@pytest.mark.parametrize("formula", [r"\\[\nu = v_0\\]", r"$$\nu = v_0$$", r"\\(a\\\\ \nu\\)"])
def test_where_a_formula_breaks_its_lines_none_can_tell(formula):
    notes, line = Counter(), f'"so {formula}"'
    assert mend_escapes(line, notes) == line and notes == {UNSURE: 1}


def test_a_formula_ends_with_its_text_and_dollars_may_be_money():
    line = r'{"a": "$x", "b": "by\tan hour", "c": "\\$5\tan hour"}'
    notes = Counter()
    assert mend_escapes(line, notes) == line and notes == {UNSURE: 2}


def test_latex_in_a_rubric_that_is_json_in_json(tmp_path):
    inner = r'[{"description": "Essential: states $\rho = \frac{m}{V}$", "weight": 5}]'
    row = {"question": "?", "rubric": "As asked: " + inner}
    (example,), report = load(tmp_path, row)
    assert example.rubric.text() == r"5 Essential: states $\rho = \frac{m}{V}$"
    assert report.notes == {MENDED: 2}


def test_data_of_this_project_has_nothing_to_mend(corpus):
    out, sets = corpus
    for name in ("stage1", "stage2", "test_hard"):
        assert not load_examples(out / f"{name}.jsonl")[1].notes
    for e in sets["base"][:500]:
        notes = Counter()
        assert mend_escapes(e.to_json(), notes) == e.to_json() and not notes
