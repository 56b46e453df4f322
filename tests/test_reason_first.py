"""--reason-first: an analysis in the teacher's prompt alone, and the same tokens scored."""

import json

import pytest
import torch

import rcsd
from base import load_base
from model import generate
from own_model import FLAGS, run
from pretrained.lora import add_lora
from pretrained.reason_first import reason_first
from pretrained.start import frozen_copy, load_tokenizer
from rubrics import analysis_prompt, behind_analysis, prompt, teacher_prompt
from step import distillation
from trainer.settings import Settings

FIRST = [*FLAGS, "--rubrics", "reference", "--reason-first", "9"]


def settings_of(mine):
    options = dict(max_seq_len=900, max_new_tokens=12, held_out=0.25, base_steps=0, device="cpu")
    return Settings(model=str(mine[0]), data=str(mine[1]), reason_first=9, **options)


def test_the_sections_of_an_analysis():
    teacher = prompt("Why?", answer="so")
    assert analysis_prompt(teacher) == [("question", "Why?"), ("answer", "so"), ("analyse", "")]
    assert behind_analysis(teacher, "look") == [*teacher[:2], ("analysis", "look"), ("solve", "")]


@pytest.mark.parametrize("lora", [0, 2])
def test_the_analysis_is_in_the_teachers_prompt_alone(mine, tmp_path, lora):
    """Oracles: the teacher asked for each analysis by itself; each rollout's loss by itself."""
    settings = settings_of(mine)
    tokenizer = load_tokenizer(tmp_path, settings)
    student = load_base(tmp_path, settings, torch.device("cpu"))[0]
    base = load_base(tmp_path, settings, torch.device("cpu"))[0]
    if lora:
        add_lora(student, lora, 4.0, seed=0)
        with torch.no_grad():
            for p in (p for p in student.parameters() if p.requires_grad):
                p.add_(0.3)
    teacher = frozen_copy(student) if lora else base
    examples = rcsd.training_questions("stage2", tmp_path, settings)[:4]

    def teachers(e):
        return teacher_prompt(e, "rubric", e.rubric)

    stage = rcsd.Stage("stage2", 1, 0.001, rcsd.METHODS["rcsd"], lambda e: prompt(e.question), teachers,
                       "correct", lambda r, text: False, lambda e: "")  # fmt: skip
    small = Settings(**vars(settings) | {"batch": 4})
    rollouts = rcsd.collect_rollouts(student, tokenizer, stage, examples, 0, small)
    before = [(r.prompt_ids, r.completion_ids, r.teacher_prompt_ids) for r in rollouts]
    reason_first(teacher, tokenizer, rollouts, teachers, settings)
    texts = set()
    for r, (prompt_ids, completion_ids, plain_ids) in zip(rollouts, before):
        assert r.prompt_ids == prompt_ids and r.completion_ids == completion_ids
        asked = tokenizer.encode_prompt(analysis_prompt(teachers(r.example)))
        (written,) = generate(base, [asked], max_new_tokens=9, eos=tokenizer.ends, temperature=0)
        text = tokenizer.decode_completion(written.ids)
        texts.add(text)
        expected = behind_analysis(teachers(r.example), text)
        assert r.teacher_prompt_ids == tokenizer.encode_prompt(expected) != plain_ids
    assert any(texts)
    n = sum(len(r.completion_ids) for r in rollouts)
    with torch.no_grad():
        together = distillation(student, teacher, rollouts, n, settings)[0]
        alone = [distillation(student, teacher, [r], n, settings)[0] for r in rollouts]
    assert together > 0 and torch.isclose(together, sum(alone), rtol=1e-4)


def test_a_run_with_it_counts_what_its_answers_mention(mine, tmp_path, capsys):
    more = ["--rubrics", "reference", "--reason-first", "9", "--lora-rank", "2"]
    for command in ("stage1", "stage2", "evaluate", "align"):
        assert run(mine, tmp_path, command, *more) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "Your analysis:" in said.partition("==== the teacher")[2]
    assert (
        "Your analysis:" not in said.partition("==== the student")[2].partition("==== the tea")[0]
    )
    answers = json.loads((tmp_path / "results_own.json").read_text("utf-8"))["answers"]
    assert "teacher, rubric, reason first" in answers
    for rows in answers.values():
        assert all("mentions" in row for row in rows)


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--model", ""], "--reason-first 9: expected --model"),
        (["--method", "grpo"], "--reason-first: grpo has no teacher"),
        (["--reason-first", "880"], "too long"),
    ],
)
def test_what_makes_no_sense_is_one_line(mine, flags, said, tmp_path, capsys):
    argv = ["stage2", "--model", str(mine[0]), "--data", str(mine[1]), "--out", str(tmp_path)]
    assert rcsd.main([*argv, "--base-steps", "0", *FIRST, *flags]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
