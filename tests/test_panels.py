"""The report's panels: rubrics side by side, clip modes, curves, tables, stage I."""

import json
import random
from types import SimpleNamespace

import pytest
import torch

import evaluate
import rcsd
from data.load import load_examples
from data.sources import noisy_rubric
from report import alignment, curves, explain, panels
from rubrics import Criterion, Example, Rubric
from tiny import TINY
from trainer.settings import Settings


def test_no_reference_criterion_is_wrong_and_a_relation_turned_round_is(finished):
    examples = [
        e
        for name in ("test_known", "test_new", "stage2")
        for e in load_examples(finished / "data" / f"{name}.jsonl")[0]
    ]
    assert not any(alignment.is_wrong(c, e.solution) for e in examples for c in e.rubric.criteria)
    noisy = [noisy_rubric(e.rubric, random.Random(0)) for e in examples]
    assert all(
        any(alignment.is_wrong(c, e.solution) for c in r.criteria)
        for e, r in zip(examples, noisy)
        if r != e.rubric
    )
    for unit in ("in xyz", "per xyz"):
        said = Criterion("", f"Important: gives the answer {unit}", 3)
        assert all(alignment.is_wrong(said, e.solution) for e in examples)
    said = Criterion("", "Important: gives the answer per h", 3)
    assert not alignment.is_wrong(said, "Answer: 4 per h")
    assert not alignment.is_wrong(Criterion("", "Optional: is polite", 1), "Answer: 1 N")


def test_criteria_that_say_the_same_stand_in_one_row():
    reference = Rubric(
        (
            Criterion("", "Essential: uses a = b × c", 5),
            Criterion("", "Important: puts in 2 m and 3 s", 2),
        )
    )
    other = Rubric(
        (
            Criterion("", "Important: puts in 3 s and 2 m", 2),
            Criterion("", "Essential: states that a = c × b", 4),
            Criterion("", "Essential: uses a = b ÷ c", 4),
        )
    )
    rows = alignment.aligned(
        {"reference": reference, "base": None, "stage I": other}, "a = b × c = 6\nAnswer: 6 m"
    )
    assert [(row.keys(), [c["wrong"] for c in row.values()]) for row in rows] == [
        ({"reference", "stage I"}, [False, False]),
        ({"reference", "stage I"}, [False, False]),
        ({"stage I"}, [True]),
    ]
    same = "puts in 2 m"
    other = alignment.aligned(
        {
            name: Rubric((Criterion("", f"{kind}: {same}", 5),))
            for name, kind in (("reference", "Essential"), ("stage I", "Important"))
        },
        "",
    )
    assert [list(row) for row in other] == [["reference"], ["stage I"]]
    links = alignment.aligned(
        {
            "reference": Rubric(
                (Criterion("", "Essential: says that the a rises, so the b falls", 5),)
            ),
            "stage I": Rubric(
                (
                    Criterion("", "Essential: shows that the b rises when the a falls", 4),
                    Criterion("", "Essential: says that the a falls, so the b falls", 4),
                )
            ),
        },
        "the a rises, so the b falls\nAnswer: it falls",
    )
    assert [(list(row), [c["wrong"] for c in row.values()]) for row in links] == [
        (["reference", "stage I"], [False, False]),
        (["stage I"], [True]),
    ]
    twice = alignment.aligned({"reference": Rubric(reference.criteria[:1] * 2)}, "")
    assert len(twice) == 2


def test_the_clip_modes_on_the_example_of_the_readme():
    """Teacher (.9, .1), student (.8, .2): the gradient is -.10, and pointwise clipping turns it to
    +.08."""
    model = SimpleNamespace(head_weight=torch.eye(2))
    run = explain.Run(
        Settings(), SimpleNamespace(decode=lambda ids: " ".join(map(str, ids))), model, None, None
    )
    own, seen = (torch.tensor([p, p]).log() for p in ([0.8, 0.2], [0.9, 0.1]))
    stats = explain.token_stats(
        run, model, own, seen, clip=panels.POINT_CLIP, clip_mode="pointwise"
    )
    assert stats.gradient_flipped.tolist() == [True, True]
    where = [(rcsd.Rollout([], [0, 1]), t) for t in (0, 1)]
    found = panels.clip_modes(run, own, seen, where, stats.gradient_flipped)
    first = {mode: (m["loss"], m["gradient"][0]) for mode, m in found["modes"].items()}
    assert first == {
        "none": pytest.approx((0.0367, -0.1), abs=1e-3),
        "pointwise": pytest.approx((-0.0193, 0.08), abs=1e-3),
        "token": pytest.approx((0.0367, -0.1), abs=1e-3),
        "scale": pytest.approx((0.0367, -0.1), abs=1e-3),
    }
    assert [r["p"] for r in found["top"]] == pytest.approx([0.9, 0.1])
    for t, before in enumerate(("", "0")):
        found = panels.clip_modes(run, own, seen, where, torch.arange(2) == t)
        assert (found["before"], found["chosen"]) == (before, str(t))
    assert panels.clip_modes(run, own, own, where, torch.tensor([False, False])) is None


ROW = {"tokens": 1, "seconds": 0.5}


def test_curves_average_over_steps_and_spread_over_runs(tmp_path):
    for name, shift in (("a", 0.0), ("b", 2.0)):
        (tmp_path / name).mkdir()
        for stage, row in (("base", {}), ("stage1", {"valid": 0.5}), ("stage2", {"correct": 1.0})):
            (tmp_path / name / f"{stage}.jsonl").write_text(
                "\n".join(
                    json.dumps({**ROW, "step": i, "loss": i + shift, **row}) for i in range(48)
                )
            )
    both = curves.curves([tmp_path / "a", tmp_path / "b"])
    assert [(c["stage"], c["measure"]) for c in both] == [
        ("base", "loss"),
        ("stage1", "loss"),
        ("stage1", "valid"),
        ("stage2", "loss"),
        ("stage2", "correct"),
    ]
    assert (
        both[0]["points"][0] == [2, 1.5, pytest.approx(2**0.5)]
        and len(both[0]["points"]) == curves.BUCKETS
    )
    assert curves.curves([tmp_path / "a"])[0]["points"][-1] == [48, 46.5, None]
    assert {p[1] for p in both[2]["points"]} == {0.5} and {p[1] for p in both[4]["points"]} == {1.0}


def test_the_tables_of_two_runs_by_hand():
    """Each measure another number: place k of the groups, column c, run r."""

    def run(r):
        models, groups = ("base", "student"), evaluate.GROUPS

        def value(start):
            return {
                m: {g: start + (20 * c + k + 2 * r) / 100 for k, g in enumerate(groups)}
                for c, m in enumerate(models)
            }

        return {
            "accuracy": value(0.0),
            "score": value(0.3),
            "questions": {g: 40 + k for k, g in enumerate(groups)},
            "kinds": {
                m: {
                    g: {"one-step": 0.5 + (20 * c + k + 2 * r) / 100}
                    for k, g in enumerate(evaluate.SEEN)
                }
                for c, m in enumerate(models)
            },
            "stage1": {
                m: {
                    g: {
                        "valid": 0.7 + (20 * c + k + 2 * r) / 100,
                        "key": 0.2 + (20 * c + k + 2 * r) / 100,
                    }
                    for k, g in enumerate(evaluate.SEEN)
                }
                for c, m in enumerate(("base", "stage1"))
            },
        }

    laws, links, written = evaluate.table_parts([run(0), run(1)])

    def middle(start):
        return [
            [pytest.approx(start + c), pytest.approx(2**0.5)] for c in (1, 21)
        ]  # of start and start + 2

    for part, own in ((laws, "laws"), (links, "links")):
        places = [
            (k, g)
            for k, g in enumerate(evaluate.GROUPS)
            if own in g or ("two-step" if own == "laws" else "chain") in g
        ]
        seen = [(k, g) for k, g in enumerate(evaluate.SEEN) if own in g]
        assert (len(places), len(seen)) == (6, 2) and part["columns"] == ["base", "student"]
        groups = [(g, 40 + k, middle(k)) for k, g in places]
        kinds = [(f"  {g}, one-step", None, middle(50 + k)) for k, g in seen]
        scores = [  # SEEN and GROUPS have a group in different places
            (f"rubric score, {g}", None, middle(30 + evaluate.GROUPS.index(g))) for _, g in seen
        ]
        assert [tuple(row.values()) for row in part["rows"]] == groups + kinds + scores
    assert written["columns"] == ["base", "stage I"]
    assert [tuple(row.values()) for row in written["rows"]] == [
        (f"{g}: {label}", None, middle(start + k))
        for k, g in enumerate(evaluate.SEEN)
        for label, start in (("valid", 70), ("right key criteria", 20))
    ]
    assert all(row["cells"][0][1] is None for row in evaluate.table_parts([run(0)])[0]["rows"])


def test_stage_one_counts_what_parses_and_what_has_the_right_key_criteria():
    """Of four rubrics one does not parse, one has its relation turned round, one lacks one, and one
    is right in other words."""
    reference = Rubric(
        [
            Criterion("", f"Essential: {text}", 5)
            for text in ("uses a = b × c", "states that d = a ÷ e")
        ]
    )
    meta = {"new": True, "phrasing": "seen", "kind": "two-step"}
    examples = [
        Example(str(i), "Why?", answer="1 N", rubric=reference, meta=meta) for i in range(4)
    ]
    written = [
        {"problem": "no criterion", "text": "5"},
        {"problem": "", "text": "5 Essential: uses a = b ÷ c\n4 Essential: uses d = a ÷ e"},
        {"problem": "", "text": "5 Essential: uses a = b × c\n3 Important: uses d = a ÷ e"},
        {"problem": "", "text": "5 Essential: states that a = c × b\n5 Essential: uses d = a ÷ e"},
    ]
    shares, usable = evaluate.judge_rubrics(written, examples)
    assert shares == {"new laws": {"valid": 0.75, "key": 0.25}}
    assert usable["0"] == panels.GENERIC and [usable[e.id].text() for e in examples[1:]] == [
        row["text"] for row in written[1:]
    ]


def test_the_panel_agrees_with_the_results(finished, report):
    results = json.loads((finished / "results.json").read_text())
    assert report["teacher"]["questions"] <= TINY["test_questions"]
    columns = report["teacher"]["columns"]
    assert list(columns) == [
        "nothing",
        "generic rubric",
        "reference rubric",
        "learned rubric",
        "solution",
        "student, after",
    ]
    assert columns["nothing"]["divergence"] == 0 and columns["nothing"]["gradient_flipped"] == 0
    assert (
        columns["solution"]["teacher_entropy"] > 0 and 0 <= columns["learned rubric"]["tail"] <= 1
    )
    assert (
        report["runs"][0]["preset"] == "smoke"
        and report["runs"][0]["changed"]["base_steps"] == TINY["base_steps"]
    )
    assert report["runs"][0]["seconds"] == {
        k: pytest.approx(v, abs=1e-5) for k, v in results["seconds"].items()
    }
