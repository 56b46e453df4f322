"""Everything a run depends on, with a line on what it is; and the presets."""

import hashlib
from dataclasses import dataclass, field, fields

from data.sources import RUBRICS
from loss import CLIP_MODES
from rubrics import TEACHER_CONTEXTS

STAGES = ("data", "base", "stage1", "stage2")
SHARES = ("beta", "exposure_share", "ema_decay", "prompt_weight", "rubric_rate", "corrupted")


def setting(default, stage: str, help: str, choices: tuple | None = None):
    """A field of Settings. `stage` is the first whose result it changes, or "" for none."""
    return field(default=default, metadata={"stage": stage, "help": help, "choices": choices})


@dataclass
class Settings:
    """Everything a run depends on. Each field is a command-line flag.

    Raises ValueError for a value out of range.
    """

    seed: int = setting(0, "data", "seed of the data, the weights and every sample")
    base_rows: int = setting(160_000, "data", "rows of the stage-0 corpus")
    exposure_count: int = setting(
        1500, "data", "different solved questions about new laws in stage 0"
    )
    exposure_share: float = setting(0.03, "data", "share of stage-0 rows that are one of them")
    stage1_questions: int = setting(1200, "data", "questions with reference rubrics for stage I")
    stage2_questions: int = setting(1600, "data", "questions for stage II")
    test_questions: int = setting(400, "data", "questions in each test set")
    vocab_size: int = setting(1280, "data", "tokens, special ones included")

    dtype: str = setting(
        "float32",
        "base",
        "of the training passes; sampling and the loss are float32",
        ("float32", "bfloat16"),
    )
    max_seq_len: int = setting(256, "base", "most tokens in a row, prompt and completion together")
    n_layer: int = setting(4, "base", "blocks")
    n_head: int = setting(4, "base", "query heads")
    n_kv_head: int = setting(2, "base", "key and value heads")
    head_dim: int = setting(32, "base", "size of a head")
    n_embd: int = setting(128, "base", "size of the residual stream")
    mlp_width: int = setting(320, "base", "size of the MLP's hidden layer")
    base_steps: int = setting(7000, "base", "steps of stage 0")
    base_tokens: int = setting(2048, "base", "tokens in a batch of stage 0, padding counted")
    prompt_weight: float = setting(
        0.1, "base", "weight of prompt tokens in the loss of stage 0; completion tokens weigh 1"
    )
    base_lr: float = setting(
        0.015,
        "base",
        "Muon's highest learning rate for matrices in stage 0; AdamW's for the rest is a fifth",
    )

    data: str = setting(
        "", "stage1", "JSON Lines file of your own questions and rubrics (see data/README.md)"
    )
    stage1_limit: int = setting(
        0, "stage1", "teach stage I from the first of its questions only, this many; 0: all"
    )
    stage1_steps: int = setting(130, "stage1", "steps of stage I")
    batch: int = setting(64, "stage1", "questions, and samples, a step of stages I and II")
    lr: float = setting(0.001, "stage1", "highest learning rate of stages I and II (AdamW)")
    max_new_tokens: int = setting(100, "stage1", "a completion is cut at this length")
    temperature: float = setting(1.0, "stage1", "of sampling and of the loss")
    beta: float = setting(
        0.0, "stage1", "divergence: 0 forward KL, 1 reverse KL, between them the generalised JSD"
    )
    top_k_loss: int = setting(
        0, "stage1", "keep only the teacher's k most likely tokens in the loss; 0 keeps all"
    )
    clip: float = setting(0.0, "stage1", "bound for --clip-mode, nats")
    clip_mode: str = setting("none", "stage1", "how a token's loss is bounded", CLIP_MODES)
    teacher: str = setting(
        "fixed",
        "stage1",
        "the teacher's weights: the starting policy, a running average of the student, the student",
        ("fixed", "ema", "live"),
    )
    ema_decay: float = setting(0.99, "stage1", "for --teacher ema")
    updates_per_batch: int = setting(1, "stage1", "updates from each batch of samples")
    stage2_limit: int = setting(
        0, "stage2", "teach stage II from the first of its questions only, this many; 0: all"
    )
    stage2_steps: int = setting(130, "stage2", "steps of stage II")
    eval_every: int = setting(
        0,
        "stage2",
        "steps between validations of stage II, whose best checkpoint is then kept; "
        "0: keep the last",
    )
    method: str = setting(
        "rcsd",
        "stage2",
        "of stage II, a row of METHODS in rcsd.py: rcsd, opsd, reverse-kl-pg, grpo, "
        "grpo-rubric or sft",
    )
    group_size: int = setting(8, "stage2", "samples of one question, for methods with a reward")
    clip_eps: float = setting(
        0.2, "stage2", "bound on how far a probability ratio of a reused batch may push"
    )
    teacher_context: str = setting(
        "rubric",
        "stage2",
        "what the stage II teacher sees beside the question (opsd: the solution)",
        tuple(TEACHER_CONTEXTS),
    )
    rubrics: str = setting("learned", "stage2", "where the stage II rubrics come from", RUBRICS)
    rubric_rate: float = setting(
        1.0,
        "stage2",
        "share of the reference rubrics that --rubrics noisy, reduced or shuffled changes",
    )
    corrupted: float = setting(0.0, "stage2", "share of the reference solutions with a wrong step")

    device: str = setting("auto", "", "auto takes CUDA when there is one", ("auto", "cpu", "cuda"))
    micro_tokens: int = setting(
        2048, "", "tokens in one forward pass, padding counted: memory, not the result"
    )
    save_seconds: float = setting(
        30.0, "", "time between checkpoints: what a killed run has to repeat"
    )

    def __post_init__(self):
        for f in fields(self):
            value, flag = getattr(self, f.name), f"--{f.name.replace('_', '-')}"
            zero_means_off = f.default == 0
            least = 1 if f.type is int and not zero_means_off else 0
            if f.metadata["choices"] and value not in f.metadata["choices"]:
                raise ValueError(
                    f"{flag}: expected one of {', '.join(f.metadata['choices'])}, got {value!r}"
                )
            if f.type in (int, float) and not least <= value < float("inf"):
                raise ValueError(f"{flag}: expected a number of at least {least}, got {value}")
        for name in SHARES:
            value, flag = getattr(self, name), f"--{name.replace('_', '-')}"
            if value > 1:
                raise ValueError(f"{flag}: expected a number from 0 to 1, got {value}")
        if self.temperature == 0:
            raise ValueError("--temperature: expected more than 0: the loss divides by it")
        if (self.clip_mode == "none") != (self.clip == 0):
            raise ValueError(f"--clip {self.clip} and --clip-mode {self.clip_mode} need each other")
        if self.max_new_tokens >= self.max_seq_len:
            raise ValueError(
                f"--max-new-tokens: expected less than --max-seq-len {self.max_seq_len}, "
                f"got {self.max_new_tokens}"
            )

    def divergence(self) -> dict:
        """The settings of the loss, as arguments of `token_divergence`."""
        return {
            "beta": self.beta,
            "temperature": self.temperature,
            "top_k": self.top_k_loss or None,
            "clip": self.clip or None,
            "clip_mode": self.clip_mode,
        }

    def prompt_room(self) -> int:
        """Most tokens that a prompt may have, so that a completion fits behind it."""
        return self.max_seq_len - self.max_new_tokens

    def of(self, stage: str) -> dict:
        """The settings that the result of a stage depends on."""
        upto = STAGES[: STAGES.index(stage) + 1]
        return {f.name: getattr(self, f.name) for f in fields(self) if f.metadata["stage"] in upto}


PRESETS = {
    "cpu": {},
    "smoke": dict(
        base_rows=3000,
        stage1_questions=64,
        stage2_questions=64,
        test_questions=24,
        base_steps=60,
        stage1_steps=4,
        stage2_steps=4,
        batch=16,
        n_embd=64,
        n_head=2,
        n_kv_head=1,
        n_layer=2,
        mlp_width=160,
        max_new_tokens=100,
    ),
    "gpu": dict(
        dtype="bfloat16",
        base_rows=400_000,
        max_seq_len=512,
        n_layer=8,
        n_head=8,
        n_kv_head=4,
        head_dim=64,
        n_embd=512,
        mlp_width=1408,
        base_steps=4000,
        base_tokens=16_384,
        base_lr=0.01,
        lr=3e-4,
        batch=128,
        micro_tokens=65_536,
        stage1_steps=100,
        stage2_steps=120,
        max_new_tokens=200,
        test_questions=800,
    ),
}


def seed_for(settings: Settings, *what) -> int:
    """A seed that depends on the run's seed and on its purpose alone.

    So a run that resumes needs no random state.
    """
    return int.from_bytes(hashlib.sha256(repr((settings.seed, *what)).encode()).digest()[:7], "big")
