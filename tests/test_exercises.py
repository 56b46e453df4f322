"""Every stub fails, the shipped source passes the same check, and what check.py says."""

import contextlib
import inspect
import io
import re
import shutil
import signal
import subprocess
import sys

import pytest
import torch

import loss
from data.tokenizer import _merge
from exercises import check
from exercises.check import EXERCISES
from exercises.checks.check_03_sampler import kept
from exercises.checks.check_06_gradient import divergence_gradient
from exercises.harness import Wrong, compare, logs
from report.explain import attribute
from tiny import ROOT

FOLDER = ROOT / "exercises"
ENTRIES = {e.number: e for e in EXERCISES}


@pytest.mark.parametrize("number", ENTRIES)
def test_the_stub_fails_and_the_shipped_source_passes(number):
    _, _, file, test, shipped = ENTRIES[number]
    names = [f.__name__ for f in shipped]
    assert check.run(test, file, names=names) == "not written yet"
    assert check.run(test, file, shipped) == ""


@pytest.mark.parametrize("number", ENTRIES)
def test_the_text_of_an_exercise_fits_the_source(number):
    _, _, file, _, shipped = ENTRIES[number]
    module = {"__name__": "stub"}
    text = (FOLDER / file).read_text(encoding="utf-8")
    exec(compile(text, file, "exec"), module)
    doc = module["__doc__"]
    assert doc.startswith(f"{number}. ") and re.search(
        r"about \d+ lines, \d+ minutes", doc.split("\n")[0]
    )
    assert "By hand: " in doc and f"python -m exercises.check {number}" in doc
    for f in shipped:
        assert list(inspect.signature(module[f.__name__]).parameters) == list(
            inspect.signature(f).parameters
        )
    for path, name in re.findall(r"((?:data/|report/)?\w+\.py): (\w+)", doc):
        assert re.search(
            rf"^(def |class )?{name}\b", (ROOT / path).read_text(encoding="utf-8"), re.M
        ), (path, name)
    assert re.search(r"(lives? in|spread over) (data/|report/)?\w+\.py", doc)
    assert max(map(len, text.split("\n"))) <= 120


HAND = {
    1: ["aa a b", "3 tokens"],
    2: ["mean is 5", "4."],
    3: ["0.685", "0.735"],
    4: ["positions 1, 2, 3", "6 7 8"],
    5: ["0.0367", "0.0444", "0.0100"],
    6: ["(-0.10, 0.10)", "-0.1297"],
    7: ["0.0367", "-0.0693", "(-0.1, 0.1)"],
    8: ["258 97 98 262", "258 97 98 259 53 32 99 262"],
    9: ["1.7321", "-0.5774", "0.5"],
    10: ["-0.0193", "+0.08", "-0.0273"],
    11: ["= 2.1", "2.5 = 1.6", "1 = 0.1", "3 = 2,", "3 = 0.5", "sum to 1.7", "alone to 2.5"],
}


def test_the_numbers_worked_by_hand():
    """The values in the texts, from the shipped functions. (The checks use them as literals,
    too.)"""
    for number, values in HAND.items():
        doc = (FOLDER / ENTRIES[number].file).read_text(encoding="utf-8")
        assert [v for v in values if v not in doc] == [], number
    assert _merge([b"a", b"a", b"a", b"b"], (b"a", b"a")) == [b"aa", b"a", b"b"]
    s, t = logs((0.8, 0.2)), logs((0.9, 0.1))
    assert [round(loss.token_divergence(s, t, beta=b).item(), 4) for b in (0.0, 1.0, 0.5)] == [
        0.0367,
        0.0444,
        0.0100,
    ]
    assert round(divergence_gradient(s, t, 1.0, 1.0)[0, 0].item(), 4) == -0.1297
    assert kept([0.5, 0.3, 0.15, 0.05], 0.5, None, None)[0] == pytest.approx(0.685, abs=5e-4)
    assert kept([0.5, 0.3, 0.15, 0.05], 0.5, 2, None)[0] == pytest.approx(0.735, abs=5e-4)
    log_p = {(): -3.0, ("A",): -1.0, ("B",): -2.5, ("A", "B"): -0.9}
    found = attribute(lambda chosen: torch.tensor([[log_p[chosen]]]), ("A", "B"))
    assert {k: [round(x, 4) for x in v.flatten().tolist()] for k, v in found.items()} == {
        "whole": [2.1],
        "left out": [1.6, 0.1],
        "alone": [2.0, 0.5],
    }


def learner(tmp_path, monkeypatch, number, body, head=""):
    """What check.py says of a copy of the stubs in which one has a body, its lines indented by
    4."""
    for e in EXERCISES:
        shutil.copy(FOLDER / e.file, tmp_path)
    file = tmp_path / ENTRIES[number].file
    stub = f'    raise NotImplementedError("exercise {number}: replace this line")'
    file.write_text(head + file.read_text(encoding="utf-8").replace(stub, body), encoding="utf-8")
    monkeypatch.setattr(check, "HERE", tmp_path)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = check.main([str(number)])
    return code, out.getvalue(), file


def test_a_solution_passes(tmp_path, monkeypatch):
    solution = """\
    from loss import token_divergence as t
    return t(student_logits, teacher_logits, beta=beta, temperature=temperature)"""
    assert learner(tmp_path, monkeypatch, 5, solution)[:2] == (0, "5 token divergence: passed\n")


def test_what_the_learner_sees_of_an_error(tmp_path, monkeypatch):
    body = "    first = word[0]\n    return first + 1 + 'x'"
    code, out, file = learner(tmp_path, monkeypatch, 1, body)
    number = file.read_text(encoding="utf-8").split("\n").index("    return first + 1 + 'x'") + 1
    assert code == 1 and "Traceback" not in out
    assert f"line {number} of 01_bpe_merge.py: TypeError" in out
    code, out, file = learner(tmp_path, monkeypatch, 9, "    return (")
    assert code == 1 and "of 09_advantages.py: SyntaxError" in out and "Traceback" not in out
    body = "    return [word[i] + word[i + 1] for i in range(len(word))]"
    code, out, _ = learner(tmp_path, monkeypatch, 1, body)
    case = "input     word [b'a', b'a', b'a', b'b'], pair"
    assert f"IndexError: list index out of range\n    {case}" in out
    code, out, _ = learner(tmp_path, monkeypatch, 4, "    raise SystemExit('bye')")
    assert code == 1 and "SystemExit: bye" in out


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs alarms")
def test_an_endless_loop_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(check, "SECONDS", 1)
    code, out, _ = learner(tmp_path, monkeypatch, 1, "    while True:\n        pass")
    assert code == 1 and "does a loop never end?\n    input     word" in out


def test_which_of_two_functions_is_missing(tmp_path, monkeypatch):
    file, stub = ENTRIES[8].file, '    raise NotImplementedError("exercise 8: replace this line")'
    body = """\
    from rubrics import prompt as p
    return p(question, rubric=rubric, answer=answer, solution=solution, task=task)"""
    text = (FOLDER / file).read_text(encoding="utf-8")
    assert text.count(stub) == 2
    (tmp_path / file).write_text(text.replace(stub, body, 1), encoding="utf-8")
    monkeypatch.setattr(check, "HERE", tmp_path)
    said = check.run(ENTRIES[8].check, file, names=["prompt", "encode"])
    assert said.startswith("encode is not written yet")


def test_the_digits_and_the_place_of_a_difference():
    a, b = torch.zeros(5, 4).double(), torch.zeros(5, 4).double()
    b[3, 1] = 2.5
    cases = (1.0, 1.00001, "expected  1.00001\n"), (b, a, "at [3, 1], where they differ most, 2.5")
    for got, expected, words in cases:
        with pytest.raises(Wrong) as error:
            compare("a case", got, expected)
        assert words in str(error.value)


def test_the_command_line(capsys):
    for bad in ("99", "five", "-1", "0"):
        assert check.main([bad]) == 2
        said = capsys.readouterr()
        assert said.out == "" and len(said.err.splitlines()) == 1
        assert f"'{bad}'" in said.err and "1 to 11" in said.err
    assert check.main([]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(ENTRIES) + 1 and lines[-1] == f"0 of {len(ENTRIES)} passed"
    assert all(line.endswith(": not written yet") for line in lines[:-1])


@pytest.mark.parametrize("script", [["exercises/check.py"], ["-m", "exercises.check"]])
def test_it_runs_as_a_script_and_as_a_module(script):
    command = [sys.executable, *script, "5"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == "5 token divergence: not written yet\n"
