"""Each bug of exercises/bugs shows its symptom, and the fix in ANSWERS.md takes it away."""

import contextlib
import io
import re
import sys

import pytest
import torch

from tiny import ROOT

FOLDER = ROOT / "exercises"


ANSWERS = (FOLDER / "bugs" / "ANSWERS.md").read_text(encoding="utf-8")
FIXES = {
    name: text
    for name, text in re.findall(r"<summary>(\S+\.py)</summary>(.*?)</details>", ANSWERS, re.S)
}
BUGS = sorted(path.name for path in (FOLDER / "bugs").glob("*.py"))


def symptom(source, path):
    """Runs a snippet; its last line is "what: number (healthy: at least|at most number)".
    (healthy?, the line)"""
    out, before = io.StringIO(), list(sys.path)
    with contextlib.redirect_stdout(out), torch.random.fork_rng():
        exec(compile(source, str(path), "exec"), {"__name__": "__main__", "__file__": str(path)})
    sys.path[:] = before
    line = out.getvalue().strip().split("\n")[-1]
    value, rule, bound = re.search(r": (\S+) \(healthy: (at least|at most) (\S+)\)$", line).groups()
    return float(value) >= float(bound) if rule == "at least" else float(value) <= float(
        bound
    ), line


def fixed(source, answer):
    """The source with the diffs of an answer applied: the lines with - are there once and become
    those with +."""
    for diff in re.findall(r"```diff\n(.*?)```", answer, re.S):
        old, new = (
            "\n".join(line[1:] for line in diff.split("\n") if line.startswith(sign))
            for sign in "-+"
        )
        assert source.count(old + "\n") == 1
        source = source.replace(old + "\n", new + "\n")
    return source


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_shows_and_its_fix_heals(name):
    path = FOLDER / "bugs" / name
    source = path.read_text(encoding="utf-8")
    assert (
        len([line for line in source.split("\n") if line.strip()]) <= 45
        and max(map(len, source.split("\n"))) <= 120
    )
    healthy, line = symptom(source, path)
    assert not healthy, line
    healthy, line = symptom(fixed(source, FIXES[name]), path)
    assert healthy, line


def test_every_bug_has_an_answer_and_its_pointers_hold():
    assert list(FIXES) == BUGS and len(BUGS) >= 8
    for name, answer in FIXES.items():
        assert "**What.**" in answer and "```diff" in answer
        done = answer[answer.index("**Done right.**") :]
        found = re.findall(r"`((?:data/)?\w+\.py)`: `(\w+)", done)
        assert found, name
        for path, what in found:
            assert re.search(
                rf"^(def |class )?{what}\b", (ROOT / path).read_text(encoding="utf-8"), re.M
            ), (path, what)
