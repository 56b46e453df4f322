"""Where the base model comes from: stage 0, a GPT trained from scratch on the generated corpus.

In order: the data, the first weights, the rows and their batches, the loop, and the optimizer Muon.
A step is the `update` of the later stages, with rollouts from a file.
"""

import os
import random
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from data.files import digest
from data.prepare import prepare
from data.reading import each, is_text, iterate_rows, read_json, write_json
from data.tokenizer import SPECIALS, Tokenizer, encode
from model import GPT, GPTConfig
from pretrained.start import adapted, load_tokenizer, pretrained, start_inputs
from step import Rollout, batch_by_tokens, length_measures, sft_loss, update
from trainer.checkpoints import load, load_model, require_same_inputs, require_same_settings
from trainer.lengths import LengthCheck, check_lengths
from trainer.loop import Loop, State
from trainer.packed import packed, unpack
from trainer.processes import device_of, rank_and_size, wait_for_all
from trainer.settings import Settings, seed_for
from trainer.sharding import share_out


def run_data(out: Path, settings: Settings, resume: bool) -> None:
    """Make the data. The file data.json comes last: it marks the data as complete."""
    wanted, mark = settings.up_to("data"), out / "data" / "data.json"
    if mark.exists():
        if not resume:
            raise ValueError(
                f"{mark.parent} is there already: pass --resume to keep it, or another --out"
            )
        check_data(out, wanted)
        print(f"data: done before, {mark.parent}")
        return
    if rank_and_size()[0] == 0:
        start = packed(settings)["tokenizer"] if settings.start else ""
        del wanted["start"]
        prepare(out / "data", **wanted, tokenizer=start)
        made = sorted(p for p in mark.parent.iterdir() if p.suffix in (".jsonl", ".txt"))
        files = {path.name: digest(path) for path in made}  # not what a killed run left there
        write_json(mark, wanted | {"files": files})
    wait_for_all()


def check_data(out: Path, wanted: dict | None = None) -> None:
    """Compare a run's data with data.json, if that is there.

    Raises ValueError for other settings (`wanted`) and for a file that was changed since.
    """
    mark = out / "data" / "data.json"
    if not mark.exists():
        return
    made = read_json(mark, {"files": (each(is_text), "the digest of each file")})
    require_same_settings(mark, made, wanted or {})
    for name, found in made["files"].items():
        if digest(mark.parent / name) != found:
            raise ValueError(
                f"{mark.parent / name} was changed since {mark} was written: bring it back, or "
                "make the data anew in another --out"
            )


def new_model(vocab_size: int, settings: Settings) -> GPT:
    """A model of the settings' shape with random weights, which depend on the seed alone."""
    torch.manual_seed(seed_for(settings, "weights"))
    return GPT(
        GPTConfig(
            vocab_size,
            settings.max_seq_len,
            settings.n_layer,
            settings.n_head,
            settings.n_kv_head,
            settings.head_dim,
            settings.n_embd,
            settings.mlp_width,
        )
    )


def are_sections(value) -> bool:
    """Whether a value is a list of [section, text] pairs, each with a section's name."""
    if not isinstance(value, list) or not value:
        return False
    for pair in value:
        if not (isinstance(pair, list) and len(pair) == 2 and all(map(is_text, pair))):
            return False
        if f"<|{pair[0]}|>" not in SPECIALS:
            return False
    return True


CORPUS_ROW = {"sections": (are_sections, "a list of [section, text]")}


def count_parameters(model: GPT) -> int:
    """Number of trained numbers; a tied head counts once."""
    return sum(p.numel() for p in model.parameters())


def read_corpus(path: Path, tokenizer: Tokenizer) -> list[tuple[list[int], int]]:
    """The rows of base.jsonl: (token ids, where the completion starts).

    A row is context sections, then a completion section, then EOS. Raises ValueError for other rows.
    """
    rows = []
    for written in iterate_rows(path, CORPUS_ROW):
        *context, (section, completion) = written["sections"]
        prompt_ids = encode(tokenizer, [*context, (section, "")])
        rows.append((prompt_ids + tokenizer.encode(completion) + [tokenizer.eos], len(prompt_ids)))
    if not rows:
        raise ValueError(f"{path}: expected at least one row, got an empty file")
    return rows


def compile_blocks(model: GPT) -> None:
    """Put the blocks under torch.compile. One piece of code then serves batches of all sizes.

    Raises ValueError where PyTorch finds no C++ compiler.
    """
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if not shutil.which(compiler):
        raise ValueError(f"--compile yes: expected a C++ compiler ($CXX), found no {compiler!r}")
    for block in model.blocks:
        block.compile(dynamic=True)


def base_optimizers(model: GPT, settings: Settings) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for embedding, head and norms.

    Pretrained weights have AdamW alone, as they had before.
    """
    if settings.model:
        return [torch.optim.AdamW(model.parameters(), lr=settings.base_lr, weight_decay=0.0)]
    matrices, others = [], []
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2 and "embed" not in name:
            matrices.append(parameter)
        else:
            others.append(parameter)
    return [
        Muon(matrices, lr=settings.base_lr),
        torch.optim.AdamW(others, lr=settings.base_lr / 5, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def bucketed(rows: list[list[int]], tokens: int, seed: int) -> list[list[int]]:
    """One epoch in batches: every row's index once, rows of similar length together.

    A batch has at most `tokens` tokens, padding counted.
    """
    rng, batches = random.Random(seed), []

    def length(i: int) -> int:
        return len(rows[i])

    order = rng.sample(range(len(rows)), len(rows))
    for start in range(0, len(order), 4096):  # sorted in windows: neighbours differ by epoch
        window = sorted(order[start : start + 4096], key=length)
        batches += batch_by_tokens(window, tokens, length)
    rng.shuffle(batches)
    return batches


def base_batches(ids: list[list[int]], settings: Settings) -> list[list[int]]:
    """The batches of all steps of stage 0, as indices of rows: epoch after epoch.

    A curriculum: the first `short_first` of the steps read only batches that begin in the shorter
    half of the rows.
    """
    median = sorted(map(len, ids))[len(ids) // 2]
    short_steps = int(settings.short_first * settings.base_steps)
    batches = []
    while len(batches) < settings.base_steps:
        epoch = bucketed(ids, settings.base_tokens, seed_for(settings, "epoch", len(batches)))
        if len(batches) < short_steps:
            epoch = [batch for batch in epoch if min(len(ids[i]) for i in batch) <= median]
            epoch = epoch[: short_steps - len(batches)]
        batches += epoch
    return batches[: settings.base_steps]


def train_base(
    out: Path, settings: Settings, resume: bool, later: Sequence[LengthCheck] = ()
) -> None:
    """Stage 0: next-token prediction on the corpus. Prompt tokens weigh `prompt_weight`.

    `later` are the checks of the later stages, to be checked against the context before it is built
    into the model. Raises ValueError for data that was made with other settings or does not fit.
    """
    check_data(out, settings.up_to("data"))
    if settings.start:
        unpack(out, settings, start_inputs(out, settings))
        return
    tokenizer, device = load_tokenizer(out, settings), device_of(settings)
    rows = read_corpus(out / "data" / "base.jsonl", tokenizer)
    corpus = LengthCheck("base", "corpus", "row", [len(row) for row, _ in rows])
    check_lengths([corpus, *later], settings, out, "base")
    rows = [(row, start) for row, start in rows if len(row) <= settings.max_seq_len]
    ids = [row for row, _ in rows]
    if settings.model:
        student = pretrained(settings)
        share_out(settings, student)
    else:
        student = new_model(tokenizer.vocab_size, settings).to(device)
    print(
        f"base: {count_parameters(student):,} parameters, {len(rows):,} rows, "
        f"{sum(map(len, ids)):,} tokens, {device}, {torch.get_num_threads()} threads"
    )
    if settings.shard == "yes" and not settings.model:
        print("base: not sharded, its optimizer reads whole matrices")
    if settings.compile == "yes":
        compile_blocks(student)
    optimizers = base_optimizers(student, settings)
    batches = base_batches(ids, settings)

    def collect(step: int) -> list[Rollout]:
        rollouts = []
        for i in batches[step]:
            row, start = rows[i]
            if not settings.prompt_weight:
                rollouts.append(Rollout(row[:start], row[start:]))
                continue
            # The first token is never predicted; the rest of the prompt weighs prompt_weight.
            weights = [settings.prompt_weight] * (start - 1) + [1.0] * (len(row) - start)
            rollouts.append(Rollout(row[:1], row[1:], token_weights=weights))
        return rollouts

    state = State(student, optimizers)
    inputs = {"data/base.jsonl": digest(out / "data" / "base.jsonl"), **start_inputs(out, settings)}
    options = dict(warmup=5 if settings.model else 50, inputs=inputs)
    with Loop("base", state, settings.base_steps, out, settings, resume, **options) as loop:
        for step in loop:
            rollouts = collect(step)
            row = update(sft_loss, student, None, rollouts, optimizers, settings)
            loop.end_step(row | length_measures(rollouts))


def load_base(out: Path, settings: Settings, device: torch.device) -> tuple[GPT, dict[str, str]]:
    """A run's base model, and the digests of what it is: its weights and its tokenizer.

    It is what stage 0 made, or with --model and no stage 0 the pretrained model itself.
    Raises ValueError if it is missing or was made with other settings or another tokenizer.
    """
    inputs = start_inputs(out, settings)
    if settings.skips("base"):
        return pretrained(settings).to(device), inputs
    path = out / "base.pt"
    base = load(path)
    require_same_settings(path, base["settings"], settings.up_to("base"))
    require_same_inputs(path, base["inputs"], inputs)
    return load_model(path, device), {"base.pt": base["digest"]} | inputs


def load_student(out: Path, settings: Settings) -> tuple[GPT, dict[str, str]]:
    """The base as stages I and II train it, and the digests of what it is.

    With --shard it is on the CPU: `share_out` comes next.
    """
    is_whole = settings.shard == "no"
    base, inputs = load_base(
        out, settings, device_of(settings) if is_whole else torch.device("cpu")
    )
    return adapted(base, settings), inputs


# ------------------------------------------------------------------------------------ the optimizer
class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal, for matrices [out, in].

    Source: https://kellerjordan.github.io/posts/muon.

    torch.optim.Muon but for its rounding: that one computes in bfloat16, which takes two thirds of
    a step of stage 0 on a processor without it. Here: float32 on a CPU, bfloat16 on CUDA, and
    matrices of one shape in one product.
    """

    def __init__(self, matrices: list[torch.Tensor], lr: float, momentum: float = 0.95):
        super().__init__(matrices, dict(lr=lr, momentum=momentum))

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            shapes, momentum = {}, group["momentum"]
            for p in group["params"]:
                if p.grad is not None:
                    shapes.setdefault(p.shape, []).append(p)
            for (rows, columns), same in shapes.items():
                for p in same:
                    if not self.state[p]:
                        self.state[p]["average"] = torch.zeros_like(p)
                    self.state[p]["average"].lerp_(p.grad, 1 - momentum)
                nesterov = [p.grad.lerp(self.state[p]["average"], momentum) for p in same]
                for p, direction in zip(same, orthogonal(torch.stack(nesterov))):
                    p.sub_(direction, alpha=group["lr"] * max(1, rows / columns) ** 0.5)


def orthogonal(x: torch.Tensor) -> torch.Tensor:
    """Matrices [n, rows, columns] with the same singular vectors and all singular values near 1.

    Three Newton-Schulz steps x <- a x + b (x x') x + c (x x')^2 x, after a division by the
    norm, bring every singular value above 0.013 of the norm to between 0.5 and 1.21, and smaller
    ones part of the way.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x, tall = x.to(torch.bfloat16) if x.is_cuda else x, x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(3):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).float()
