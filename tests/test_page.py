"""The report: its numbers against independent ones, its page against what a page owes its readers, bad input."""
import copy
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from html import escape, unescape
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
import torch

import evaluate
import rcsd
from data.load import load_examples
from data.sources import noisy_rubric
from data.tokenizer import Tokenizer, encode, read_tokenizer, train_bpe
from loss import token_divergence
from model import generate
from report import explain, markup, page, panels, picture, terminal, write
from rubrics import Criterion, Example, Rubric, prompt
from trainer.checkpoints import load, save
from trainer.settings import Settings

TINY = dict(base_rows=300, stage1_questions=16, stage2_questions=16, test_questions=12, vocab_size=400, base_steps=6,
            base_tokens=1024, stage1_steps=3, stage2_steps=3, batch=4, n_embd=32, n_head=2, n_kv_head=1, head_dim=16,
            n_layer=1, mlp_width=32, max_new_tokens=12, max_seq_len=400, exposure_count=8)
FLAGS = ["--preset", "smoke", "--device", "cpu", *(f for k, v in TINY.items() for f in ("--" + k.replace("_", "-"), str(v)))]
ROOT = Path(__file__).resolve().parent.parent
LINES = "5 Essential: uses force = mass × acceleration\n3 Important: gives the answer in N\n-1 Pitfall: does not add"
QUESTION = "Is <b>1 & 2</b> \"a\" force?</script>"


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of random-looking models, evaluated; tests only read it or link to it."""
    out = tmp_path_factory.mktemp("page") / "run"
    for stage in ("data", "base", "stage1", "stage2"):
        assert rcsd.main([stage, "--out", str(out), *FLAGS]) == 0
    assert evaluate.main(["--out", str(out), *FLAGS]) == 0
    return out


@pytest.fixture(scope="module")
def run(finished):
    """Models far from uniform, and far from each other."""
    run = explain.open_run(finished, replace(Settings(), **load(finished / "stage2.pt")["settings"], device="cpu"))
    for seed, model in enumerate((run.base, run.student)):
        torch.manual_seed(seed)
        for p in model.parameters():
            p.data += 0.3 * torch.randn(p.shape)
    return run


@pytest.fixture(scope="module")
def report(finished):
    """Its report, with an answer more that is right, as a trained model would have."""
    made = json.loads((finished / "report.json").read_text(encoding="utf-8"))
    for e in made["examples"]:
        e["answers"] = [copy.deepcopy(e["answers"][0]) | {"right": right} for right in (True, False)]
    return made


def linked(finished, out, *names):
    out.mkdir()
    for name in ("data", *(f"{stage}.{kind}" for stage in ("base", "stage1", "stage2") for kind in ("pt", "jsonl")), *names):
        (out / name).symlink_to(finished / name)
    return out


# ------------------------------------------------------------------------- which criterion moves which token: a stub
CRITERIA = tuple(Criterion("", f"Essential: {name}", 5) for name in "abc")
MOVES = {c: torch.tensor([[1.0, 0.0, -2.0]]) * (i + 1) for i, c in enumerate(CRITERIA)}   # [M = 1, n = 3]


def additive(criteria):
    return torch.full((1, 3), -7.0) + sum((MOVES.get(c, 0.0) for c in criteria), torch.zeros(1, 3))


def redundant(criteria):
    """Saying it once is enough."""
    return additive(tuple(sorted(set(criteria), key=CRITERIA.index)))


def together(criteria):
    """Two that work only side by side."""
    return torch.ones(1, 3) * (CRITERIA[0] in criteria and CRITERIA[1] in criteria)


def test_additive_criteria_sum_to_the_whole_both_ways():
    found = explain.attribute(additive, CRITERIA)
    assert found["whole"].tolist() == [[6, 0, -12]]
    for way in ("left out", "alone"):
        assert found[way].shape == (3, 1, 3)
        assert torch.equal(found[way].sum(0), found["whole"]) and torch.equal(found[way][1], MOVES[CRITERIA[1]])


def test_a_criterion_that_repeats_another_adds_nothing_though_alone_it_does_all():
    found = explain.attribute(redundant, (CRITERIA[0], CRITERIA[0]))
    assert not found["left out"].any()
    assert all(torch.equal(found["alone"][i], found["whole"]) for i in (0, 1)) and found["whole"].any()


def test_criteria_that_work_only_together_each_take_all_away_and_alone_do_nothing():
    found = explain.attribute(together, CRITERIA)
    assert found["left out"].tolist() == [[[1, 1, 1]], [[1, 1, 1]], [[0, 0, 0]]] and not found["alone"].any()


def test_an_irrelevant_criterion_moves_nothing():
    found = explain.attribute(additive, (*CRITERIA, Criterion("", "Optional: is irrelevant", 1)))
    assert not found["left out"][3].any() and not found["alone"][3].any() and found["left out"][:3].any()


def test_each_context_is_scored_once_and_the_empty_one_is_no_rubric():
    asked = []
    explain.attribute(lambda criteria: asked.append(criteria) or torch.zeros(1, 1), CRITERIA)
    assert len(asked) == len(set(asked)) and set(asked) == {
        (), CRITERIA, CRITERIA[1:], CRITERIA[:2], (CRITERIA[0], CRITERIA[2]), *((c,) for c in CRITERIA)}


# ------------------------------------------------------------------------------------ the same with a (random) model
def plain_logits(run, model, sections, ids):
    """[n, V], one prefix at a time."""
    head = encode(run.tokenizer, sections)
    with torch.no_grad():
        return torch.stack([model(torch.tensor([head + ids[:t]]))[0, -1] @ model.head_weight.T for t in range(len(ids))])


IDS = [40, 41, 300, 77, 1]


def test_the_scorer_reads_the_teacher_after_the_prompt_with_just_these_criteria(run):
    run = replace(run, settings=replace(run.settings, beta=0.3, temperature=1.7))
    score, chosen = explain.scorer(run, "Why?", IDS), CRITERIA[:2]
    own = plain_logits(run, run.base, prompt("Why?"), IDS)
    for criteria in (chosen, CRITERIA[:1], ()):
        seen = plain_logits(run, run.base, prompt("Why?", rubric=Rubric(criteria) if criteria else None), IDS)
        wanted = (seen / 1.7).log_softmax(-1)[range(len(IDS)), IDS]
        torch.testing.assert_close(score(criteria)[0], wanted, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(score(criteria)[1], token_divergence(own, seen, beta=0.3, temperature=1.7), atol=1e-4, rtol=1e-3)
    assert score(())[1].abs().max() < 1e-6 and score(chosen)[1].max() > 0.01


def test_one_criterion_has_the_whole_effect_left_out_and_alone(run):
    found = explain.attribute(explain.scorer(run, "Why?", IDS), CRITERIA[:1])
    assert torch.equal(found["left out"][0], found["whole"]) and torch.equal(found["alone"][0], found["whole"])
    assert found["whole"].abs().max() > 0.01


def test_effects_on_tokens_sum_to_the_effect_on_the_answer(run):
    found = explain.answer(run, "Why?", Rubric(CRITERIA), IDS)["effects"]
    def total(criteria):
        return (plain_logits(run, run.base, prompt("Why?", rubric=Rubric(criteria)), IDS).log_softmax(-1)
                                  [range(len(IDS)), IDS]).sum().item()
    for i in range(3):
        rest = CRITERIA[:i] + CRITERIA[i + 1:]
        assert sum(found["logprob"]["left out"][i]) == pytest.approx(total(CRITERIA) - total(rest), abs=1e-3)


def test_controls_are_added_to_the_whole_rubric(run):
    found = explain.answer(run, "Why?", Rubric(CRITERIA), IDS)
    assert found["controls"] == [CRITERIA[0].description, explain.IRRELEVANT.description]
    score = explain.scorer(run, "Why?", IDS)
    wanted = score((*CRITERIA, CRITERIA[0])) - score(CRITERIA)
    for i, measure in enumerate(explain.MEASURES):
        assert found["effects"][measure]["control"][0] == wanted[i].tolist()
    used = len(encode(run.tokenizer, prompt("Why?", rubric=Rubric(CRITERIA))))
    none = explain.answer(replace(run, settings=replace(run.settings, max_seq_len=used + 8)), "Why?", Rubric(CRITERIA), IDS)
    assert none["controls"] == [] and none["effects"]["divergence"]["control"] == []


def test_the_strip_shows_what_both_models_think(run):
    run = replace(run, settings=replace(run.settings, clip=0.05, clip_mode="token"))
    rows, rubric = explain.strip(run, "Why?", Rubric(CRITERIA), IDS), Rubric(CRITERIA)
    seen = plain_logits(run, run.base, prompt("Why?", rubric=rubric), IDS)
    for name, own in (("before", plain_logits(run, run.base, prompt("Why?"), IDS)), ("teacher", seen),
                      ("after", plain_logits(run, run.student, prompt("Why?"), IDS))):
        divergence = token_divergence(own, seen)
        for t, row in enumerate(rows):
            p = own[t].softmax(-1)
            if name != "teacher":
                assert row[name]["divergence"] == pytest.approx(divergence[t].item(), abs=1e-4)
                assert row[name]["clipped"] == (divergence[t].item() > 0.05)
            assert row[name]["logprob"] == pytest.approx(p[IDS[t]].log().item(), abs=1e-4)
            assert row[name]["entropy"] == pytest.approx(-(p * p.log()).sum().item(), abs=1e-4)
            assert [q for _, q in row[name]["top"]] == pytest.approx(p.sort(descending=True).values[:5].tolist(), abs=1e-5)
            assert row[name]["top"][0][0] == run.tokenizer.decode([p.argmax().item()]).replace("\ufffd", "·")
            assert row["text"] == run.tokenizer.decode([IDS[t]])
    assert [row["before"]["logprob"] for row in rows] != [row["after"]["logprob"] for row in rows]


ANSWERS = {"one": "12 N", "two": "7 m", "three": "5 s"}


def test_the_question_shown_is_the_one_whose_wrong_answer_diverges_most(run, monkeypatch):
    """Four samples by hand, (text, cut), of each of the first two questions."""
    rubrics = {name: Rubric(CRITERIA[:i + 1]) for i, name in enumerate(ANSWERS)}
    examples = [Example(name, f"Question {name}?", answer=a) for name, a in ANSWERS.items()]
    monkeypatch.setattr(explain, "SAMPLES", 4)
    monkeypatch.setattr(explain, "TRIED", 2)

    def found(texts, kind="a kind"):
        def stub(model, prompts, tokenizer, settings, *seed):
            assert model is run.base and len(prompts) == 8
            assert prompts == [encode(run.tokenizer, prompt(e.question)) for e in examples[:2] for _ in range(4)]
            return [SimpleNamespace(ids=run.tokenizer.encode(text) + [run.tokenizer.eos] * (not truncated), truncated=truncated)
                    for text, truncated in texts]
        monkeypatch.setattr(explain, "rollout", stub)
        return explain.right_and_wrong(run, kind, examples, rubrics)

    def mean(e, text, truncated=False):
        ids = run.tokenizer.encode(text) + [run.tokenizer.eos] * (not truncated)
        own, seen = (plain_logits(run, run.base, prompt(e.question, rubric=r), ids) for r in (None, rubrics[e.id]))
        return token_divergence(own, seen).mean().item()

    def says(a):
        return "".join(t["text"] for t in a["tokens"]).replace(run.tokenizer.decode([run.tokenizer.eos]), "")
    one, two = ("Answer: 12 N", False), ("Answer: 7 m", False)
    wrong = [("Answer: 13 N", False), ("a = b", False), ("Answer: 8 N", True)]
    both = [wrong[0], one, *wrong[1:], two, wrong[1], wrong[0], two]   # the first wrong answer of each counts
    most = max(examples[:2], key=lambda e: mean(e, *(wrong[0] if e.id == "one" else wrong[1])))
    made = found(both)
    assert (made["id"], made["question"], made["answer"]) == (most.id, most.question, most.answer)
    assert (made["kind"], made["tried"], made["samples"]) == ("a kind", 2, 4)
    assert made["rubric"] == [{"weight": 5, "text": c.description} for c in rubrics[most.id].criteria]
    first_wrong = wrong[0] if most.id == "one" else wrong[1]
    assert [(a["right"], says(a)) for a in made["answers"]] == [(True, f"Answer: {most.answer}"), (False, first_wrong[0])]
    own, seen = (plain_logits(run, run.base, prompt(most.question, rubric=r), run.tokenizer.encode(first_wrong[0]))
                 for r in (None, rubrics[most.id]))
    assert [t["before"]["divergence"] for t in made["answers"][1]["tokens"]][:len(own)] == pytest.approx(
        token_divergence(own, seen).tolist(), abs=1e-4)
    for i, name in enumerate(ANSWERS):                                  # who alone has both is chosen, whatever diverges
        if i < 2:
            only = [wrong[1]] * 8
            only[4 * i + 2] = (one, two)[i]
            assert found(only)["id"] == name
    better = ("a = 12 N\nAnswer: 12 N", False)  # of several right answers the one that meets more of the rubric, if there is one
    plain = examples[0]
    checks = Criterion("a", "Essential: writes a", 3, "shows a = 12 N"), Criterion("b", "Optional: ends", 1, "answer-line")
    examples[0] = replace(plain, rubric=Rubric(list(checks)))
    for four in ([one, better, one, wrong[1]], [better, one, wrong[1], one]):
        assert says(found(four + [wrong[1]] * 4)["answers"][0]) == better[0]
    examples[1] = replace(examples[1], rubric=examples[0].rubric, answer=ANSWERS["one"])
    for first, second, name in ((one, better, "two"), (better, one, "one")):  # and of the questions, whatever diverges
        assert found([first] + [wrong[1]] * 3 + [second] + [wrong[1]] * 3)["id"] == name
    examples[:2] = plain, replace(examples[1], rubric=None, answer=ANSWERS["two"])
    assert says(found([one, better, wrong[1], wrong[1]] + [wrong[1]] * 4)["answers"][0]) == one[0]
    cut = found([wrong[1]] * 3 + [(f"Answer: {ANSWERS['one']}", True)] + [wrong[1]] * 4)   # right but for the missing end
    assert [a["right"] for a in cut["answers"]] == [False] and says(cut["answers"][0]) == wrong[1][0]
    right = found([one] * 4 + [two] * 4)
    assert [a["right"] for a in right["answers"]] == [True]
    assert right["id"] == max(examples[:2], key=lambda e: mean(e, f"Answer: {e.answer}")).id
    assert found([one] * 4 + [two] * 3 + [wrong[0]])["id"] == "two"


def test_the_answers_to_a_question_of_ones_own_are_the_likeliest_of_each_model(run):
    found = explain.explain(run, "Why?", Rubric(CRITERIA))["answers"]
    for a in found:
        for name, side in (("base", "before"), ("student", "after")):
            if name in a["by"]:
                assert [t["text"] for t in a["tokens"]] == [t[side]["top"][0][0] for t in a["tokens"]]
    assert " and ".join(a["by"] for a in found) in ("base, greedy and student, greedy", "base and student, greedy")


def test_half_a_character_shows_as_a_dot():
    tokenizer = Tokenizer(train_bpe(["a b"], 256))
    assert [explain.token_text(tokenizer, i) for i in tokenizer.encode("a×")] == ["a", "·", "·"]


# ------------------------------------------------------------------------------------------------------- the panels
def test_no_reference_criterion_is_wrong_and_a_relation_turned_round_is(finished):
    examples = [e for name in ("test_known", "test_new", "stage2") for e in load_examples(finished / "data" / f"{name}.jsonl")[0]]
    assert not any(panels.is_wrong(c, e.solution) for e in examples for c in e.rubric.criteria)
    noisy = [noisy_rubric(e.rubric, random.Random(0)) for e in examples]
    assert all(any(panels.is_wrong(c, e.solution) for c in r.criteria) for e, r in zip(examples, noisy) if r != e.rubric)
    unit = Criterion("", "Important: gives the answer in xyz", 3)
    assert all(panels.is_wrong(unit, e.solution) for e in examples)
    assert not panels.is_wrong(Criterion("", "Optional: is polite", 1), "Answer: 1 N")


def test_criteria_that_say_the_same_stand_in_one_row():
    reference = Rubric((Criterion("", "Essential: uses a = b × c", 5), Criterion("", "Important: puts in 2 m and 3 s", 2)))
    other = Rubric((Criterion("", "Important: puts in 3 s and 2 m", 2), Criterion("", "Essential: states that a = c × b", 4),
                    Criterion("", "Essential: uses a = b ÷ c", 4)))
    rows = panels.aligned({"reference": reference, "base": None, "stage I": other}, "a = b × c = 6\nAnswer: 6 m")
    assert [(row.keys(), [c["wrong"] for c in row.values()]) for row in rows] == [
        ({"reference", "stage I"}, [False, False]), ({"reference", "stage I"}, [False, False]), ({"stage I"}, [True])]
    same = "puts in 2 m"
    other = panels.aligned({name: Rubric((Criterion("", f"{kind}: {same}", 5),)) for name, kind in
                            (("reference", "Essential"), ("stage I", "Important"))}, "")
    assert [list(row) for row in other] == [["reference"], ["stage I"]]
    twice = panels.aligned({"reference": Rubric(reference.criteria[:1] * 2)}, "")
    assert len(twice) == 2


def test_the_clip_modes_on_the_example_of_the_readme():
    """Teacher (.9, .1), student (.8, .2): the gradient is -.10, and pointwise clipping turns it to +.08."""
    model = SimpleNamespace(head_weight=torch.eye(2))
    run = explain.Run(Settings(), SimpleNamespace(decode=lambda ids: " ".join(map(str, ids))), model, None, None)
    own, seen = (torch.tensor([p, p]).log() for p in ([0.8, 0.2], [0.9, 0.1]))
    stats = explain.token_stats(run, model, own, seen, clip=panels.POINT_CLIP, clip_mode="pointwise")
    assert stats.gradient_flipped.tolist() == [True, True]
    where = [(rcsd.Rollout([], [0, 1]), t) for t in (0, 1)]
    found = panels.clip_modes(run, own, seen, where, stats.gradient_flipped)
    first = {mode: (m["loss"], m["gradient"][0]) for mode, m in found["modes"].items()}
    assert first == {"none": pytest.approx((0.0367, -0.1), abs=1e-3), "pointwise": pytest.approx((-0.0193, 0.08), abs=1e-3),
                     "token": pytest.approx((0.0367, -0.1), abs=1e-3), "scale": pytest.approx((0.0367, -0.1), abs=1e-3)}
    assert [r["p"] for r in found["top"]] == pytest.approx([0.9, 0.1])
    for t, before in enumerate(("", "0")):
        found = panels.clip_modes(run, own, seen, where, torch.arange(2) == t)
        assert (found["before"], found["chosen"]) == (before, str(t))
    assert panels.clip_modes(run, own, own, where, torch.tensor([False, False])) is None


def test_curves_average_over_steps_and_spread_over_runs(tmp_path):
    for name, shift in (("a", 0.0), ("b", 2.0)):
        (tmp_path / name).mkdir()
        for stage, row in (("base", {}), ("stage1", {"valid": 0.5}), ("stage2", {"correct": 1.0})):
            (tmp_path / name / f"{stage}.jsonl").write_text("\n".join(json.dumps({"loss": i + shift, **row}) for i in range(48)))
    both = panels.curves([tmp_path / "a", tmp_path / "b"])
    assert [(c["stage"], c["measure"]) for c in both] == [
        ("base", "loss"), ("stage1", "loss"), ("stage1", "valid"), ("stage2", "loss"), ("stage2", "correct")]
    assert both[0]["points"][0] == [2, 1.5, pytest.approx(2 ** 0.5)] and len(both[0]["points"]) == panels.BUCKETS
    assert panels.curves([tmp_path / "a"])[0]["points"][-1] == [48, 46.5, None]
    assert {p[1] for p in both[2]["points"]} == {0.5} and {p[1] for p in both[4]["points"]} == {1.0}


def test_the_tables_of_two_runs_by_hand():
    """Each measure another number: place k of the groups, column c, run r."""
    def run(r):
        models, groups = ("base", "student"), evaluate.GROUPS
        def value(start):
            return {m: {g: start + (10 * c + k + 2 * r) / 100 for k, g in enumerate(groups)} for c, m in enumerate(models)}
        return {"accuracy": value(0.0), "score": value(0.3), "questions": {g: 40 + k for k, g in enumerate(groups)},
                "kinds": {m: {g: {"one-step": 0.5 + (10 * c + k + 2 * r) / 100} for k, g in enumerate(groups[:2])}
                          for c, m in enumerate(models)},
                "stage1": {m: {g: {"valid": 0.7 + (10 * c + k + 2 * r) / 100, "key": 0.2 + (10 * c + k + 2 * r) / 100}
                               for k, g in enumerate(groups[:2])} for c, m in enumerate(("base", "stage1"))}}

    answers, written = evaluate.rows([run(0), run(1)])
    def middle(start):
        return [[pytest.approx(start + c), pytest.approx(2 ** 0.5)] for c in (1, 11)]   # of start and start + 2
    groups = [(g, 40 + k, middle(k)) for k, g in enumerate(evaluate.GROUPS)]
    kinds = [(f"  {g}, one-step", None, middle(50 + k)) for k, g in enumerate(evaluate.GROUPS[:2])]
    scores = [(f"rubric score, {g}", None, middle(30 + k)) for k, g in enumerate(evaluate.GROUPS[:2])]
    assert answers["columns"] == ["base", "student"] and written["columns"] == ["base", "stage I"]
    assert [tuple(row.values()) for row in answers["rows"]] == groups + kinds + scores
    assert [tuple(row.values()) for row in written["rows"]] == [(f"{g}: {label}", None, middle(start + k)) for k, g in enumerate(
        evaluate.GROUPS[:2]) for label, start in (("valid", 70), ("right key criteria", 20))]
    assert all(row["cells"][0][1] is None for row in evaluate.rows([run(0)])[0]["rows"])


def test_stage_one_counts_what_parses_and_what_has_the_right_key_criteria():
    """Of four rubrics one does not parse, one has its relation turned round, one lacks one, and one is right in other words."""
    reference = Rubric([Criterion("", f"Essential: {text}", 5) for text in ("uses a = b × c", "states that d = a ÷ e")])
    meta = {"new": True, "phrasing": "seen", "kind": "two-step"}
    examples = [Example(str(i), "Why?", answer="1 N", rubric=reference, meta=meta) for i in range(4)]
    written = [{"problem": "no criterion", "text": "5"}, {"problem": "", "text": "5 Essential: uses a = b ÷ c\n4 Essential: uses d = a ÷ e"},
               {"problem": "", "text": "5 Essential: uses a = b × c\n3 Important: uses d = a ÷ e"},
               {"problem": "", "text": "5 Essential: states that a = c × b\n5 Essential: uses d = a ÷ e"}]
    shares, usable = evaluate.judge_rubrics(written, examples)
    assert shares == {"new laws": {"valid": 0.75, "key": 0.25}}
    assert usable["0"] == panels.GENERIC and [usable[e.id].text() for e in examples[1:]] == [row["text"] for row in written[1:]]


def test_the_panel_agrees_with_the_results(finished, report):
    results = json.loads((finished / "results.json").read_text())
    assert report["teacher"]["questions"] <= TINY["test_questions"]
    columns = report["teacher"]["columns"]
    assert list(columns) == ["nothing", "generic rubric", "reference rubric", "learned rubric", "solution", "student, after"]
    assert columns["nothing"]["divergence"] == 0 and columns["nothing"]["gradient_flipped"] == 0
    assert columns["solution"]["teacher_entropy"] > 0 and 0 <= columns["learned rubric"]["tail"] <= 1
    assert report["runs"][0]["preset"] == "smoke" and report["runs"][0]["changed"]["base_steps"] == TINY["base_steps"]
    assert report["runs"][0]["seconds"] == {k: pytest.approx(v, abs=1e-5) for k, v in results["seconds"].items()}


def test_the_teachers_panel_against_one_prefix_at_a_time(run, finished, monkeypatch):
    """Samples, rubrics and greedy answers by hand; the divergences by their definitions."""
    run = replace(run, settings=replace(run.settings, micro_tokens=700))   # several batches
    examples = load_examples(finished / "data" / "test_new.jsonl")[0][:11]
    generator = torch.Generator().manual_seed(0)
    def draw(n):
        return torch.randint(300, 400, (n,), generator=generator).tolist()
    samples = {"before": [draw(n) for n in (1, 2, 1, 3, 1, 2, 1, 1, 1, 1, 1)], "after": [draw(n) for n in (2,) * 10 + (4,)]}
    learned = {e.id: Rubric(CRITERIA[:1 + i % 3]) for i, e in enumerate(examples)}

    def rollout(model, prompts, *_):
        assert prompts == [encode(run.tokenizer, prompt(e.question)) for e in examples]
        return [SimpleNamespace(ids=ids) for ids in samples["before" if model is run.base else "after"]]

    sees = {"nothing": lambda e: {}, "generic rubric": lambda e: {"rubric": panels.GENERIC},
            "reference rubric": lambda e: {"rubric": e.rubric}, "learned rubric": lambda e: {"rubric": learned[e.id]},
            "solution": lambda e: {"solution": e.solution}}
    right, leak = (dict(zip((*sees, "student, after"), counts)) for counts in ((1, 2, 3, 4, 5, 6), (6, 4, 2, 0, 3, 1)))
    texts = {name: ["by the rubric" if i >= 11 - leak[name] else f"Answer: {e.answer}" if i < right[name] else "Answer: none"
                    for i, e in enumerate(examples)] for name in right}   # right answers first, mentions last

    def greedy(model, tokenizer, prompts, settings):
        name, = (n for n in ("generic rubric", "solution")
                 if prompts == [encode(tokenizer, prompt(e.question, **sees[n](e))) for e in examples])
        assert model is run.base
        return [(t, False, 1) for t in texts[name]]

    monkeypatch.setattr(panels, "rollout", rollout)
    monkeypatch.setattr(panels, "greedy", greedy)
    known = {name: {e.id: t for e, t in zip(examples, texts[name])} for name in texts if name not in ("generic rubric", "solution")}
    found = panels.teacher_panel(run, examples, learned, known)
    assert found["questions"] == 11 and list(found["columns"]) == list(right)
    turned = []
    for name, column in found["columns"].items():
        assert column["right"] == pytest.approx(right[name] / 11)
        assert column["leak"] == pytest.approx(leak[name] / 11)
        late = name == "student, after"
        rows = []
        for e, ids in zip(examples, samples["after" if late else "before"]):
            q = plain_logits(run, run.student if late else run.base, prompt(e.question), ids).double().softmax(-1)
            p = plain_logits(run, run.base, prompt(e.question, **sees.get(name, sees["learned rubric"])(e)), ids).double().softmax(-1)
            for t in range(len(ids)):
                z = q[t].log().requires_grad_()
                terms = p[t] * (p[t].log() - z.log_softmax(-1))
                terms.clamp(max=0.05).sum().backward()
                best = p[t].argmax()
                rows.append((t, (p[t] * (p[t] / q[t]).log()).sum(), -(p[t] * p[t].log()).sum(), -(q[t] * q[t].log()).sum(),
                             q[t].sum() - q[t][p[t].topk(20).indices].sum(), q[t][best] < p[t][best] and z.grad[best] > 0))
                if name == "learned rubric" and rows[-1][-1]:
                    turned.append((z.grad[best].item(), ids, t, p[t], q[t]))
        def mean(i):
            return sum(float(row[i]) for row in rows) / len(rows)
        for i, key in enumerate(("divergence", "teacher_entropy", "student_entropy", "tail"), 1):
            assert column[key] == pytest.approx(mean(i), abs=1e-4), (name, key)
        assert column["clipped"] == pytest.approx(sum(row[1].item() > 0.5 for row in rows) / len(rows))
        assert column["gradient_flipped"] == pytest.approx(mean(5))
        if name in ("learned rubric", "student, after"):
            at = found["positions"]["after" if late else "before"]
            places = [[float(row[1]) for row in rows if row[0] == t] for t in range(4)]
            assert [t for t, _ in at] == [1, 2]                 # the third place has one answer of eleven: too few
            assert [d for _, d in at] == pytest.approx([sum(v) / len(v) for v in places[:2]], abs=1e-4)
    assert {c["gradient_flipped"] for c in found["columns"].values()} != {0} and 0 < found["columns"]["learned rubric"]["clipped"] < 1
    _, ids, t, p, q = max(turned, key=lambda row: row[0])
    clip = found["clip"]
    assert (clip["before"], clip["chosen"]) == (run.tokenizer.decode(ids[:t]), explain.token_text(run.tokenizer, ids[t]))
    best = p.topk(5).indices
    assert [(r["p"], r["q"]) for r in clip["top"]] == [pytest.approx((p[i].item(), q[i].item()), abs=1e-4) for i in best]
    assert [r["text"] for r in clip["top"]] == [explain.token_text(run.tokenizer, i) for i in best.tolist()]
    assert (found["tail_k"], found["scale_clip"], found["point_clip"]) == (20, 0.5, 0.05)


def test_the_report_takes_each_text_from_the_model_that_it_names(finished, monkeypatch):
    """With models that are names: who writes which rubric, whose answers the columns of the teacher's panel get."""
    kinds = {"base": "uses a = b × c", "stage I": "uses d = e × f"}
    asked = []

    def written(model, tokenizer, examples, settings):
        return [{"id": e.id, "text": f"5 Essential: {kinds[model]} for {e.id}", "problem": f"{model} failed" if e.id == bad else ""}
                for e in examples]

    settings = replace(Settings(), **load(finished / "stage2.pt")["settings"], device="cpu")
    examples = load_examples(finished / "data" / "test_new.jsonl")[0]
    chosen = {}
    for e in examples:
        chosen[e.meta["kind"]] = e.id                            # the last of each kind
    bad = list(chosen.values())[0]
    stub = SimpleNamespace(settings=replace(settings, max_seq_len=10 ** 6), tokenizer=read_tokenizer(finished), base="base",
                           writer="stage I", student="student")
    monkeypatch.setattr(panels, "open_run", lambda *_: stub)
    monkeypatch.setattr(panels, "write_rubrics", written)
    monkeypatch.setattr(panels, "right_and_wrong", lambda run, kind, those, rubrics: asked.append(
        (kind, [e.id for e in those])) or {"id": chosen[kind], "kind": kind})
    monkeypatch.setattr(panels, "teacher_panel", lambda run, those, learned, known: {"known": known, "learned": {
        e.id: learned[e.id].text() for e in those}})
    columns = ("base", "teacher, reference rubric", "teacher, learned rubric", "student")
    results = {"answers": {c: [{"id": e.id, "text": f"{c} on {e.id}"} for e in examples] for c in columns}}
    found = panels.report(finished, settings, results)
    assert asked == [(k, [e.id for e in examples if e.meta["kind"] == k]) for k in chosen]
    assert [e["id"] for e in found["examples"]] == list(chosen.values())
    names = ("nothing", "reference rubric", "learned rubric", "student, after")
    assert found["teacher"]["known"] == {n: {e.id: f"{c} on {e.id}" for e in examples} for n, c in zip(names, columns)}
    assert found["teacher"]["learned"] == {
        e.id: panels.GENERIC.text() if e.id == bad else f"5 Essential: uses d = e × f for {e.id}" for e in examples}
    questions = {e.id: e for e in examples}
    assert [s["question"] for s in found["stage1"]] == [questions[i].question for i in list(chosen.values())[:3]]
    for s, i in zip(found["stage1"], chosen.values()):
        assert s["problems"] == {n: f"{n} failed" if i == bad else "" for n in kinds}
        texts = {n: [row[n]["text"] for row in s["rows"] if n in row] for n in ("reference", *kinds)}
        assert texts["reference"] == [c.description for c in questions[i].rubric.criteria]
        assert all(texts[n] == ([] if i == bad else [f"Essential: {relation} for {i}"]) for n, relation in kinds.items())


@pytest.mark.parametrize("text, leaks", [("as the rubric says", True), ("Criteria: none", True), ("5 Essential: uses", True),
                                         ("an essential amount = 2 g", False), ("Answer: 2 N", False)])
def test_what_counts_as_mentioning_the_rubric(text, leaks):
    assert bool(panels.LEAK.search(text)) == leaks


# --------------------------------------------------------------------------------------------------------- the page
class Reader(HTMLParser):
    """Checks that elements nest and ids are unique; gathers text, ids, attributes."""
    VOID = {"meta", "br", "hr", "img", "input", "link"}

    def __init__(self, html):
        super().__init__()
        self.stack, self.text, self.ids, self.attributes, self.tags = [], [], Counter(), [], Counter()
        self.feed(html)
        self.close()
        assert not self.stack and max(self.ids.values(), default=1) == 1

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes += [(tag, *pair) for pair in attrs]
        self.ids.update(value for name, value in attrs if name == "id")
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_endtag(self, tag):
        assert self.stack and self.stack.pop() == tag, (tag, self.getpos())

    def handle_data(self, data):
        if not self.stack or self.stack[-1] not in ("style", "script"):
            self.text.append(data)


def test_the_page_is_well_formed_and_complete(report):
    reader = Reader(page.page(report))
    text = " ".join(reader.text)
    assert reader.tags["title"] == reader.tags["h1"] == reader.tags["main"] == 1 and reader.tags["h2"] == 6
    links = {value[1:] for tag, name, value in reader.attributes if tag == "a" and name == "href"}
    assert links == {"run", "strips", "criteria", "stage1", "teacher", "clip"} <= reader.ids.keys()
    assert reader.tags["button"] == sum(2 * len(a["tokens"]) for e in report["examples"] for a in e["answers"])
    assert "new laws" in text and "✓ right" in text and "✗ wrong" in text and "What to conclude" in text
    assert all(value for tag, name, value in reader.attributes if name == "aria-label")


def test_the_page_needs_no_network(report):
    html = page.page(report)
    assert not re.search(r"@import|url\(|<link|<iframe|<img|\bfetch\(|XMLHttpRequest|\bimport\b.*from", html)
    for tag, name, value in Reader(html).attributes:
        assert name not in ("src", "srcset", "data") or not value
        assert tag == "a" or not re.match("(https?:)?//", value or "") or name.startswith("xmlns")


def leaves(value, path=()):
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from leaves(value[key], (*path, key))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield path


SHOWN = ["table,0,rows,0,cells,0,0", "table,0,rows,0,n", "table,1,rows,3,cells,1,0", "curves,0,points,0,1", "runs,0,seconds,base",
         "runs,0,parameters", "runs,0,settings,seed", "runs,0,changed,base_steps", "examples,0,tried", "examples,0,samples",
         "examples,0,rubric,0,weight", "examples,0,answers,0,tokens,0,before,divergence",
         "examples,0,answers,0,tokens,0,after,logprob", "examples,0,answers,0,tokens,0,teacher,logprob",
         "examples,0,answers,0,tokens,0,before,top,1,1", "examples,0,answers,0,tokens,0,before,entropy",
         "examples,0,answers,0,effects,logprob,left out,0,0", "examples,0,answers,0,effects,divergence,alone,0,0",
         "stage1,0,rows,0,reference,weight", "teacher,questions", "teacher,tail_k", "teacher,scale_clip", "teacher,point_clip",
         "teacher,columns,solution,right", "teacher,columns,student\\, after,leak", "teacher,columns,learned rubric,tail"]


@pytest.mark.parametrize("path", SHOWN)
def test_a_number_of_the_page_is_that_of_the_json(report, path):
    changed = copy.deepcopy(report)
    *way, last = [int(k) if k.isdigit() else k.replace("\\", "") for k in re.split(r"(?<!\\),", path)]
    at = changed
    for key in way:
        at = at[key]
    at[last] += 31
    assert page.page(changed) != page.page(report)


def test_no_number_is_typed_into_the_text(report):
    """Every number of the JSON 0 and no digit in its texts: then the page says none but the bounds of its shades."""
    changed = copy.deepcopy(report)
    for path in leaves(changed):
        at = changed
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = -99 if path[-1] == "logprob" else 0  # a probability of 0
    changed["runs"][0] |= {"machine": "m", "preset": "p"}
    def keep(value):
        return ({k: keep(v) for k, v in value.items()} if isinstance(value, dict) else [keep(v) for v in value]
                              if isinstance(value, list) else re.sub(r"\d", "", value)
                              if isinstance(value, str) and value not in markup.NAMES else value)
    changed = keep({k: v for k, v in changed.items() if k != "runs"}) | {"runs": changed["runs"]}
    bins = {f"{b:g}" for b in markup.BINS}
    words = " ".join(Reader(re.sub("<svg.*?</svg>", "", page.page(changed), flags=re.S)).text)
    numbers = set(re.findall(r"(?<![\w.])\d+(?:\.\d+)?", words.replace("Stage 0", "")))
    assert {n for n in numbers if float(n)} <= bins


def test_text_of_others_is_escaped(report):
    changed = copy.deepcopy(report)
    changed["examples"][0]["question"] = changed["stage1"][0]["question"] = QUESTION
    changed["examples"][0]["answers"][0]["tokens"][0]["text"] = '</script><i title="x">&\n'
    changed["examples"][0]["rubric"][0]["text"] = "Essential: <u>a</u> & b"
    changed["stage1"][0]["problems"]["base"] = changed["runs"][0]["machine"] = "<s>"
    html = page.page(changed)
    reader = Reader(html)
    assert not reader.tags.keys() & {"b", "u", "s"} and QUESTION in " ".join(reader.text)
    assert html.count("</script>") == 2
    data = json.loads(re.search(r"id=data>(.*?)</script>", html, re.S)[1])
    assert data["examples"][0]["answers"][0]["tokens"][0]["text"] == '</script><i title="x">&\n'


def test_missing_numbers_and_sections_are_no_error(report):
    assert "h2" not in Reader(page.page({})).tags
    bare = copy.deepcopy(report)
    bare["table"][0]["rows"][0]["cells"][0] = [None, None]
    bare["teacher"]["clip"] = None
    bare["stage1"], bare["examples"] = [], []
    text = " ".join(Reader(page.page(bare)).text)
    assert "–" in text and "no token's gradient was turned round" in text
    assert Reader(page.page({k: report[k] for k in ("runs", "table", "curves")})).tags["h2"] == 1


def luminance(colour):
    parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    return sum(w * (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4) for w, c in zip((0.2126, 0.7152, 0.0722), parts))


def test_text_can_be_read_on_every_shade_and_shades_differ_in_lightness_alone():
    css = (Path(page.__file__).parent / "page.css").read_text()
    for block in re.findall(r":root \{(.*?)\}", css, re.S):
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))
        def contrast(a, b):
            return (max(x := (luminance(a) + 0.05, luminance(b) + 0.05)) / min(x))
        pairs = [(f"c{i}", f"t{i}") for i in range(len(markup.BINS) + 1)]
        pairs += [(back, front) for back in ("paper", "card") for front in ("ink", "soft", "accent", "good", "bad")]
        found = {pair: contrast(*(colours[name] for name in pair)) for pair in pairs}
        assert {pair: c for pair, c in found.items() if c < 4.5} == {}
        light = [luminance(colours[f"c{i}"]) for i in range(len(markup.BINS) + 1)]
        assert light in (sorted(light), sorted(light, reverse=True)) and len(set(light)) == len(light)


def test_shades_follow_the_bins():
    assert [markup.level(x) for x in (0, 0.02, -0.02, 0.1, 0.99, 1, -50)] == [0, 1, 1, 2, 3, 4, 5]
    assert len(terminal.SHELL_SHADES) == len(markup.BINS) + 1
    assert markup.num(-0.0001) == "0.00" and markup.num(-1.5) == "−1.50" and markup.num(None) == "–"


# ----------------------------------------------------------------------------- what the page says of a report by hand
def opinion(p, top, entropy, **more):
    return {"logprob": math.log(p), "entropy": entropy, "top": [[f"{top}{i}", p / 3 ** i] for i in range(3)]} | more


def by_hand():
    """Two runs, two questions (the second with two answers of three and two tokens); every number another one."""
    def settings(seed, **more):
        return {"method": "rcsd", "teacher_context": "rubric", "rubrics": "learned", "seed": seed} | more

    def token(text, i, divergences, clips):
        return {"text": text, "teacher": opinion(0.91 - i / 10, "T", 1.5 + i),
                "before": opinion(0.42 - i / 20, "B", 2.25 + i, divergence=divergences[0], clipped=clips[0]),
                "after": opinion(0.73 - i / 10, "A", 0.75 + i, divergence=divergences[1], clipped=clips[1])}

    def answer(right, tokens, shift):
        n = len(tokens)
        def values(start):
            return [(start + shift) * (-1) ** t / (t + 1) for t in range(n)]
        return {"right": right, "by": "base, sampled", "tokens": tokens, "controls": ["Control one", "Control two"], "effects": {
            m: {"whole": values(k), "left out": [values(k + 0.2), values(-k - 0.4)], "alone": [values(k + 0.6), values(-k - 0.8)],
                "control": [values(0.005), values(-0.06)]} for m, k in (("logprob", 1.0), ("divergence", 4.0))}}

    first = answer(False, [token("x", 0, (0.01, 0.05), (False, True)), token(" = ", 1, (0.2, 0.5), (True, False)),
                           token("9", 2, (2.0, 5.0), (False, False))], 0)
    others = [answer(True, [token("ok", 3, (0.4, 0.15), (True, False))], 0.1),
              answer(False, [token("no\n", 4, (1.25, 0.03), (False, True)), token("N", 5, (0.25, 3.5), (True, False))], 0.3)]
    rubric = [{"weight": 5.0, "text": "Essential: first"}, {"weight": -2.0, "text": "Pitfall: second"}]
    question = {"tried": 16, "samples": 6, "rubric": rubric}
    def criterion(weight, text, wrong):
        return {"weight": weight, "text": text, "wrong": wrong}
    def column(k):
        return {"right": k / 10, "leak": k / 100, "teacher_entropy": k + 0.01, "student_entropy": k + 0.02,
                            "divergence": k + 0.03, "tail": k / 20, "clipped": k / 40, "gradient_flipped": k / 1000}
    return {
        "runs": [{"preset": "cpu", "changed": {"seed": 3, "top_k_loss": 7}, "settings": settings(3), "parameters": 1234567,
                  "machine": "one", "seconds": {"base": 60, "stage1": 90, "stage2": 330}},
                 {"preset": "cpu", "changed": {"seed": 8, "top_k_loss": 7}, "settings": settings(8), "parameters": 1234567,
                  "machine": "two", "seconds": {"base": 120, "stage1": 30, "stage2": 600}}],
        "table": [{"title": "accuracy, %", "columns": ["base", "student"], "counted": True, "rows": [
            {"label": "known", "n": 50, "cells": [[12.34, 1.26], [56.78, 0.94]]},
            {"label": "part", "n": None, "cells": [[1.0, None], [None, None]]}]}],
        "curves": [{"stage": stage, "measure": m, "points": points} for stage, m, points in (
            ("base", "loss", [[10, 4.0, 0.5], [20, 2.5, 0.25]]), ("stage1", "valid", [[10, 0.1, 0.05], [20, 0.4, 0.1]]),
            ("stage2", "correct", [[5, 0.25, 0.0625], [15, 0.5, 0.125], [20, None, None]]))],
        "examples": [{"kind": "one-step", "question": "Q1?", "answer": "1 N", "answers": [first]} | question,
                     {"kind": "two-step", "question": "Q2?", "answer": "2 m", "answers": others} | question],
        "stage1": [{"question": "Q3?", "problems": {"base": "", "stage I": "line 1"}, "rows": [
            {"reference": criterion(5, "Essential: a", False), "base": criterion(4, "Essential: b", True),
             "stage I": criterion(3, "Essential: c", False)}, {"stage I": criterion(2, "Important: d", True)}]}],
        "teacher": {"questions": 33, "tail_k": 20, "scale_clip": 0.5, "point_clip": 0.05,
                    "columns": {name: column(k) for k, name in enumerate(("nothing", "learned rubric", "student, after"), 1)},
                    "positions": {"before": [[1, 2.0], [2, 3.0], [4, 4.0]], "after": [[1, 1.0], [2, 0.5]]},
                    "clip": {"before": "so <far", "chosen": "9", "top": [{"text": "8", "p": 0.61, "q": 0.32},
                                                                           {"text": "9", "p": 0.27, "q": 0.53}],
                             "modes": {"none": {"loss": 0.1, "gradient": [-0.2, 0.3]}, "pointwise": {"loss": -0.4, "gradient": [0.5, -0.6]},
                                       "token": {"loss": 0.05, "gradient": [0.0, 0.0]}}}}}


class Tree(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.builder = ElementTree.TreeBuilder()
        self.feed(html.strip())
        self.root = self.builder.close()

    def handle_starttag(self, tag, attrs):
        self.builder.start(tag, {k: v or "" for k, v in attrs})
        if tag in Reader.VOID:
            self.builder.end(tag)

    def handle_startendtag(self, tag, attrs):
        self.builder.start(tag, dict(attrs))
        self.builder.end(tag)

    def handle_endtag(self, tag):
        self.builder.end(tag)

    def handle_data(self, data):
        self.builder.data(data)


def words(node):
    return "".join(node.itertext())


def part(name, report=None):
    return Tree(page.page(report or by_hand())).root.find(f".//section[@id='{name}']")


def cells_of(node):
    return [[words(c) for c in row if c.tag in ("th", "td")] for row in node.iter("tr")]


def read_off(svg):
    """The lines of a chart in the units of its axes, by the labels of these: [(colour, dashed, [(x, y)])]."""
    texts = list(svg.iter("text"))
    ys = [(float(t.get("y")) - 4, float(t.text)) for t in texts if t.get("text-anchor") == "end"]
    middle = [t for t in texts if t.get("text-anchor") == "middle" and re.fullmatch(r"[\d.]+", t.text or "")]
    xs = [(float(t.get("x")), float(t.text)) for t in middle]
    def scale(marks):
        return lambda v: (marks[0][1] + (v - marks[0][0]) * (marks[-1][1] - marks[0][1]) / (marks[-1][0] - marks[0][0]))
    x, y = scale(xs), scale(ys)
    shapes = [*svg.iter("polyline"), *svg.iter("polygon")]
    return [(s.get("stroke") or s.get("fill"), s.get("stroke-dasharray") is not None,
             [(x(float(a)), y(float(b))) for a, b in (pair.split(",") for pair in s.get("points").split())]) for s in shapes]


def near(points):
    return [pytest.approx(p, abs=0.02 * max(1, *map(abs, p))) for p in points]


def test_the_facts_of_the_runs_by_hand():
    def facts(report):
        return dict(zip(*([words(n) for n in part("run", report).iter(tag)] for tag in ("dt", "dd"))))
    assert facts(by_hand()) == {
        "Preset": "cpu, with --top-k-loss 7", "Method": "rcsd; its teacher saw rubric (rubrics: learned)", "Seed": "3, 8",
        "Parameters": "1,234,567", "Machine": "one; two", "Minutes of training":
        "Stage 0, base: 1.0, 2.0; Stage I: 1.5, 0.5; Stage II: 5.5, 10.0; in all: 8.0, 12.5"}
    assert words(Tree(page.page(by_hand())).root.find(".//h1")) == "Report: rcsd, seed 3, 8"
    mixed = by_hand()
    mixed["runs"][1] |= {"preset": "smoke", "changed": {}, "parameters": 99}
    mixed["runs"][1]["settings"]["method"] = "opsd"
    found = facts(mixed)
    assert found["Preset"] == "cpu, with --top-k-loss 7; smoke, unchanged" and found["Parameters"] == "1,234,567; 99"
    assert found["Method"] == "rcsd; its teacher saw rubric (rubrics: learned); opsd; its teacher saw the reference solution"
    assert words(Tree(page.page(mixed)).root.find(".//h1")) == "Report: rcsd, opsd, seed 3, 8"


@pytest.mark.parametrize("method, sees, said", [
    ("sft", "rubric", "it learned from reference solutions"), ("opsd", "rubric", "its teacher saw the reference solution"),
    ("grpo", "rubric", "it learned from rewards"), ("grpo-rubric", "rubric", "it learned from rewards"),
    ("reverse-kl-pg", "answer", "its teacher saw answer"), ("rcsd", "rubric+answer", "its teacher saw rubric+answer (rubrics: learned)")])
def test_what_a_method_learned_from(method, sees, said):
    made = by_hand()
    for run in made["runs"]:
        run["settings"] |= {"method": method, "teacher_context": sees}
    assert f"{method}; {said}" in [words(n) for n in part("run", made).iter("dd")]


def test_the_table_and_the_curves_by_hand():
    run = part("run")
    assert cells_of(run) == [["", "n", "base", "student"], ["known", "50", "12.3 ± 1.3", "56.8 ± 0.9"], ["part", "", "1.0", "–"]]
    titles = ["Stage 0, base: loss, nats per token, from 4.00 to 2.50", "Stage I: valid rubrics, %, from 10.00 to 40.00",
              "Stage II: right answers, %, from 25.00 to 50.00"]
    assert [words(n) for n in run.iter("figcaption")] == [n.get("aria-label") for n in run.iter("svg")] == titles
    for svg, title, points, band in zip(run.iter("svg"), titles, ([(10, 4), (20, 2.5)], [(10, 10), (20, 40)], [(5, 25), (15, 50)]), (
            [(10, 4.5), (20, 2.75), (20, 2.25), (10, 3.5)], [(10, 15), (20, 50), (20, 30), (10, 5)],
            [(5, 31.25), (15, 62.5), (15, 37.5), (5, 18.75)])):
        (_, dashed, line), (_, _, around) = read_off(svg)
        assert line == near(points) and around == near(band) and not dashed
        labels = [t.text for t in svg.iter("text")][:3]
        assert labels == [title.split(": ")[0], "step", title.split(": ")[1].rsplit(", from")[0]]


STRIPS = {  # (question, answer, side): tokens (text, student, teacher, divergence, shade, clipped), mean divergence
    (0, 0, "before"): ([("x", "0.42", "0.91", "0.01", 0, False), (" = ", "0.37", "0.81", "0.20", 2, True),
                        ("9", "0.32", "0.71", "2.00", 4, False)], "0.737"),
    (0, 0, "after"): ([("x", "0.73", "0.91", "0.05", 1, True), (" = ", "0.63", "0.81", "0.50", 3, False),
                       ("9", "0.53", "0.71", "5.00", 5, False)], "1.850"),
    (1, 0, "before"): ([("ok", "0.27", "0.61", "0.40", 3, True)], "0.400"),
    (1, 0, "after"): ([("ok", "0.43", "0.61", "0.15", 2, False)], "0.150"),
    (1, 1, "before"): ([("no⏎", "0.22", "0.51", "1.25", 4, False), ("N", "0.17", "0.41", "0.25", 2, True)], "0.750"),
    (1, 1, "after"): ([("no⏎", "0.33", "0.51", "0.03", 1, True), ("N", "0.23", "0.41", "3.50", 5, False)], "1.765")}


def test_the_strips_by_hand():
    strips = part("strips")
    found = {}
    for figure in strips.iter("figure"):
        group, caption = figure.find("div"), words(figure.find("figcaption"))
        key = int(group.get("data-e")), int(group.get("data-a")), group.get("data-side")
        name = {"before": "Before training", "after": "After training"}[key[2]]
        assert group.get("aria-label").startswith(name) and key not in found
        tokens = []
        for t, button in enumerate(group.iter("button")):
            looks = button.get("class").split()
            (text, q), (again, p) = ((span.text, words(span.find("i"))) for span in button)
            label = re.fullmatch(r"(.*): student (.*), teacher (.*), divergence (.*) nats(, clipped)?", button.get("aria-label"))
            assert text == again and label[1] == text.strip() and label.group(2, 3) == (q, p) and button.get("data-t") == str(t)
            assert ("clipped" in looks) == bool(label[5])
            tokens.append((text, q, p, label[4], int(looks[1][1:]), bool(label[5])))
        found[key] = tokens, re.fullmatch(name + ": mean divergence (.*) nats per token", caption)[1]
    assert found == STRIPS
    assert [words(h) for h in strips.iter("h4") if "answer" in words(h)] == [
        "✗ wrong answer (base, sampled)", "✓ right answer (base, sampled)", "✗ wrong answer (base, sampled)"]
    read = [(words(d.find("h4")), words(d.find("pre"))) for d in strips.iter("div") if d.find("pre") is not None]
    rubric = "5 Essential: first\n-2 Pitfall: second"
    assert read == [(f"The {who} reads", q + more) for q in ("Q1?", "Q2?") for who, more in (
        ("student", ""), ("teacher", f"\n\n{rubric}"))]
    assert [words(h) for h in strips.iter("h3")] == ["One-step: Q1?", "Two-step: Q2?"]
    assert [words(p) for p in strips.iter("p") if words(p).startswith("Reference")] == [f"Reference answer: {a}" for a in ("1 N", "2 m")]


@pytest.mark.parametrize("rights, said", [
    ([True, False], "of those with both a right and a wrong one the one whose right answer has the best rubric score and, of equals, "
                    "whose wrong answer diverges most from the teacher"),
    ([False], "the one whose wrong answer diverges most from the teacher; no question had both a right and a wrong one"),
    ([True], "the one whose right answer diverges most from the teacher; no question had a wrong one")])
def test_why_a_question_is_shown(rights, said):
    made = by_hand()
    made["examples"][0]["answers"] = [made["examples"][0]["answers"][0] | {"right": right} for right in rights]
    assert words(next(p for p in part("strips", made).iter("p") if p.get("class") == "note")) == (
        f"Of the first 16 test questions of this kind about new laws, with 6 sampled answers each, {said}. "
        "Right or wrong is the final answer.")


@pytest.mark.parametrize("name", ["strips", "criteria"])
def test_the_legend_has_the_shade_of_each_number(name):
    first, *shades = next(n for n in part(name).iter("ul") if n.get("class") == "key")
    assert words(first) == {"strips": "divergence", "criteria": "change"}[name] + ", nats:"
    edges = [[float(x) for x in re.findall(r"[\d.]+", words(li))] for li in shades]
    assert words(shades[0]).startswith("below") and words(shades[-1]).startswith("from") and len(shades) == 6
    for (low, high), li in zip([(0, edges[0][0]), *edges[1:-1], (edges[-1][0], 99)], shades):
        made = by_hand()
        token, effects = (made["examples"][0]["answers"][0][k] for k in ("tokens", "effects"))
        for x in (low, (low + high) / 2):
            token[0]["before"]["divergence"] = effects["logprob"]["left out"][0][0] = x
            node = next(part(name, made).iter("button")) if name == "strips" else next(
                tr for tr in part(name, made).iter("tr") if words(tr).startswith("Essential: first"))[2]
            assert li.get("class") in node.get("class").split(), (x, words(li))


def effects_by_hand(e, a, how, measure):
    """Rows (name, sum, [(value, sign)]) of the heatmap."""
    example = by_hand()["examples"][e]
    answer = example["answers"][a]
    found = answer["effects"][measure]
    named = [("The whole rubric", found["whole"]), ("Essential: first", found[how][0]), ("Pitfall: second", found[how][1]),
             ("Control, added: Control one", found["control"][0]), ("Control, added: Control two", found["control"][1])]
    def minus(x, digits):
        return f"{x:.{digits}f}".replace("-", "−")
    def sign(x):
        return "" if abs(x) < 0.02 else "+" if x > 0 else "−"
    return [[name, minus(sum(v), 2), *((minus(x, 3), sign(x)) for x in v)] for name, v in named]


def test_the_heatmap_by_hand():
    figures = [f for f in part("criteria").iter("figure")]
    assert [(f.get("data-e"), f.get("data-a")) for f in figures] == [("0", "0"), ("1", "0"), ("1", "1")]
    for f in figures:
        e, a = int(f.get("data-e")), int(f.get("data-a"))
        head, *rows = f.iter("tr")
        texts = [t["text"].replace("\n", "⏎") for t in by_hand()["examples"][e]["answers"][a]["tokens"]]
        assert [words(th) for th in head] == ["Criterion", "sum", *texts]
        assert [[words(r[0]), words(r[1]), *((td.get("title"), words(td)) for td in r[2:])] for r in rows] == effects_by_hand(
            e, a, "left out", "logprob")
        assert all([td.get("data-v") for td in r[2:]] == [str(t) for t in range(len(texts))] for r in rows)
        assert {o.get("value"): words(o) for o in f.iter("option")} == {
            "left out": "left out of the rubric", "alone": "alone, against no rubric",
            "logprob": "the teacher's log-probability", "divergence": "the divergence before training"}
    marks = [words(f.find("h4")) for f in figures]
    assert [m[:7] for m in marks] == ["✗ wrong", "✓ right", "✗ wrong"]


def test_the_rubrics_of_stage_1_by_hand():
    stage1 = part("stage1")
    assert cells_of(stage1) == [["reference", "base", "stage I"], ["5 Essential: a", "4 Essential: b ✗ wrong", "3 Essential: c"],
                                ["–", "–", "2 Important: d ✗ wrong"]]
    assert [td.get("data-of") for td in stage1.iter("td")] == ["reference", "base", "stage I"] * 2
    assert [words(p) for p in stage1.iter("p") if p.get("class") == "bad"] == ["✗ stage I: not valid (line 1)"]


def test_the_teachers_panel_by_hand():
    teacher = part("teacher")
    assert cells_of(teacher) == [
        ["", "nothing", "learned rubric", "student, after"], ["right answers, %", "10.0", "20.0", "30.0"],
        ["answers that mention the rubric, %", "1.0", "2.0", "3.0"], ["entropy of the teacher, nats", "1.01", "2.01", "3.01"],
        ["entropy of the student, nats", "1.02", "2.02", "3.02"], ["divergence, nats per token", "1.03", "2.03", "3.03"],
        ["student's mass outside the teacher's top 20, %", "5.0", "10.0", "15.0"],
        ["tokens that --clip-mode scale --clip 0.5 shrinks, %", "2.5", "5.0", "7.5"],
        ["tokens that --clip-mode pointwise --clip 0.05 turns round, %", "0.1", "0.2", "0.3"]]
    assert "33 test questions" in words(teacher) and "dashed before training, solid after it" in words(teacher.find(".//figcaption"))
    (_, dashed, before), (colour, solid, after) = read_off(next(teacher.iter("svg")))
    assert (dashed, solid, colour) == (True, False, "currentColor")
    assert before == near([(1, 2), (2, 3), (4, 4)]) and after == near([(1, 1), (2, 0.5)])


def test_the_clip_modes_by_hand():
    clip = part("clip")
    assert words(next(clip.iter("pre"))) == "so <far[9]"
    expect, modes = map(cells_of, clip.iter("table"))
    assert expect == [["next token", "teacher", "student"], ["“8”", "0.610", "0.320"], ["“9”", "0.270", "0.530"]]
    assert [s.get("style") for s in clip.iter("span") if s.get("class") == "bar"] == [
        f"width:{share}%" for share in ("61.0", "32.0", "27.0", "53.0")]
    assert modes == [["clip mode", "loss, nats", "gradient on the logit of “8”", "“8” goes"],
                     ["none", "0.100", "−0.2000", "up, to the teacher"],
                     ["pointwise", "−0.400", "0.5000", "down, away from the teacher"],
                     ["token", "0.050", "0.0000", "stays"]]


def test_every_text_of_others_is_escaped_everywhere():
    """Each string of the JSON that somebody else wrote, hostile: no element more, and the text is there as it was."""
    nasty = '<b>&amp;"</b></script>'
    plain = Reader(page.page(by_hand())).tags
    ways = [("examples", 0, "question"), ("examples", 0, "answer"), ("examples", 0, "rubric", 0, "text"),
            ("examples", 0, "answers", 0, "by"), ("examples", 0, "answers", 0, "tokens", 0, "text"),
            ("examples", 0, "answers", 0, "controls", 0), ("stage1", 0, "question"), ("stage1", 0, "problems", "base"),
            ("stage1", 0, "rows", 0, "base", "text"), ("teacher", "clip", "before"), ("teacher", "clip", "chosen"),
            ("teacher", "clip", "top", 0, "text"), ("runs", 0, "machine"), ("table", 0, "rows", 0, "label")]
    for *way, last in ways:
        made = by_hand()
        at = made
        for key in way:
            at = at[key]
        at[last] = nasty
        html = page.page(made)
        reader = Reader(html)
        differ = {k for k in reader.tags | plain if reader.tags[k] != plain[k]}
        assert differ <= ({"p"} if last == "base" else set()) and html.count("</script>") == 2, (way, last)
        assert nasty in "".join(reader.text), (way, last)


def test_the_terminal_by_hand():
    made = by_hand()
    text = terminal.terminal({"examples": made["examples"][:1]}, False)
    assert text.split("\n") == [
        "The student reads:", "  Q1?", "The teacher reads in addition:", "  5 Essential: first", "  -2 Pitfall: second", "",
        "Answer (base, sampled). Before training: divergence 0.737 nats per token", "  x = 9",
        "  '9': 2.00 nats; student 'B0' 0.32, 'B1' 0.11, 'B2' 0.04; teacher 'T0' 0.71, 'T1' 0.24, 'T2' 0.08",
        "  ' = ': 0.20 nats; student 'B0' 0.37, 'B1' 0.12, 'B2' 0.04; teacher 'T0' 0.81, 'T1' 0.27, 'T2' 0.09", "",
        "Answer (base, sampled). After training: divergence 1.850 nats per token", "  x = 9",
        "  '9': 5.00 nats; student 'A0' 0.53, 'A1' 0.18, 'A2' 0.06; teacher 'T0' 0.71, 'T1' 0.24, 'T2' 0.08",
        "  ' = ': 0.50 nats; student 'A0' 0.63, 'A1' 0.21, 'A2' 0.07; teacher 'T0' 0.81, 'T1' 0.27, 'T2' 0.09",
        "  'x': 0.05 nats; student 'A0' 0.73, 'A1' 0.24, 'A2' 0.08; teacher 'T0' 0.91, 'T1' 0.30, 'T2' 0.10", "",
        "  change of the answer's log-probability under the teacher, nats",
        "   left out     alone  criterion (the token that leaving it out moves most)",
        "       1.00      1.33  Essential: first ('x' 1.20)", "      −1.17     −1.50  Pitfall: second ('x' −1.40)",
        "       0.83            the whole rubric", "       0.00            control, added: Control one",
        "      −0.05            control, added: Control two"]
    loud = terminal.terminal({"examples": made["examples"][:1]}, True).split("\n")
    def back(i):
        return f"\x1b[48;5;{terminal.SHELL_SHADES[i][0]}m\x1b[38;5;{terminal.SHELL_SHADES[i][1]}m"
    assert loud[7] == f"  x{back(2)} = \x1b[0m{back(4)}9\x1b[0m"
    assert loud[-1] == "shades, nats from:  below 0.02  " + " ".join(
        f"{back(i)} {edge} \x1b[0m" for i, edge in enumerate(("0.02", "0.1", "0.3", "1", "3"), 1))


# ------------------------------------------------------------------------------------------- the picture of the README
def one_step(report):
    """The example of the picture and its wrong answer."""
    e = next(e for e in report["examples"] if e["kind"] == "one-step")
    return e, next(a for a in e["answers"] if not a["right"])


def elements(report, tag):
    """[(x0, y0, x1, y1, text, attributes)] of the picture's texts, as wide as they can be, or of its boxes."""
    found = []
    for at in ElementTree.fromstring(picture.picture(report)).iter("{http://www.w3.org/2000/svg}" + tag):
        x, y = float(at.get("x")), float(at.get("y"))
        if tag == "rect":
            found.append((x, y, x + float(at.get("width")), y + float(at.get("height")), "", at.attrib))
        else:
            size = float(at.get("font-size"))
            wide = picture.WIDE / 13 * size * len(at.text)
            x -= wide / 2 * (at.get("text-anchor") == "middle")
            found.append((x, y - size, x + wide, y + size / 4, at.text, at.attrib))
    return found


def test_the_picture_has_the_tokens_in_order_and_every_number_is_of_the_json(report):
    changed = copy.deepcopy(report)
    e, a = one_step(changed)
    tokens, e["question"] = a["tokens"], 'What is <1 & 2> "a"?'
    tokens[0]["text"], tokens[1]["text"], tokens[2]["text"] = '<i x="1">&', "\n", "\x07"
    tokens[1]["before"]["divergence"] = 123.456
    tokens[1]["before"]["top"][0], tokens[1]["teacher"]["top"][1] = [" a&", 0.5432], ["\n", 0.4321]
    texts = elements(changed, "text")
    cells = [words for *_, words, look in texts if look.get("text-anchor") and look["font-size"] == "13"]
    wanted = ['<i x="1">&', "⏎", "·", *("".join(c if c.isprintable() else "·" for c in t["text"]) for t in tokens[3:])]
    assert cells[::2] == cells[1::2] == wanted
    shares = [words for *_, words, look in texts if look["font-size"] == "11"]
    probability = {who: [markup.num(math.exp(t[who]["logprob"])) for t in tokens] for who in ("before", "teacher")}
    assert shares[::2] == probability["before"] and shares[1::2] == probability["teacher"]
    top = [pair for who in ("before", "teacher") for pair in tokens[1][who]["top"][:3]]
    said = [e["question"], e["answer"], markup.rubric_text(e["rubric"]), *wanted * 2, *shares, "123.46", *(w for w, _ in top),
            *(markup.num(p, 3) for _, p in top), *(f"{b:g}" for b in markup.BINS for _ in (0, 1))]
    def numbers(words):
        return Counter(re.findall(r"\d+(?:\.\d+)?", " ".join(words)))
    assert numbers(words for *_, words, _ in texts) == numbers(said)
    assert {"“ a&”", "“⏎”", "0.543", "0.432"} <= {words for *_, words, _ in texts}


def test_another_number_makes_another_picture(report):
    a = one_step(report)[1]
    ways = [("tokens", t, who, "logprob") for t in range(len(a["tokens"])) for who in ("before", "teacher")]
    for *way, last in ways:
        changed = copy.deepcopy(report)
        at = one_step(changed)[1]
        for key in way:
            at = at[key]
        at[last] = math.log(0.987) if at[last] < -0.5 else math.log(0.123)
        assert picture.picture(changed) != picture.picture(report)
    for t in range(len(a["tokens"])):
        changed = copy.deepcopy(report)
        one_step(changed)[1]["tokens"][t]["before"]["divergence"] = 77.0
        darkest = [i for i, box in enumerate(b for b in elements(changed, "rect") if float(b[5]["height"]) == picture.HIGH)
                   if box[5]["fill"] == picture.SHADES[-1][0]]
        assert 2 * t in darkest and any("77.00 nats" in words for *_, words, _ in elements(changed, "text"))
    changed = copy.deepcopy(report)
    one_step(changed)[0]["rubric"][0]["weight"] = 31
    assert any(words.startswith("31 Essential") for *_, words, _ in elements(changed, "text"))


@pytest.mark.parametrize("where", [0, 5, 17, -1])
def test_nothing_of_the_picture_overlaps_or_leaves_it(report, where):
    changed = copy.deepcopy(report)
    e, a = one_step(changed)
    e["question"] = "Why is the concentration so large? " * 9 + "w" * 150
    a["tokens"] = [copy.deepcopy(t) for _ in range(5) for t in a["tokens"]]
    a["tokens"][4]["text"] = " electromagnetism"
    a["tokens"][where]["before"] |= {"divergence": 99.0, "top": [[" electromagnetism", 1.0]] * 5}
    texts, boxes = elements(changed, "text"), elements(changed, "rect")
    width, height = boxes[0][2:4]
    assert (width, boxes[0][5]["fill"]) == (900, "#ffffff")
    assert all(0 <= x and 0 <= y and right <= width and bottom <= height for x, y, right, bottom, *_ in texts + boxes)
    def meet(a, b):
        return min(a[2], b[2]) - max(a[0], b[0]) > 0.1 and min(a[3], b[3]) - max(a[1], b[1]) > 0.1
    cells = [box for box in boxes if box[5].get("stroke") == "#d3d8de"]
    assert len(cells) == 2 * len(a["tokens"]) + len(markup.BINS) + 1
    for parts in (texts, cells):
        assert [(one[4], other[4]) for one, other in combinations(parts, 2) if meet(one, other)] == []
    bars = [box for box in boxes if float(box[5]["height"]) == 11]
    assert len(bars) == 6 and not any(meet(bar, other) for bar in bars for other in texts + cells)


def test_the_picture_has_the_shades_of_the_page_and_can_be_read(report):
    css = (Path(page.__file__).parent / "page.css").read_text()
    colours = dict(reversed(re.findall(r"--([ct]\d): (#\w+)", css)))  # the first of a name is by day
    assert list(picture.SHADES) == [(colours[f"c{i}"], colours[f"t{i}"]) for i in range(len(markup.BINS) + 1)]
    assert 1.05 / (luminance(re.search(r'fill="(#\w+)" font-family', picture.START)[1]) + 0.05) >= 4.5
    root = ElementTree.fromstring(picture.picture(report))
    assert [root.find(f"*[@id='{name}']").text != "" for name in root.get("aria-labelledby").split()] == [True, True]
    assert root.get("role") == "img" and not re.search(r"href|url\(|<script|<image", picture.picture(report))


def test_the_command_of_the_picture(finished, tmp_path):
    def made(*arguments):
        return subprocess.run([sys.executable, "-m", "report.picture", *map(str, arguments)], capture_output=True, text=True,
                              encoding="utf-8", cwd=ROOT)

    kinds = {e["kind"] for e in json.loads((finished / "report.json").read_text(encoding="utf-8"))["examples"]}
    assert "one-step" in kinds
    assert all(ElementTree.fromstring(made(finished, kind).stdout).tag.endswith("svg") for kind in kinds)
    assert made(finished).stdout == made(finished, "one-step").stdout
    for done in (made(), made(tmp_path), made(finished, "no such kind")):
        assert done.returncode == 1 and done.stdout == "" and len(done.stderr.splitlines()) == 1


# -------------------------------------------------------------------------------------------------- the command line
def test_the_report_is_made_once_and_drawn_again(finished, tmp_path, capsys):
    out = linked(finished, tmp_path / "run")
    for name in ("results.json", "report.json"):
        shutil.copy(finished / name, out / name)
    os.utime(out / "report.json")
    before = json.loads((out / "report.json").read_text())
    assert evaluate.main(["--out", str(out), *FLAGS]) == 0
    assert f"report: {out / 'report.html'}" in capsys.readouterr().out.splitlines()
    assert (out / "report.html").read_text() == (finished / "report.html").read_text()
    assert json.loads((out / "report.json").read_text()) == before
    assert json.loads((finished / "report.json").read_text(), parse_constant=lambda name: pytest.fail(name))


def test_a_summary_of_several_runs_has_a_page_with_bands_if_it_is_told_where(finished, tmp_path, capsys):
    assert evaluate.main(["--summary", str(finished), str(finished)]) == 0
    assert "report" not in capsys.readouterr().out
    assert evaluate.main(["--summary", str(finished), str(finished), "--out", str(tmp_path / "all")]) == 0
    html = (tmp_path / "all" / "report.html").read_text()
    assert "±" in html and "<polygon" in html and "standard deviation" in html
    assert "<polygon" not in (finished / "report.html").read_text()


def explained(out, *more):
    return evaluate.main(["explain", "--out", str(out), *FLAGS, *map(str, more)])


def test_explain_prints_in_colour_and_writes_the_page(finished, tmp_path, capsys):
    out = linked(finished, tmp_path / "run")
    (tmp_path / "r.txt").write_text(LINES + "\n", encoding="utf-8")
    assert explained(out, "--question", QUESTION, "--rubric", tmp_path / "r.txt") == 0
    plain = capsys.readouterr().out
    assert "\x1b" not in plain and QUESTION in plain and "mass × acceleration" in plain and str(out / "explain.html") in plain
    assert QUESTION in " ".join(Reader((out / "explain.html").read_text(encoding="utf-8")).text)
    found = json.loads((out / "explain.json").read_text(encoding="utf-8"))["examples"][0]
    assert [len(a["effects"]["logprob"]["alone"]) for a in found["answers"]] == [3] * len(found["answers"])
    if len(found["answers"]) == 1:
        assert found["answers"][0]["by"] == "base and student, greedy"
    loud = {"examples": [copy.deepcopy(found)]}
    loud["examples"][0]["answers"][0]["tokens"][0]["before"]["divergence"] = 9.0
    painted = terminal.terminal(loud, True)
    assert f"\x1b[48;5;{terminal.SHELL_SHADES[5][0]}m" in painted and "shades" in painted
    assert re.sub(r"\x1b\[[\d;]*m", "", painted).startswith(terminal.terminal(loud, False))


def test_without_a_question_it_takes_the_one_that_the_rubric_changes_most(finished, tmp_path):
    """By hand: each question's greedy answer alone, its divergence by `token_divergence` from plain logits."""
    out = linked(finished, tmp_path / "run")
    assert explained(out) == 0
    shown = json.loads((out / "explain.json").read_text(encoding="utf-8"))["examples"][0]
    run = explain.open_run(out, replace(Settings(), **load(out / "stage2.pt")["settings"], device="cpu"))
    changes = {}
    for e in load_examples(out / "data" / "test_new.jsonl")[0]:
        ids = generate(run.base, [encode(run.tokenizer, prompt(e.question))], eos=run.tokenizer.eos, temperature=0,
                       max_new_tokens=run.settings.max_new_tokens)[0].ids
        own, seen = (plain_logits(run, run.base, prompt(e.question, rubric=r), ids) for r in (None, e.rubric))
        changes[e.question] = token_divergence(own, seen).mean().item()
    assert len(changes) > 3 and changes[shown["question"]] == pytest.approx(max(changes.values()), rel=1e-4)
    assert max(changes.values()) > 1.01 * min(changes.values())  # otherwise any choice would do


def test_explain_takes_json_and_finds_the_question(finished, tmp_path):
    out, path = linked(finished, tmp_path / "run"), finished / "data" / "test_new.jsonl"
    examples = load_examples(path)[0]
    assert write.own_question(examples[3].question, path) == (examples[3].question, examples[3].rubric)
    assert write.own_question(None, path) == (examples[0].question, examples[0].rubric)
    one = tmp_path / "one.json"
    one.write_text(examples[2].to_json(), encoding="utf-8")
    assert write.own_question("Mine?", one) == ("Mine?", examples[2].rubric)
    assert explained(out, "--rubric", one) == 0
    with pytest.raises(ValueError, match="none of them this --question"):
        write.own_question("Mine?", path)


@pytest.mark.parametrize("rubric, question, expected", [
    (None, "Why?", "missing.txt: expected a rubric"), ("no rubric at all", "Why?", "line 1: expected 'weight Category"),
    ("3 Important: a", "Why?", "no Essential criterion"), (LINES, "why? " * 300, "388"), (LINES, " ", "--question"),
    ("{}", "Why?", "usable row"), ('{"question": "a", "answer": "b"}', "Why?", "with a rubric"),
    (b"\xff\xfe", "Why?", "UTF-8"), ("", "Why?", "line 1")])
def test_bad_input_is_one_line_and_exit_code_2(finished, capsys, tmp_path, rubric, question, expected):
    path = tmp_path / "missing.txt"
    if rubric is not None:
        path.write_bytes(rubric if isinstance(rubric, bytes) else rubric.encode())
    assert explained(finished, "--question", question, "--rubric", path) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("evaluate.py: ") and expected in lines[0]
    assert not (finished / "explain.html").exists()


def test_an_unfinished_or_missing_stage_is_one_line(finished, capsys, tmp_path):
    out = linked(finished, tmp_path / "run")
    (tmp_path / "r.txt").write_text(LINES, encoding="utf-8")
    assert explained(out, "--question", "Why?") == 2
    (out / "stage2.pt").unlink()
    assert explained(out, "--question", "Why?", "--rubric", tmp_path / "r.txt") == 2
    save(out / "stage2.pt", load(finished / "stage2.pt") | {"step": 2})
    assert explained(out, "--question", "Why?", "--rubric", tmp_path / "r.txt") == 2
    no_rubric, missing, unfinished = capsys.readouterr().err.splitlines()
    assert "no such checkpoint" in missing and "step 2 of 3" in unfinished and "--rubric" in no_rubric


def test_flags_of_explain_need_its_name(capsys):
    with pytest.raises(SystemExit) as stopped:
        evaluate.main(["--question", "Why?"])
    assert stopped.value.code == 2 and len(capsys.readouterr().err.splitlines()) == 1


# -------------------------------------------------------------------------------------------------- a real browser
BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
PROBE = """<script>
const say = (name, value) => document.body.setAttribute("data-" + name, value);
addEventListener("error", event => say("error", event.message));
addEventListener("load", () => {
  try {
    document.querySelectorAll("details").forEach(d => { d.open = true; });
    const wide = document.documentElement.clientWidth;
    const out = [...document.querySelectorAll("main *")].filter(
      e => !e.closest(".box") && e.getBoundingClientRect().right > wide + 1);
    say("overflow", document.documentElement.scrollWidth - wide + " " + out.slice(0, 3).map(e => e.outerHTML.slice(0, 80)));
    say("wide", innerWidth);
    const token = document.querySelectorAll(".t")[1];
    token.dispatchEvent(new MouseEvent("mouseenter"));
    say("pop", [pop.hidden, pop.querySelectorAll("tbody tr").length, pop.getBoundingClientRect().right <= wide + 1,
                token.getAttribute("aria-describedby")]);
    token.dispatchEvent(new MouseEvent("mouseleave"));
    say("hidden", pop.hidden);
    const figure = document.querySelector(".effects"), select = figure.querySelector("select");
    const sums = () => [...figure.querySelectorAll(".sum")].map(e => e.textContent).join(" ");
    const before = sums();
    select.dispatchEvent(new Event("change"));
    say("same", before === sums());
    select.value = "alone";
    select.dispatchEvent(new Event("change"));
    say("sums", sums());
    figure.querySelector("td[data-v]").click();
    say("told", figure.querySelector("output").textContent);
    say("stops", [...document.querySelector(".strip").querySelectorAll(".t")].filter(t => t.tabIndex === 0).length);
  } catch (error) { say("error", error); }
});
</script>"""


FRAME = """<!DOCTYPE html><body><iframe style="width:{}px; height:800px; border:0" srcdoc="{}"></iframe><script>
const frame = document.querySelector("iframe");
frame.onload = () => {{ for (const a of frame.contentDocument.body.attributes) document.body.setAttribute(a.name, a.value); }};
</script></body>"""


@pytest.mark.skipif(not BROWSER, reason="no chromium found: the page was not tried in a browser")
@pytest.mark.parametrize("width", [390, 1440])
def test_in_a_browser_the_page_fits_its_width_and_its_tokens_answer(report, tmp_path, width):
    """In a frame, because a window cannot be as narrow as a phone."""
    long, path = copy.deepcopy(report), tmp_path / "page.html"
    long["examples"][0]["question"] = long["stage1"][0]["question"] = "W" * 200
    long["examples"][0]["answers"][0]["tokens"][2]["text"] = "w" * 90
    path.write_text(FRAME.format(width, escape(page.page(long).replace("</body>", PROBE + "</body>"))), encoding="utf-8")
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1500,900",
         "--virtual-time-budget=3000", "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=60)
    found = dict(re.findall(r'data-(\w+)="([^"]*)"', re.search(r"<body[^>]*>", done.stdout)[0]))
    assert "error" not in found and found["overflow"].strip() == "0" and found["wide"] == str(width), found
    assert found["pop"] == "false,5,true,pop" and found["hidden"] == "true" and found["stops"] == "1"
    assert found["same"] == "true" and found["told"].startswith("The whole rubric on ")
    alone = report["examples"][0]["answers"][0]["effects"]["logprob"]["alone"]
    shown = [float(x.replace("−", "-")) for x in found["sums"].split()]
    assert shown[1:len(alone) + 1] == pytest.approx([sum(row) for row in alone], abs=0.006)


LOOK = """<script>
addEventListener("load", () => {
  try {
    document.querySelectorAll("details").forEach(d => { d.open = true; });
    const pops = [...document.querySelectorAll(".t")].map(t => {
      t.dispatchEvent(new MouseEvent("mouseenter"));
      return [[...pop.querySelectorAll("p")].map(p => p.textContent), [...pop.querySelectorAll("tr")].map(
        r => [...r.children].map(c => c.textContent)), getComputedStyle(t).backgroundColor, getComputedStyle(t).borderTopStyle];
    });
    const heats = [...document.querySelectorAll(".effects")].map(f =>
      ["left out", "alone"].flatMap(h => ["logprob", "divergence"].map(m => {
      const [how, measure] = f.querySelectorAll("select");
      how.value = h; measure.value = m; measure.dispatchEvent(new Event("change"));
      return [...f.querySelectorAll("tbody tr")].map(r => [r.children[0].textContent, r.children[1].textContent,
        ...[...r.querySelectorAll("td[data-v]")].map(c => { c.click(); return [c.title, c.textContent, c.className,
          f.querySelector("output").textContent]; })]);
    })));
    const key = [...document.querySelectorAll("#strips .key li")].slice(1).map(li => getComputedStyle(li).backgroundColor);
    document.body.setAttribute("data-look", JSON.stringify([pops, heats, key]));
  } catch (error) { document.body.setAttribute("data-look", JSON.stringify(String(error))); }
});
</script>"""


@pytest.mark.skipif(not BROWSER, reason="no chromium found: the page was not tried in a browser")
def test_in_a_browser_popovers_and_heatmaps_say_what_the_json_says(tmp_path):
    path = tmp_path / "page.html"
    path.write_text(page.page(by_hand()).replace("</body>", LOOK + "</body>"), encoding="utf-8")
    done = subprocess.run([BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
                           "--virtual-time-budget=3000", "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=120)
    pops, heats, key = json.loads(unescape(re.search(r'data-look="([^"]*)"', done.stdout)[1]))
    pops = iter(pops)
    def three(p):
        return f"{p:.3f}"
    for e, example in enumerate(by_hand()["examples"]):
        for a, answer in enumerate(example["answers"]):
            for side in ("before", "after"):
                for token, (*_, d, shade, clipped) in zip(answer["tokens"], STRIPS[e, a, side][0]):
                    (title, *facts), (head, *rows), colour, frame = next(pops)
                    student, teacher = token[side], token["teacher"]
                    text = token["text"].replace("\n", "⏎")
                    assert title == f"“{text}”: divergence {d} nats, " + ("clipped" if clipped else "not clipped")
                    assert facts == [f"{n}: {three(math.exp(o['logprob']))} for this token, entropy {o['entropy']:.2f} nats"
                                     for n, o in (("Student", student), ("Teacher", teacher))]
                    assert head == ["student", "p", "teacher", "p"]
                    assert rows == [[s, three(p), t, three(q)] for (s, p), (t, q) in zip(student["top"], teacher["top"])]
                    assert colour == key[shade] and frame == ("dashed" if clipped else "solid")
            ways = [(how, measure) for how in ("left out", "alone") for measure in explain.MEASURES]
            for way, rows in zip(ways, heats[e if e == 0 else 1 + a]):
                assert [[*row[:2], *((v, sign) for v, sign, *_ in row[2:])] for row in rows] == effects_by_hand(e, a, *way)
                for row in rows:
                    for token, (value, _, look, told) in zip(answer["tokens"], row[2:]):
                        assert look == f"d{markup.level(float(value.replace('−', '-')))}"
                        assert told == f"{row[0]} on “{token['text'].replace(chr(10), '⏎')}”: {value} nats"
    assert next(pops, None) is None and len(set(key)) == len(markup.BINS) + 1
    light = [sum(map(int, re.findall(r"\d+", colour))) for colour in key]
    assert light == sorted(light, reverse=True)
