"""The study's statistics: accuracies, means over seeds, paired bootstrap intervals, crossings.

Accuracies are shares from 0 to 1.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from study.read import SETS, Runs

DRAWS = 10_000  # resamples of the bootstrap
MEASURES = {  # the test sets by the names that tables show, and their mean
    "new": "new laws",
    "hard": "hard",
    "known": "known laws",
    "average": "average",
}
Statistic = Callable[[np.ndarray], np.ndarray]  # accuracies [..., run] -> [...]


def accuracies(row: dict) -> list[float]:
    """The accuracies of one line in the order of MEASURES."""
    shares = [row["correct"][name].count("1") / len(row["correct"][name]) for name in SETS]
    return shares + [sum(shares) / len(SETS)]


def spread(values: Iterable[float | None]) -> dict | None:
    """{"mean", "sd"} of the values that are not None; None without any.

    The standard deviation is that of n - 1, and None for a single value.
    """
    values = [v for v in values if v is not None]
    if not values:
        return None
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "sd": sd}


def summary(lines: dict[int, dict]) -> dict:
    """All measures of one run over its seeds.

    A measure is None where it has no meaning, such as the seconds of an untrained model.
    """
    seeds = sorted(lines)
    rows = [lines[seed] for seed in seeds]
    trained = [row for row in rows if row["steps"]]
    found = {
        "flags": rows[-1]["flags"],
        "seeds": seeds,
        "lr": sorted({row["lr"] for row in trained}),
    }
    by_measure = zip(*[accuracies(row) for row in rows])
    for measure, values in zip(MEASURES, by_measure):
        found[measure] = spread(values)
    found["score"] = spread(row["score"]["new"] for row in rows)
    found["length"] = spread(row["length"]["new"] for row in rows)
    for name in ("sampled_tokens", "seconds", "kept"):
        found[name] = spread(row[name] for row in trained)
    for name in ("clipped", "gradient_flipped"):
        found[name] = spread(row["train"].get(name) for row in trained)
    for name in ("key_new", "key_known"):
        found[name] = spread((row.get("stage1") or {}).get(name) for row in rows)
    return found


# ------------------------------------------------------------------------------------ the bootstrap
def resample(runs: Runs, names: Sequence[str], seeds: list[int], draws: int = DRAWS) -> np.ndarray:
    """Bootstrap accuracies [draws, measure, run], means over seeds; runs meet the same questions.

    Each draw takes as many seeds as there are, with replacement, and within each drawn seed and
    test set as many questions as there are, with replacement. A question counts only by its
    outcome: which of the k runs were right. So the counts of the 2^k outcomes among n resampled
    questions are one multinomial draw of n with the observed shares, the same distribution as
    drawing the questions one by one. The generator starts anew for each comparison, so that other
    runs change nothing. With three or five seeds to draw from, the interval is rough.
    """
    generator = np.random.default_rng(0)
    outcomes = range(2 ** len(names))  # bit k: run k is right
    right = np.array([[outcome >> k & 1 for k in range(len(names))] for outcome in outcomes])
    shares = np.zeros((len(seeds), len(SETS), len(outcomes)))
    sizes = np.zeros((len(seeds), len(SETS)), int)
    for i, seed in enumerate(seeds):
        for j, test_set in enumerate(SETS):
            observed = 0  # [n], the outcome of each question
            for k, name in enumerate(names):
                digits = list(runs[name][seed]["correct"][test_set])
                observed = observed + (np.array(digits, int) << k)
            sizes[i, j] = len(observed)
            shares[i, j] = np.bincount(observed, minlength=len(outcomes)) / len(observed)
    drawn = generator.integers(len(seeds), size=(draws, len(seeds)))
    counts = generator.multinomial(sizes[drawn], shares[drawn])  # [draws, seed, set, outcome]
    accuracy = (counts @ right / sizes[drawn][..., None]).mean(1)  # [draws, set, run]
    return np.concatenate([accuracy, accuracy.mean(1, keepdims=True)], 1)


def compare(
    runs: Runs, names: Sequence[str], statistic: Statistic, measures: Iterable[str] = MEASURES
) -> dict | None:
    """A statistic of some runs' accuracies with a paired 95% interval, by measure.

    Returns {"seeds", measure: {"value", "low", "high"}} over the seeds that all runs have; None
    without a shared seed, or if the statistic is not finite.
    """
    seeds = sorted(set.intersection(*(set(runs.get(name, ())) for name in names)))
    if not seeds:
        return None
    order = list(MEASURES)
    index = [order.index(measure) for measure in measures]
    means = [np.mean([accuracies(runs[name][seed]) for seed in seeds], 0) for name in names]
    values = statistic(np.array(means).T[index])  # [measure]
    draws = statistic(resample(runs, names, seeds)[:, index])  # [draws, measure]
    if not (np.isfinite(values).all() and np.isfinite(draws).all()):
        return None
    low, high = np.percentile(draws, (2.5, 97.5), axis=0)
    found = {"seeds": seeds}
    for i, measure in enumerate(measures):
        found[measure] = {"value": float(values[i]), "low": float(low[i]), "high": float(high[i])}
    return found


def difference(runs: Runs, a: str, b: str) -> dict | None:
    """Accuracy of run a minus that of run b, as `compare` returns it."""

    def minus(accuracy: np.ndarray) -> np.ndarray:
        return accuracy[..., 0] - accuracy[..., 1]

    return compare(runs, (a, b), minus)


def share_of_gain(runs: Runs) -> dict | None:
    """(learned - base) / (reference - base): how much of the gain learned rubrics keep.

    None if reference rubrics gain nothing in any of the draws.
    """

    def share(accuracy: np.ndarray) -> np.ndarray:
        learned, reference, base = accuracy[..., 0], accuracy[..., 1], accuracy[..., 2]
        gain = reference - base
        return (learned - base) / np.where(gain > 0, gain, np.nan)

    return compare(runs, ("rcsd-learned", "rcsd-reference", "base"), share, ("new", "average"))


# ------------------------------------------------------------------------------------------- curves
def crossing(points: list[tuple[float, float]]) -> float | None:
    """Where the line through points (x, y), with x rising, first falls below 0.

    Returns the first x if the line starts below 0, and None if it never falls below.
    """
    for (x0, y0), (x1, y1) in zip(points[:1] + points, points):
        if y1 < 0:
            return x1 if y0 < 0 else x0 + (x1 - x0) * y0 / (y0 - y1)
    return None


def mean_curve(runs: Runs, name: str) -> list[tuple[float, float]]:
    """The learning curve of a run: (thousand tokens, validation accuracy on new laws in %).

    Points are means over seeds, at the steps that all seeds have; step 0 is the base model.
    """
    curves = []
    for seed, row in runs[name].items():
        curve = {}
        start = runs.get("base", {}).get(seed, {}).get("valid_new")
        if start is not None:
            curve[0] = (0, 100 * start)
        for step, tokens, _, new in row["curve"]:
            curve[step] = (tokens / 1000, 100 * new)
        curves.append(curve)
    shared = sorted(set.intersection(*map(set, curves)))
    return [tuple(np.mean([curve[step] for curve in curves], 0).tolist()) for step in shared]
