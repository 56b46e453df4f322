"""What a run depends on: one dataclass, the presets, and the command line that both scripts share."""
import argparse
import hashlib
from dataclasses import dataclass, field, fields
from pathlib import Path

import torch

from loss import CLIP_MODES
from rubrics import SEES

def _(default, help, choices=None):
    return field(default=default, metadata={"help": help, "choices": choices})


@dataclass
class Settings:
    """Everything a run depends on. Each field is a command-line flag."""
    seed: int = _(0, "seed of the data, the weights and every sample")
    device: str = _("auto", "auto takes CUDA when there is one", ("auto", "cpu", "cuda"))
    dtype: str = _("float32", "of the forward passes; the loss is float32 anyway", ("float32", "bfloat16"))
    # data
    base_rows: int = _(60_000, "rows of the stage-0 corpus")
    exposure_count: int = _(64, "different solved questions about new laws in stage 0")
    exposure_share: float = _(0.01, "share of stage-0 rows that are one of them")
    stage1_questions: int = _(1200, "questions with reference rubrics for stage I")
    stage2_questions: int = _(1600, "questions for stage II")
    test_questions: int = _(400, "questions in each test set")
    vocab_size: int = _(1280, "tokens, special ones included")
    data: str = _("", "JSON Lines file of your own questions and rubrics for stage1 and stage2 (see README)")
    # model
    context: int = _(256, "most tokens in a row, prompt and completion together")
    n_layer: int = _(4, "blocks")
    n_head: int = _(4, "query heads")
    n_kv_head: int = _(4, "key and value heads")
    head_dim: int = _(32, "size of a head")
    width: int = _(128, "size of the residual stream")
    mlp_width: int = _(320, "size of the MLP's hidden layer")
    # stage 0
    base_steps: int = _(2400, "steps of stage 0")
    base_tokens: int = _(4096, "tokens in a batch of stage 0, padding counted")
    base_lr: float = _(0.02, "Muon's learning rate for matrices in stage 0; AdamW's for the rest is a fifth")
    # stages I and II
    stage1_steps: int = _(80, "steps of stage I")
    stage2_steps: int = _(100, "steps of stage II")
    batch: int = _(64, "questions, and samples, a step")
    lr: float = _(0.001, "learning rate of stages I and II (AdamW)")
    micro_tokens: int = _(8192, "tokens in one forward pass, padding counted; changes memory, not the result")
    max_new_tokens: int = _(140, "a completion is cut at this length")
    temperature: float = _(1.0, "of sampling and of the loss")
    beta: float = _(0.0, "divergence: 0 forward KL, 1 reverse KL, between them the generalised JSD")
    top_k_loss: int = _(0, "keep only the teacher's k most likely tokens in the loss; 0 keeps all")
    clip: float = _(0.0, "bound for --clip-mode, nats")
    clip_mode: str = _("none", "how a token's loss is bounded", CLIP_MODES)
    teacher: str = _("fixed", "the teacher's weights: the starting policy, an average of the student, the student",
                     ("fixed", "ema", "live"))
    ema_decay: float = _(0.99, "for --teacher ema")
    teacher_sees: str = _("rubric", "what the stage II teacher sees beside the question", tuple(SEES))
    rubrics: str = _("learned", "where the stage II rubrics come from", ("learned", "gt", "generic"))
    # bookkeeping
    save_seconds: float = _(30.0, "time between checkpoints; changes nothing but what a killed run repeats")


PRESETS = {
    "cpu": {},
    "smoke": dict(base_rows=3000, stage1_questions=64, stage2_questions=64, test_questions=24, base_steps=60,
                  stage1_steps=4, stage2_steps=4, batch=16, width=64, n_head=2, n_kv_head=2, n_layer=2, mlp_width=160,
                  max_new_tokens=100),
    "gpu": dict(dtype="bfloat16", base_rows=240_000, context=512, n_layer=8, n_head=8, n_kv_head=4, head_dim=64,
                width=512, mlp_width=1408, base_steps=4000, base_tokens=16_384, base_lr=0.01, lr=3e-4, batch=128,
                micro_tokens=65_536, stage1_steps=100, stage2_steps=120, test_questions=800),
}
FREE = {"device", "save_seconds", "micro_tokens"}  # settings that may differ when a run is resumed


def seed_for(settings: Settings, *what) -> int:
    """A seed that depends only on the run's seed and on what it is for, so that resuming needs no random state."""
    return int.from_bytes(hashlib.sha256(repr((settings.seed, *what)).encode()).digest()[:7], "big")


def device_of(settings: Settings) -> torch.device:
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: this machine has no usable GPU; use --device cpu or auto")
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if settings.device == "auto" else settings.device)


def settings_parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=("auto", *PRESETS), default="auto", help="auto: gpu with CUDA, else cpu")
    parser.add_argument("--out", type=Path, help="output folder (default out/PRESET)")
    parser.add_argument("--resume", action="store_true", help="go on with what is in the output folder")
    for f in fields(Settings):
        parser.add_argument("--" + f.name.replace("_", "-"), type=f.type if callable(f.type) else None, metavar="",
                            choices=f.metadata["choices"], default=None,
                            help=f"{f.metadata['help']} (default {f.default!r})")
    return parser


def settings_from(args: argparse.Namespace) -> tuple[Path, Settings]:
    """Preset first, then the flags that were given."""
    preset = args.preset if args.preset != "auto" else "gpu" if torch.cuda.is_available() else "cpu"
    given = {f.name: getattr(args, f.name) for f in fields(Settings) if getattr(args, f.name) is not None}
    return args.out or Path("out") / preset, Settings(**{**PRESETS[preset], **given})
