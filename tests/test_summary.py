"""The sentence that a report opens with, and the table under it, from results written by hand."""

import evaluate
from report.summary import own_summary, summary

NEW = "Before, the student answered 42 of 100 questions about new laws and 35 about new links; "
NEW += "after stage II it answers 95 and 91, without a rubric"


def results(accuracy, counts=None):
    """results.json of {group: (base, student)} in %, each group with 50 questions or its count."""
    groups = evaluate.GROUPS
    counts = {g: (counts or {}).get(g, 50) if g in accuracy else 0 for g in groups}
    by_model = {}
    for i, model in enumerate(("base", "teacher, reference rubric", "student")):
        place = min(i, 1)
        nan = (float("nan"),) * 2
        by_model[model] = {g: accuracy.get(g, nan)[place] / 100 for g in groups}
    stage1 = {
        model: {g: {"valid": 0.5, "key": 0.5} for g in accuracy} for model in ("base", "stage1")
    }
    kinds = {model: {"new laws": {"one-step": 0.25}} for model in by_model}
    return {
        "questions": counts,
        "accuracy": by_model,
        "score": by_model,
        "kinds": kinds,
        "stage1": stage1,
    }


LAWS = {"known laws": (98, 96), "new laws": (42.3, 95.4)}
LINKS = {"known links": (90, 90), "new links": (35, 91)}


def test_the_sentence_of_a_run_has_the_groups_that_exist():
    assert summary([results(LAWS | LINKS)]) == f"{NEW}; of 100 known ones it lost 1."
    weighed = results(LAWS | LINKS, {"known laws": 10, "known links": 90})  # 90.8 and 90.6
    assert summary([weighed]) == f"{NEW}; of 100 known ones it lost none."
    assert summary([results(LAWS)]) == (
        "Before, the student answered 42 of 100 questions about new laws; after stage II it "
        "answers 95, without a rubric; of 100 known ones it lost 2."
    )
    better = {"new links": (35, 91), "known links": (80, 83)}
    assert summary([results(better)]) == (
        "Before, the student answered 35 of 100 questions about new links; after stage II it "
        "answers 91, without a rubric; of 100 known ones it gained 3."
    )
    assert summary([results({"new laws": (1, 2)})]) == (
        "Before, the student answered 1 of 100 questions about new laws; after stage II it "
        "answers 2, without a rubric."
    )
    assert summary([results({"known laws": (98, 96), "unseen chain, new": (1, 2)})]) == ""


def test_the_sentence_of_several_runs_is_of_their_means():
    other = {"known laws": (96, 88), "new laws": (52.3, 85.4)}
    assert summary([results(LAWS), results(other)]) == (
        "In the mean of 2 runs, before, the student answered 47 of 100 questions about new laws; "
        "after stage II it answers 90, without a rubric; of 100 known ones it lost 5."
    )
    assert "links" not in summary([results(LAWS | LINKS), results(LAWS)])  # one run lacks them


def test_the_sentence_about_ones_own_questions():
    def rows(measure, *values):
        return [{"id": str(i), measure: v} for i, v in enumerate(values) if v != "no row"]

    right = {
        "base": rows("right", True, False, False, None, True, "no row"),
        "student": rows("right", True, True, True, True, "no row", True),
    }
    assert own_summary(right) == (
        "Before, the student answered 1 of 3 held-out questions; after stage II it answers 3, "
        "without a rubric."
    )
    parted = {
        "base": rows("divergence", 0.5, 1.0, 9.0),
        "student": rows("divergence", 0.25, 0.125, None),
    }
    assert own_summary(parted) == (
        "Before, the student's answers to 2 held-out questions diverged from the teacher that "
        "reads the rubric by 0.750 nats a token; after stage II its answers diverge by 0.188."
    )
    both = {name: right[name] + parted[name] for name in right}
    assert own_summary(both) == own_summary(right)
    few = {name: right[name] + rows("divergence", *[0.5] * 7) for name in right}
    assert "answers to 7 held-out questions diverged" in own_summary(few)  # of 3 some are right
    assert own_summary({"base": rows("right", None), "student": rows("right", True)}) == ""


def test_the_printed_table_keeps_calculations_and_explanations_apart_within_100_columns():
    every = {group: (10 + k, 60 + k) for k, group in enumerate(evaluate.GROUPS)}
    text = evaluate.table([results(every), results(every)])
    assert max(map(len, text.split("\n"))) <= 100
    sentence, laws, links, written = text.split("\n\n")
    assert sentence.replace("\n", " ") == summary([results(every), results(every)])
    titles = "calculations: accuracy, %", "explanations: accuracy, %", "stage I: greedy rubrics, %"
    assert [part.startswith(title) for part, title in zip((laws, links, written), titles)] == [
        True
    ] * 3
    for part, own, other in ((laws, "laws", "links"), (links, "links", "laws")):
        assert f"known {own}  " in part and f"rubric score, new {own} " in part
        assert f"unseen phrasing, new {own} " in part and f" {other}" not in part
    assert "two-step" in laws and "two-step" not in links
    assert "chain" in links and "chain" not in laws
    k = evaluate.GROUPS.index("unseen chain, new")
    row = next(line for line in links.split("\n") if line.startswith("unseen chain, new"))
    assert row.split()[3:] == f"50 {10 + k}.0 ± 0.0 {60 + k}.0 ± 0.0 {60 + k}.0 ± 0.0".split()
    assert "explanations" not in evaluate.table([results(LAWS)])
