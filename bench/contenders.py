"""What races: functions that do the same work, by the name that the table shows."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from base import base_optimizers, compile_blocks, orthogonal
from bench.graphs import compiled_steps, graphed_steps
from bench.peers import (
    liger_loss,
    liger_triton_loss,
    qwen3,
    trl_distillation_step,
    trl_loss,
    trl_step,
)
from fused_loss import distillation_loss
from loss import token_divergence
from model import GPT, GPTConfig, generate
from step import Rollout, distillation, sample_completions, sft_loss, update
from trainer.settings import Settings

SMALL = dict(  # 1.4 million parameters
    n_layer=5, n_head=4, n_kv_head=2, head_dim=32, n_embd=160, mlp_width=384, vocab_size=1280
)
LARGE = dict(  # 15 million parameters
    n_layer=8, n_head=8, n_kv_head=4, head_dim=48, n_embd=384, mlp_width=1024, vocab_size=4096
)
CHUNK_BYTES = 2**28  # of two chunks of logits in float32
Contenders = dict[str, Callable[[], object]]


# ----------------------------------------------------------------------------------------- the loss
def loss_sizes(device: str, quick: bool) -> tuple[int, int, int]:
    """Tokens N, width H and vocabulary V of the loss."""
    if quick:
        return 512, 256, 8192
    if device == "cpu":
        return 4096, 512, 32768
    return 8192, 4096, 128256


def loss_contenders(device: str, sizes: tuple[int, int, int]) -> dict[str, Contenders]:
    """Two races by title: the loss with and without a gradient for the head.

    A contender computes the mean forward KL of N tokens and returns its gradients for the hidden
    states and, in the first race, the head. "floor" is only the matrix products that each of its
    race needs (except the last row), in chunks.
    """
    n, h, v = sizes
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    generator = torch.Generator(device).manual_seed(0)

    def draw(rows: int, scale: float) -> torch.Tensor:
        return (torch.randn(rows, h, generator=generator, device=device) * scale).to(dtype)

    x, x_teacher = draw(n, 1), draw(n, 1)  # [N, H]
    scale = 3 / h**0.5  # logits get standard deviation 3
    w, w_teacher = draw(v, scale), draw(v, scale)  # [V, H]
    chunk = min(n, CHUNK_BYTES // (2 * 4 * v))  # tokens of a chunk
    buffers = []

    def floor(frozen: bool = False) -> None:
        if not buffers:
            for _ in range(2):
                buffers.append(torch.empty(chunk, v, device=device, dtype=dtype))
            buffers.extend([torch.empty_like(x), torch.zeros_like(w)])
        z, z_teacher, dx, dw = buffers
        for start in range(0, n, chunk):
            part = slice(start, min(start + chunk, n))
            c = part.stop - start
            torch.mm(x_teacher[part], w_teacher.T, out=z_teacher[:c])
            torch.mm(x[part], w.T, out=z[:c])
            torch.mm(z[:c], w, out=dx[part])
            if not frozen:
                dw.addmm_(z[:c].T, x[part])

    def gradients(loss: Callable, frozen: bool = False, **settings) -> tuple:
        """Run loss(states, head, teacher's states, teacher's head) backward."""
        states, head = x.detach().requires_grad_(), w.detach().requires_grad_(not frozen)
        loss(states, head, x_teacher, w_teacher, **settings).backward()
        return states.grad, head.grad

    def eager(states, head, teacher_states, teacher_head):
        return token_divergence(states @ head.T, teacher_states @ teacher_head.T).mean()

    def chunk_sum(states, teacher_states, head):
        return token_divergence(states @ head.T, teacher_states @ w_teacher.T).sum()

    def checkpointed(states, head, teacher_states, teacher_head):
        total = 0
        for part, teacher_part in zip(states.split(chunk), teacher_states.split(chunk)):
            total += checkpoint(chunk_sum, part, teacher_part, head, use_reentrant=False)
        return total / n

    compiled = torch.compile(eager)
    trained = {
        "the matrix products alone (floor)": floor,
        "distillation_loss": lambda: gradients(distillation_loss),
        "the formula, eager": lambda: gradients(eager),
        "the formula under torch.compile": lambda: gradients(compiled),
        "the formula in checkpointed chunks": lambda: gradients(checkpointed),
        "TRL, generalized_jsd_loss": lambda: gradients(trl_loss),
        "Liger, fused linear JSD in torch chunks": lambda: gradients(liger_loss),
        "Liger, fused linear JSD in Triton": lambda: gradients(liger_triton_loss),
        "distillation_loss, JSD (beta 0.5)": lambda: gradients(distillation_loss, beta=0.5),
    }
    top_20 = "distillation_loss, the teacher's top 20 alone"
    frozen = {
        "the matrix products without the head's (floor)": lambda: floor(frozen=True),
        "distillation_loss, frozen head": lambda: gradients(distillation_loss, frozen=True),
        top_20: lambda: gradients(distillation_loss, frozen=True, top_k=20),
    }
    return {"loss": trained, "loss, frozen head": frozen}


def peak_bytes(run: Callable[[], object], device: str) -> int:
    """Bytes that `run` holds at its worst moment beyond those alive before it (Linux or CUDA)."""
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        return torch.cuda.max_memory_allocated() - before

    def status(name: str) -> int:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
        raise ValueError(f"/proc/self/status has no {name}")

    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    run()
    return status("VmHWM") - before


SHAPES = (  # tokens, width, vocabulary
    (256, 160, 1_280),
    (1_024, 160, 1_280),
    (2_048, 384, 4_096),
    (4_096, 512, 8_192),
    (4_096, 512, 32_768),
    (4_096, 512, 151_936),
)


def shape_contenders(device: str) -> Iterator[tuple[str, Contenders]]:
    """The loss and its compiled formula in several shapes, a race each by title."""
    for sizes in SHAPES:
        n, h, v = sizes
        torch._dynamo.reset()  # each shape has code of its own
        found = loss_contenders(device, sizes)["loss"]
        names = ("distillation_loss", "the formula under torch.compile")
        yield f"loss, N={n:,} H={h} V={v:,}", {name: found[name] for name in names}


# -------------------------------------------------------------------------------------- the sampler
def sampler_contenders(device: str, quick: bool, shape: dict, batch: int) -> Contenders:
    """Samplers that return how many tokens they sampled.

    Each samples 64 new tokens after `batch` prompts of 96 at temperature 1 (quick: 16 after 24).
    """
    prompt, new = (24, 16) if quick else (96, 64)
    torch.manual_seed(0)
    model = GPT(GPTConfig(**shape, max_seq_len=2 * prompt + new)).to(device)
    ids = torch.randint(1, shape["vocab_size"], (batch, prompt))
    prompts = ids.tolist()
    peers = []  # made by the first run of the contender that needs it

    def sample(
        prompts: list[list[int]], eos: int = -1, noise: torch.Tensor | None = None, most: int = new
    ) -> int:
        completions = generate(
            model, prompts, max_new_tokens=most, eos=eos, noise=noise, places=batch
        )
        return sum(len(completion.ids) for completion in completions)

    weights = []
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2 and "embed" not in name:
            weights.append(parameter)

    def floor() -> int:
        with torch.inference_mode():
            for weight in weights:
                prefill = torch.ones(prompt * batch, weight.shape[1], device=device)
                step = prefill[:batch]
                for rows in prefill.split(2048):
                    rows @ weight.T
                for _ in range(new - 1):
                    step @ weight.T
            for _ in range(new):
                torch.ones(batch, shape["n_embd"], device=device) @ model.head_weight.T
        return batch * new

    def floor_and_attention() -> int:
        groups, size = shape["n_kv_head"], shape["head_dim"]
        q = torch.ones(batch, groups, shape["n_head"] // groups, size, device=device)
        cache = torch.ones(2, shape["n_layer"], batch, groups, prompt + new, size, device=device)
        with torch.inference_mode():
            for columns in range(prompt + 1, prompt + new):
                mask = torch.zeros(batch, 1, 1, columns, device=device)
                for k, v in zip(*cache[:, :, :, :, :columns]):
                    F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return floor()

    def transformers(**options) -> int:
        if not peers:
            peers.append(qwen3(shape, device, prompt + new).eval())
        inputs = ids.to(device)
        out = peers[0].generate(
            inputs,
            attention_mask=torch.ones_like(inputs),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=new,
            pad_token_id=0,
            **options,
        )
        return out[:, prompt:].numel()

    def inside(context: Callable) -> int:
        with context():
            return sample(prompts)

    # With random weights each token is about as likely: noise 0 draws token 0, which ends the row;
    # other noise never does. Row b ends after about b / batch of the new tokens.
    noise = torch.rand(batch, new, dtype=torch.float64) / 2 + 0.5
    noise[torch.arange(batch), torch.arange(batch) * new // batch] = 0.0
    noise = noise.to(device)
    short, long = prompt // 4, prompt + 3 * prompt // 4
    ragged = []
    for b, row in enumerate(prompts):
        ragged.append(row[:short] if b % 2 else row + row[: long - prompt])
    many = torch.randint(1, shape["vocab_size"], (4 * batch, prompt)).tolist()
    ends = noise[torch.randperm(batch, generator=torch.Generator().manual_seed(0))].repeat(4, 1)
    groups = [p for p in prompts[::8] for _ in range(8)]
    compiled = {"generate, its step under torch.compile": lambda: inside(compiled_steps)}
    with_graphs = {  # transformers compiles the step of a static cache, in CUDA graphs
        "generate, its step as a CUDA graph": lambda: inside(graphed_steps),
        "transformers, static cache, compiled": lambda: transformers(cache_implementation="static"),
    }
    return {
        "the matrix products alone (floor)": floor,
        "generate": lambda: sample(prompts),
        "those products and a step's attention alone": floor_and_attention,
        **(compiled if not quick else {}),
        "transformers, Qwen3 generate": transformers,
        **(with_graphs if device == "cuda" else {}),
        "generate, 8 samples of each prompt": lambda: sample(groups),
        f"generate, prompts of {short} and {long}": lambda: sample(ragged),
        "generate, rows that end one after another": lambda: sample(prompts, 0, noise),
        "generate, 4 times the rows, half the tokens": lambda: sample(many, most=new // 2),
        "generate, 4 times the rows, each ends by itself": lambda: sample(many, 0, ends),
    }


# ---------------------------------------------------------------------------------- a training step
def compiled_blocks(model: GPT) -> GPT:
    """A copy of a model, whose blocks are under torch.compile."""
    model = copy.deepcopy(model)
    compile_blocks(model)
    return model


class Ids:
    """What `sample_completions` asks of a tokenizer; no completion ends early."""

    ends = frozenset()


def loop_contenders(device: str, quick: bool) -> Contenders:
    """One on-policy step with forward KL: sample completions, then learn from them.

    The step has 32 completions of 64 tokens after prompts of 96 (quick: 8 of 16 after 24).
    """
    batch, prompt, new = (8, 24, 16) if quick else (32, 96, 64)
    settings = Settings(
        max_new_tokens=new, batch=batch, device=device, max_seq_len=prompt + new + 1
    )
    torch.manual_seed(0)
    config = GPTConfig(**SMALL, max_seq_len=prompt + new)
    student, teacher = GPT(config).to(device), GPT(config).to(device)
    ids = torch.randint(1, SMALL["vocab_size"], (batch, prompt))
    prompts = ids.tolist()
    steps = iter(range(10**9))
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-5)
    rollouts = []  # of the last call of draw
    peers = {}  # by the function that makes it, at the first run

    def draw() -> None:
        completions = sample_completions(student, prompts, Ids, settings, next(steps))
        rollouts[:] = [Rollout(p, c.ids, p) for p, c in zip(prompts, completions)]

    def learn() -> None:
        update(distillation, student, teacher, rollouts, [optimizer], settings)

    def learn_compiled() -> None:
        update(distillation, *compiled, rollouts, [compiled_optimizer], settings)

    def ours() -> None:
        draw()
        learn()

    def trl(make: Callable) -> None:
        if make not in peers:
            peers[make] = make(ids, new, SMALL, device)
        peers[make]()

    compiled = compiled_blocks(student), compiled_blocks(teacher)
    compiled_optimizer = torch.optim.AdamW(compiled[0].parameters(), lr=1e-5)
    in_blocks = {"  of it update, blocks under torch.compile": learn_compiled}
    draw()
    return {
        "a step: rollout and update": ours,
        "  of it rollout": draw,
        "  of it update": learn,
        **(in_blocks if not quick else {}),
        "TRL, GKDTrainer with lmbda=1": lambda: trl(trl_step),
        "TRL, DistillationTrainer": lambda: trl(trl_distillation_step),
    }


def base_contenders(device: str, quick: bool) -> Contenders:
    """A step of stage 0 on 32 rows of 128 tokens (quick: 8 of 32), and the products that it needs."""
    rows, length = (8, 32) if quick else (32, 128)
    torch.manual_seed(0)
    model = GPT(GPTConfig(**SMALL, max_seq_len=length)).to(device)
    settings = Settings(device=device, base_lr=1e-5, micro_tokens=rows * length)
    ids = torch.randint(1, SMALL["vocab_size"], (rows, length)).tolist()
    rollouts = [Rollout(row[:1], row[1:]) for row in ids]

    def step_of(model: GPT) -> Callable:
        optimizers = base_optimizers(model, settings)
        return lambda: update(sft_loss, model, None, rollouts, optimizers, settings)

    weights = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    head = model.head_weight

    def floor() -> None:
        with torch.no_grad():
            for weight in [*weights, head]:  # forward; then the gradients of input and weight
                x = torch.ones(rows * (length - 1), weight.shape[1], device=device)
                y = x @ weight.T
                y @ weight
                y.T @ x
            for weight in weights:
                orthogonal(weight[None])
        q, k, v = (
            torch.ones(rows, heads, length - 1, SMALL["head_dim"], device=device).requires_grad_()
            for heads in (SMALL["n_head"], SMALL["n_kv_head"], SMALL["n_kv_head"])
        )
        for _ in range(SMALL["n_layer"]):
            F.scaled_dot_product_attention(
                q, k, v, is_causal=True, enable_gqa=True
            ).sum().backward()

    compiled = {"a step of stage 0, blocks under torch.compile": step_of(compiled_blocks(model))}
    return {
        "its products, attention and Muon alone (floor)": floor,
        "a step of stage 0": step_of(model),
        **(compiled if not quick else {}),
    }
