"""What every run has: settings and presets, processes, checkpoints, and the loop that logs, validates and resumes.

What happens in a step is the method, and that is rcsd.py.
"""
import argparse
import copy
import hashlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import torch
import torch.distributed as dist
from tqdm import tqdm

from data.files import replacing, write_lines
from data.sources import RUBRICS
from loss import CLIP_MODES
from model import GPT, GPTConfig
from rubrics import TEACHER_CONTEXTS

STAGES = ("data", "base", "stage1", "stage2")


# --------------------------------------------------------------------------------------------------- the settings


def setting(default, stage, help, choices=None):
    """A setting: its default, the first stage whose result it changes ("" for none), what it is, what it may be."""
    return field(default=default, metadata={"stage": stage, "help": help, "choices": choices})


@dataclass
class Settings:
    """Everything a run depends on. Each field is a command-line flag. Raises ValueError for a value out of range."""
    seed: int = setting(0, "data", "seed of the data, the weights and every sample")
    base_rows: int = setting(160_000, "data", "rows of the stage-0 corpus")
    exposure_count: int = setting(1500, "data", "different solved questions about new laws in stage 0")
    exposure_share: float = setting(0.03, "data", "share of stage-0 rows that are one of them")
    stage1_questions: int = setting(1200, "data", "questions with reference rubrics for stage I")
    stage2_questions: int = setting(1600, "data", "questions for stage II")
    test_questions: int = setting(400, "data", "questions in each test set")
    vocab_size: int = setting(1280, "data", "tokens, special ones included")

    dtype: str = setting("float32", "base", "of the training passes; sampling and the loss are float32",
                         ("float32", "bfloat16"))
    max_seq_len: int = setting(256, "base", "most tokens in a row, prompt and completion together")
    n_layer: int = setting(4, "base", "blocks")
    n_head: int = setting(4, "base", "query heads")
    n_kv_head: int = setting(2, "base", "key and value heads")
    head_dim: int = setting(32, "base", "size of a head")
    n_embd: int = setting(128, "base", "size of the residual stream")
    mlp_width: int = setting(320, "base", "size of the MLP's hidden layer")
    base_steps: int = setting(7000, "base", "steps of stage 0")
    base_tokens: int = setting(2048, "base", "tokens in a batch of stage 0, padding counted")
    prompt_weight: float = setting(0.1, "base", "weight of prompt tokens in the loss of stage 0; completion tokens weigh 1")
    base_lr: float = setting(0.015, "base", "Muon's highest learning rate for matrices in stage 0; AdamW's for the rest is a fifth")

    data: str = setting("", "stage1", "JSON Lines file of your own questions and rubrics (see README)")
    stage1_limit: int = setting(0, "stage1", "teach stage I from the first of its questions only, this many; 0: all")
    stage1_steps: int = setting(130, "stage1", "steps of stage I")
    batch: int = setting(64, "stage1", "questions, and samples, a step of stages I and II")
    lr: float = setting(0.001, "stage1", "highest learning rate of stages I and II (AdamW)")
    max_new_tokens: int = setting(100, "stage1", "a completion is cut at this length")
    temperature: float = setting(1.0, "stage1", "of sampling and of the loss")
    beta: float = setting(0.0, "stage1", "divergence: 0 forward KL, 1 reverse KL, between them the generalised JSD")
    top_k_loss: int = setting(0, "stage1", "keep only the teacher's k most likely tokens in the loss; 0 keeps all")
    clip: float = setting(0.0, "stage1", "bound for --clip-mode, nats")
    clip_mode: str = setting("none", "stage1", "how a token's loss is bounded", CLIP_MODES)
    teacher: str = setting("fixed", "stage1", "the teacher's weights: the starting policy, a running average of the "
                           "student, the student", ("fixed", "ema", "live"))
    ema_decay: float = setting(0.99, "stage1", "for --teacher ema")
    updates_per_batch: int = setting(1, "stage1", "updates from each batch of samples")
    stage2_limit: int = setting(0, "stage2", "teach stage II from the first of its questions only, this many; 0: all")
    stage2_steps: int = setting(130, "stage2", "steps of stage II")
    eval_every: int = setting(0, "stage2", "steps between validations of stage II, whose best checkpoint is then kept; "
                              "0: keep the last")
    method: str = setting("rcsd", "stage2", "of stage II, a row of METHODS in rcsd.py: rcsd, opsd, reverse-kl-pg, grpo, "
                          "grpo-rubric or sft")
    group_size: int = setting(8, "stage2", "samples of one question, for methods with a reward")
    clip_eps: float = setting(0.2, "stage2", "bound on how far a probability ratio of a reused batch may push")
    teacher_context: str = setting("rubric", "stage2", "what the stage II teacher sees beside the question (opsd: the "
                                "solution)", tuple(TEACHER_CONTEXTS))
    rubrics: str = setting("learned", "stage2", "where the stage II rubrics come from", RUBRICS)
    rubric_rate: float = setting(1.0, "stage2", "share of the reference rubrics that --rubrics noisy, reduced or "
                                 "shuffled changes")
    corrupted: float = setting(0.0, "stage2", "share of the reference solutions with a wrong step")

    device: str = setting("auto", "", "auto takes CUDA when there is one", ("auto", "cpu", "cuda"))
    micro_tokens: int = setting(2048, "", "tokens in one forward pass, padding counted: memory, not the result")
    save_seconds: float = setting(30.0, "", "time between checkpoints: what a killed run has to repeat")

    def __post_init__(self):
        for f in fields(self):
            value, flag = getattr(self, f.name), f"--{f.name.replace('_', '-')}"
            least = 1 if f.type is int and f.default > 0 else 0  # where the default is 0, it means "off"
            if f.metadata["choices"] and value not in f.metadata["choices"]:
                raise ValueError(f"{flag}: expected one of {', '.join(f.metadata['choices'])}, got {value!r}")
            if f.type in (int, float) and not least <= value < float("inf"):
                raise ValueError(f"{flag}: expected a number of at least {least}, got {value}")
        for name in ("beta", "exposure_share", "ema_decay", "prompt_weight", "rubric_rate", "corrupted"):
            if getattr(self, name) > 1:
                raise ValueError(f"--{name.replace('_', '-')}: expected a number from 0 to 1, "
                                 f"got {getattr(self, name)}")
        if self.temperature == 0:
            raise ValueError("--temperature: expected more than 0: the loss divides by it")
        if (self.clip_mode == "none") != (self.clip == 0):
            raise ValueError(f"--clip {self.clip} and --clip-mode {self.clip_mode} need each other")
        if self.max_new_tokens >= self.max_seq_len:
            raise ValueError(f"--max-new-tokens: expected less than --max-seq-len {self.max_seq_len}, got {self.max_new_tokens}")

    def divergence(self) -> dict:
        """The settings of the loss, as keyword arguments of `token_divergence` and `distillation_loss`."""
        return {"beta": self.beta, "temperature": self.temperature, "top_k": self.top_k_loss or None,
                "clip": self.clip or None, "clip_mode": self.clip_mode}

    def prompt_room(self) -> int:
        """Most tokens that a prompt may have, so that a completion fits behind it."""
        return self.max_seq_len - self.max_new_tokens

    def of(self, stage: str) -> dict:
        """The settings that the result of a stage depends on."""
        upto = STAGES[:STAGES.index(stage) + 1]
        return {f.name: getattr(self, f.name) for f in fields(self) if f.metadata["stage"] in upto}


PRESETS = {
    "cpu": {},
    "smoke": dict(base_rows=3000, stage1_questions=64, stage2_questions=64, test_questions=24, base_steps=60,
                  stage1_steps=4, stage2_steps=4, batch=16, n_embd=64, n_head=2, n_kv_head=1, n_layer=2, mlp_width=160,
                  max_new_tokens=100),
    "gpu": dict(dtype="bfloat16", base_rows=400_000, max_seq_len=512, n_layer=8, n_head=8, n_kv_head=4, head_dim=64,
                n_embd=512, mlp_width=1408, base_steps=4000, base_tokens=16_384, base_lr=0.01, lr=3e-4, batch=128,
                micro_tokens=65_536, stage1_steps=100, stage2_steps=120, max_new_tokens=200, test_questions=800),
}


def seed_for(settings: Settings, *what) -> int:
    """A seed that depends only on the run's seed and on what it is for, so that resuming needs no random state."""
    return int.from_bytes(hashlib.sha256(repr((settings.seed, *what)).encode()).digest()[:7], "big")


def device_of(settings: Settings) -> torch.device:
    """Raises ValueError for --device cuda without a GPU."""
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: this machine has no usable GPU; expected cpu or auto")
    if settings.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    torch.cuda.set_device(device)
    return device


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{self.prog}: {message} (see --help)\n")  # one line, without the usage


GROUPS = {  # of --help, by the first stage whose result a setting changes
    "data": "data", "base": "stage 0 and the model", "stage1": "stages I and II", "stage2": "stage II alone",
    "": "this machine; the result does not depend on them",
}


def settings_parser(description: str) -> Parser:
    """A parser with a flag for each setting, in groups, and the flags that say which run is meant."""
    parser = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=("auto", *PRESETS), default="auto", help="auto: gpu with CUDA, else cpu")
    parser.add_argument("--out", type=Path, metavar="DIR", help="output folder (default out/PRESET)")
    parser.add_argument("--from", type=Path, metavar="DIR", dest="source",
                        help="a finished run whose data, base model and learned rubrics this one shares")
    parser.add_argument("--resume", action="store_true", help="go on with what is in the output folder")
    groups = {stage: parser.add_argument_group(title) for stage, title in GROUPS.items()}
    for f in fields(Settings):
        groups[f.metadata["stage"]].add_argument(
            "--" + f.name.replace("_", "-"), type=f.type, choices=f.metadata["choices"],
            metavar=None if f.metadata["choices"] else "X",
            help=f"{f.metadata['help']} ({f.default!r} in preset cpu)".replace("%", "%%"))
    return parser


def settings_from(args: argparse.Namespace) -> tuple[Path, Settings]:
    """The output folder, and the preset with the flags that were given on top of it."""
    gpu = torch.cuda.is_available() and args.device != "cpu"
    preset = args.preset if args.preset != "auto" else "gpu" if gpu else "cpu"
    given = {f.name: getattr(args, f.name) for f in fields(Settings) if getattr(args, f.name) is not None}
    return args.out or Path("out") / preset, Settings(**{**PRESETS[preset], **given})


def exit_code(program: str, action: Callable[[], None]) -> int:
    """Run a command line's action; what a user can mend becomes one line on stderr and the code 2."""
    try:
        action()
    except (ValueError, OSError) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except torch.OutOfMemoryError:
        print(f"{program}: out of GPU memory; try a smaller --micro-tokens or --batch", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{program}: interrupted; the same command with --resume goes on from the last checkpoint", file=sys.stderr)
        return 130
    except RuntimeError as error:
        if rank_and_size()[1] == 1:
            raise
        print(f"{program}: rank {rank_and_size()[0]}: another process of this run has ended "
              f"({str(error).splitlines()[0]}); the same command with --resume goes on from the last checkpoint",
              file=sys.__stderr__)
        return 1
    return 0


BEFORE_STAGE2 = ("data", "base.pt", "base.jsonl", "stage1.pt", "stage1.jsonl", "rubrics.jsonl")


def share(source: Path, out: Path, names: tuple[str, ...] = BEFORE_STAGE2) -> None:
    """Links in `out` to these results of the run in `source`, where `out` has none of its own.

    Raises ValueError if `source` has no data or is `out`.
    """
    if not (source / "data" / "tokenizer.txt").exists():
        raise ValueError(f"--from {source}: no run there; expected a folder that `rcsd.py data` wrote")
    if source.resolve() == out.resolve():
        raise ValueError(f"--from {source} and --out are the same folder")
    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (source / name).exists() and not (out / name).exists():
            (out / name).symlink_to((source / name).resolve())


# --------------------------------------------------------------------------------------- one process or several
# `torchrun --nproc_per_node=N rcsd.py ...`: every process holds the whole model and draws the same questions; it samples
# and scores its shard of the rows. Rank 0 writes. With one process these functions do nothing.
def rank_and_size() -> tuple[int, int]:
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def join_processes(settings: Settings) -> None:
    """Join the processes that torchrun started, if it did. All but rank 0 are silent."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device_of(settings).type == "cuda" else "gloo")
        if dist.get_rank():
            sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")


def shard(rows):
    """The rows of this process: every `size`-th."""
    rank, size = rank_and_size()
    return rows[rank::size]


def gather(rows: list) -> list:
    """What `shard` took apart, whole again and in order, on every process."""
    rank, size = rank_and_size()
    if size == 1:
        return rows
    parts = [None] * size
    dist.all_gather_object(parts, rows)
    whole = [None] * sum(map(len, parts))
    for start, part in enumerate(parts):
        whole[start::size] = part
    return whole


def sum_gradients(parameters: list[torch.Tensor]) -> None:
    """Add up the gradients of all processes; a process without rows adds zeros."""
    if rank_and_size()[1] > 1:
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
        dist.all_reduce(flat)
        for p, part in zip(parameters, flat.split([p.numel() for p in parameters])):
            p.grad = part.view_as(p).clone()


def wait_for_all() -> None:
    if rank_and_size()[1] > 1:
        dist.barrier()


# -------------------------------------------------------------------------------------------------- checkpoints
def save(path: Path, content: dict) -> None:
    """Write a checkpoint whole or not at all: a killed run leaves the old one. Raises ValueError if it cannot."""
    try:
        with replacing(path) as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:  # PyTorch turns a failed write into a RuntimeError
        raise ValueError(f"{path}: the checkpoint could not be written: {str(error).splitlines()[0]}") from None


def load(path: Path) -> dict:
    """Read a checkpoint. Raises ValueError with one line if it is missing or is not one."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such checkpoint; run the stage before it first") from None
    except Exception as error:  # a foreign file can fail in any way
        raise ValueError(f"{path}: not a checkpoint of this project ({type(error).__name__})") from None
    if not isinstance(content, dict) or not content.keys() >= {"step", "steps", "settings", "config", "model"}:
        raise ValueError(f"{path}: not a checkpoint of this project")
    return content


def load_model(path: Path, device: torch.device) -> GPT:
    """The model of a finished stage. Raises ValueError if the stage is not finished or the shapes do not fit."""
    content = load(path)
    if content["step"] < content["steps"]:
        raise ValueError(f"{path}: stopped at step {content['step']} of {content['steps']}; finish it with --resume")
    try:
        model = GPT(GPTConfig(**content["config"]))
        model.load_state_dict(content["model"])
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{path}: weights and shape do not fit: {str(error).splitlines()[-1].strip()}") from None
    return model.to(device)


# ------------------------------------------------------------------------------------------------------- the loop
@dataclass
class Best:
    """The best validated weights of a run so far."""
    score: float
    step: int
    model: dict


def rate_factor(step: int, steps: int, warmup: int) -> float:
    """What an optimizer's own rate is multiplied by: a line up over `warmup` steps, 1, and from the middle of the run
    a line down to 0 after its end."""
    return min(1.0, (step + 1) / warmup, 2 * (1 - step / steps))


def restore(path: Path, student: GPT, optimizers: list, ema: GPT | None, wanted: dict) -> tuple[int, Best | None]:
    """Load a checkpoint into the models and optimizers. Returns the steps done and the best weights so far.

    Raises ValueError for a checkpoint of other settings or of another shape.
    """
    content = load(path)
    same_settings(path, content["settings"], wanted)
    if content["config"] != asdict(student.config):
        raise ValueError(f"{path} holds a model of another shape: {content['config']}")
    student.load_state_dict(content["model"])
    if content["step"] < content["steps"]:  # a finished run has no more than its weights
        for optimizer, state in zip(optimizers, content["optimizers"]):
            optimizer.load_state_dict(state)
        if ema is not None:
            ema.load_state_dict(content["ema"])
    best = content.get("best")
    return content["step"], Best(**best) if best else None


def checkpoint(path: Path, step: int, steps: int, student: GPT, optimizers: list, ema: GPT | None, best: Best | None,
               wanted: dict) -> None:
    """Write what `restore` reads; of a finished run the weights alone."""
    content = {"step": step, "steps": steps, "settings": wanted, "config": asdict(student.config),
               "model": student.state_dict(), "kept": best.step if best else step}
    if step < steps:
        content["optimizers"] = [optimizer.state_dict() for optimizer in optimizers]
        content["ema"] = ema.state_dict() if ema is not None else None
        content["best"] = vars(best) if best else None
    if rank_and_size()[0] == 0:
        save(path, content)


def train(stage: str, out: Path, student: GPT, take_step: Callable[[int], dict], steps: int, optimizers: list,
          warmup: int, settings: Settings, resume: bool, ema: GPT | None = None,
          validate: Callable[[GPT], dict[str, float]] | None = None) -> GPT:
    """The one training loop: `take_step(step)` learns and returns what to log; this sets rates, validates and saves.

    Everything random in a step comes from (seed, stage, step). So a checkpoint needs weights, optimizers and the step
    (and `ema`, a teacher whose weights move), and a killed run goes on to the same bits. With `validate`, from the
    student to {name: score}, the run ends with the weights of the best mean score, the earliest of equals.
    Raises ValueError for a checkpoint of other settings, or without `resume` for any.
    """
    path, log, rank = out / f"{stage}.pt", out / f"{stage}.jsonl", rank_and_size()[0]
    wanted = settings.of(stage)
    rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    start, best = 0, None
    if path.exists():
        if not resume:
            raise ValueError(f"{path} is there already: pass --resume to go on with it, or another --out")
        start, best = restore(path, student, optimizers, ema, wanted)
        if start == steps:
            print(f"{stage}: done before, {path}")
            return student
    if rank == 0:  # forget what was logged after the checkpoint
        write_lines(log, log.read_text(encoding="utf-8").split("\n")[:start] if start else [])
    saved = time.monotonic()
    bar = tqdm(range(start, steps), stage, initial=start, total=steps, mininterval=1)
    with open(log if rank == 0 else os.devnull, "a", encoding="utf-8") as file:
        for step in bar:
            began = time.perf_counter()
            for optimizer, own_rates in zip(optimizers, rates):
                for group, rate in zip(optimizer.param_groups, own_rates):
                    group["lr"] = rate * rate_factor(step, steps, warmup)
            row = {"step": step, "lr": optimizers[0].param_groups[0]["lr"], **take_step(step)}
            seconds = time.perf_counter() - began
            row |= {"seconds": seconds, "tokens_per_s": row["tokens"] / seconds, "peak_mb": _peak_mb(student)}
            if validate and ((step + 1) % settings.eval_every == 0 or step + 1 == steps):
                scores = validate(student)
                row |= scores
                if best is None or sum(scores.values()) > best.score:
                    best = Best(sum(scores.values()), step + 1, copy.deepcopy(student.state_dict()))
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            bar.set_postfix(loss=f"{row['loss']:.3f}", refresh=False)
            if time.monotonic() - saved > settings.save_seconds and step + 1 < steps:
                checkpoint(path, step + 1, steps, student, optimizers, ema, best, wanted)
                saved = time.monotonic()
    if best:
        student.load_state_dict(best.model)
    checkpoint(path, steps, steps, student, optimizers, ema, best, wanted)
    wait_for_all()
    return student


def is_up_to_date(result: Path, *inputs: Path) -> bool:
    """Whether a result was made after all of its inputs, so that it need not be made again."""
    return result.exists() and all(result.stat().st_mtime_ns >= path.stat().st_mtime_ns for path in inputs)


def same_settings(path: Path, made: dict, wanted: dict) -> None:
    """Raises ValueError naming the first setting in which a file differs from what is wanted."""
    for name, value in wanted.items():
        if made.get(name) != value:
            raise ValueError(f"{path} was made with {name}={made.get(name)!r}, not {value!r}: "
                             "use the same settings or another --out")


def _peak_mb(model: GPT) -> int:
    if model.head_weight.is_cuda:
        return torch.cuda.max_memory_allocated() >> 20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> (20 if sys.platform == "darwin" else 10)
