"""One's own model and questions through the commands, with a random model of a few thousand weights."""

import json
import re

import pytest
import torch

import rcsd
from data import load as load_file
from data.split import training_questions
from own_model import FLAGS, run
from pretrained import save
from pretrained.tokenizer import ChatTokenizer
from pretrained.weights import load_pretrained
from rubrics import prompt
from tiny import flags as tiny_flags
from trainer.checkpoints import load, load_model
from trainer.lengths import LengthCheck, what_fits
from trainer.settings import Settings

WARMED_UP = dict(base_rows=60, base_steps=1, stage1_questions=4, stage2_questions=4)
WARMED_UP |= dict(test_questions=4, exposure_count=4, vocab_size=300, rubrics="reference")


def test_both_stages_and_the_yardsticks_run_on_ones_own_questions(own_run):
    results = json.loads((own_run / "results_own.json").read_text("utf-8"))
    asked = {row["id"] for row in results["answers"]["student"]}
    assert 0 < len(asked) < 24
    teachers = {"teacher, rubric", "teacher, answer", "teacher, rubric+answer"}
    assert {"base", "student"} | teachers == set(results["answers"])
    page = (own_run / "report.html").read_text("utf-8")
    assert "Token by token" in page and "Stage I" in page
    assert "right answers, %" in page and "held-out questions" in page
    # The same question is never trained on and tested.
    rubrics = (own_run / "rubrics.jsonl").read_text("utf-8").splitlines()
    trained = {json.loads(line)["question"] for line in rubrics}
    tested = {f"What is {int(id.rpartition(':')[2]) - 1} + 1?" for id in asked}
    assert trained and not trained & tested


@pytest.mark.parametrize("method", ["rcsd", "reverse-kl-pg"])
def test_the_adapter_alone_is_trained_and_kept_and_merged_on_the_way_back(
    mine, method, tmp_path, capsys
):
    more = ["--lora-rank", "2", "--method", method, "--rubrics", "reference", "--lr", "0.1"]
    assert run(mine, tmp_path, "stage2", *more) == 0, capsys.readouterr().err
    path, folder = tmp_path / "stage2.pt", tmp_path / "student"
    names = load(path)["model"].keys()
    assert names and all(name.endswith((".A", ".B")) for name in names)
    assert save.main([str(path), str(folder)]) == 0, capsys.readouterr().err
    assert {p.name for p in folder.iterdir()} == {p.name for p in mine[0].glob("[!r]*")}
    size, ids = ChatTokenizer(folder).vocab_size, torch.arange(40)[None]
    with torch.no_grad():
        student = load_model(path, torch.device("cpu"))
        saved = load_pretrained(folder, 900, torch.float32, size)
        base = load_pretrained(mine[0], 900, torch.float32, size)
        hidden = [model(ids) for model in (student, saved, base)]
    assert torch.allclose(hidden[0], hidden[1], atol=1e-4)
    assert not torch.allclose(hidden[0], hidden[2], atol=1e-2)
    assert save.main([str(path), str(folder)]) == 2 and "already" in capsys.readouterr().err
    assert save.main([str(path), str(tmp_path / "b"), "--dtype", "bfloat16"]) == 0
    assert json.loads((tmp_path / "b" / "config.json").read_text())["torch_dtype"] == "bfloat16"


def test_an_adapter_goes_back_on_the_base_that_it_was_trained_on(mine, tmp_path, capsys):
    argv = ["--model", str(mine[0]), "--out", str(tmp_path), *tiny_flags(WARMED_UP), *FLAGS]
    for command in ("data", "base", "stage2"):
        more = [] if command == "base" else ["--lora-rank", "2"]
        assert rcsd.main([command, *argv, *more]) == 0, capsys.readouterr().err
    base = load_model(tmp_path / "base.pt", torch.device("cpu"))
    student = load_model(tmp_path / "stage2.pt", torch.device("cpu"))
    assert torch.equal(student.blocks[0].q.frozen.weight, base.blocks[0].q.weight)


def test_a_base_warmed_up_on_the_corpus_goes_on_with_ones_own_questions(mine, tmp_path, capsys):
    """At a rate of next to nothing the student stays what it starts from: base.pt, not the folder."""
    more = [*tiny_flags(WARMED_UP), "--lr", "1e-6", "--base-lr", "0.01"]
    for command in ("data", "base", "stage2", "evaluate"):
        assert run(mine, tmp_path, command, *more) == 0, capsys.readouterr().err
    student = load_model(tmp_path / "stage2.pt", torch.device("cpu")).blocks[0].q.weight
    base = load_model(tmp_path / "base.pt", torch.device("cpu")).blocks[0].q.weight
    folder = load_pretrained(mine[0], 900, torch.float32).blocks[0].q.weight
    assert torch.allclose(student, base, atol=1e-5) and not torch.allclose(base, folder, atol=1e-4)
    results = json.loads((tmp_path / "results_own.json").read_text("utf-8"))
    ids = {row["id"] for row in results["answers"]["student"]}
    assert ids and all(id.startswith(f"{mine[1].stem}:") for id in ids)


@pytest.mark.parametrize(
    "more, said",
    [
        (["--method", "opsd"], "has none|no question|solution"),
        (["--method", "sft"], "--method sft needs a solution"),
        (["--thinking", "both", "--model", "nowhere"], "nowhere"),
        (["--max-seq-len", "40", "--max-new-tokens", "12"], "too long|no question"),
        (["--lora-rank", "2", "--model", ""], "--lora-rank|--base-steps"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(mine, more, said, tmp_path, capsys):
    assert run(mine, tmp_path, "stage2", "--rubrics", "reference", *more) == 2
    error = capsys.readouterr().err
    assert re.search(said, error) and error.count("\n") == 1


def test_align_shows_both_sides(mine, tmp_path, capsys):
    assert run(mine, tmp_path, "align") == 0
    said = capsys.readouterr().out
    assert "the student reads" in said and "Essential: says" in said and "nats a token" in said
    assert "the same completion ids follow both" in said
    assert run(mine, tmp_path, "align", "--thinking", "teacher") == 0
    assert "the teacher does not (--thinking)" in capsys.readouterr().out


def test_questions_without_rubrics_are_trained_on_and_tested_too(mine, tmp_path, capsys):
    """Of 40 sums a third has an answer that no program can check."""
    rows = [{"question": f"{i} + 1?", "answer": f"{i + 1}" if i % 3 else "so"} for i in range(40)]
    path = tmp_path / "sums.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    more = ["--method", "grpo", "--group-size", "2"]
    for command in ("stage1", "stage2", "evaluate"):
        assert run((mine[0], path), tmp_path, command, *more) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "stage1: left out" in said and "--method grpo needs an answer to check: left out" in said
    assert "right answers, %" in said and "valid rubrics" not in said
    assert run((mine[0], path), tmp_path / "b", "stage1") == 2  # rcsd reads learned rubrics
    error = capsys.readouterr().err
    assert "stage I needs a rubric" in error and "(--method grpo)" in error


def test_the_loader_says_what_fits_a_model(mine, capsys):
    """Oracle: the same prompts, encoded here; of 24 rows, some are held out."""
    load_file.main([str(mine[1]), "--model", str(mine[0]), *FLAGS])
    said = capsys.readouterr().out
    settings = Settings(model=str(mine[0]), data=str(mine[1]), held_out=0.25)
    tokenizer = ChatTokenizer(mine[0])
    asked = training_questions("stage2", mine[0], settings)
    longest = max(len(tokenizer.encode_prompt(prompt(e.question))) for e in asked)
    assert re.search(rf"stage2: student +{len(asked)} +{longest} +888 +0\n", said)
    n = len(asked)
    assert f"of {n} questions {n} have a rubric (--rubrics reference), {n} have an answer" in said
    assert "--max-seq-len 1024 keeps 100% of stage1, 100% of stage2" in said
    assert said.count("==== row") == 9
    for e in asked[:3]:
        assert said.count(e.question) == 2 and f"the reference\n{e.answer}" in said


def test_shares_that_other_lengths_keep():
    """By hand: 700 + 256 fit into 1024, 1000 + 256 do not."""
    checks = [LengthCheck("stage2", "student", "prompt", [100, 700, 1000, 5000])]
    checks.append(LengthCheck("stage2", "reference to write", "completion", [0, 10, 600, 3000]))
    said = what_fits(checks, Settings(max_seq_len=1024, max_new_tokens=256))
    assert "--max-seq-len 512 keeps 25% of stage2\n--max-seq-len 1024 keeps 50%" in said
    assert (
        "--max-seq-len 2048 keeps 75%" in said and "--max-new-tokens 512 has room for 33%" in said
    )


def test_flags_of_a_model_need_a_model(mine, capsys):
    with pytest.raises(SystemExit) as end:
        load_file.main([str(mine[1]), "--max-seq-len", "2048"])
    assert end.value.code == 2 and "--max-seq-len" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        load_file.main([str(mine[1]), "--model", "nowhere"])
    error = capsys.readouterr().err
    assert end.value.code == 2 and "nowhere" in error and error.count("\n") == 1
