"""The study's text and pictures: one section for each question that the runs answer."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from report.plot import Line, Panel, cell, chart, interval, markdown
from study.read import Runs, is_grid
from study.runs import RUNS, TABLES
from study.statistics import MEASURES, crossing, difference, mean_curve, share_of_gain, summary

TEACHERS = ("teacher-reference", "teacher-learned", "teacher-solution")
OTHERS = (  # runs that rcsd-learned is compared with
    "base",
    "grpo",
    "grpo-rubric",
    "opsd",
    "sft",
    "opsd-30",
    "sft-30",
    "rcsd-reference",
    "reverse-kl-pg",
)
RATES = {  # lines of the picture of corrupted annotation
    "sft": "sft, corrupted solutions",
    "opsd": "opsd, corrupted solutions",
    "rcsd-reference": "rcsd, noisy rubrics",
}
CURVES = ("grpo", "grpo-rubric", "opsd", "reverse-kl-pg", "rcsd-learned", "rcsd-reference")
ALL_QUESTIONS, ALL_RUBRICS = 1600, 1200  # what a run without a limit learns from
COLOURS = {  # of Okabe and Ito
    "base": "#777777",
    "sft": "#E69F00",
    "grpo": "#CC79A7",
    "grpo-rubric": "#56B4E9",
    "opsd": "#D55E00",
    "reverse-kl-pg": "#000000",
    "rcsd-learned": "#0072B2",
    "rcsd-reference": "#009E73",
}
UNITS = (
    "accuracies, shares: 0 to 1; length, sampled_tokens: tokens; curves: thousand tokens, %; "
    "crossings: %"
)
Columns = dict[str, Callable[[str], str]]  # head of a column -> the cell of a run


def flags_text(flags: dict) -> str:
    """The flags as `python rcsd.py stage2` takes them."""
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in flags.items())


def line_of(name: str) -> str:
    """The clean run with all questions that a run varies; its name is that of the line."""
    first = name.split("-")[0]
    return "rcsd-reference" if first in ("rcsd", "noisy") else first


def corruption_of(name: str) -> int:
    """The share of corrupted solutions or rubrics that a run learns from, in percent."""
    flags = RUNS[name].flags
    return round(100 * flags.get("corrupted", flags.get("rubric_rate", 0)))


class Report:
    """All sections for the runs that there are.

    `parts` are the paragraphs (Markdown), `pictures` SVG texts by file name, `numbers` is what
    results.json holds. `folder` is where the pictures lie, seen from the text.
    """

    def __init__(self, runs: Runs, folder: str):
        self.runs, self.folder = runs, folder
        self.parts, self.pictures = [], {}
        self.differences, self.crossings = {}, {}
        self.all = {name: summary(rows) for name, rows in runs.items() if not is_grid(name)}
        self.share = share_of_gain(runs)
        self.curves = {}
        for name in self.present(CURVES):
            curve = mean_curve(runs, name)
            if curve:
                self.curves[name] = curve
        sections = {
            "main": self.main,
            "rates": self.rates,
            "context": self.context,
            "divergence": self.divergence,
            "efficiency": self.efficiency,
            "stage1": self.stage1,
        }
        for key, names in TABLES.items():
            if key == "main":
                names = ["base", *names, *TEACHERS]
            names = self.present(names)
            if names:
                sections[key](names)
        grid = {}
        for name, rows in runs.items():
            if is_grid(name):
                grid[name] = {seed: row["valid"] for seed, row in rows.items()}
        self.numbers = {
            "units": UNITS,
            "runs": self.all,
            "differences": self.differences,
            "share of gain": self.share,
            "crossings": self.crossings,
            "curves": self.curves,
            "learning rates": grid,
        }

    def present(self, names: Iterable[str]) -> list[str]:
        """Those of the names that are finished runs."""
        return [name for name in names if name in self.all]

    def difference(self, a: str, b: str) -> dict | None:
        """`statistics.difference`, computed once and kept for results.json; None if a is b."""
        key = f"{a} - {b}"
        if a != b and key not in self.differences:
            found = difference(self.runs, a, b)
            if found:
                self.differences[key] = found
        return self.differences.get(key)

    # -------------------------------------------------------------------------------------- tables
    def mean_column(self, measure: str, scale: float = 100.0, digits: int = 1) -> Callable:
        """The column with mean and standard deviation of a measure."""
        return lambda name: cell(self.all[name][measure], scale, digits)

    def accuracy(self, *measures: str) -> Columns:
        """A column for each measure; without measures, for all."""
        return {MEASURES[m]: self.mean_column(m) for m in measures or MEASURES}

    def difference_column(self, other: Callable[[str], str], measure: str) -> Callable:
        """The column with a run's difference from the run other(name)."""
        return lambda name: interval(self.difference(name, other(name)), measure)

    def minus(self, other: str, *measures: str) -> Columns:
        """A column for each measure with the difference from the run `other`."""
        columns = {}
        for m in measures:
            columns[f"{MEASURES[m]} − {other}"] = self.difference_column(lambda name: other, m)
        return columns

    def table(self, names: Iterable[str], columns: Columns) -> None:
        """Add a table with a row for each run: name and flags, number of seeds, the columns."""
        rows = []
        for name in names:
            flags = flags_text(self.all[name]["flags"])
            row = [f"{name} `{flags}`" if flags else name, str(len(self.all[name]["seeds"]))]
            row += [text(name) for text in columns.values()]
            rows.append(row)
        self.parts.append(markdown(["run", "n", *columns], rows))

    # ------------------------------------------------------------------------------------ pictures
    def point(self, name: str, x: float, measure: str) -> tuple[float, float, float]:
        """The point (x, y, sd) of a run, y and sd in percent."""
        found = self.all[name][measure]
        return x, 100 * found["mean"], 100 * (found["sd"] or 0)

    def level(self, name: str, ends: Sequence[float], measure: str) -> Line:
        """A dashed line across the panel, at the mean of a run."""
        points = [self.point(name, x, measure)[:2] for x in ends]
        return Line(name, COLOURS[name], points, dashed=True)

    def picture(self, name: str, what: str, panels: list[Panel]) -> None:
        """Add a picture of the panels that have lines; `what` describes it."""
        panels = [panel for panel in panels if panel.lines]
        if panels:
            self.pictures[f"{name}.svg"] = chart(panels)
            self.parts.append(f"![{what}]({self.folder}/{name}.svg)")

    # ----------------------------------------------------------------------------- the main section
    def main(self, names: list[str]) -> None:
        self.parts += [
            "### All methods",
            "Accuracy in %, mean ± standard deviation over n seeds; average: of the three test "
            "sets. Teachers are the base with help in its context. Score (rubric weight met, %) "
            "and length (tokens of an answer) are of new laws. Sampled: thousand tokens in "
            "training. Kept: the step with the best validation accuracy.",
        ]
        self.shared_budget()
        columns = {
            **self.accuracy(),
            "score": self.mean_column("score"),
            "length": self.mean_column("length", 1),
            "sampled": self.mean_column("sampled_tokens", 0.001, 0),
            "seconds": self.mean_column("seconds", 1, 0),
            "kept": self.mean_column("kept", 1, 0),
            "lr": lambda name: ", ".join(f"{lr:g}" for lr in self.all[name]["lr"]) or "–",
        }
        self.table(names, columns)
        self.pairs()
        self.kept_gain()
        self.exploration()

    def shared_budget(self) -> None:
        """Add the settings that all runs share."""
        for rows in self.runs.values():
            for row in rows.values():
                if row.get("shared"):
                    self.parts.append(
                        "The budget of every run, beside its own flags and its learning rate (lr): "
                        f"`python rcsd.py stage2 {flags_text(row['shared'])}`."
                    )
                    return

    def pairs(self) -> None:
        """Add the table of differences between rcsd-learned and the other runs."""
        rows = []
        for other in OTHERS:
            found = self.difference("rcsd-learned", other)
            if found:
                seeds = str(len(found["seeds"]))
                rows.append([other, seeds, interval(found, "average"), interval(found, "new")])
        if rows:
            self.parts += [
                "Differences in points of accuracy, with paired 95% bootstrap intervals over "
                "questions and, where there are several, seeds:",
                markdown(["rcsd-learned minus", "n", "average", "new laws"], rows),
            ]

    def kept_gain(self) -> None:
        """Add how much of the gain of reference rubrics learned rubrics keep."""
        if not self.share:
            return
        texts = []
        for m in ("new", "average"):
            found = self.share[m]
            ends = f"[{found['low']:.0%}, {found['high']:.0%}]"
            texts.append(f"{MEASURES[m]} {found['value']:.0%} {ends}")
        self.parts.append(
            "Learned rubrics' share of the gain of reference rubrics, (rcsd-learned − base) / "
            f"(rcsd-reference − base): {', '.join(texts)}."
        )

    def exploration(self) -> None:
        """Add how often the base model, sampled, is right before GRPO starts."""
        rows = self.runs.get("base", {}).values()
        explored = [row["explored"] for row in rows if "explored" in row]
        if not explored:
            return
        once = np.mean([found["once"] for found in explored])
        always = np.mean([found["always"] for found in explored])
        average = np.mean([found["mean"] for found in explored])
        self.parts.append(
            "What GRPO can find: of the training questions about new laws, sampled 8 times from "
            f"the base, {once:.0%} are right at least once and {always:.0%} always; "
            f"{average:.0%} of all samples are right (n = {len(explored)} seeds)."
        )

    # --------------------------------------------------------------------------- the other sections
    def rates(self, names: list[str]) -> None:
        lines = {line: [] for line in RATES}  # (rate in %, run), rising
        for name in names:
            if name != "rcsd-learned":
                lines[line_of(name)].append((corruption_of(name), name))
        self.parts.append("### Corrupted annotation")
        panels = []
        for m, title in (("average", "average of the test sets"), ("new", "new laws")):
            drawn = []
            for line, runs in lines.items():
                if runs:
                    points = [self.point(name, rate, m) for rate, name in runs]
                    drawn.append(Line(RATES[line], COLOURS[line], points))
            for name in self.present(("rcsd-learned", "grpo", "base")):
                drawn.append(self.level(name, (0, 50), m))
            axes = ("corrupted solutions or rubrics, %", "accuracy, %")
            panels.append(Panel(title, *axes, drawn, [0, 10, 30, 50]))
        self.picture("rates", "accuracy against the share of corrupted annotation", panels)
        self.find_crossings(lines)
        self.table(names, {**self.accuracy(), **self.minus("rcsd-learned", "new", "average")})

    def find_crossings(self, lines: dict[str, list[tuple[int, str]]]) -> None:
        """Add the rates at which the lines fall below rcsd-learned."""
        for line, runs in lines.items():
            found = []
            for rate, name in runs:
                paired = self.difference(name, "rcsd-learned")
                if paired:
                    found.append((rate, paired))
            if len(found) > 1:
                self.crossings[line] = {"up to": found[-1][0]}
                for m in ("average", "new"):
                    points = [(rate, paired[m]["value"]) for rate, paired in found]
                    self.crossings[line][m] = crossing(points)
        if not self.crossings:
            return
        for m in ("average", "new"):
            texts = []
            for line, found in self.crossings.items():
                rate = f"none up to {found['up to']}%" if found[m] is None else f"{found[m]:.0f}%"
                texts.append(f"{RATES[line]}: {rate}")
            self.parts.append(
                f"They fall below rcsd-learned ({MEASURES[m]}; between the rates, interpolated) at "
                f"this rate: {'; '.join(texts)}."
            )

    def context(self, names: list[str]) -> None:
        self.parts.append("### What the teacher sees")
        columns = {**self.accuracy(), **self.minus("base", "new", "average")}
        self.table(self.present(["base"]) + names, columns)

    def divergence(self, names: list[str]) -> None:
        self.parts += [
            "### Divergence",
            "Clipped: share of tokens with a bounded loss, %. Turned: share of tokens whose loss "
            "pushes down the teacher's best token although the student gives it too little "
            "probability, %.",
        ]
        columns = {
            **self.accuracy("new", "known", "average"),
            **self.minus("rcsd-reference", "average"),
            "clipped": self.mean_column("clipped"),
            "gradient_flipped": self.mean_column("gradient_flipped"),
            "kept": self.mean_column("kept", 1, 0),
        }
        self.table(names, columns)

    def efficiency(self, names: list[str]) -> None:
        questions = {n: RUNS[n].flags.get("stage2_limit", ALL_QUESTIONS) for n in names}
        lines = {}  # in the order of the table, few questions first
        for name in sorted(names, key=questions.get):
            lines.setdefault(line_of(name), []).append(name)
        ticks = sorted(set(questions.values()))
        self.parts += [
            "### Tokens and questions",
            "All: the run with all questions, on the same seeds.",
        ]
        by_tokens = [Line(name, COLOURS[name], curve) for name, curve in self.curves.items()]
        by_questions = []
        if len(ticks) > 1:
            for line, runs in lines.items():
                points = [self.point(name, questions[name], "new") for name in runs]
                by_questions.append(Line(line, COLOURS[line], points))
        axes = ("questions of stage II", "accuracy, %")
        panels = [
            Panel("validation, new laws", "tokens sampled, thousands", "accuracy, %", by_tokens),
            Panel("test, new laws", *axes, by_questions, ticks, log=True),
        ]
        what = "accuracy against tokens sampled and against questions"
        self.picture("efficiency", what, panels)
        columns = {"questions": lambda name: str(questions[name]), **self.accuracy()}
        for m in ("new", "average"):
            columns[f"{MEASURES[m]} − all"] = self.difference_column(line_of, m)
        self.table([name for runs in lines.values() for name in runs], columns)

    def stage1(self, names: list[str]) -> None:
        rubrics = {n: RUNS[n].flags.get("stage1_limit", ALL_RUBRICS) for n in names}
        ticks = sorted(rubrics.values())

        def writer(name: str, key: str) -> dict | None:
            """The measure `key` of the run whose line holds the rubric writer's measures."""
            holder = "teacher-learned" if name == "rcsd-learned" else name
            return self.all.get(holder, {}).get(key)

        lines = []
        for m, colour in (("new", "rcsd-learned"), ("average", "sft")):
            points = [self.point(name, rubrics[name], m) for name in names]
            lines.append(Line(f"student, {MEASURES[m]}", COLOURS[colour], points))
        points = []
        for name in names:
            right = writer(name, "key_new")
            if right:
                points.append((rubrics[name], 100 * right["mean"], 100 * (right["sd"] or 0)))
        if points:
            label = "right key criteria, new laws"
            lines.append(Line(label, COLOURS["rcsd-reference"], points))
        for base in self.present(["base"]):
            lines.append(self.level(base, (ticks[0], ticks[-1]), "new"))
        self.parts += [
            "### Few reference rubrics",
            "Right key: share of test questions for which the rubric writer's key criteria are "
            "right, %. Base: on new laws.",
        ]
        if len(ticks) > 1:
            axes = ("student and rubric writer", "reference rubrics", "%")
            panels = [Panel(*axes, lines, ticks, log=True)]
            self.picture("stage1", "accuracy against reference rubrics", panels)
        columns = {
            "rubrics": lambda name: str(rubrics.get(name, 0)),
            **self.accuracy("new", "known", "average"),
            **self.minus("rcsd-learned", "average"),
            "right key, new laws": lambda name: cell(writer(name, "key_new")),
            "right key, known laws": lambda name: cell(writer(name, "key_known")),
        }
        self.table(self.present(["base"]) + names, columns)
