"""What belongs together is checked by content: wrong pairings are refused or remade, never silent."""

import json
import os
import shutil
import time

import pytest
import torch

import evaluate
import rcsd
from data.files import write_lines
from data.sources import learned_rubrics, read_rows
from rubrics import Example
from trainer.checkpoints import load, save, weights_digest

TINY = dict(
    base_rows=300, stage1_questions=16, stage2_questions=16, test_questions=12, vocab_size=400,
    base_steps=4, base_tokens=1024, stage1_steps=2, stage2_steps=2, batch=4, n_embd=32, n_head=2,
    n_kv_head=1, head_dim=16, n_layer=1, mlp_width=32, max_new_tokens=12, max_seq_len=512,
    exposure_count=8, device="cpu",
)  # fmt: skip
FLAGS = ["--preset", "smoke"]
for name, value in TINY.items():
    FLAGS += ["--" + name.replace("_", "-"), str(value)]


def call(program, out, *words):
    return program.main([*words, "--out", str(out), *FLAGS])


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A finished and evaluated run."""
    out = tmp_path_factory.mktemp("provenance") / "first"
    for stage in ("data", "base", "stage1", "stage2"):
        assert call(rcsd, out, stage) == 0
    assert call(evaluate, out) == 0
    return out


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    """The same of another seed."""
    out = tmp_path_factory.mktemp("provenance") / "second"
    for stage in ("data", "base", "stage1", "stage2"):
        assert call(rcsd, out, stage, "--seed", "1") == 0
    return out


@pytest.fixture
def run(first, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(first, tmp_path / "run")


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refuse(capsys, run, program, *words):
    """The command ends with one line, exit code 2, and changes nothing. Returns the line."""
    before = snapshot(run)
    capsys.readouterr()
    assert call(program, run, *words) == 2
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith(program.__name__ + ".py: ")]
    assert len(lines) == 1 and "Traceback" not in error
    assert snapshot(run) == before
    return lines[0]


# ------------------------------------------------------------------------------- one part replaced
@pytest.mark.parametrize("name", ["base.pt", "data/tokenizer.txt", "data/base.jsonl"])
def test_a_part_of_another_seed_is_refused(first, second, run, capsys, name):
    shutil.copy(second / name, run / name)
    for program, words in ((rcsd, ["stage1", "--resume"]), (rcsd, ["stage2", "--resume"])):
        assert name.split("/")[-1] in refuse(capsys, run, program, *words)
    assert name.split("/")[-1] in refuse(capsys, run, evaluate)


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_a_base_of_the_same_settings_but_other_weights_is_refused(run, capsys, stage):
    content = load(run / "base.pt")
    content["model"]["norm.weight"][0] += 0.5
    save(run / "base.pt", content)
    assert "base.pt" in refuse(capsys, run, rcsd, stage, "--resume")
    assert "base.pt" in refuse(capsys, run, evaluate)


def test_one_changed_merge_in_the_tokenizer_is_refused(run, capsys):
    path = run / "data" / "tokenizer.txt"
    lines = path.read_text().splitlines()
    a, b = lines[-1].split(), lines[-2].split()
    lines[-1], lines[-2] = f"{b[0]} {a[1]}", f"{a[0]} {b[1]}"
    path.write_text("\n".join(lines[:-2] + [lines[-1], lines[-2]]) + "\n")
    for program, words in ((rcsd, ["base", "--resume"]), (rcsd, ["stage2", "--resume"])):
        assert "tokenizer.txt" in refuse(capsys, run, program, *words)
    assert "tokenizer.txt" in refuse(capsys, run, evaluate)


@pytest.mark.parametrize("name", ["test_new", "stage1", "stage2", "valid", "base"])
def test_a_changed_row_of_the_data_is_refused(run, capsys, name):
    path = run / "data" / f"{name}.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace("the", "teh", 1), encoding="utf-8")
    assert f"{name}.jsonl was changed" in refuse(capsys, run, evaluate)
    assert f"{name}.jsonl was changed" in refuse(capsys, run, rcsd, "stage2", "--resume")


@pytest.mark.parametrize("name", ["base", "stage1", "stage2"])
def test_a_flipped_bit_in_a_checkpoint_is_damage(run, capsys, name):
    content = torch.load(run / f"{name}.pt", weights_only=True)
    weight = content["model"]["embed.weight"].view(torch.int32)
    weight[3, 3] ^= 1
    torch.save(content, run / f"{name}.pt")
    assert f"{name}.pt: damaged" in refuse(capsys, run, evaluate)


def test_the_digest_sees_bits_shapes_names_and_types():
    a = {"x": torch.zeros(2, 3), "y": torch.ones(4)}
    others = [
        {"x": torch.zeros(3, 2), "y": torch.ones(4)},
        {"x": torch.zeros(2, 3), "z": torch.ones(4)},
        {"x": torch.zeros(2, 3, dtype=torch.float64), "y": torch.ones(4)},
        {"x": torch.tensor([[0, 0, 0], [0, 0, -0.0]]), "y": torch.ones(4)},
        {"x": torch.zeros(2, 3)},
    ]
    digests = {weights_digest(model) for model in [a, *others]}
    assert len(digests) == 6 and weights_digest(dict(reversed(a.items()))) == weights_digest(a)


# -------------------------------------------------------------------------------- results are fresh
def test_a_retrained_stage2_with_an_old_clock_gives_new_results(run, second):
    before = json.loads((run / "results.json").read_text(encoding="utf-8"))
    (run / "stage2.pt").unlink()
    assert call(rcsd, run, "stage2", "--method", "sft") == 0
    year_2000 = time.mktime((2000, 1, 1, 0, 0, 0, 0, 1, -1))
    os.utime(run / "stage2.pt", (year_2000, year_2000))
    assert call(evaluate, run) == 0
    after = json.loads((run / "results.json").read_text(encoding="utf-8"))
    assert after["settings"]["method"] == "sft" and before["settings"]["method"] == "rcsd"


def test_results_and_report_of_another_run_are_made_anew(run, first, second, capsys):
    assert call(evaluate, second, "--seed", "1") == 0
    for name in ("results.json", "report.json"):
        shutil.copy(second / name, run / name)  # newer than the checkpoints
    assert call(evaluate, run) == 0
    for name in ("results.json", "report.json"):
        mine, true = (
            json.loads((folder / name).read_text(encoding="utf-8")) for folder in (run, first)
        )
        for report in (mine, true):
            report.pop("made_from", None)
            report.pop("digest")
        assert str(mine).replace(str(run), "") == str(true).replace(str(first), ""), name


def test_results_that_are_of_this_run_are_kept(run):
    before = snapshot(run)
    assert call(evaluate, run) == 0
    assert {path.name for path, old in before.items() if path.read_bytes() != old} == set()


@pytest.mark.parametrize("text", ["{}", "[]", "null", "{", ""])
def test_a_broken_results_file_is_one_line(run, capsys, text):
    (run / "results.json").write_text(text)
    assert "results.json" in refuse(capsys, run, evaluate)


# ----------------------------------------------------------------- rubrics belong to their question
QUESTIONS = [
    {"question": f"What is the force on body {i}?", "answer": f"{i} N", "rubric": [
        {"title": "t", "description": f"Essential Criteria: uses {i}", "weight": 5}]}
    for i in range(2, 8)
]  # fmt: skip


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.mark.parametrize("change", ["first line deleted", "reordered", "moved to another file"])
def test_a_rubric_stays_with_its_question(tmp_path, change):
    rows = [
        {
            "id": f"c:{i + 1}",
            "question": row["question"],
            "problem": "",
            "text": f"5 Essential: uses {i}",
        }
        for i, row in enumerate(QUESTIONS)
    ]
    write(tmp_path / "rubrics.jsonl", rows)
    asked = QUESTIONS[1:] if change == "first line deleted" else QUESTIONS[::-1]
    stem = "other" if change == "moved to another file" else "c"
    examples = [Example(f"{stem}:{i + 1}", row["question"]) for i, row in enumerate(asked)]
    found = learned_rubrics(tmp_path / "rubrics.jsonl", examples)
    for e in examples:
        body = int(e.question.split()[-1].rstrip("?"))
        assert found[e.id].text() == f"5 Essential: uses {body - 2}"


def test_a_rubric_may_hold_any_character(tmp_path):
    """U+2028 and its like break a line for Python, not for JSON."""
    question, text = "a\u2028b\x85c?", "5 Essential: says d\u2029e"
    row = {"id": "q", "question": question, "text": text, "problem": ""}
    write_lines(tmp_path / "rubrics.jsonl", [json.dumps(row, ensure_ascii=False)])
    found = learned_rubrics(tmp_path / "rubrics.jsonl", [Example("mine", question)])
    assert found["mine"].text() == text


LEARNED = ("--rubrics", "learned")


def make_one_valid(run):
    """The tiny model writes no valid rubric; a run without any stops."""
    rows = (run / "rubrics.jsonl").read_text(encoding="utf-8").splitlines()
    valid = json.loads(rows[0]) | {"text": "5 Essential: uses a = b", "problem": ""}
    write_lines(run / "rubrics.jsonl", [json.dumps(valid), *rows[1:]])


def test_own_data_that_changes_between_the_stages_is_noticed(run, tmp_path, capsys):
    """The whole path: an edited question has no rubric, and the advice that is given does not loop."""
    path = tmp_path / "c.jsonl"
    write(path, QUESTIONS)
    for name in ("stage1.pt", "stage2.pt", "rubrics.jsonl"):
        (run / name).unlink()
    assert call(rcsd, run, "stage1", "--data", str(path)) == 0
    write(path, [{**QUESTIONS[0], "question": "What is the mass?"}, *QUESTIONS[1:]])
    assert "no rubric for question" in refuse(
        capsys, run, rcsd, "stage2", "--data", str(path), *LEARNED
    )
    advice = refuse(capsys, run, rcsd, "stage1", "--resume", "--data", str(path))
    assert "stage1.pt was made from another set of questions" in advice and "delete" in advice
    (run / "stage1.pt").unlink()
    assert call(rcsd, run, "stage1", "--resume", "--data", str(path)) == 0
    make_one_valid(run)
    assert call(rcsd, run, "stage2", "--data", str(path), *LEARNED) == 0
    moved = tmp_path / "elsewhere.jsonl"
    shutil.move(path, moved)  # the same content at another place is the same data
    assert call(rcsd, run, "stage2", "--resume", "--data", str(moved), *LEARNED) == 0
    write(moved, QUESTIONS)
    assert "set of questions" in refuse(
        capsys, run, rcsd, "stage1", "--resume", "--data", str(moved)
    )


def test_rubrics_by_another_writer_are_refused_and_then_written_anew(run, second, capsys):
    shutil.copy(second / "rubrics.jsonl", run / "rubrics.jsonl")
    (run / "stage2.pt").unlink()
    line = refuse(capsys, run, rcsd, "stage2", *LEARNED)
    assert "rubrics.jsonl was not written by the stage1.pt beside it" in line
    mine = json.loads((second / "rubrics.jsonl").read_text(encoding="utf-8").splitlines()[0])[
        "writer"
    ]
    assert call(rcsd, run, "stage1", "--resume") == 0
    rows = [
        json.loads(row) for row in (run / "rubrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert {row["writer"] for row in rows} == {load(run / "stage1.pt")["digest"]} != {mine}
    make_one_valid(run)
    assert call(rcsd, run, "stage2", *LEARNED) == 0


@pytest.mark.parametrize(
    "line", ["", "{", "[]", '{"id": "a"}', '{"id": 1, "question": 2, "text": 3, "problem": 4}']
)
def test_a_broken_line_of_rubrics_is_named(run, capsys, line):
    rows = (run / "rubrics.jsonl").read_text(encoding="utf-8").splitlines()
    (run / "rubrics.jsonl").write_text(
        "\n".join([rows[0], line, *rows[2:]]) + "\n", encoding="utf-8"
    )
    (run / "stage2.pt").unlink()
    assert "rubrics.jsonl:2: " in refuse(capsys, run, rcsd, "stage2", *LEARNED)
    assert call(rcsd, run, "stage1", "--resume") == 0  # as that line says: written anew
    assert len(read_rows(run / "rubrics.jsonl")) == len(rows)


def test_a_second_run_takes_the_settings_of_the_first(first, tmp_path):
    """No preset and no flags: the second run differs from the first in what is asked for alone."""
    assert (
        rcsd.main(["stage2", "--from", str(first), "--out", str(tmp_path), "--method", "sft"]) == 0
    )
    made, there = (load(out / "stage2.pt")["settings"] for out in (tmp_path, first))
    assert {name for name in made if made[name] != there[name]} == {"method"}
