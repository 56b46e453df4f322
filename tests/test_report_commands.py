"""evaluate.py: the report, its summary, and explain, with its errors."""

import copy
import json
import os
import re
import shutil
from dataclasses import replace

import pytest

import evaluate
from data.load import load_examples
from data.reading import read_json, write_json
from data.tokenizer import encode
from loss import token_divergence
from model import generate
from pages import LINES, QUESTION, Reader, plain_logits
from report import explain, terminal, write
from rubrics import prompt
from tiny import FLAGS, link_run
from trainer.checkpoints import load, save
from trainer.settings import Settings


def test_the_report_is_made_once_and_drawn_again(finished, tmp_path, capsys):
    out = link_run(finished, tmp_path / "run")
    for name in ("results.json", "report.json"):
        shutil.copy(finished / name, out / name)
    os.utime(out / "report.json")
    before = json.loads((out / "report.json").read_text())
    assert evaluate.main(["--out", str(out), *FLAGS]) == 0
    assert f"report: {out / 'report.html'}" in capsys.readouterr().out.splitlines()
    assert (out / "report.html").read_text() == (finished / "report.html").read_text()
    assert json.loads((out / "report.json").read_text()) == before
    assert json.loads(
        (finished / "report.json").read_text(), parse_constant=lambda name: pytest.fail(name)
    )


def test_a_summary_of_several_runs_has_a_page_with_bands_if_it_is_told_where(
    finished, tmp_path, capsys
):
    assert evaluate.main(["--summary", str(finished), str(finished)]) == 0
    assert "report" not in capsys.readouterr().out
    assert (
        evaluate.main(["--summary", str(finished), str(finished), "--out", str(tmp_path / "all")])
        == 0
    )
    html = (tmp_path / "all" / "report.html").read_text()
    assert "±" in html and "<polygon" in html and "standard deviation" in html
    assert "<polygon" not in (finished / "report.html").read_text()


def explained(out, *more):
    return evaluate.main(["explain", "--out", str(out), *FLAGS, *map(str, more)])


def test_explain_prints_in_colour_and_writes_the_page(finished, tmp_path, capsys):
    out = link_run(finished, tmp_path / "run")
    (tmp_path / "r.txt").write_text(LINES + "\n", encoding="utf-8")
    assert explained(out, "--question", QUESTION, "--rubric", tmp_path / "r.txt") == 0
    plain = capsys.readouterr().out
    assert (
        "\x1b" not in plain
        and QUESTION in plain
        and "mass × acceleration" in plain
        and str(out / "explain.html") in plain
    )
    assert QUESTION in " ".join(Reader((out / "explain.html").read_text(encoding="utf-8")).text)
    found = json.loads((out / "explain.json").read_text(encoding="utf-8"))["examples"][0]
    assert [len(a["effects"]["logprob"]["alone"]) for a in found["answers"]] == [3] * len(
        found["answers"]
    )
    if len(found["answers"]) == 1:
        assert found["answers"][0]["by"] == "base and student, greedy"
    loud = {"examples": [copy.deepcopy(found)]}
    loud["examples"][0]["answers"][0]["tokens"][0]["before"]["divergence"] = 9.0
    painted = terminal.terminal(loud, True)
    assert f"\x1b[48;5;{terminal.SHELL_SHADES[5][0]}m" in painted and "shades" in painted
    assert re.sub(r"\x1b\[[\d;]*m", "", painted).startswith(terminal.terminal(loud, False))


def test_without_a_question_it_takes_the_one_that_the_rubric_changes_most(finished, tmp_path):
    """By hand: each question's greedy answer alone, its divergence by `token_divergence` from plain
    logits."""
    out = link_run(finished, tmp_path / "run")
    assert explained(out) == 0
    shown = json.loads((out / "explain.json").read_text(encoding="utf-8"))["examples"][0]
    run = explain.open_run(
        out, replace(Settings(), **load(out / "stage2.pt")["settings"], device="cpu")
    )
    changes = {}
    for e in load_examples(out / "data" / "test_new.jsonl")[0]:
        ids = generate(
            run.base,
            [encode(run.tokenizer, prompt(e.question))],
            eos=run.tokenizer.eos,
            temperature=0,
            max_new_tokens=run.settings.max_new_tokens,
        )[0].ids
        own, seen = (
            plain_logits(run, run.base, prompt(e.question, rubric=r), ids) for r in (None, e.rubric)
        )
        changes[e.question] = token_divergence(own, seen).mean().item()
    assert len(changes) > 3 and changes[shown["question"]] == pytest.approx(
        max(changes.values()), rel=1e-4
    )
    assert max(changes.values()) > 1.01 * min(changes.values())  # otherwise any choice would do


def test_explain_takes_json_and_finds_the_question(finished, tmp_path):
    out, path = link_run(finished, tmp_path / "run"), finished / "data" / "test_new.jsonl"
    examples = load_examples(path)[0]
    assert write.own_question(examples[3].question, path) == (
        examples[3].question,
        examples[3].rubric,
    )
    assert write.own_question(None, path) == (examples[0].question, examples[0].rubric)
    one = tmp_path / "one.json"
    one.write_text(examples[2].to_json(), encoding="utf-8")
    assert write.own_question("Mine?", one) == ("Mine?", examples[2].rubric)
    assert explained(out, "--rubric", one) == 0
    with pytest.raises(ValueError, match="none of them this --question"):
        write.own_question("Mine?", path)


@pytest.mark.parametrize(
    "rubric, question, expected",
    [
        (None, "Why?", "missing.txt: expected a file"),
        ("no rubric at all", "Why?", "line 1: expected 'weight Category"),
        ("3 Important: a", "Why?", "no Essential criterion"),
        (LINES, "why? " * 300, "500"),
        (LINES, " ", "--question"),
        ("{}", "Why?", "usable row"),
        ('{"question": "a", "answer": "b"}', "Why?", "with a rubric"),
        (b"\xff\xfe", "Why?", "UTF-8"),
        ("", "Why?", "line 1"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    finished, capsys, tmp_path, rubric, question, expected
):
    path = tmp_path / "missing.txt"
    if rubric is not None:
        path.write_bytes(rubric if isinstance(rubric, bytes) else rubric.encode())
    assert explained(finished, "--question", question, "--rubric", path) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("evaluate.py: ") and expected in lines[0]
    assert not (finished / "explain.html").exists()


def test_an_unfinished_or_missing_stage_is_one_line(finished, capsys, tmp_path):
    out = link_run(finished, tmp_path / "run")
    (tmp_path / "r.txt").write_text(LINES, encoding="utf-8")
    assert explained(out, "--question", "Why?") == 2
    (out / "stage2.pt").unlink()
    assert explained(out, "--question", "Why?", "--rubric", tmp_path / "r.txt") == 2
    save(out / "stage2.pt", load(finished / "stage2.pt") | {"step": 2})
    assert explained(out, "--question", "Why?", "--rubric", tmp_path / "r.txt") == 2
    no_rubric, missing, unfinished = capsys.readouterr().err.splitlines()
    assert (
        "no such checkpoint" in missing and "step 2 of 3" in unfinished and "--rubric" in no_rubric
    )


def test_flags_of_explain_need_its_name(capsys):
    with pytest.raises(SystemExit) as stopped:
        evaluate.main(["--question", "Why?"])
    assert stopped.value.code == 2 and len(capsys.readouterr().err.splitlines()) == 1


def test_a_summary_of_runs_whose_test_sets_lack_a_kind_has_a_dash_there(finished, tmp_path, capsys):
    results = read_json(finished / "results.json")
    kind = next(iter(results["kinds"]["base"]["new laws"]))
    for by_group in results["kinds"].values():
        del by_group["new laws"][kind]
    results["questions"]["new laws"] += 1
    other = link_run(finished, tmp_path / "other")
    write_json(other / "results.json", results)
    for order in ([finished, other], [other, finished]):
        words = ["--summary", *map(str, order), "--out", str(tmp_path / "both")]
        assert evaluate.main(words) == 0
        row = next(
            line for line in capsys.readouterr().out.splitlines() if f"new laws, {kind}" in line
        )
        assert row.count("nan ± nan") == len(results["accuracy"])
    report = read_json(tmp_path / "both" / "report.json")
    rows = {row["label"]: row for row in report["table"][0]["rows"]}
    assert rows[f"  new laws, {kind}"]["cells"][0] == [None, None]
    assert rows["new laws"]["n"] is None and rows["known laws"]["n"] > 0
    assert "nan" not in (tmp_path / "both" / "report.html").read_text()
