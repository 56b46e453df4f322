"""Everything a run depends on, with a line on what it is; and the presets."""

import hashlib
from dataclasses import dataclass, field, fields
from pathlib import Path

from data.prepare import LEAST_VOCAB, MOST_DATA
from data.sources import RUBRICS
from loss import CLIP_MODES
from rubrics import TEACHER_CONTEXTS

STAGES = ("data", "base", "stage1", "stage2")
DTYPES, DEVICES = ("float32", "bfloat16"), ("auto", "cpu", "cuda")
THINKING = ("none", "student", "teacher", "both")
TEACHERS, CONTEXTS = ("fixed", "ema", "live"), tuple(TEACHER_CONTEXTS)
# What a preset sets. Flags for these exist too, but --help does not list them.
PRESET_ONLY = (
    *("base_rows", "exposure_count", "exposure_share", "vocab_size", "stage1_questions"),
    *("stage2_questions", "test_questions", "dtype", "max_seq_len", "n_layer", "n_head"),
    *("n_kv_head", "head_dim", "n_embd", "mlp_width", "base_tokens", "prompt_weight"),
    "short_first",
)
# Where no run of this code goes: memory would end it, or hours would pass before its first word.
MOST = MOST_DATA | {
    **dict.fromkeys(("n_layer", "n_head", "n_kv_head"), 1000),
    **dict.fromkeys(("n_embd", "mlp_width", "head_dim"), 1_000_000),
    **dict.fromkeys(("base_steps", "stage1_steps", "stage2_steps"), 100_000_000),
    **dict.fromkeys(("batch", "group_size", "max_seq_len"), 1_000_000),
    **dict.fromkeys(("base_tokens", "micro_tokens", "top_k_loss", "eval_every"), 1_000_000_000),
    **dict.fromkeys(("stage1_limit", "stage2_limit", "save_seconds"), 1_000_000_000),
    **dict.fromkeys(("lora_rank", "lora_alpha"), 10_000),
    **dict.fromkeys(("lr", "base_lr", "stage1_lr", "temperature", "clip", "clip_eps"), 1_000_000),
    **dict.fromkeys(("max_new_tokens", "reason_first", "updates_per_batch"), 1_000_000),
}
MOST_PARAMETERS = 4_000_000_000
SHARES = (
    "held_out",
    "beta",
    "exposure_share",
    "ema_decay",
    "prompt_weight",
    "short_first",
    "explanation_share",
    "rubric_rate",
    "stage1_noisy",
    "corrupted",
)


def setting(default, stage: str, help: str, choices: tuple | None = None):
    """A field of Settings. `stage` is the first whose result it changes, or "" for none."""
    return field(default=default, metadata={"stage": stage, "help": help, "choices": choices})


@dataclass
class Settings:
    """Everything a run depends on. Each field is a command-line flag.

    Raises ValueError for a value out of range.
    """

    start: str = setting("", "data", "a packed base: its weights instead of a stage 0")
    seed: int = setting(0, "data", "seed of the data, the weights and every sample")
    base_rows: int = setting(160_000, "data", "rows of the stage-0 corpus")
    exposure_count: int = setting(1500, "data", "solved questions about new laws in stage 0")
    exposure_share: float = setting(0.03, "data", "share of stage-0 rows that are one of them")
    explanation_share: float = setting(0.45, "data", "share of the questions that ask why")
    stage1_questions: int = setting(2400, "data", "questions with reference rubrics for stage I")
    stage2_questions: int = setting(3200, "data", "questions for stage II")
    test_questions: int = setting(400, "data", "questions in a test set; the hard one: 2.5 times")
    vocab_size: int = setting(1536, "data", "tokens, special ones included")

    dtype: str = setting("float32", "base", "of training; sampling and loss: float32", DTYPES)
    max_seq_len: int = setting(336, "base", "most tokens of prompt and completion together")
    n_layer: int = setting(4, "base", "blocks")
    n_head: int = setting(4, "base", "query heads")
    n_kv_head: int = setting(2, "base", "key and value heads")
    head_dim: int = setting(32, "base", "size of a head")
    n_embd: int = setting(160, "base", "size of the residual stream")
    mlp_width: int = setting(400, "base", "size of the MLP's hidden layer")
    base_steps: int = setting(12_000, "base", "steps of stage 0")
    base_tokens: int = setting(2048, "base", "tokens in a batch of stage 0, padding counted")
    short_first: float = setting(
        0.33, "base", "share of the steps that read the shorter half of the rows, before all"
    )
    prompt_weight: float = setting(0.1, "base", "weight of a prompt token in the loss")
    base_lr: float = setting(0.01, "base", "peak learning rate of Muon; a fifth for AdamW")

    data: str = setting("", "stage1", "your own JSON Lines file (see data/README.md)")
    stage1_limit: int = setting(0, "stage1", "use the first N questions of stage I; 0: all")
    stage1_noisy: float = setting(
        0.0, "stage1", "share of stage I's rubrics with a wrong key relation"
    )
    stage1_steps: int = setting(300, "stage1", "steps of stage I")
    batch: int = setting(64, "stage1", "completions in a step")
    stage1_lr: float = setting(0.002, "stage1", "peak learning rate of stage I")
    max_new_tokens: int = setting(128, "stage1", "a completion is truncated at this length")
    temperature: float = setting(1.0, "stage1", "of sampling and of the loss")
    beta: float = setting(0.0, "stage1", "0: forward KL, 1: reverse KL, between: generalised JSD")
    top_k_loss: int = setting(0, "stage1", "the teacher's likeliest k tokens alone; 0: all")
    clip: float = setting(0.5, "stage1", "bound for --clip-mode, nats")
    clip_mode: str = setting("scale", "stage1", "how a token's loss is bounded", CLIP_MODES)
    teacher: str = setting(
        "fixed", "stage1", "the teacher's weights: frozen, EMA, or the student's", TEACHERS
    )
    ema_decay: float = setting(
        0.99, "stage1", "share of the old weights at each step of --teacher ema"
    )
    updates_per_batch: int = setting(1, "stage1", "optimizer steps on each batch of samples")

    stage2_limit: int = setting(0, "stage2", "use the first N questions of stage II; 0: all")
    stage2_steps: int = setting(200, "stage2", "steps of stage II")
    lr: float = setting(0.001, "stage2", "peak learning rate of stage II")
    eval_every: int = setting(
        0, "stage2", "validate every N steps, keep the best; 0: keep the last"
    )
    method: str = setting("rcsd", "stage2", "a row of METHODS in rcsd.py: opsd, grpo, sft, ...")
    group_size: int = setting(8, "stage2", "samples of a question, for methods with a reward")
    clip_eps: float = setting(0.2, "stage2", "the policy gradient's ratio stays within 1 ± this")
    teacher_context: str = setting("rubric", "stage2", "what the teacher sees", CONTEXTS)
    reason_first: int = setting(
        0, "stage2", "the teacher writes an analysis of at most N tokens before it scores; 0: none"
    )
    rubrics: str = setting("learned", "stage2", "which rubrics teach", RUBRICS)
    rubric_rate: float = setting(1.0, "stage2", "share that noisy, reduced or shuffled changes")
    corrupted: float = setting(0.0, "stage2", "share of the solutions with a wrong step")

    # Pretrained weights and one's own questions (docs/pretrained.md).
    model: str = setting(
        "", "base", "a Hugging Face folder: start from its weights (docs/pretrained.md)"
    )
    eval_data: str = setting("", "stage1", "a file of test questions instead of held-out ones")
    held_out: float = setting(0.1, "stage1", "share of --data for the test, and for validation")
    lora_rank: int = setting(
        0, "stage1", "train an adapter of this rank (pretrained/lora.py); 0: all"
    )
    lora_alpha: float = setting(
        0.0,
        "stage1",
        "LoRA's alpha: the adapter is scaled by alpha / rank; 0: alpha is twice the rank",
    )
    thinking: str = setting("none", "stage1", "which side of a chat model may think", THINKING)

    device: str = setting("auto", "", "auto takes CUDA when there is one", DEVICES)
    recompute: str = setting(
        "no", "", "recompute activations in the backward pass: less memory", ("no", "yes")
    )
    shard: str = setting(
        "no", "", "each of several processes holds a part of the weights", ("no", "yes")
    )
    compile: str = setting(
        "no", "", "stage 0 under torch.compile, which needs a C++ compiler", ("no", "yes")
    )
    micro_tokens: int = setting(2048, "", "tokens in one forward pass: memory, not the result")
    save_seconds: float = setting(30.0, "", "time between checkpoints: what a kill can cost")

    def __post_init__(self):
        for f in fields(self):
            value, flag = getattr(self, f.name), f"--{f.name.replace('_', '-')}"
            zero_means_off = f.default == 0 or f.name == "base_steps"
            least = 1 if f.type is int and not zero_means_off else 0
            least = LEAST_VOCAB if f.name == "vocab_size" else least
            most = 1 if f.name in SHARES else MOST.get(f.name)
            kinds = (int, float) if f.type is float else f.type
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise ValueError(f"{flag}: expected {f.type.__name__}, got {value!r}")
            if f.metadata["choices"] and value not in f.metadata["choices"]:
                raise ValueError(
                    f"{flag}: expected one of {', '.join(f.metadata['choices'])}, got {value!r}"
                )
            if most and not least <= value <= most:
                raise ValueError(f"{flag}: expected a number from {least} to {most:,}, got {value}")
        if self.lora_rank and not self.model:
            raise ValueError(f"--lora-rank {self.lora_rank}: expected --model with it")
        if self.reason_first and not self.model:
            raise ValueError(
                f"--reason-first {self.reason_first}: expected --model with it; the small base has "
                "never read an analysis"
            )
        if self.temperature < 0.01:
            raise ValueError(
                f"--temperature: expected at least 0.01, as logits are divided by it, "
                f"got {self.temperature}"
            )
        if self.clip_mode != "none" and self.clip == 0:
            raise ValueError(f"--clip: expected above 0 with --clip-mode {self.clip_mode}, got 0")
        if self.max_new_tokens >= self.max_seq_len:
            raise ValueError(
                f"--max-new-tokens: expected less than --max-seq-len {self.max_seq_len}, "
                f"got {self.max_new_tokens}"
            )
        if self.head_dim % 2:
            raise ValueError(f"--head-dim: expected an even number, got {self.head_dim}")
        if self.n_head % self.n_kv_head:
            raise ValueError(
                f"--n-head: expected a multiple of --n-kv-head {self.n_kv_head}, got {self.n_head}"
            )
        block = self.n_embd * (3 * self.mlp_width + 4 * self.n_head * self.head_dim)
        parameters = self.vocab_size * self.n_embd + self.n_layer * block
        if parameters > MOST_PARAMETERS:
            raise ValueError(
                f"--n-embd {self.n_embd}, --n-layer {self.n_layer}, --n-head {self.n_head}, "
                f"--head-dim {self.head_dim}, --mlp-width {self.mlp_width}: expected a model of "
                f"at most {MOST_PARAMETERS:,} parameters, got about {parameters:,}"
            )

    def loss_options(self) -> dict:
        """The settings of the loss, as arguments of `token_divergence`."""
        return {
            "beta": self.beta,
            "temperature": self.temperature,
            "top_k": self.top_k_loss or None,
            "clip": None if self.clip_mode == "none" else self.clip,
            "clip_mode": self.clip_mode,
        }

    def skips(self, command: str) -> bool:
        """Whether a run needs no stage 0 (base), and with one's own questions no data either."""
        if self.base_steps or not self.model:
            return False
        return command == "base" or (command == "data" and bool(self.data))

    def prompt_room(self) -> int:
        """Most tokens that a prompt may have, so that a completion fits behind it."""
        return self.max_seq_len - self.max_new_tokens

    def up_to(self, stage: str) -> dict:
        """The settings that the result of a stage depends on."""
        upto = STAGES[: STAGES.index(stage) + 1]
        return {f.name: getattr(self, f.name) for f in fields(self) if f.metadata["stage"] in upto}


PRESETS = {
    "cpu": {},
    "quick": dict(  # the shipped base of preset cpu
        start="shipped/base.pt",
        stage1_steps=60,
        stage2_questions=800,
        stage2_steps=60,
        lr=0.002,
        test_questions=70,
    ),
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
        rubrics="generic",  # a model this small writes no valid rubric
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
        stage1_lr=3e-4,
        lr=3e-4,
        batch=128,
        micro_tokens=65_536,
        stage1_steps=100,
        stage2_steps=120,
        max_new_tokens=200,
        test_questions=800,
    ),
    "own": dict(  # with --model: pretrained weights
        base_rows=4000,
        base_steps=0,
        base_tokens=2048,
        base_lr=1e-4,
        prompt_weight=0.0,
        short_first=0.0,
        max_seq_len=1024,
        max_new_tokens=256,
        batch=16,
        group_size=4,
        stage1_lr=5e-5,
        lr=5e-5,
        stage1_steps=40,
        stage2_steps=40,
    ),
}


def settings_of(made: dict, path: Path) -> Settings:
    """The settings that the file `path` was made with.

    Raises ValueError, which names the file and the setting, for one of another version.
    """
    unknown = made.keys() - {f.name for f in fields(Settings)}
    if unknown:
        raise ValueError(f"{path}: made by another version, with the setting {min(unknown)!r}")
    try:
        return Settings(**made)
    except ValueError as error:
        raise ValueError(f"{path}: made by another version, with {error}") from None


def seed_for(settings: Settings, *what) -> int:
    """A seed that depends on the run's seed and on its purpose alone.

    So a run that resumes needs no random state.
    """
    return int.from_bytes(hashlib.sha256(repr((settings.seed, *what)).encode()).digest()[:7], "big")
