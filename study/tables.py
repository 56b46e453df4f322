"""What the study's runs say: tables, paired intervals, pictures.

    python -m study.tables             # prints the tables; writes pictures and results.json to study/results/
    python -m study.tables --readme    # and puts them into study/README.md, between <!-- study --> and <!-- /study -->

Accuracies are shares from 0 to 1 in here and in results.json, percent in tables and pictures.
"""
import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np

from report.plot import Line, Panel, cell, chart, interval, markdown
from study.runs import RUNS, TABLES

HERE = Path(__file__).resolve().parent
RESULTS, README = HERE / "results", HERE / "README.md"
MARKERS = "<!-- study -->", "<!-- /study -->"
DRAWS = 10_000                                                           # resamples of the bootstrap
SETS = ("new", "hard", "known")                                          # test sets
MEASURES = {"new": "new laws", "hard": "hard", "known": "known laws", "average": "average"}  # the last: of the sets
TEACHERS = ("teacher-reference", "teacher-learned", "teacher-solution")
OTHERS = ("base", "grpo", "grpo-rubric", "opsd", "sft", "opsd-30", "sft-30", "rcsd-reference", "reverse-kl-pg")
RATES = {"sft": "sft, corrupted solutions", "opsd": "opsd, corrupted solutions", "rcsd-reference": "rcsd, noisy rubrics"}
CURVES = ("grpo", "grpo-rubric", "opsd", "reverse-kl-pg", "rcsd-learned", "rcsd-reference")  # sft samples no tokens
ALL_QUESTIONS, ALL_RUBRICS = 1600, 1200                                  # what a run without a limit learns from
COLOURS = {"base": "#777777", "sft": "#E69F00", "grpo": "#CC79A7", "grpo-rubric": "#56B4E9", "opsd": "#D55E00",
           "reverse-kl-pg": "#000000", "rcsd-learned": "#0072B2", "rcsd-reference": "#009E73"}  # of Okabe and Ito


# ------------------------------------------------------------------------------------------------ reading the runs
def number(value, high=1e15) -> bool:
    return type(value) in (int, float) and 0 <= value <= high


def sets_of(value, right) -> bool:
    return isinstance(value, dict) and all(right(value.get(name)) for name in SETS)


SHARE = (lambda v: number(v, 1), "a number from 0 to 1")
ANY = {  # the fields of every line: what is right (None: it is missing), and what was expected
    "run": (lambda v: isinstance(v, str) and v != "", "a name"),
    "seed": (lambda v: type(v) is int, "a whole number"),
    "flags": (lambda v: isinstance(v, dict), "settings of rcsd.py by name"),
    "machine": (lambda v: isinstance(v, str), "a text"),
    "steps": (number, "a number, 0 for a model without training"),
}
GRID = {"lr": (number, "a learning rate"), "valid": SHARE}
TESTED = {  # of every line but the grid of learning rates
    "correct": (lambda v: sets_of(v, lambda s: isinstance(s, str) and s != "" and set(s) <= set("01")),
                "known, new and hard, each with a 0 or 1 for every question"),
    "score": (lambda v: sets_of(v, SHARE[0]), "known, new and hard, each with a score from 0 to 1"),
    "length": (lambda v: sets_of(v, number), "known, new and hard, each with a number of tokens"),
    "curve": (lambda v: isinstance(v, list) and all(isinstance(p, list) and len(p) == 4 and all(map(number, p)) for p in v),
              "a list of [step, tokens, accuracy on known laws, on new laws]"),
    "valid_new": (lambda v: v is None or number(v, 1), SHARE[1]),
    "explored": (lambda v: v is None or all(number(v.get(name), 1) for name in ("once", "always", "mean")),
                 "once, always and mean, numbers from 0 to 1"),
    "stage1": (lambda v: v is None or isinstance(v, dict) and number(v.get("key_new"), 1) and number(v.get("key_known"), 1),
               "key_new and key_known, numbers from 0 to 1"),
}
TRAINED = GRID | TESTED | {  # of every line with steps
    **dict.fromkeys(("kept", "sampled_tokens", "seconds"), (number, "a number of at least 0")),
    "train": (lambda v: isinstance(v, dict) and all(x is None or number(x) for x in v.values()), "numbers or null by name"),
}


def read_runs(path: Path) -> dict[str, dict[int, dict]]:
    """The lines of the file by run and seed; a later line of the same run and seed replaces an earlier one.

    Raises ValueError, with the place and what was expected, for anything that the study does not write.
    """
    runs, questions = {}, {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected the lines that study/sweep.py writes: {error}") from None
    for place, line in ((f"{path}:{i}", line) for i, line in enumerate(lines, 1)):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise ValueError(f"{place}: line: expected a JSON object, got {line[:60]!r}")
        grid = str(row.get("run")).startswith("lr-")
        for name, (right, expected) in {**ANY, **(GRID if grid else TRAINED if row.get("steps") else TESTED)}.items():
            if not right(row.get(name)):
                got = json.dumps(row[name])[:60] if name in row else "nothing"
                raise ValueError(f"{place}: {name}: expected {expected}, got {got}")
        for name in () if grid else SETS:
            count = len(row["correct"][name])
            if count != (first := questions.setdefault((row["seed"], name), count)):
                raise ValueError(f"{place}: correct: expected {first} answers in {name}, as in the first line of seed "
                                 f"{row['seed']}, got {count}")
        runs.setdefault(row["run"], {})[row["seed"]] = row
    if not runs:
        raise ValueError(f"{path}:1: line: expected a finished run, got an empty file")
    return runs


# -------------------------------------------------------------------------------------------------- the statistics
def accuracies(row: dict) -> list[float]:
    """Of one line, in the order of MEASURES: the three test sets, and their mean."""
    shares = [row["correct"][name].count("1") / len(row["correct"][name]) for name in SETS]
    return shares + [sum(shares) / len(SETS)]


def spread(values) -> dict | None:
    """Mean and standard deviation (n - 1; None for one value) of the values that are not None; None without any."""
    values = [v for v in values if v is not None]
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "sd": sd} if values else None


def summary(rows: dict[int, dict]) -> dict:
    """All measures of one run over its seeds; None for what has no meaning, such as the seconds of an untrained model."""
    seeds, rows = sorted(rows), [rows[seed] for seed in sorted(rows)]
    trained = [r for r in rows if r["steps"]]
    return {"flags": rows[-1]["flags"], "seeds": seeds, "lr": sorted({r["lr"] for r in trained}),
            **dict(zip(MEASURES, map(spread, zip(*map(accuracies, rows))))),
            "score": spread(r["score"]["new"] for r in rows), "length": spread(r["length"]["new"] for r in rows),
            **{name: spread(r[name] for r in trained) for name in ("sampled_tokens", "seconds", "kept")},
            **{name: spread(r["train"].get(name) for r in trained) for name in ("clipped", "gradient_flipped")},
            **{name: spread((r.get("stage1") or {}).get(name) for r in rows) for name in ("key_new", "key_known")}}


def resample(runs: dict, names, seeds: list[int], draws: int = DRAWS) -> np.ndarray:
    """Bootstrap accuracies [draws, measure, run], the mean over seeds, paired: the runs meet the same questions.

    Each draw takes as many seeds as there are, with replacement, and within each drawn seed and test set as many
    questions as there are, with replacement. A question counts only by its outcome: which of the k runs were right.
    So the counts of the 2^k outcomes among n resampled questions are one multinomial draw of n with the observed
    shares, the same distribution as drawing the questions one by one. The generator starts anew for each comparison,
    so that other runs change nothing. With three or five seeds to draw from, the interval is rough.
    """
    random = np.random.default_rng(0)
    right = np.array([[outcome >> k & 1 for k in range(len(names))] for outcome in range(2 ** len(names))])
    shares, sizes = np.zeros((len(seeds), len(SETS), len(right))), np.zeros((len(seeds), len(SETS)), int)
    for i, seed in enumerate(seeds):
        for j, name in enumerate(SETS):
            outcomes = sum(np.array(list(runs[run][seed]["correct"][name]), int) << k for k, run in enumerate(names))
            sizes[i, j] = len(outcomes)
            shares[i, j] = np.bincount(outcomes, minlength=len(right)) / len(outcomes)
    drawn = random.integers(len(seeds), size=(draws, len(seeds)))
    counts = random.multinomial(sizes[drawn], shares[drawn])                      # [draws, seed, set, outcome]
    accuracy = (counts @ right / sizes[drawn][..., None]).mean(1)                 # [draws, set, run]
    return np.concatenate([accuracy, accuracy.mean(1, keepdims=True)], 1)


def compare(runs: dict, names, statistic, measures=MEASURES) -> dict | None:
    """A statistic of some runs' accuracies over the seeds that all have: its value, and a paired 95% interval.

    `statistic` takes the accuracies [..., run] and returns [...]. None without a shared seed, or if it is not finite.
    """
    seeds = sorted(set.intersection(*(set(runs.get(name, ())) for name in names)))
    if not seeds:
        return None
    index = [list(MEASURES).index(m) for m in measures]
    values = np.array([np.mean([accuracies(runs[name][seed]) for seed in seeds], 0) for name in names]).T
    values, draws = statistic(values[index]), statistic(resample(runs, names, seeds)[:, index])
    if not (np.isfinite(values).all() and np.isfinite(draws).all()):
        return None
    low, high = np.percentile(draws, (2.5, 97.5), axis=0)
    return {"seeds": seeds, **{m: {"value": float(values[i]), "low": float(low[i]), "high": float(high[i])}
                               for i, m in enumerate(measures)}}


def difference(runs: dict, a: str, b: str) -> dict | None:
    """Accuracy of run a minus that of run b."""
    return compare(runs, (a, b), lambda x: x[..., 0] - x[..., 1])


def share_of_gain(runs: dict) -> dict | None:
    """(learned - base) / (gt - base): undefined where reference rubrics gain nothing, and None if that is ever drawn."""
    def share(x):
        gain = x[..., 1] - x[..., 2]
        return (x[..., 0] - x[..., 2]) / np.where(gain > 0, gain, np.nan)
    return compare(runs, ("rcsd-learned", "rcsd-reference", "base"), share, ("new", "average"))


def crossing(points: list[tuple[float, float]]) -> float | None:
    """Where the line through (x, y), x rising, first falls below 0: its first x if it starts there, None if never."""
    for (x0, y0), (x1, y1) in zip(points[:1] + points, points):
        if y1 < 0:
            return x1 if y0 < 0 else x0 + (x1 - x0) * y0 / (y0 - y1)
    return None


def mean_curve(runs: dict, name: str) -> list[tuple[float, float]]:
    """(thousand tokens, validation accuracy on new laws in %) at each step that all seeds have; step 0 is the base."""
    curves = []
    for seed, row in runs[name].items():
        start = runs.get("base", {}).get(seed, {}).get("valid_new")
        curves.append(({} if start is None else {0: (0, 100 * start)})
                      | {step: (tokens / 1000, 100 * new) for step, tokens, _, new in row["curve"]})
    return [tuple(np.mean([c[step] for c in curves], 0).tolist()) for step in sorted(set.intersection(*map(set, curves)))]


# -------------------------------------------------------------------------------------------------------- the report
def flags_text(flags: dict) -> str:
    """The flags as `python rcsd.py stage2` takes them."""
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in flags.items())


def line_of(name: str) -> str:
    """The line of a picture that a run is a point of, named after the run with all questions and clean annotation."""
    first = name.split("-")[0]
    return {"rcsd": "rcsd-reference", "noisy": "rcsd-reference"}.get(first, first)


class Report:
    """`parts` are the paragraphs (Markdown), `pictures` SVG text by file name, `numbers` what results.json holds."""

    def __init__(self, runs: dict, folder: str):
        """`folder` is where the pictures lie, seen from the text."""
        self.runs, self.folder, self.parts, self.pictures = runs, folder, [], {}
        self.all = {name: summary(rows) for name, rows in runs.items() if not name.startswith("lr-")}
        self.differences, self.crossings, self.share = {}, {}, share_of_gain(runs)
        self.curves = {name: curve for name in self.present(CURVES) if (curve := mean_curve(runs, name))}
        for name, rows in TABLES.items():
            if rows := self.present(["base", *rows, *TEACHERS] if name == "main" else rows):
                getattr(self, name)(rows)
        self.numbers = {
            "units": "accuracies, shares: 0 to 1; length, sampled_tokens: tokens; curves: thousand tokens, %; crossings: %",
            "runs": self.all, "differences": self.differences, "share of gain": self.share, "crossings": self.crossings,
            "curves": self.curves, "learning rates": {name: {seed: row["valid"] for seed, row in rows.items()}
                                                      for name, rows in runs.items() if name not in self.all}}

    def present(self, names) -> list[str]:
        return [name for name in names if name in self.all]

    def difference(self, a: str, b: str) -> dict | None:
        """As the function above, computed once and kept for results.json."""
        if a != b and f"{a} - {b}" not in self.differences and (found := difference(self.runs, a, b)):
            self.differences[f"{a} - {b}"] = found
        return self.differences.get(f"{a} - {b}")

    def means(self, heads: dict, scale=100.0, digits=1) -> dict:
        """Columns of a table, {head: cell of a run}, from {measure: head}."""
        return {head: lambda name, m=m: cell(self.all[name][m], scale, digits) for m, head in heads.items()}

    def accuracy(self, *measures) -> dict:
        return self.means({m: MEASURES[m] for m in measures or MEASURES})

    def minus(self, other: str, *measures) -> dict:
        return {f"{MEASURES[m]} − {other}": lambda name, m=m: interval(self.difference(name, other), m) for m in measures}

    def table(self, names, columns: dict) -> None:
        """A row for each run: its name and flags, n, and the columns."""
        rows = [[f"{name} `{flags_text(self.all[name]['flags'])}`".removesuffix(" ``"), str(len(self.all[name]["seeds"])),
                 *(text(name) for text in columns.values())] for name in names]
        self.parts.append(markdown(["run", "n", *columns], rows))

    def point(self, name: str, x: float, measure: str) -> tuple:
        return x, 100 * self.all[name][measure]["mean"], 100 * (self.all[name][measure]["sd"] or 0)

    def level(self, name: str, ends, measure: str) -> Line:
        """A dashed line across the panel."""
        return Line(name, COLOURS[name], [self.point(name, x, measure)[:2] for x in ends], dashed=True)

    def picture(self, name: str, what: str, panels: list[Panel]) -> None:
        if panels := [panel for panel in panels if panel.lines]:
            self.pictures[f"{name}.svg"] = chart(panels)
            self.parts.append(f"![{what}]({self.folder}/{name}.svg)")

    def main(self, names):
        self.parts += [
            "### All methods",
            "Accuracy in %, mean ± standard deviation over n seeds; average: of the three test sets. Teachers are the base "
            "with help in its context. Score (rubric weight met, %) and length (tokens of an answer) are of new laws. "
            "Sampled: thousand tokens in training. Kept: the step with the best validation accuracy."]
        shared = [row["shared"] for rows in self.runs.values() for row in rows.values() if row.get("shared")]
        if shared:
            self.parts.append("The budget of every run, beside its own flags and its learning rate (lr): "
                              f"`python rcsd.py stage2 {flags_text(shared[0])}`.")
        self.table(names, {
            **self.accuracy(), **self.means({"score": "score"}), **self.means({"length": "length"}, 1),
            **self.means({"sampled_tokens": "sampled"}, 0.001, 0),
            **self.means({"seconds": "seconds", "kept": "kept"}, 1, 0),
            "lr": lambda name: ", ".join(f"{lr:g}" for lr in self.all[name]["lr"]) or "–"})
        pairs = {other: found for other in OTHERS if (found := self.difference("rcsd-learned", other))}
        if pairs:
            self.parts += [
                "Differences in points of accuracy, with paired 95% bootstrap intervals over questions and, where there are "
                "several, seeds:",
                markdown(["rcsd-learned minus", "n", "average", "new laws"], [
                    [other, str(len(found["seeds"])), interval(found, "average"), interval(found, "new")]
                    for other, found in pairs.items()])]
        if self.share:
            at = ("{} {value:.0%} [{low:.0%}, {high:.0%}]".format(MEASURES[m], **self.share[m]) for m in ("new", "average"))
            self.parts.append("Learned rubrics' share of the gain of reference rubrics, (rcsd-learned − base) / "
                              f"(rcsd-reference − base): {', '.join(at)}.")
        base = self.runs.get("base", {}).values()
        if explored := [row["explored"] for row in base if "explored" in row]:
            once, always, average = (np.mean([found[name] for found in explored]) for name in ("once", "always", "mean"))
            self.parts.append("What GRPO can find: of the training questions about new laws, sampled 8 times from the base, "
                              f"{once:.0%} are right at least once and {always:.0%} always; {average:.0%} of all samples "
                              f"are right (n = {len(explored)} seeds).")

    def rates(self, names):
        lines = {line: [] for line in RATES}  # (rate in %, run), rising
        for name in names:
            flags = RUNS[name].flags
            if name != "rcsd-learned":
                lines[line_of(name)].append((round(100 * flags.get("corrupted", flags.get("rubric_rate", 0))), name))
        self.parts.append("### Corrupted annotation")
        self.picture("rates", "accuracy against the share of corrupted annotation", [
            Panel(title, "corrupted solutions or rubrics, %", "accuracy, %", [
                *(Line(RATES[line], COLOURS[line], [self.point(name, rate, m) for rate, name in points])
                  for line, points in lines.items() if points),
                *(self.level(name, (0, 50), m) for name in self.present(("rcsd-learned", "grpo", "base")))], [0, 10, 30, 50])
            for m, title in (("average", "average of the test sets"), ("new", "new laws"))])
        for line, points in lines.items():
            found = [(rate, d) for rate, name in points if (d := self.difference(name, "rcsd-learned"))]
            if len(found) > 1:
                self.crossings[line] = {"up to": found[-1][0], **{
                    m: crossing([(rate, d[m]["value"]) for rate, d in found]) for m in ("average", "new")}}
        for m in ("average", "new") if self.crossings else ():
            at = (f"{RATES[line]}: " + (f"none up to {x['up to']}%" if x[m] is None else f"{x[m]:.0f}%")
                  for line, x in self.crossings.items())
            self.parts.append(f"They fall below rcsd-learned ({MEASURES[m]}; between the rates, interpolated) at this rate: "
                              f"{'; '.join(at)}.")
        self.table(names, {**self.accuracy(), **self.minus("rcsd-learned", "new", "average")})

    def context(self, names):
        self.parts.append("### What the teacher sees")
        self.table(self.present(["base"]) + names, {**self.accuracy(), **self.minus("base", "new", "average")})

    def divergence(self, names):
        self.parts += [
            "### Divergence",
            "Clipped: share of tokens with a bounded loss, %. Turned: share of tokens whose loss pushes down the teacher's "
            "best token although the student gives it too little probability, %."]
        self.table(names, {**self.accuracy("new", "known", "average"), **self.minus("rcsd-reference", "average"),
                           **self.means({"clipped": "clipped", "gradient_flipped": "gradient_flipped"}), **self.means({"kept": "kept"}, 1, 0)})

    def efficiency(self, names):
        questions = {name: RUNS[name].flags.get("stage2_limit", ALL_QUESTIONS) for name in names}
        lines = {}  # in the order of the table, few questions first
        for name in sorted(names, key=questions.get):
            lines.setdefault(line_of(name), []).append(name)
        ticks = sorted(set(questions.values()))
        self.parts += ["### Tokens and questions", "All: the run with all questions, on the same seeds."]
        self.picture("efficiency", "accuracy against tokens sampled and against questions", [
            Panel("validation, new laws", "tokens sampled, thousands", "accuracy, %", [
                Line(name, COLOURS[name], curve) for name, curve in self.curves.items()]),
            Panel("test, new laws", "questions of stage II", "accuracy, %", [
                Line(line, COLOURS[line], [self.point(name, questions[name], "new") for name in points])
                for line, points in lines.items() if len(ticks) > 1], ticks, log=True)])
        self.table([name for points in lines.values() for name in points],
                   {"questions": lambda name: str(questions[name]), **self.accuracy(),
                    **{f"{MEASURES[m]} − all": lambda name, m=m: interval(self.difference(name, line_of(name)), m)
                       for m in ("new", "average")}})

    def stage1(self, names):
        rubrics = {name: RUNS[name].flags.get("stage1_limit", ALL_RUBRICS) for name in names}
        writer = {name: "teacher-learned" if name == "rcsd-learned" else name for name in ["base", *names]}
        keys = [name for name in names if self.all.get(writer[name], {}).get("key_new")]
        ticks = sorted(rubrics.values())
        lines = [*(Line(f"student, {MEASURES[m]}", COLOURS[colour], [self.point(name, rubrics[name], m) for name in names])
                   for m, colour in (("new", "rcsd-learned"), ("average", "sft"))),
                 *([Line("right key criteria, new laws", COLOURS["rcsd-reference"], [
                     self.point(writer[name], rubrics[name], "key_new") for name in keys])] if keys else []),
                 *(self.level(base, (ticks[0], ticks[-1]), "new") for base in self.present(["base"]))]
        self.parts += [
            "### Few reference rubrics",
            "Right key: share of test questions for which the rubric writer's key criteria are right, %. Base: on new laws."]
        self.picture("stage1", "accuracy against reference rubrics", [Panel(
            "student and rubric writer", "reference rubrics", "%", lines if len(ticks) > 1 else [], ticks, log=True)])
        self.table(self.present(["base"]) + names, {
            "rubrics": lambda name: str(rubrics.get(name, 0)), **self.accuracy("new", "known", "average"),
            **self.minus("rcsd-learned", "average"),
            **{f"right key, {MEASURES[m]}": lambda name, m=m: cell(self.all.get(writer[name], {}).get(f"key_{m}"))
               for m in ("new", "known")}})


# ------------------------------------------------------------------------------------------------------- the command
def first_line(runs: dict, command: str) -> str:
    rows = [row for run in runs.values() for row in run.values()]
    trained = {(row["seed"], row["lr"], json.dumps(row["flags"], sort_keys=True)) for row in rows if row["steps"]}
    machines = sorted({row["machine"] for row in rows})
    return f"{len(trained)} runs, trained on {'; '.join(machines)}. This part is made by `{command}`."


def around(readme: Path) -> tuple[str, str]:
    """The README up to the end of the first marker, and from the second on. Raises ValueError without one of each."""
    text = readme.read_bytes().decode("utf-8")
    start, end = (text.find(marker) for marker in MARKERS)
    if [text.count(marker) for marker in MARKERS] != [1, 1] or end < start:
        raise ValueError(f"{readme}: markers: expected one line {MARKERS[0]} and after it one line {MARKERS[1]}")
    return text[:start + len(MARKERS[0])], text[end:]


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all, line ends as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(text.encode("utf-8"))
    os.replace(temporary, path)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=RESULTS / "runs.jsonl", metavar="FILE", help="the finished runs")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="folder for the pictures and results.json")
    parser.add_argument("--readme", type=Path, nargs="?", const=README, metavar="FILE", help="also fill in this file (default: study/README.md)")
    args = parser.parse_args(arguments)
    readme = args.readme or README
    try:
        runs = read_runs(args.runs)
        report = Report(runs, Path(os.path.relpath(args.out, readme.parent)).as_posix())
        given = "" if args.runs == RESULTS / "runs.jsonl" else f" --runs {args.runs.as_posix()}"
        text = "\n\n".join([first_line(runs, f"python -m study.tables{given} --readme"), *report.parts])
        if args.readme:
            before, after = around(readme)
        for name, picture in report.pictures.items():
            write(args.out / name, picture)
        write(args.out / "results.json", json.dumps(report.numbers, ensure_ascii=False, indent=1, allow_nan=False) + "\n")
        if args.readme:
            write(readme, f"{before}\n\n{text}\n\n{after}")
    except (ValueError, OSError) as error:
        print(f"tables.py: {error}", file=sys.stderr)
        return 2
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
