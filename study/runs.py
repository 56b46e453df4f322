"""The table of runs: what the study trains.

Edit the table; `bash train.sh study` trains the runs that are missing and makes the tables again.
Every run starts from the base model (and, for learned rubrics, the rubric writer) of its seed and
differs from the others only in the flags written here. A run that answers several questions is
trained once.
"""

from dataclasses import dataclass, field

WIDE, MAIN = (0, 1, 2), (0, 1, 2, 3, 4)  # seeds of wide tables and of the main one


@dataclass(frozen=True)
class Run:
    """One row of the study."""

    name: str
    flags: dict = field(default_factory=dict)
    """Settings of rcsd.py that differ from the shared ones."""
    seeds: tuple[int, ...] = WIDE

    @property
    def method(self) -> str:
        """The name of the method in rcsd.METHODS."""
        return self.flags.get("method", "rcsd")


MAIN_RUNS = [
    Run("sft", dict(method="sft"), MAIN),
    Run("grpo", dict(method="grpo"), MAIN),
    Run("grpo-rubric", dict(method="grpo-rubric"), MAIN),
    Run("opsd", dict(method="opsd"), MAIN),
    Run("reverse-kl-pg", dict(method="reverse-kl-pg", rubrics="reference")),
    Run("rcsd-learned", {}, MAIN),
    Run("rcsd-reference", dict(rubrics="reference"), MAIN),
    Run("sft-30", dict(method="sft", corrupted=0.3), MAIN),
    Run("opsd-30", dict(method="opsd", corrupted=0.3), MAIN),
]
RATE_RUNS = [
    Run("sft-10", dict(method="sft", corrupted=0.1)),
    Run("sft-50", dict(method="sft", corrupted=0.5)),
    Run("opsd-10", dict(method="opsd", corrupted=0.1)),
    Run("opsd-50", dict(method="opsd", corrupted=0.5)),
    Run("noisy-10", dict(rubrics="noisy", rubric_rate=0.1)),
    Run("noisy-30", dict(rubrics="noisy", rubric_rate=0.3)),
    Run("noisy-50", dict(rubrics="noisy", rubric_rate=0.5)),
]
CONTEXT_RUNS = [
    Run("sees-nothing", dict(teacher_context="nothing")),
    Run("sees-answer", dict(teacher_context="answer")),
    Run("sees-rubric+answer", dict(teacher_context="rubric+answer", rubrics="reference")),
    Run("generic", dict(rubrics="generic")),
    Run("shuffled", dict(rubrics="shuffled")),
    Run("reduced", dict(rubrics="reduced")),
    Run("noisy-100", dict(rubrics="noisy")),
]
DIVERGENCE_RUNS = [
    Run("beta-0.1", dict(rubrics="reference", beta=0.1)),
    Run("beta-0.5", dict(rubrics="reference", beta=0.5)),
    Run("beta-0.9", dict(rubrics="reference", beta=0.9)),
    Run("beta-1", dict(rubrics="reference", beta=1.0)),
    Run("top-1", dict(rubrics="reference", top_k_loss=1)),
    Run("top-5", dict(rubrics="reference", top_k_loss=5)),
    Run("top-20", dict(rubrics="reference", top_k_loss=20)),
    Run("clip-pointwise-0.05", dict(rubrics="reference", clip_mode="pointwise", clip=0.05)),
    Run("clip-pointwise-0.5", dict(rubrics="reference", clip_mode="pointwise", clip=0.5)),
    Run("clip-token-0.05", dict(rubrics="reference", clip_mode="token", clip=0.05)),
    Run("clip-token-0.5", dict(rubrics="reference", clip_mode="token", clip=0.5)),
    Run("clip-scale-0.05", dict(rubrics="reference", clip_mode="scale", clip=0.05)),
    Run("clip-scale-0.5", dict(rubrics="reference", clip_mode="scale", clip=0.5)),
]
QUESTION_RUNS = [
    Run("sft-questions-100", dict(method="sft", stage2_limit=100)),
    Run("grpo-questions-100", dict(method="grpo", stage2_limit=100)),
    Run("opsd-questions-100", dict(method="opsd", stage2_limit=100)),
    Run("rcsd-questions-100", dict(rubrics="reference", stage2_limit=100)),
    Run("sft-questions-400", dict(method="sft", stage2_limit=400)),
    Run("grpo-questions-400", dict(method="grpo", stage2_limit=400)),
    Run("opsd-questions-400", dict(method="opsd", stage2_limit=400)),
    Run("rcsd-questions-400", dict(rubrics="reference", stage2_limit=400)),
]
STAGE1_RUNS = [  # 1, 3, 10, 30% of 1200 rubrics
    Run("stage1-12", dict(stage1_limit=12)),
    Run("stage1-36", dict(stage1_limit=36)),
    Run("stage1-120", dict(stage1_limit=120)),
    Run("stage1-360", dict(stage1_limit=360)),
]


def names_of(runs: list[Run]) -> list[str]:
    """The names of runs."""
    return [run.name for run in runs]


TABLES = {  # question: the runs that answer it, in the order of its table
    "main": names_of(MAIN_RUNS),
    "rates": [
        *("sft", "sft-10", "sft-30", "sft-50"),
        *("opsd", "opsd-10", "opsd-30", "opsd-50"),
        *("rcsd-reference", "noisy-10", "noisy-30", "noisy-50"),
        "rcsd-learned",
    ],
    "context": [
        *("sees-nothing", "sees-answer", "opsd"),
        *("generic", "shuffled", "noisy-100", "reduced"),
        *("rcsd-learned", "rcsd-reference", "sees-rubric+answer"),
    ],
    "divergence": ["rcsd-reference", *names_of(DIVERGENCE_RUNS)],
    "efficiency": ["sft", "grpo", "opsd", "rcsd-reference", *names_of(QUESTION_RUNS)],
    "stage1": [*names_of(STAGE1_RUNS), "rcsd-learned"],
}
RUNS = {}
for rows in (MAIN_RUNS, RATE_RUNS, CONTEXT_RUNS, STAGE1_RUNS, DIVERGENCE_RUNS, QUESTION_RUNS):
    RUNS.update({run.name: run for run in rows})


@dataclass(frozen=True)
class Plan:
    """A study: its runs, the budget that all of them share, and how their rates are chosen."""

    runs: list[Run]
    shared: dict
    """Settings of every stage II: its budget."""
    base: dict
    """Settings of stage 0 and stage I on top of the preset."""
    rates: tuple[float, ...] | dict[str, float]
    """The grid of learning rates, the same for every method; or the known rate of each method."""
    tuned_on: tuple[int, ...]
    """The seeds whose validation questions choose from the grid."""


QUICK_RUNS = (
    *("sft", "grpo", "opsd", "rcsd-learned", "rcsd-reference"),
    *("sft-30", "opsd-30", "shuffled"),
)
FULL = Plan(
    runs=list(RUNS.values()),
    shared=dict(batch=32, stage2_steps=60, eval_every=20),
    base={},
    rates=(0.0001, 0.0003, 0.001, 0.002),
    tuned_on=(0,),
)
QUICK = Plan(
    runs=[Run(name, RUNS[name].flags, (0,)) for name in QUICK_RUNS],
    shared=dict(batch=32, stage2_steps=60, eval_every=30),
    base=dict(base_steps=4000, test_questions=200),
    rates=dict(sft=0.001, grpo=0.001, opsd=0.002, rcsd=0.002),
    tuned_on=(),
)
