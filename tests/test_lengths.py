"""Lengths are counted before the first step; what does not fit is left out, counted, or refused.

Every refusal names flags. A test takes them at their word: with them the run goes to its end.
"""

import json
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import evaluate
import rcsd
from data.tokenizer import read_tokenizer
from rubrics import prompt
from step import greedy
from tiny import FLAGS, TINY, link_inputs, read_log, tiny_model
from trainer.checkpoints import load, save
from trainer.lengths import LengthCheck, advice, check_lengths, table
from trainer.settings import Settings


def call(program, out, *words):
    """A command with the tiny settings in this process; flags that come later win."""
    command = [w for w in words[:1] if not w.startswith("-")]
    return program.main([*command, "--out", str(out), *FLAGS, *words[len(command) :]])


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def flags_in(text):
    """The ways to keep all that a message names: lists of flags."""
    ways = text.split("to keep all: ")[1].split("\n")[0]
    return [re.findall(r"--[a-z-]+ \d+", way) for way in re.split(r", or ", ways)]


def questions(count=8):
    return [{"question": f"What is {i} + {i}?", "answer": f"{2 * i}", "solution": f"It is {2 * i}."}
            for i in range(count)]  # fmt: skip


# --------------------------------------------------------------------------------------- each stage
def test_sft_leaves_out_a_solution_that_is_too_long(finished, tmp_path, capsys):
    rows = questions()
    rows[5]["solution"] = "very " * 600
    write(tmp_path / "mine.jsonl", rows)
    out = tmp_path / "out"
    link_inputs(finished, out, "base.pt")
    flags = ("--data", str(tmp_path / "mine.jsonl"), "--method", "sft")
    assert call(rcsd, out, "stage2", *flags) == 0
    said = capsys.readouterr().out
    assert "stage2: dropped 1 of 8 questions, too long" in said
    assert re.search(r"stage2: question and solution +8 +[\d,]+ +512 +1\n", said)
    asked = {row["sample"]["question"] for row in read_log(out / "stage2.jsonl")}
    assert rows[5]["question"] not in asked and len(read_log(out / "stage2.jsonl")) == 3
    assert call(rcsd, out, "stage2", "--resume", *flags) == 0


def test_rows_of_stage_0_that_are_left_out_are_counted(finished, tmp_path, capsys):
    """The count by hand: the tokens of each row, and one for each section and the end."""
    link_inputs(finished, tmp_path / "out")
    tokenizer, needs = read_tokenizer(finished), []
    for row in read_log(finished / "data" / "base.jsonl"):
        needs.append(sum(1 + len(tokenizer.encode(text)) for _, text in row["sections"]) + 1)
    room = max(needs) - 40
    flags = ("--max-seq-len", str(room), "--max-new-tokens", "1", "--base-steps", "1")
    assert call(rcsd, tmp_path / "out", "base", *flags) == 0
    said, fit = capsys.readouterr().out, [n for n in needs if n <= room]
    assert 0 < len(fit) < len(needs)
    left_out = len(needs) - len(fit)
    assert re.search(rf"base: corpus +{len(needs)} +{max(needs)} +{room} +{left_out}\n", said)
    assert f" {len(fit):,} rows, {sum(fit):,} tokens" in said


def test_a_small_context_is_refused_before_stage_0_and_the_flag_that_is_named_helps(
    finished, tmp_path, capsys
):
    link_inputs(finished, tmp_path / "out")
    small = ("--max-seq-len", "60", "--max-new-tokens", "12")
    assert call(rcsd, tmp_path / "out", "base", *small) == 2
    said = capsys.readouterr()
    assert re.match(r"rcsd.py: (tests|validation): \d+ of \d+ prompts are too long", said.err)
    assert said.err.count("\n") == 1 and "too long" in said.out
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"data"}
    for i, way in enumerate(flags_in(said.err)):
        out = tmp_path / f"way{i}"
        link_inputs(finished, out)
        steps = ("--base-steps", "1", "--stage1-steps", "1", "--stage2-steps", "1")
        flags = [*small, *" ".join(way).split(), *steps]
        for stage in ("base", "stage1", "stage2"):
            assert call(rcsd, out, stage, *flags) == 0, way
        assert call(evaluate, out, *flags) == 0
        assert re.search(r"base: corpus .* 0\n|longest prompt", capsys.readouterr().out)


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_answers_too_long_for_the_context_are_refused_with_a_flag_that_keeps_the_base(
    finished, tmp_path, capsys, stage
):
    out = tmp_path / "out"
    link_inputs(finished, out, "base.pt")
    assert call(rcsd, out, stage, "--max-new-tokens", "500") == 2
    said = capsys.readouterr().err
    ways = flags_in(said)
    assert ways[0][0].startswith("--max-new-tokens") and "another --out" in said.splitlines()[-1]
    assert not (out / f"{stage}.pt").exists()
    assert call(rcsd, out, stage, *" ".join(ways[0]).split()) == 0
    assert " 0\n" not in capsys.readouterr().err


def test_questions_that_are_all_too_long_are_refused_before_any_stage(finished, tmp_path, capsys):
    rubric = [{"title": "t", "description": "Essential: uses a = b", "weight": 5}]
    write(tmp_path / "long.jsonl", [{"question": "why? " * 500, "answer": "so", "rubric": rubric}])
    for stage, links in (("base", ()), ("stage1", ("base.pt",)), ("stage2", ("base.pt",))):
        out = tmp_path / stage
        link_inputs(finished, out, *links)
        assert call(rcsd, out, stage, "--data", str(tmp_path / "long.jsonl")) == 2
        said = capsys.readouterr().err
        assert "every row is too long" in said and "the room is 500" in said
        assert "--max-seq-len" in said and said.count("\n") == 1
        assert not (out / f"{stage}.pt").exists()


def test_evaluation_ends_with_its_table_though_no_prompt_fits(finished, tmp_path, capsys):
    """A run of older code, whose context is smaller than some test questions."""
    out = tmp_path / "out"
    link_inputs(finished, out, "base.jsonl", "stage1.jsonl", "stage2.jsonl")
    tokenizer, needs = read_tokenizer(out), {}
    for row in read_log(out / "data" / "test_known.jsonl"):
        sections = prompt(row["question"])
        needs[row["id"]] = sum(1 + len(tokenizer.encode(text)) for _, text in sections)
    small = sorted(needs.values())[3]
    for name in ("base", "stage1", "stage2"):
        content = load(finished / f"{name}.pt")
        content["config"]["max_seq_len"] = content["settings"]["max_seq_len"] = small
        save(out / f"{name}.pt", content)
    assert call(evaluate, out, "--max-new-tokens", "12") in (0, 2)  # the report may lack examples
    said = capsys.readouterr().out
    assert "known laws" in said and "tests: student" in said and "tests: teacher, learned" in said
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    for row in results["answers"]["student"]:
        if needs.get(row["id"], 0) > small:
            assert (row["text"], row["length"], row["truncated"]) == ("", 0, True)


def test_a_prompt_longer_than_the_context_gets_no_answer():
    model, tokenizer = tiny_model(max_seq_len=8), None

    class Letters:
        eos, ends = 1, {1}

        def decode_completion(self, ids):
            return " ".join(map(str, ids))

    tokenizer = Letters()
    settings = Settings(max_seq_len=8, max_new_tokens=3)
    prompts = [[2] * 9, [3] * 4, [4] * 8, [5] * 30, [6]]
    with torch.no_grad():
        found = greedy(model, tokenizer, prompts, settings)
        alone = greedy(model, tokenizer, [[3] * 4, [6]], settings)
    assert found[0] == found[3] == found[2] == ("", True, 0)
    assert [found[1], found[4]] == alone and alone[0][2] > 0


# ------------------------------------------------------------------------------------ what is named
def test_what_is_named_keeps_all_whatever_the_lengths():
    rng, tried = random.Random(0), 0
    for _ in range(500):
        context = rng.randint(20, 300)
        settings = Settings(max_seq_len=context, max_new_tokens=rng.randint(1, context - 1))
        checks = []
        for kind in ("prompt", "row", "completion", "prompt"):
            needs = [rng.randint(1, rng.choice((10, 100, 300))) for _ in range(rng.randint(1, 5))]
            if rng.random() < 0.8:
                checks.append(LengthCheck("set", kind, kind, needs))
        if not checks:
            continue
        for way in flags_in(advice(checks, settings, Path("nowhere"))):
            tried += 1
            changes = {}
            for flag in way:
                name, value = flag.removeprefix("--").split()
                changes[name.replace("-", "_")] = int(value)
            better = replace(settings, **changes)
            for r in checks:
                longest, written = max(r.num_tokens), better.max_new_tokens
                if r.kind == "prompt":
                    assert longest + written <= better.max_seq_len
                else:
                    assert longest <= (better.max_seq_len if r.kind == "row" else written)
    assert tried > 500


def test_the_table_has_a_line_for_each_reader():
    settings = Settings(max_seq_len=100, max_new_tokens=30)
    checks = [
        LengthCheck("stage1", "teacher", "prompt", [70, 71, 5, 0]),
        LengthCheck("base", "corpus", "row", [1000, 100, 101]),
        LengthCheck("stage1", "reference to write", "completion", [30]),
    ]
    assert [line.split() for line in table(checks, settings).splitlines()] == [
        "lengths in tokens rows longest room too long".split(),
        "stage1: teacher 3 71 70 1".split(),
        "base: corpus 3 1,000 100 2".split(),
        "stage1: reference to write 1 30 30 0".split(),
    ]


@pytest.mark.parametrize("long", [1, 3])
def test_one_row_in_two_hundred_needs_a_line_and_three_a_table(long, capsys, tmp_path):
    checks = [
        LengthCheck("stage1", "teacher", "prompt", [20] * 200),
        LengthCheck("stage1", "reference to write", "completion", [31] * long + [30] * 199),
    ]
    check_lengths(checks, Settings(max_seq_len=100, max_new_tokens=30), tmp_path, "stage1")
    said = capsys.readouterr().out.splitlines()
    if long == 1:
        assert said == [
            "lengths: 1 of 200 too long, cut (stage1: reference to write, 31 tokens, room 30)"
        ]
    else:
        assert said[0].startswith("lengths in tokens") and said[-1].startswith("to keep all")


def test_a_run_in_which_all_fits_says_so_in_one_line(finished, tmp_path, capsys):
    out = tmp_path / "out"
    link_inputs(finished, out, "base.pt")
    settings = ("--max-new-tokens", "200", "--stage1-steps", "1")
    assert call(rcsd, out, "stage1", *settings) == 0
    said = capsys.readouterr().out
    assert len(re.findall("^lengths", said, re.M)) == 1
    assert re.search(r"^lengths: the longest prompt has \d+ of 312 tokens \(", said, re.M)


# ------------------------------------------------------------------------ rubrics that are not valid
def test_stage2_counts_the_rubrics_it_had_to_replace(finished, tmp_path, capsys):
    out = tmp_path / "out"
    link_inputs(finished, out, "base.pt", "stage1.pt")
    rows = read_log(finished / "rubrics.jsonl")
    assert all(row["problem"] for row in rows)  # the tiny model writes no valid rubric
    write(out / "rubrics.jsonl", rows)
    assert call(rcsd, out, "stage2", "--rubrics", "learned") == 2
    said = capsys.readouterr().err
    assert "rubrics.jsonl: none of the 16 learned rubrics is valid" in said
    assert "--rubrics reference" in said and not (out / "stage2.pt").exists()
    for row in rows[3:8]:
        row |= {"text": "5 Essential: uses a = b", "problem": ""}
    write(out / "rubrics.jsonl", rows)
    assert call(rcsd, out, "stage2", "--rubrics", "learned") == 0
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if line.startswith("stage2: 16")] == [
        "stage2: 16 questions; rubrics: 5 learned, 11 invalid and replaced by the generic one"
    ]
    assert TINY["stage2_questions"] == 16
