"""The study's text and pictures: one section for each question that the runs answer."""

from collections.abc import Callable, Iterable

from report.plot import Line, Panel, cell, chart, interval, markdown
from study.read import KEY_GROUPS, PREPARED, SAMPLED_GROUPS, SAMPLES, Runs, is_grid
from study.runs import TABLES
from study.statistics import (
    MEASURES,
    SAMPLED,
    best_rate,
    difference,
    mean_curve,
    sampled_difference,
    share_of_gain,
    summary,
)

TEACHERS = ("teacher-reference", "teacher-learned", "teacher-solution")
OTHERS = (  # runs that rcsd-learned is compared with
    *("base", "sft", "grpo", "grpo-rubric", "opsd"),
    *("rcsd-reference", "reverse-kl-pg", "sft-30", "opsd-30", "noisy-30", "teacher-learned"),
)
CURVES = ("grpo", "grpo-rubric", "opsd", "reverse-kl-pg", "rcsd-learned", "rcsd-reference")
CLEAN = {"sft-30": "sft", "opsd-30": "opsd", "noisy-30": "rcsd-reference"}  # without wrong steps
COLOURS = {  # of Okabe and Ito
    "base": "#777777",
    "sft": "#E69F00",
    "grpo": "#CC79A7",
    "grpo-rubric": "#56B4E9",
    "opsd": "#D55E00",
    "reverse-kl-pg": "#000000",
    "rcsd-learned": "#0072B2",
    "rcsd-reference": "#009E73",
    "sft-400": "#E69F00",
    "grpo-400": "#CC79A7",
    "opsd-400": "#D55E00",
    "rcsd-400": "#0072B2",
    "rcsd-400-ema": "#009E73",
    "rcsd-400-live": "#000000",
}
UNITS = (
    "accuracies, shares, pass@k: 0 to 1; distinct: answers; length, sampled_tokens: tokens; "
    "curves: thousand tokens, %"
)
NEW = ("new laws", "new links", "average")
Columns = dict[str, Callable[[str], str]]  # head of a column -> the cell of a run


def flags_text(flags: dict) -> str:
    """The flags as `python rcsd.py stage2` takes them."""
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in flags.items())


class Report:
    """All sections for the runs that there are.

    `parts` are the paragraphs (Markdown), `pictures` SVG texts by file name, `numbers` is what
    results.json holds. `folder` is where the pictures lie, seen from the text.
    """

    def __init__(self, runs: Runs, folder: str):
        self.runs, self.folder = runs, folder
        self.parts, self.pictures = [], {}
        self.differences, self.sampled = {}, {}
        self.grid = {}  # method -> {rate: {seed: validation accuracy}}
        self.all = {}
        for name, rows in runs.items():
            if is_grid(name):
                self.add_grid(name, rows)
            elif name != PREPARED:
                self.all[name] = summary(rows)
        self.share = share_of_gain(runs)
        sections = {
            "main": self.main,
            "diversity": self.diversity,
            "criteria": self.criteria,
            "long": self.long,
            "corrupted": self.corrupted,
            "writer": self.writer,
            "context": self.context,
            "divergence": self.divergence,
        }
        seen = set()
        for key, names in TABLES.items():
            own = set(names) - seen or set(names)  # runs that no table above has
            seen |= set(names)
            if key == "main":
                names, own = ["base", *names, *TEACHERS], self.all
            if self.present(own):
                sections[key](self.present(names))
            if key == "main":
                self.rates()
        self.numbers = {
            "units": UNITS,
            "runs": self.all,
            "differences": self.differences,
            "differences of samples": self.sampled,
            "share of gain": self.share,
            "curves": {name: self.curve(name, "new") for name in self.present(CURVES)},
            "learning rates": self.grid,
        }

    def add_grid(self, name: str, rows: dict[int, dict]) -> None:
        """Keep the validation accuracies of a run of the grid of learning rates."""
        for seed, row in rows.items():
            method = name.removeprefix("lr-").removesuffix(f"-{row['lr']:g}")
            self.grid.setdefault(method, {}).setdefault(row["lr"], {})[seed] = row["valid"]

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

    def curve(self, name: str, column: str, of: str = "tokens") -> list[tuple]:
        """`statistics.mean_curve`: validation accuracy, `column` is "known" or "new"."""
        return mean_curve(self.runs, name, column, of)

    # -------------------------------------------------------------------------------------- tables
    def mean_column(self, measure: str, scale: float = 100.0, digits: int = 1) -> Callable:
        """The column with mean and standard deviation of a measure."""
        return lambda name: cell(self.all[name][measure], scale, digits)

    def accuracy(self) -> Columns:
        """A column for each group, and their average."""
        return {measure: self.mean_column(measure) for measure in MEASURES}

    def minus(self, other: Callable[[str], str], word: str) -> Columns:
        """Columns with a run's difference from the run other(name), which heads call `word`."""

        def column(measure: str) -> Callable[[str], str]:
            return lambda name: interval(self.difference(name, other(name)), measure)

        return {f"{measure} − {word}": column(measure) for measure in NEW}

    def minus_run(self, other: str) -> Columns:
        """Columns with a run's difference from the run `other`."""
        return self.minus(lambda name: other, other)

    def table(self, names: Iterable[str], columns: Columns, seeds: str = "seeds") -> None:
        """Add a table with a row for each run: name and flags, number of `seeds`, the columns."""
        rows = []
        for name in names:
            flags = flags_text(self.all[name]["flags"])
            row = [f"{name} `{flags}`" if flags else name, str(len(self.all[name][seeds]))]
            row += [text(name) for text in columns.values()]
            rows.append(row)
        self.parts.append(markdown(["run", "n", *columns], rows))

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
            "Accuracy in %, mean ± standard deviation over n seeds; average: of the seven groups, "
            "as are score (rubric weight met, %) and length (tokens of an answer). An unseen "
            "question needs a combination or has a wording that no training question has. Teachers "
            "are the base with help in its context. Sampled: thousand tokens in training. Kept: "
            "the step with the best validation accuracy.",
        ]
        self.shared_budget()
        self.table(names, self.accuracy())
        columns = {
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
        lines = []
        for name in self.present(CURVES):
            points = self.curve(name, "new")
            if points:
                lines.append(Line(name, COLOURS[name], points))
        axes = ("tokens sampled, thousands", "accuracy, %")
        panels = [Panel("validation, what is new", *axes, lines)]
        self.picture("tokens", "validation accuracy against tokens sampled", panels)

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
                row = [other, str(len(found["seeds"]))]
                rows.append(row + [interval(found, measure) for measure in MEASURES])
        if rows:
            self.parts += [
                "Differences in points of accuracy, with paired 95% bootstrap intervals over "
                "questions and, where there are several, seeds:",
                markdown(["rcsd-learned minus", "n", *MEASURES], rows),
            ]

    def kept_gain(self) -> None:
        """Add how much of the gain of reference rubrics learned rubrics keep."""
        if not self.share:
            return
        texts = []
        for measure in NEW:
            found = self.share[measure]
            ends = f"[{found['low']:.0%}, {found['high']:.0%}]"
            texts.append(f"{measure} {found['value']:.0%} {ends}")
        self.parts.append(
            "Learned rubrics' share of the gain of reference rubrics, (rcsd-learned − base) / "
            f"(rcsd-reference − base): {', '.join(texts)}."
        )

    def rates(self) -> None:
        """Add the validation accuracies of the grid, and a line for a best rate at its edge."""
        if not self.grid:
            return
        rates = sorted({rate for found in self.grid.values() for rate in found})
        seeds = sorted({s for found in self.grid.values() for x in found.values() for s in x})
        rows, edges = [], []
        for method, found in self.grid.items():
            means = {rate: sum(x.values()) / len(x) for rate, x in found.items()}
            best = best_rate(means)
            texts = {rate: f"{100 * mean:.1f}" for rate, mean in means.items()}
            texts[best] = f"**{texts[best]}**"
            rows.append([method, *(texts.get(rate, "–") for rate in rates)])
            if len(rates) > 1 and best in (rates[0], rates[-1]):
                edges.append(f"{method} ({best:g})")
        self.parts += [
            "### Learning rates",
            "Validation accuracy in % (mean of what is known and what is new) on seed "
            f"{', '.join(map(str, seeds))}, which no other table has.",
            markdown(["method", *(f"{rate:g}" for rate in rates)], rows),
        ]
        if edges:
            self.parts.append(f"The best rate is at an edge of the grid for: {', '.join(edges)}.")

    # --------------------------------------------------------------------------- the other sections
    def diversity(self, names: list[str]) -> None:
        names = self.present(["base"]) + names
        names = [name for name in names if self.all[name]["sampled"]]
        if not names:
            return
        columns, paired = {}, []
        for group in SAMPLED_GROUPS:
            for name in SAMPLED:
                scale = 1 if name == "distinct" else 100
                columns[f"{group}, {name}"] = lambda run, key=f"{group}, {name}", scale=scale: cell(
                    self.all[run]["sampled"].get(key), scale
                )
        self.parts += [
            "### Diversity",
            f"{SAMPLES} sampled answers to each question: the share of right ones, whether one is "
            "right (%), and how many of them differ.",
        ]
        self.table(names, columns, "sampled_seeds")
        for name in names:
            found = sampled_difference(self.runs, name, "base") if name != "base" else None
            if found:
                self.sampled[f"{name} - base"] = found
                row = [name, str(len(found["seeds"]))]
                for key in columns:
                    unit = {x: v / 100 for x, v in found[key].items()}  # answers, not points
                    row.append(interval({key: unit} if "distinct" in key else found, key))
                paired.append(row)
        if paired:
            self.parts += [
                "Differences from the base with paired 95% intervals, points and answers:",
                markdown(["run − base", "n", *columns], paired),
            ]

    def criteria(self, names: list[str]) -> None:
        self.parts += [
            "### Which criteria teach",
            "The teacher reads the Essential criteria alone, the pitfalls alone, or the rest "
            "(Important and Optional). A question without such a criterion has the generic rubric; "
            "a third have no pitfall. Each teacher is also tested, on the reference rubrics of the "
            "test questions.",
        ]
        columns = {**self.accuracy(), **self.minus_run("base"), **self.minus_run("rcsd-reference")}
        teachers = [f"teacher-{name}" for name in names] + ["teacher-reference"]
        self.table(self.present(["base", *teachers]) + names, columns)

    def long(self, names: list[str]) -> None:
        self.parts += [
            "### 400 steps",
            "Short: the same method with 60 steps, on the same seed (for rcsd: rcsd-learned, whose "
            "teacher is fixed). Best and last: validation accuracy in %, mean of what is known and "
            "what is new; a last one far below the best is a collapse. The groups are of the best "
            "weights.",
        ]
        panels = []
        for column in ("known", "new"):
            lines = [Line(n, COLOURS[n], self.curve(n, column, "steps")) for n in names]
            panels.append(Panel(f"validation, what is {column}", "step", "accuracy, %", lines))
        self.picture("long", "validation accuracy over 400 steps", panels)

        def short(name: str) -> str:
            first = name.split("-")[0]
            return "rcsd-learned" if first == "rcsd" else first

        columns = {
            "best": self.mean_column("best"),
            "last": self.mean_column("last"),
            "kept": self.mean_column("kept", 1, 0),
        }
        self.table(names, {**columns, **self.accuracy(), **self.minus(short, "short")})

    def corrupted(self, names: list[str]) -> None:
        self.parts += [
            "### Corrupted annotation",
            "A wrong step in 30% of the reference solutions, or a wrong relation in 30% of the "
            "rubrics. Clean: the same run without.",
        ]
        columns = {**self.accuracy(), **self.minus(lambda name: CLEAN.get(name, name), "clean")}
        self.table(names, {**columns, **self.minus_run("rcsd-learned")})

    def writer(self, names: list[str]) -> None:
        self.parts += [
            "### A rubric writer taught on noisy rubrics",
            "Stage I learns from rubrics of which 30% have a wrong key relation; stage II from what "
            "that writer then writes. Right key: share of test questions for which the writer's "
            "key criteria are right, %.",
        ]
        columns = self.accuracy()
        for group in KEY_GROUPS:
            columns[f"right key, {group}"] = lambda name, group=group: cell(
                self.all.get("teacher-learned" if name == "rcsd-learned" else name, {"key": {}})[
                    "key"
                ].get(group)
            )
        self.table(names, {**columns, **self.minus_run("rcsd-learned")})

    def context(self, names: list[str]) -> None:
        self.parts.append("### What the teacher sees")
        self.table(self.present(["base"]) + names, {**self.accuracy(), **self.minus_run("base")})

    def divergence(self, names: list[str]) -> None:
        self.parts += [
            "### Divergences and rewards",
            "Clipped: share of tokens with a bounded loss, %. Turned: share of tokens whose loss "
            "pushes down the teacher's best token although the student gives it too little "
            "probability, %.",
        ]
        columns = {
            **self.accuracy(),
            **self.minus_run("rcsd-reference"),
            "clipped": self.mean_column("clipped"),
            "turned": self.mean_column("gradient_flipped"),
        }
        self.table(names, columns)
