"""What the study's runs say: tables, paired intervals, pictures.

    python study/report.py             # prints the tables; writes pictures and results.json to study/results/
    python study/report.py --readme    # and puts them into README.md, between <!-- study --> and <!-- /study -->

Every table shows the runs that are there. Accuracies are shares from 0 to 1 here and in results.json, percent in tables.
"""
import argparse
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":  # `python study/report.py` starts in study/, where study.py would hide the folder of that name
    sys.path[0] = str(ROOT)

import numpy as np

from study.plot import Line, Panel, chart
from study.runs import RUNS, TABLES

RESULTS = ROOT / "study" / "results"
MARKERS = "<!-- study -->", "<!-- /study -->"
DRAWS = 10_000                                                        # resamples of the bootstrap
SETS = ("new", "hard", "known")                                       # test sets
MEASURES = {"new": "new laws", "hard": "hard", "known": "known laws", "average": "average"}  # and their mean
CEILINGS = ("teacher-gt", "teacher-learned", "teacher-solution", "teacher-solution-30")  # the base with help in context
REFERENCES = ("base", "grpo", "grpo-rubric", "opsd", "sft", "opsd-30", "sft-30", "rcsd-gt", "reverse-kl-pg")
ALL_QUESTIONS, ALL_RUBRICS = 1600, 1200                               # what a run without a limit learns from
RATES = {"sft": "sft, imperfect rationales", "opsd": "opsd, imperfect rationales", "rcsd-gt": "rcsd, noisy rubrics"}
CURVES = ("grpo", "grpo-rubric", "opsd", "reverse-kl-pg", "rcsd-learned", "rcsd-gt")  # sft samples no tokens
COLOURS = {"base": "#777777", "sft": "#E69F00", "grpo": "#CC79A7", "grpo-rubric": "#56B4E9", "opsd": "#D55E00",
           "reverse-kl-pg": "#000000", "rcsd-learned": "#0072B2", "rcsd-gt": "#009E73"}  # Okabe and Ito's


# ------------------------------------------------------------------------------------------------ reading the runs
def number(value, high=float("inf")) -> bool:
    return type(value) in (int, float) and 0 <= value <= high  # a NaN is not


def of_each_set(value, right) -> bool:
    return isinstance(value, dict) and all(right(value.get(name)) for name in SETS)


FIELDS = {  # of every line: what is right, and how to say so
    "run": (lambda v: isinstance(v, str) and v != "", "a name"),
    "seed": (lambda v: type(v) is int, "a whole number"),
    "flags": (lambda v: isinstance(v, dict), "settings of rcsd.py by name"),
    "lr": (lambda v: v is None or number(v), "a learning rate, or null"),
    "valid": (lambda v: number(v, 1), "an accuracy from 0 to 1"),
    "machine": (lambda v: isinstance(v, str), "a text"),
}
TEST_FIELDS = {  # of every line but those of the grid of learning rates
    "correct": (lambda v: of_each_set(v, lambda s: isinstance(s, str) and s != "" and set(s) <= set("01")),
                'for known, new and hard one 0 or 1 a question, such as "1011"'),
    "score": (lambda v: of_each_set(v, lambda x: number(x, 1)), "for known, new and hard a score from 0 to 1"),
    "length": (lambda v: of_each_set(v, number), "for known, new and hard a number of tokens"),
    "curve": (lambda v: isinstance(v, list) and all(isinstance(p, list) and len(p) == 4 and all(map(number, p)) for p in v),
              "rows of step, tokens, accuracy on known laws, on new laws"),
    "train": (lambda v: isinstance(v, dict) and all(x is None or number(x) for x in v.values()), "numbers by name"),
    **{name: (number, "a number of at least 0") for name in ("kept", "steps", "sampled_tokens", "seconds")},
}
OPTIONAL = {
    "valid_new": (lambda v: number(v, 1), "an accuracy from 0 to 1"),
    "stage1": (lambda v: isinstance(v, dict) and all(number(v.get(k), 1) for k in ("key_new", "key_known")),
               "key_new and key_known, shares from 0 to 1"),
}


def read_runs(path: Path) -> dict[str, dict[int, dict]]:
    """The lines of the file by run and seed; a later line of the same run and seed replaces an earlier one.

    Raises ValueError with the place and what was expected for a file that is not what the study writes.
    """
    runs, questions = {}, {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected the runs that study/study.py writes: {error}") from None
    for place, line in ((f"{path}:{i}", line) for i, line in enumerate(lines, 1)):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise ValueError(f"{place}: line: expected one JSON object, got {line[:60]!r}")
        tested = {} if str(row.get("run")).startswith("lr-") else TEST_FIELDS
        optional = {name: check for name, check in OPTIONAL.items() if row.get(name) is not None}
        for name, (right, expected) in {**FIELDS, **tested, **optional}.items():
            if name not in row or not right(row[name]):
                got = f"got {json.dumps(row[name])[:60]}" if name in row else "the field is missing"
                raise ValueError(f"{place}: {name}: expected {expected}; {got}")
        for name in SETS if tested else ():
            count = len(row["correct"][name])
            if count != questions.setdefault((row["seed"], name), count):
                raise ValueError(f"{place}: correct: expected {questions[row['seed'], name]} answers in {name}, as in the "
                                 f"other runs of seed {row['seed']}; got {count}")
        runs.setdefault(row["run"], {})[row["seed"]] = row
    if not runs:
        raise ValueError(f"{path}:1: line: expected at least one finished run; the file is empty")
    return runs


# -------------------------------------------------------------------------------------------------- the statistics
def accuracies(row: dict) -> list[float]:
    """Of one run with one seed, in the order of MEASURES: the three test sets, and their mean."""
    shares = [row["correct"][name].count("1") / len(row["correct"][name]) for name in SETS]
    return shares + [sum(shares) / len(SETS)]


def spread(values) -> dict | None:
    """Mean and standard deviation (n - 1; None for a single value) of the values that are not None."""
    values = [v for v in values if v is not None]
    return {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None} if values else None


def summary(rows: dict[int, dict]) -> dict:
    """All measures of one run over its seeds; None for what has no meaning, such as the steps of an untrained model."""
    seeds = sorted(rows)
    rows = [rows[s] for s in seeds]
    trained = [r for r in rows if r["steps"]]
    return {"flags": rows[-1]["flags"], "seeds": seeds, "lr": sorted({r["lr"] for r in trained if r["lr"] is not None}),
            **dict(zip(MEASURES, map(spread, zip(*map(accuracies, rows))))),
            "score": spread(r["score"]["new"] for r in rows), "length": spread(r["length"]["new"] for r in rows),
            **{name: spread(r[name] for r in trained) for name in ("sampled_tokens", "seconds", "kept")},
            **{name: spread(r["train"].get(name) for r in trained) for name in ("clipped", "turned")},
            **{name: spread((r.get("stage1") or {}).get(name) for r in rows) for name in ("key_new", "key_known")}}


def shared_seeds(runs: dict, names) -> list[int]:
    return sorted(set.intersection(*(set(runs.get(name, ())) for name in names)))


def resample(runs: dict, names, seeds: list[int], draws: int = DRAWS) -> np.ndarray:
    """Bootstrap accuracies [draws, measure, run], each the mean over seeds, paired: all runs meet the same questions.

    Each draw takes as many seeds as there are, with replacement, and within each drawn seed and test set as many questions
    as there are, with replacement. A question counts only through its outcome, the pattern of right and wrong over
    the k runs; so the counts of the 2^k patterns in a resample of n questions are one multinomial draw of n with the
    observed shares, the same distribution as drawing questions one by one. The generator starts anew for every
    comparison: what other runs there are changes nothing. With three or five seeds to draw from the interval is rough.
    """
    random = np.random.default_rng(0)
    patterns = np.array([[p >> k & 1 for k in range(len(names))] for p in range(2 ** len(names))])  # [pattern, run]
    shares, sizes = np.zeros((len(seeds), len(SETS), len(patterns))), np.zeros((len(seeds), len(SETS)), int)
    for i, seed in enumerate(seeds):
        for j, name in enumerate(SETS):
            outcomes = sum(np.array(list(runs[run][seed]["correct"][name]), int) << k for k, run in enumerate(names))
            sizes[i, j] = len(outcomes)
            shares[i, j] = np.bincount(outcomes, minlength=len(patterns)) / len(outcomes)
    drawn = random.integers(len(seeds), size=(draws, len(seeds)))
    counts = random.multinomial(sizes[drawn], shares[drawn])          # [draws, seed, set, pattern]
    right = (counts @ patterns / sizes[drawn][..., None]).mean(1)     # [draws, set, run]
    return np.concatenate([right, right.mean(1, keepdims=True)], 1)   # and the average of the sets


def observed(runs: dict, names, seeds: list[int]) -> np.ndarray:
    """The accuracies themselves [measure, run], each the mean over the seeds."""
    return np.array([np.mean([accuracies(runs[name][s]) for s in seeds], 0) for name in names]).T


def intervals(values: np.ndarray, draws: np.ndarray) -> dict:
    """For each measure its value and the 2.5 and 97.5 percentiles of its draws."""
    low, high = np.percentile(draws, (2.5, 97.5), axis=0)
    return {m: {"value": float(values[i]), "low": float(low[i]), "high": float(high[i])} for i, m in enumerate(MEASURES)}


def difference(runs: dict, a: str, b: str) -> dict | None:
    """Accuracy of run a minus that of run b over the seeds that both have, with paired 95% intervals."""
    if a == b or not (seeds := shared_seeds(runs, (a, b))):
        return None
    values, draws = observed(runs, (a, b), seeds), resample(runs, (a, b), seeds)
    return {"seeds": seeds, **intervals(values[:, 0] - values[:, 1], draws[..., 0] - draws[..., 1])}


def share_of_gain(runs: dict) -> dict | None:
    """(learned - base) / (gt - base). None unless reference rubrics gain in every resample: else it means nothing."""
    names = "rcsd-learned", "rcsd-gt", "base"
    if not (seeds := shared_seeds(runs, names)):
        return None
    values, draws = (x[..., :2] - x[..., 2:] for x in (observed(runs, names, seeds), resample(runs, names, seeds)))
    if (draws[..., (0, 3), 1] <= 0).any():                            # new laws and average, which the report shows
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        found = intervals(values[:, 0] / values[:, 1], draws[..., 0] / draws[..., 1])
    return {"seeds": seeds, "new": found["new"], "average": found["average"]}


def crossing(points: list[tuple[float, float]]) -> float | None:
    """Where a line through (x, y) points, in order of x, first falls below 0; its first x if it starts there."""
    for (x0, y0), (x1, y1) in zip(points[:1] + points, points):
        if y1 < 0:
            return x1 if y0 < 0 else x0 + (x1 - x0) * y0 / (y0 - y1)
    return None


def mean_curve(runs: dict, name: str) -> list[tuple[float, float]]:
    """(thousand tokens, validation accuracy on new laws in %) at each step that all seeds have; step 0 is the base."""
    curves = []
    for seed, row in runs[name].items():
        start = runs.get("base", {}).get(seed, {}).get("valid_new")
        points = {step: (tokens / 1000, 100 * new) for step, tokens, _, new in row["curve"]}
        curves.append(points if start is None else {0: (0, 100 * start), **points})
    steps = sorted(set.intersection(*map(set, curves)))
    return [tuple(float(x) for x in np.mean([c[step] for c in curves], 0)) for step in steps]


# ---------------------------------------------------------------------------------------------- the words of a table
def flags_text(flags: dict) -> str:
    """The flags as `python rcsd.py stage2` takes them."""
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in flags.items())


def cell(value: dict | None, scale=100, digits=1) -> str:
    if value is None:
        return "–"
    return f"{scale * value['mean']:.{digits}f}" + ("" if value["sd"] is None else f" ± {scale * value['sd']:.{digits}f}")


def interval(found: dict | None, measure: str) -> str:
    if found is None:
        return "–"
    value, low, high = (100 * found[measure][k] + 0.0 for k in ("value", "low", "high"))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table that is aligned in a terminal too."""
    widths = [max(map(len, column)) for column in zip(head, *rows)]
    lines = [head, ["-" * widths[0]] + ["-" * (w - 1) + ":" for w in widths[1:]], *rows]
    return "\n".join("| " + " | ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths)))
                     + " |" for line in lines)


def table(all_runs: dict, names, columns: dict) -> str:
    """One row for each run that is there: its name and flags, n, and the columns, each {head: name -> cell}."""
    rows = [[name + (f" `{flags_text(all_runs[name]['flags'])}`" if all_runs[name]["flags"] else ""),
             str(len(all_runs[name]["seeds"])), *(f(name) for f in columns.values())] for name in names if name in all_runs]
    return markdown(["run", "n", *columns], rows)


def report(runs: dict) -> tuple[str, dict, dict]:
    """The text (Markdown), the pictures (SVG text by file name) and all numbers."""
    all_runs = {name: summary(rows) for name, rows in runs.items() if not name.startswith("lr-")}
    differences, parts, pictures = {}, [], {}

    def columns(*measures):
        return {MEASURES[m]: lambda name, m=m: cell(all_runs[name][m]) for m in measures}

    def against(other, *measures):
        """Columns with the differences from another run."""
        def one(name, m):
            if (name, other) not in differences:
                differences[name, other] = difference(runs, name, other)
            return interval(differences[name, other], m)
        return {f"{MEASURES[m]} − {other}": lambda name, m=m: one(name, m) for m in measures}

    def present(names):
        return [name for name in names if name in all_runs]

    def point(name, x, measure):
        value = all_runs[name][measure]
        return x, 100 * value["mean"], 100 * (value["sd"] or 0)

    if names := present(("base", *TABLES["main"], *CEILINGS)):
        parts += ["### All methods", "Teachers are the base with help in its context, the ceiling of a fixed teacher. "
                  "Score: share of rubric weight met, %; length: tokens of an answer; both on new laws. Tokens: thousands "
                  "that training sampled. Kept: the step with the best validation accuracy.",
                  table(all_runs, names, {
                      **columns(*MEASURES), "score": lambda name: cell(all_runs[name]["score"]),
                      "length": lambda name: cell(all_runs[name]["length"], 1),
                      "tokens": lambda name: cell(all_runs[name]["sampled_tokens"], 0.001, 0),
                      "seconds": lambda name: cell(all_runs[name]["seconds"], 1, 0),
                      "lr": lambda name: ", ".join(f"{lr:g}" for lr in all_runs[name]["lr"]) or "–",
                      "kept": lambda name: cell(all_runs[name]["kept"], 1, 0)})]
    pairs = [(other, found) for other in REFERENCES if (found := difference(runs, "rcsd-learned", other))]
    differences |= {("rcsd-learned", other): found for other, found in pairs}
    if pairs:
        parts.append(markdown(["rcsd-learned minus", "n", "average", "new laws"],
                              [[other, str(len(found["seeds"])), interval(found, "average"), interval(found, "new")]
                               for other, found in pairs]))
    if share := share_of_gain(runs):
        parts.append("Learned rubrics' share of the gain of reference rubrics, (learned − base) / (gt − base): " + ", ".join(
            f"{MEASURES[m]} {{value:.0%}} [{{low:.0%}}, {{high:.0%}}]".format(**share[m]) for m in ("new", "average")) + ".")

    families = {line: [] for line in RATES}  # (rate in percent, run), rising
    for name in present(TABLES["rates"]):
        settings = RUNS[name].flags
        line = "rcsd-gt" if name.startswith("noisy") else settings.get("method", name)
        if line in families:
            families[line].append((round(100 * settings.get("imperfect", settings.get("rubric_rate", 0))), name))
    crossings = {}
    if names := present(TABLES["rates"]):
        text = table(all_runs, names, {**columns(*MEASURES), **against("rcsd-learned", "new", "average")})
        for line, rates in families.items():
            found = [(rate, differences[name, "rcsd-learned"]) for rate, name in rates]
            for m in ("average", "new") if found and all(d for _, d in found) else ():
                crossings.setdefault(m, {})[line] = crossing([(rate, d[m]["value"]) for rate, d in found])
        panels = [Panel(title, "imperfect solutions or rubrics, %", "accuracy, %", [
            *(Line(RATES[line], COLOURS[line], [point(name, rate, m) for rate, name in rates])
              for line, rates in families.items() if rates),
            *(Line(name, COLOURS[name], [point(name, rate, m)[:2] for rate in (0, 50)], dashed=True)
              for name in present(("rcsd-learned", "grpo", "base")))], ticks=[0, 10, 30, 50])
            for m, title in (("average", "average of the test sets"), ("new", "new laws"))]
        pictures["rates.svg"] = chart(panels)
        parts += ["### Imperfect annotation", "![accuracy against the rate of imperfect annotation](rates.svg)"]
        parts += ["The rate at which a line falls below rcsd-learned, from the differences in the table: " + "; ".join(
            f"{MEASURES[m]}: " + ", ".join(
                f"{RATES[line]} " + (f"none up to {families[line][-1][0]}%" if x is None else f"{x:.0f}%")
                for line, x in found.items()) for m, found in crossings.items()) + "."] if crossings else []
        parts.append(text)

    if names := present(TABLES["context"]):
        parts += ["### What the teacher sees", table(all_runs, ["base", *names], {
            **columns(*MEASURES), **against("base", "new", "average")})]
    if names := present(TABLES["divergence"]):
        parts += ["### Divergence", "Clipped: share of tokens whose loss the bound changes, %. Turned: share whose loss pushes down "
                  "the teacher's best token although the student gives it too little, %.",
                  table(all_runs, names, {
                      **columns("new", "known", "average"), **against("rcsd-gt", "average"),
                      "clipped": lambda name: cell(all_runs[name]["clipped"]),
                      "turned": lambda name: cell(all_runs[name]["turned"]),
                      "kept": lambda name: cell(all_runs[name]["kept"], 1, 0)})]

    curves = {name: curve for name in present(CURVES) if (curve := mean_curve(runs, name))}
    by_questions = {line: sorted((all_runs[name]["flags"].get("stage2_limit", ALL_QUESTIONS), name) for name in names) for line
                    in ("sft", "grpo", "opsd", "rcsd-gt")
                    if (names := present(n for n in TABLES["efficiency"] if n == line
                                         or n.startswith(f"{line.removesuffix('-gt')}-questions-")))}
    panels = []
    if curves:
        panels.append(Panel("validation, new laws", "tokens sampled, thousands", "accuracy, %",
                            [Line(name, COLOURS[name], curve) for name, curve in curves.items()]))
    if by_questions:
        panels.append(Panel("test, new laws", "questions of stage II", "accuracy, %", [
            Line(line, COLOURS[line], [point(name, x, "new") for x, name in points]) for line, points in by_questions.items()],
            ticks=sorted({x for points in by_questions.values() for x, _ in points}), log=True))
    if panels:
        pictures["efficiency.svg"] = chart(panels)
        parts += ["### Tokens and questions", "![accuracy against tokens sampled, against questions](efficiency.svg)"]
    if by_questions:
        questions = {name: x for points in by_questions.values() for x, name in points}
        parts.append(table(all_runs, questions, {"questions": lambda name: str(questions[name]), **columns(*MEASURES)}))

    if names := present(TABLES["stage1"]):
        def rubrics(name):
            return 0 if name == "base" else all_runs[name]["flags"].get("stage1_limit", ALL_RUBRICS)

        def key(name, k):
            return all_runs.get("teacher-learned" if name == "rcsd-learned" else name, {}).get(k)
        lines = [Line(f"student, {MEASURES[m]}", colour, [point(name, rubrics(name), m) for name in names])
                 for m, colour in (("new", "#0072B2"), ("average", "#E69F00"))]
        right = [(rubrics(name), 100 * found["mean"]) for name in names if (found := key(name, "key_new"))]
        lines += [Line("right key criteria, new laws", "#009E73", right)] if right else []
        ends = sorted({rubrics(name) for name in names})
        lines += [Line("base, new laws", COLOURS["base"], [point("base", x, "new")[:2] for x in (ends[0], ends[-1])], dashed=True)
                  ] if "base" in all_runs else []
        pictures["stage1.svg"] = chart([Panel("few reference rubrics for stage I", "reference rubrics", "%", lines,
                                              ticks=ends, log=True)])
        parts += ["### Few reference rubrics", "![accuracy against the number of reference rubrics](stage1.svg)",
                  "Right key: share of test questions for which the rubric writer's key criteria are right, %.",
                  table(all_runs, ["base", *names], {
                      "rubrics": lambda name: str(rubrics(name)), **columns("new", "average"),
                      "right key, new": lambda name: cell(key(name, "key_new")),
                      "right key, known": lambda name: cell(key(name, "key_known"))})]
    return "\n\n".join(parts), pictures, {
        "units": "accuracies, scores and shares from 0 to 1; length and sampled_tokens in tokens; curves: thousand tokens, %; "
                 "crossings: % of imperfect annotation, null if there is none",
        "runs": all_runs, "differences": {f"{a} - {b}": found for (a, b), found in differences.items() if found},
        "share of gain": share, "crossings": crossings, "curves": curves,
        "learning rates": {name: rows[s]["valid"] for name, rows in runs.items() if name.startswith("lr-") for s in rows}}


# ------------------------------------------------------------------------------------------------------- the command
