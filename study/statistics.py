"""The study's statistics: accuracies, means over seeds, paired bootstrap intervals, best rates.

Accuracies are shares from 0 to 1.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from study.read import GROUPS, KEY_GROUPS, SAMPLED_GROUPS, SAMPLES, Runs

DRAWS = 10_000  # resamples of the bootstrap
MEASURES = (*GROUPS, "average")  # accuracies in the groups, and the mean of these
SAMPLED = ("pass@1", f"pass@{SAMPLES}", "distinct")
Statistic = Callable[[np.ndarray], np.ndarray]  # accuracies [..., run] -> [...]


def accuracies(row: dict) -> list[float]:
    """The accuracies of one line in the order of MEASURES."""
    shares = [row["correct"][name].count("1") / len(row["correct"][name]) for name in GROUPS]
    return shares + [sum(shares) / len(GROUPS)]


def sampled_counts(row: dict, group: str) -> np.ndarray:
    """What SAMPLES answers to each question are worth [3, question], in the order of SAMPLED.

    The share of right ones, whether one is right, and how many of them differ.
    """
    right, distinct = (np.array(list(row["sampled"][group][x]), int) for x in ("right", "distinct"))
    return np.stack([right / SAMPLES, right > 0, distinct])


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
    for name in ("score", "length"):
        found[name] = spread(np.mean([row[name][group] for group in GROUPS]) for row in rows)
    for name in ("sampled_tokens", "seconds", "kept"):
        found[name] = spread(row[name] for row in trained)
    for name in ("clipped", "gradient_flipped"):
        found[name] = spread(row["train"].get(name) for row in trained)
    found["key"] = {}
    for group in KEY_GROUPS:
        found["key"][group] = spread((row.get("stage1") or {}).get(group) for row in rows)
    found["sampled"] = {}
    found["sampled_seeds"] = [row["seed"] for row in rows if row.get("sampled")]
    for group in SAMPLED_GROUPS:
        counts = [sampled_counts(row, group).mean(1) for row in rows if row.get("sampled")]
        for name, values in zip(SAMPLED, zip(*counts)):
            found["sampled"][f"{group}, {name}"] = spread(values)
    curves = [row["curve"] for row in trained if row["curve"]]
    found["best"] = spread(max((known + new) / 2 for *_, known, new in c) for c in curves)
    found["last"] = spread(sum(curve[-1][2:]) / 2 for curve in curves)
    return found


def best_rate(scores: dict[float, float]) -> float:
    """The learning rate with the highest validation accuracy; of equal ones the lowest rate."""
    return max(scores, key=lambda rate: (scores[rate], -rate))


# ------------------------------------------------------------------------------------ the bootstrap
def resample(runs: Runs, names: Sequence[str], seeds: list[int], draws: int = DRAWS) -> np.ndarray:
    """Bootstrap accuracies [draws, measure, run], means over seeds; runs meet the same questions.

    Each draw takes as many seeds as there are, with replacement, and within each drawn seed and
    group as many questions as there are, with replacement. A question counts only by its
    outcome: which of the k runs were right. So the counts of the 2^k outcomes among n resampled
    questions are one multinomial draw of n with the observed shares, the same distribution as
    drawing the questions one by one. The generator starts anew for each comparison, so that other
    runs change nothing. With one to five seeds to draw from, the interval is rough.
    """
    generator = np.random.default_rng(0)
    outcomes = range(2 ** len(names))  # bit k: run k is right
    right = np.array([[outcome >> k & 1 for k in range(len(names))] for outcome in outcomes])
    shares = np.zeros((len(seeds), len(GROUPS), len(outcomes)))
    sizes = np.zeros((len(seeds), len(GROUPS)), int)
    for i, seed in enumerate(seeds):
        for j, group in enumerate(GROUPS):
            observed = 0  # [n], the outcome of each question
            for k, name in enumerate(names):
                digits = list(runs[name][seed]["correct"][group])
                observed = observed + (np.array(digits, int) << k)
            sizes[i, j] = len(observed)
            shares[i, j] = np.bincount(observed, minlength=len(outcomes)) / len(observed)
    drawn = generator.integers(len(seeds), size=(draws, len(seeds)))
    counts = generator.multinomial(sizes[drawn], shares[drawn])  # [draws, seed, group, outcome]
    accuracy = (counts @ right / sizes[drawn][..., None]).mean(1)  # [draws, group, run]
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
    index = [MEASURES.index(measure) for measure in measures]
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

    names = ("rcsd-learned", "rcsd-reference", "base")
    return compare(runs, names, share, ("new laws", "new links", "average"))


def sampled_difference(runs: Runs, a: str, b: str, draws: int = DRAWS) -> dict | None:
    """Run a minus run b in what their samples are worth, with paired 95% intervals.

    Returns {"seeds", "group, measure": {"value", "low", "high"}} over the seeds on which both were
    sampled; None without one. Each draw takes seeds, and within each of them questions, with
    replacement.
    """
    both = set(runs.get(a, ())) & set(runs.get(b, ()))
    seeds = sorted(s for s in both if runs[a][s].get("sampled") and runs[b][s].get("sampled"))
    if not seeds:
        return None
    found, generator = {"seeds": seeds}, np.random.default_rng(0)
    drawn = generator.integers(len(seeds), size=(draws, len(seeds)))
    for group in SAMPLED_GROUPS:
        differences = []  # [3, question] of each seed
        for seed in seeds:
            counts = [sampled_counts(runs[name][seed], group) for name in (a, b)]
            differences.append(counts[0] - counts[1])
        resampled = np.zeros((3, draws))
        for slot in drawn.T:  # the seed that each draw takes there
            for i, questions in enumerate(differences):
                mine, count = np.flatnonzero(slot == i), questions.shape[1]
                chosen = generator.integers(count, size=(len(mine), count))
                resampled[:, mine] += questions[:, chosen].mean(2) / len(seeds)
        values = np.mean([questions.mean(1) for questions in differences], 0)
        low, high = np.percentile(resampled, (2.5, 97.5), axis=1)
        for name, *ends in zip(SAMPLED, values, low, high):
            found[f"{group}, {name}"] = dict(zip(("value", "low", "high"), map(float, ends)))
    return found


# ------------------------------------------------------------------------------------------- curves
def mean_curve(runs: Runs, name: str, column: str, of: str = "tokens") -> list[tuple]:
    """The learning curve of a run: (thousand tokens, validation accuracy in %).

    With of="steps", (step, accuracy). `column` is "known" or "new". Points are means over seeds, at
    the steps that all seeds have; step 0 is the base model.
    """
    curves, index = [], {"known": 2, "new": 3}[column]
    for seed, row in runs[name].items():
        curve = {}
        start = runs.get("base", {}).get(seed, {}).get(f"valid_{column}")
        if start is not None:
            curve[0] = (0, 100 * start)
        for point in row["curve"]:
            x = point[1] / 1000 if of == "tokens" else point[0]
            curve[point[0]] = (x, 100 * point[index])
        curves.append(curve)
    shared = sorted(set.intersection(*map(set, curves)))
    return [tuple(np.mean([curve[step] for curve in curves], 0).tolist()) for step in shared]
