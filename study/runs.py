"""The table of runs: what the study trains.

Edit the table; `bash train.sh study` trains the runs that are missing and makes the tables again.
Every run starts from the base (and, for learned rubrics, from the rubric writer of its seed) and
differs from the others only in the flags written here and in its method's learning rate. A run that answers several questions is
trained once.
"""

from dataclasses import dataclass, field

MAIN, WIDE, TWO, ONE = (0, 1, 2, 3, 4), (0, 1, 2), (0, 1), (0,)  # seeds
RATE_OF = {  # methods without a grid of their own: whose learning rate they take
    "grpo-rubric": "grpo",
    "reverse-kl-pg": "rcsd",
    "rcsd-essential": "rcsd",
    "rcsd-pitfalls": "rcsd",
    "rcsd-rest": "rcsd",
}


@dataclass(frozen=True)
class Run:
    """One row of the study."""

    name: str
    flags: dict = field(default_factory=dict)
    """Settings of rcsd.py that differ from the shared ones."""
    seeds: tuple[int, ...] = WIDE
    sampled: bool = False
    """On the seeds WIDE its student is also sampled: pass@8 and different answers."""

    @property
    def tuned_as(self) -> str:
        """The method whose learning rate it takes."""
        method = self.flags.get("method", "rcsd")
        return RATE_OF.get(method, method)

    def is_sampled(self, seed: int) -> bool:
        """Whether the student of a seed is sampled too."""
        return self.sampled and seed in WIDE


REFERENCE = dict(rubrics="reference")
LONG = dict(stage2_steps=400, eval_every=50)
MAIN_RUNS = [
    Run("sft", dict(method="sft"), MAIN, sampled=True),
    Run("grpo", dict(method="grpo"), MAIN, sampled=True),
    Run("opsd", dict(method="opsd"), MAIN, sampled=True),
    Run("rcsd-learned", {}, MAIN, sampled=True),
    Run("rcsd-reference", REFERENCE, MAIN, sampled=True),
]
CRITERIA_RUNS = [
    Run("essential", dict(method="rcsd-essential", **REFERENCE)),
    Run("pitfalls", dict(method="rcsd-pitfalls", **REFERENCE)),
    Run("rest", dict(method="rcsd-rest", **REFERENCE)),
]
LONG_RUNS = [
    Run("sft-400", dict(method="sft", **LONG), ONE),
    Run("grpo-400", dict(method="grpo", **LONG), ONE),
    Run("opsd-400", dict(method="opsd", **LONG), ONE),
    Run("rcsd-400", LONG, ONE),
    Run("rcsd-400-ema", dict(teacher="ema", **LONG), ONE),
    Run("rcsd-400-live", dict(teacher="live", **LONG), ONE),
]
CORRUPTED_RUNS = [
    Run("sft-30", dict(method="sft", corrupted=0.3)),
    Run("opsd-30", dict(method="opsd", corrupted=0.3)),
    Run("noisy-30", dict(rubrics="noisy", rubric_rate=0.3)),
]
WRITER_RUNS = [Run("noisy-writer", dict(stage1_noisy=0.3), TWO)]
CONTEXT_RUNS = [
    Run("sees-answer", dict(teacher_context="answer"), TWO),
    Run("generic", dict(rubrics="generic"), TWO),
    Run("shuffled", dict(rubrics="shuffled"), TWO),
]
DIVERGENCE_RUNS = [
    Run("grpo-rubric", dict(method="grpo-rubric"), TWO),
    Run("reverse-kl-pg", dict(method="reverse-kl-pg", **REFERENCE), TWO),
    Run("beta-0.5", dict(beta=0.5, **REFERENCE), TWO),
    Run("beta-1", dict(beta=1.0, **REFERENCE), TWO),
    Run("top-5", dict(top_k_loss=5, **REFERENCE), TWO),
    Run("clip-none", dict(clip_mode="none", clip=0.0, **REFERENCE), TWO),
    Run("clip-pointwise", dict(clip_mode="pointwise", **REFERENCE), TWO),
    Run("clip-token", dict(clip_mode="token", **REFERENCE), TWO),
    Run("clip-scale-0.5", dict(clip=0.5, **REFERENCE), TWO),
]
PARTS = [  # in the order of their worth, as a study may be stopped
    MAIN_RUNS,
    CRITERIA_RUNS,
    LONG_RUNS,
    CORRUPTED_RUNS,
    WRITER_RUNS,
    CONTEXT_RUNS,
    DIVERGENCE_RUNS,
]
RUNS = {run.name: run for part in PARTS for run in part}


def names_of(runs: list[Run]) -> list[str]:
    """The names of runs."""
    return [run.name for run in runs]


TABLES = {  # question: the runs that answer it, in the order of its table
    "main": names_of(MAIN_RUNS),
    "diversity": [run.name for run in RUNS.values() if run.sampled],
    "criteria": [*names_of(CRITERIA_RUNS), "rcsd-reference"],
    "long": names_of(LONG_RUNS),
    "corrupted": ["sft", "sft-30", "opsd", "opsd-30", "rcsd-reference", "noisy-30", "rcsd-learned"],
    "writer": ["rcsd-learned", "noisy-writer", "noisy-30"],
    "context": [*names_of(CONTEXT_RUNS), "opsd", "rcsd-learned", "rcsd-reference"],
    "divergence": ["rcsd-reference", "grpo", *names_of(DIVERGENCE_RUNS)],
}


@dataclass(frozen=True)
class Plan:
    """A study: its runs, the budget that all of them share, and how their rates are chosen."""

    parts: list[list[Run]]
    """Part after part is trained, and within a part seed after seed."""
    shared: dict
    """Settings of every stage II: its budget."""
    seed: dict
    """Settings of a seed's data, base and stage I on top of the preset."""
    rates: tuple[float, ...] | dict[str, float]
    """The grid of learning rates, the same for every method; or the known rate of each method."""
    tuned_on: tuple[int, ...]
    """The seeds whose validation questions choose from the grid. No run has them."""
    tuning: dict = field(default_factory=dict)
    """Settings of these seeds on top of the others."""

    @property
    def runs(self) -> list[Run]:
        """All runs."""
        return [run for part in self.parts for run in part]

    @property
    def seeds(self) -> list[int]:
        """The seeds that tables show."""
        return sorted({seed for run in self.runs for seed in run.seeds})


START = "shipped/base.pt"  # of preset cpu; every seed starts from it
CLIP = dict(clip_mode="scale", clip=0.05)  # without it so short a stage II learns less: README.md
QUICK_RUNS = (
    *("sft", "grpo", "opsd", "rcsd-learned", "rcsd-reference"),
    *("sft-30", "opsd-30", "shuffled"),
)
FULL = Plan(
    parts=PARTS,
    shared=dict(batch=32, stage2_steps=60, eval_every=20, **CLIP),
    seed=dict(test_questions=150),
    rates=(0.0003, 0.001, 0.002, 0.005),
    tuned_on=(9,),
    tuning=dict(test_questions=400),  # 200 to validate with, and no test
)
QUICK = Plan(
    parts=[[Run(name, RUNS[name].flags, ONE, RUNS[name].sampled) for name in QUICK_RUNS]],
    shared=dict(batch=32, stage2_steps=60, eval_every=30, **CLIP),
    seed=dict(stage1_steps=90, test_questions=100),
    rates=dict(sft=0.001, grpo=0.001, opsd=0.002, rcsd=0.002),
    tuned_on=(),
)
