"""The learning curves of one or several runs, from the logs of their stages."""

import math
from pathlib import Path

from trainer.loop import read_log

BUCKETS = 24  # points of a learning curve
CURVES = {"base": ("loss",), "stage1": ("loss", "valid"), "stage2": ("loss", "correct")}


def spread(values: list[float]) -> list:
    """[mean, standard deviation (n - 1)]; the latter is None for a single value."""
    average = sum(values) / len(values)
    if len(values) == 1:
        return [average, None]
    squares = sum((v - average) ** 2 for v in values)
    return [average, (squares / (len(values) - 1)) ** 0.5]


def curves(folders: list[Path]) -> list[dict]:
    """The learning curves of one or several runs, {"stage", "measure", "points"} each.

    A point is [step, mean, standard deviation over runs], each a mean over a stretch of steps. A
    measure that a row of a log lacks has no curve.
    """
    found = []
    for stage, measures in CURVES.items():
        paths = [folder / f"{stage}.jsonl" for folder in folders]
        if not all(path.exists() for path in paths):  # a pretrained model has no stage 0
            continue
        logs = [read_log(path) for path in paths]
        steps = min(map(len, logs))
        width = max(1, math.ceil(steps / BUCKETS))
        for measure in measures:
            if not all(measure in row for log in logs for row in log):
                continue
            points = []
            for end in range(width, steps + 1, width):
                means = []
                for log in logs:
                    means.append(sum(row[measure] for row in log[end - width : end]) / width)
                points.append([end, *spread(means)])
            found.append({"stage": stage, "measure": measure, "points": points})
    return found
