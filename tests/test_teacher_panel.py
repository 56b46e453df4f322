"""The teacher's panel against one prefix at a time, and who writes each text of the report."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from data.load import load_examples
from data.tokenizer import encode, read_tokenizer
from pages import CRITERIA, plain_logits
from report import alignment, explain, panels
from rubrics import Rubric, prompt
from trainer.checkpoints import load
from trainer.settings import Settings


def test_the_teachers_panel_against_one_prefix_at_a_time(run, finished, monkeypatch):
    """Samples, rubrics and greedy answers by hand; the divergences by their definitions."""
    run = replace(run, settings=replace(run.settings, micro_tokens=700))  # several batches
    examples = load_examples(finished / "data" / "test_new.jsonl")[0][:11]
    generator = torch.Generator().manual_seed(0)

    def draw(n):
        return torch.randint(300, 400, (n,), generator=generator).tolist()

    samples = {
        "before": [draw(n) for n in (1, 2, 1, 3, 1, 2, 1, 1, 1, 1, 1)],
        "after": [draw(n) for n in (2,) * 10 + (4,)],
    }
    learned = {e.id: Rubric(CRITERIA[: 1 + i % 3]) for i, e in enumerate(examples)}

    def sample_completions(model, prompts, *_):
        assert prompts == [encode(run.tokenizer, prompt(e.question)) for e in examples]
        return [
            SimpleNamespace(ids=ids) for ids in samples["before" if model is run.base else "after"]
        ]

    sees = {
        "nothing": lambda e: {},
        "generic rubric": lambda e: {"rubric": panels.GENERIC},
        "reference rubric": lambda e: {"rubric": e.rubric},
        "learned rubric": lambda e: {"rubric": learned[e.id]},
        "solution": lambda e: {"solution": e.solution},
    }
    right, leak = (
        dict(zip((*sees, "student, after"), counts))
        for counts in ((1, 2, 3, 4, 5, 6), (6, 4, 2, 0, 3, 1))
    )
    texts = {
        name: [
            "by the rubric"
            if i >= 11 - leak[name]
            else e.solution
            if i < right[name]
            else "Answer: none"
            for i, e in enumerate(examples)
        ]
        for name in right
    }  # right answers first, mentions last

    def greedy(model, tokenizer, prompts, settings):
        (name,) = (
            n
            for n in ("generic rubric", "solution")
            if prompts == [encode(tokenizer, prompt(e.question, **sees[n](e))) for e in examples]
        )
        assert model is run.base
        return [(t, False, 1) for t in texts[name]]

    monkeypatch.setattr(panels, "sample_completions", sample_completions)
    monkeypatch.setattr(panels, "greedy", greedy)
    known = {
        name: {e.id: t for e, t in zip(examples, texts[name])}
        for name in texts
        if name not in ("generic rubric", "solution")
    }
    found = panels.teacher_panel(run, examples, learned, known)
    assert found["questions"] == 11 and list(found["columns"]) == list(right)
    turned = []
    for name, column in found["columns"].items():
        assert column["right"] == pytest.approx(right[name] / 11)
        assert column["leak"] == pytest.approx(leak[name] / 11)
        late = name == "student, after"
        rows = []
        for e, ids in zip(examples, samples["after" if late else "before"]):
            q = (
                plain_logits(run, run.student if late else run.base, prompt(e.question), ids)
                .double()
                .softmax(-1)
            )
            p = (
                plain_logits(
                    run,
                    run.base,
                    prompt(e.question, **sees.get(name, sees["learned rubric"])(e)),
                    ids,
                )
                .double()
                .softmax(-1)
            )
            for t in range(len(ids)):
                z = q[t].log().requires_grad_()
                terms = p[t] * (p[t].log() - z.log_softmax(-1))
                terms.clamp(max=0.05).sum().backward()
                best = p[t].argmax()
                rows.append(
                    (
                        t,
                        (p[t] * (p[t] / q[t]).log()).sum(),
                        -(p[t] * p[t].log()).sum(),
                        -(q[t] * q[t].log()).sum(),
                        q[t].sum() - q[t][p[t].topk(20).indices].sum(),
                        q[t][best] < p[t][best] and z.grad[best] > 0,
                    )
                )
                if name == "learned rubric" and rows[-1][-1]:
                    turned.append((z.grad[best].item(), ids, t, p[t], q[t]))

        def mean(i):
            return sum(float(row[i]) for row in rows) / len(rows)

        for i, key in enumerate(("divergence", "teacher_entropy", "student_entropy", "tail"), 1):
            assert column[key] == pytest.approx(mean(i), abs=1e-4), (name, key)
        assert column["clipped"] == pytest.approx(
            sum(row[1].item() > 0.5 for row in rows) / len(rows)
        )
        assert column["gradient_flipped"] == pytest.approx(mean(5))
        if name in ("learned rubric", "student, after"):
            at = found["positions"]["after" if late else "before"]
            places = [[float(row[1]) for row in rows if row[0] == t] for t in range(4)]
            assert [t for t, _ in at] == [1, 2]  # the third place has one answer of eleven: too few
            assert [d for _, d in at] == pytest.approx(
                [sum(v) / len(v) for v in places[:2]], abs=1e-4
            )
    assert {c["gradient_flipped"] for c in found["columns"].values()} != {0} and 0 < found[
        "columns"
    ]["learned rubric"]["clipped"] < 1
    _, ids, t, p, q = max(turned, key=lambda row: row[0])
    clip = found["clip"]
    assert (clip["before"], clip["chosen"]) == (
        run.tokenizer.decode(ids[:t]),
        explain.token_text(run.tokenizer, ids[t]),
    )
    best = p.topk(5).indices
    assert [(r["p"], r["q"]) for r in clip["top"]] == [
        pytest.approx((p[i].item(), q[i].item()), abs=1e-4) for i in best
    ]
    assert [r["text"] for r in clip["top"]] == [
        explain.token_text(run.tokenizer, i) for i in best.tolist()
    ]
    assert (found["tail_k"], found["scale_clip"], found["point_clip"]) == (20, 0.5, 0.05)


CALCULATIONS = ("one-step", "conversion", "comparison", "two-step")
SHOWN = ("one-step", "explanation", "two-step", "comparison")


def test_the_report_takes_each_text_from_the_model_that_it_names(finished, monkeypatch):
    """With models that are names: who writes which rubric, whose answers the columns of the
    teacher's panel get."""
    kinds = {"base": "uses a = b × c", "stage I": "uses d = e × f"}
    asked = []

    def written(model, tokenizer, examples, settings):
        return [
            {
                "id": e.id,
                "text": f"5 Essential: {kinds[model]} for {e.id}",
                "problem": f"{model} failed" if e.id == bad else "",
            }
            for e in examples
        ]

    settings = replace(Settings(), **load(finished / "stage2.pt")["settings"], device="cpu")
    examples = load_examples(finished / "data" / "test_new.jsonl")[0]
    chosen, kinds_of = {}, {}
    for e in examples:
        kinds_of[e.id] = e.meta["kind"]
        keys = [c for c in e.rubric.criteria if c.category == "Essential"]
        if e.meta["kind"] not in ("held", *CALCULATIONS) and len(keys) in (2, 3):
            kinds_of[e.id] = "explanation"
        chosen[kinds_of[e.id]] = e.id  # the last of each kind
    order = [kind for kind in SHOWN if kind in chosen]
    order += [kind for kind in dict.fromkeys(kinds_of.values()) if kind not in SHOWN]
    chosen = {kind: chosen[kind] for kind in order[:4]}  # other kinds in the places of missing ones
    assert "explanation" in chosen and len(chosen) == 4
    bad = list(chosen.values())[0]
    stub = SimpleNamespace(
        settings=replace(settings, max_seq_len=10**6),
        tokenizer=read_tokenizer(finished),
        base="base",
        writer="stage I",
        student="student",
    )
    monkeypatch.setattr(panels, "open_run", lambda *_: stub)
    for module in (panels, alignment):
        monkeypatch.setattr(module, "write_rubrics", written)
    monkeypatch.setattr(
        panels,
        "right_and_wrong",
        lambda run, kind, those, rubrics: (
            asked.append((kind, [e.id for e in those]))
            or {"id": chosen[kind], "kind": kind, "answers": [{"by": kind}]}
        ),
    )
    monkeypatch.setattr(
        panels, "shares_of_answer", lambda run, example, answer: [example["id"], answer["by"]]
    )
    monkeypatch.setattr(
        panels,
        "link_tokens",
        lambda run, those, learned: {e.id: learned[e.id].text() for e in those},
    )
    monkeypatch.setattr(
        panels,
        "teacher_panel",
        lambda run, those, learned, known: {
            "known": known,
            "learned": {e.id: learned[e.id].text() for e in those},
        },
    )
    columns = ("base", "teacher, reference rubric", "teacher, learned rubric", "student")
    results = {
        "answers": {c: [{"id": e.id, "text": f"{c} on {e.id}"} for e in examples] for c in columns}
    }
    found = panels.report(finished, settings, results)
    assert asked == [(k, [e.id for e in examples if kinds_of[e.id] == k]) for k in chosen]
    assert [e["id"] for e in found["examples"]] == list(chosen.values())
    names = ("nothing", "reference rubric", "learned rubric", "student, after")
    assert found["teacher"]["known"] == {
        n: {e.id: f"{c} on {e.id}" for e in examples} for n, c in zip(names, columns)
    }
    assert found["teacher"]["learned"] == {
        e.id: panels.GENERIC.text() if e.id == bad else f"5 Essential: uses d = e × f for {e.id}"
        for e in examples
    }
    assert found["link_tokens"] == found["teacher"]["learned"]
    assert [e["answers"][0]["links"] for e in found["examples"]] == [
        [id, kind] for kind, id in chosen.items()
    ]
    questions = {e.id: e for e in examples}
    assert [e["subject"] for e in found["examples"]] == [
        "laws" if questions[id].meta["kind"] in CALCULATIONS else "links" for id in chosen.values()
    ]
    assert [s["question"] for s in found["stage1"]] == [
        questions[i].question for i in list(chosen.values())[:3]
    ]
    for s, i in zip(found["stage1"], chosen.values()):
        assert s["problems"] == {n: f"{n} failed" if i == bad else "" for n in kinds}
        texts = {
            n: [row[n]["text"] for row in s["rows"] if n in row] for n in ("reference", *kinds)
        }
        assert texts["reference"] == [c.description for c in questions[i].rubric.criteria]
        assert all(
            texts[n] == ([] if i == bad else [f"Essential: {relation} for {i}"])
            for n, relation in kinds.items()
        )


@pytest.mark.parametrize(
    "text, leaks",
    [
        ("as the rubric says", True),
        ("Criteria: none", True),
        ("5 Essential: uses", True),
        ("an essential amount = 2 g", False),
        ("Answer: 2 N", False),
    ],
)
def test_what_counts_as_mentioning_the_rubric(text, leaks):
    assert panels.mentions_rubric(text) == leaks
