"""The table of runs: what the study trains. Edit it; `bash train.sh study` runs what is missing and draws it anew.

Every run starts from the base model (and, for learned rubrics, the rubric writer) of its seed and differs from the
others only in the flags written here. A run that answers several questions is trained once.
"""
from dataclasses import dataclass, field

WIDE, MAIN = (0, 1, 2), (0, 1, 2, 3, 4)  # seeds of wide tables and of the main one


@dataclass(frozen=True)
class Run:
    """One row of the study: `flags` are settings of rcsd.py (METHODS and what the ablations turn)."""
    name: str
    flags: dict = field(default_factory=dict)
    seeds: tuple = WIDE

    @property
    def method(self) -> str:
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
    *(Run(f"{method}-{round(100 * rate)}", dict(method=method, corrupted=rate))
      for method in ("sft", "opsd") for rate in (0.1, 0.5)),
    *(Run(f"noisy-{round(100 * rate)}", dict(rubrics="noisy", rubric_rate=rate)) for rate in (0.1, 0.3, 0.5)),
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
    *(Run(f"beta-{beta:g}", dict(rubrics="reference", beta=beta)) for beta in (0.1, 0.5, 0.9, 1.0)),
    *(Run(f"top-{k}", dict(rubrics="reference", top_k_loss=k)) for k in (1, 5, 20)),
    *(Run(f"clip-{mode}-{clip:g}", dict(rubrics="reference", clip_mode=mode, clip=clip))
      for mode in ("pointwise", "token", "scale") for clip in (0.05, 0.5)),
]
QUESTION_RUNS = [
    *(Run(f"{name}-{n}", dict(flags, stage2_limit=n)) for n in (100, 400) for name, flags in (
        ("sft-questions", dict(method="sft")), ("grpo-questions", dict(method="grpo")),
        ("opsd-questions", dict(method="opsd")), ("rcsd-questions", dict(rubrics="reference")))),
]
STAGE1_RUNS = [Run(f"stage1-{n}", dict(stage1_limit=n)) for n in (12, 36, 120, 360)]  # 1, 3, 10, 30% of 1200 rubrics

TABLES = {  # question: the runs that answer it, in the order of its table
    "main": [r.name for r in MAIN_RUNS],
    "rates": ["sft", "sft-10", "sft-30", "sft-50", "opsd", "opsd-10", "opsd-30", "opsd-50",
              "rcsd-reference", "noisy-10", "noisy-30", "noisy-50", "rcsd-learned"],
    "context": ["sees-nothing", "sees-answer", "opsd", "generic", "shuffled", "noisy-100", "reduced", "rcsd-learned",
                "rcsd-reference", "sees-rubric+answer"],
    "divergence": ["rcsd-reference", *(r.name for r in DIVERGENCE_RUNS)],
    "efficiency": ["sft", "grpo", "opsd", "rcsd-reference", *(r.name for r in QUESTION_RUNS)],
    "stage1": [*(r.name for r in STAGE1_RUNS), "rcsd-learned"],
}
RUNS = {r.name: r for r in MAIN_RUNS + RATE_RUNS + CONTEXT_RUNS + STAGE1_RUNS + DIVERGENCE_RUNS + QUESTION_RUNS}


@dataclass(frozen=True)
class Plan:
    """A study: its runs, the budget that all of them share, and how their learning rate is chosen."""
    runs: list
    shared: dict           # settings of every stage II: its budget
    base: dict             # settings of stage 0 and stage I on top of the preset
    rates: tuple | dict    # the grid of learning rates, the same for every method; or each method's, found before
    tuned_on: tuple        # the seeds whose validation questions choose from it


FULL = Plan(list(RUNS.values()), dict(batch=32, stage2_steps=60, eval_every=20), {},
            (0.0001, 0.0003, 0.001, 0.002), (0,))
QUICK = Plan([Run(name, RUNS[name].flags, (0,)) for name in (
    "sft", "grpo", "opsd", "rcsd-learned", "rcsd-reference", "sft-30", "opsd-30", "shuffled")],
    dict(batch=32, stage2_steps=60, eval_every=30), dict(base_steps=4000, test_questions=200),
    dict(sft=0.001, grpo=0.001, opsd=0.002, rcsd=0.002), ())
