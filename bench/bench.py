"""How fast and how large: the loss, the sampler and a training step, beside what else one could use, in one run.

    python -m bench.bench                     # loss, sampler and loop; writes out/bench.json
    python -m bench.bench loss --quick        # one part, small shapes
    python -m bench.bench --readme            # only puts the table of bench/bench.json into bench/README.md
    python -m bench.bench --out bench/bench.json && python -m bench.bench --readme

What other people wrote is compared when it is installed (pip install -r bench/peers.txt) and left out with a line when
not. Everything of a part takes turns, one run each, over several rounds: times are medians, and a ratio is the median of
the ratios within a round, which a drift of the machine's speed does not touch. Peak memory is what is alive above the
inputs at the worst moment, each in a process of its own. Nothing here is a test: no number makes it fail.
"""
import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from tqdm import tqdm

from fused_loss import distillation_loss
from loss import token_divergence
from model import GPT, GPTConfig, generate
from step import Rollout, distillation, rollout, update
from trainer.settings import Settings

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS, README, MARKERS = HERE / "bench.json", HERE / "README.md", ("<!-- bench -->", "<!-- /bench -->")
PARTS = ("loss", "sampler", "loop")
SMALL = dict(n_layer=5, n_head=4, n_kv_head=2, head_dim=32, n_embd=160, mlp_width=384, vocab_size=1280)     # 1.4 million
LARGE = dict(n_layer=8, n_head=8, n_kv_head=4, head_dim=48, n_embd=384, mlp_width=1024, vocab_size=4096)    # 15 million


class Left(Exception):
    """Why something is left out."""


# ------------------------------------------------------------------------------------------------------- the loss
def loss_contenders(device: str, quick: bool) -> dict:
    """Two races of functions that compute the mean forward KL of N tokens and its gradients for the hidden states and, in the
    first race, the head.

    "floor" is the matrix products that each of its race needs (but for the last row), in chunks, and nothing else.
    """
    n, h, v = (512, 256, 8192) if quick else (4096, 512, 32768) if device == "cpu" else (8192, 4096, 128256)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    rng = torch.Generator(device).manual_seed(0)
    def draw(*shape, scale):
        return (torch.randn(*shape, generator=rng, device=device) * scale).to(dtype)
    x, xt = draw(n, h, scale=1), draw(n, h, scale=1)                   # [N, H]; logits get standard deviation 3
    w, wt = draw(v, h, scale=3 / h ** 0.5), draw(v, h, scale=3 / h ** 0.5)     # [V, H]
    rows = min(n, 2**28 // (2 * 4 * v))                                # of a chunk: two [rows, V] in float32
    buffers = []

    def floor(frozen=False):
        if not buffers:
            buffers.extend([torch.empty(rows, v, device=device, dtype=dtype) for _ in range(2)])
            buffers.extend([torch.empty_like(x), torch.zeros_like(w)])
        z, zt, dx, dw = buffers
        for s in range(0, n, rows):
            part = slice(s, min(s + rows, n))
            c = part.stop - s
            torch.mm(xt[part], wt.T, out=zt[:c])
            torch.mm(x[part], w.T, out=z[:c])
            torch.mm(z[:c], w, out=dx[part])
            if not frozen:
                dw.addmm_(z[:c].T, x[part])

    def ours(frozen=False, **settings):
        a, b = x.detach().requires_grad_(), w.detach().requires_grad_(not frozen)
        distillation_loss(a, b, xt, wt, **settings).backward()
        return a.grad, b.grad

    def by_logits(divergence):
        def run():
            a, b = x.detach().requires_grad_(), w.detach().requires_grad_()
            divergence(a, b).backward()
            return a.grad, b.grad
        return run

    def eager(a, b):
        return token_divergence(a @ b.T, xt @ wt.T).mean()

    def checkpointed(a, b):
        from torch.utils.checkpoint import checkpoint
        def chunk(a, t, b):
            return token_divergence(a @ b.T, t @ wt.T).sum()
        return sum(checkpoint(chunk, *pair, b, use_reentrant=False) for pair in zip(a.split(rows), xt.split(rows))) / n

    compiled = torch.compile(eager)

    def trl(a, b):
        try:
            from trl.experimental.gkd import GKDTrainer
        except ImportError as error:
            raise Left(f"trl is not installed ({error})") from None
        return GKDTrainer.generalized_jsd_loss((a @ b.T)[None], (xt @ wt.T)[None], beta=0, num_items_in_batch=n)

    def liger(a, b):
        try:
            from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss
        except ImportError as error:
            raise Left(f"liger-kernel is not installed ({error})") from None
        loss = LigerFusedLinearJSDLoss(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=0.0, compiled=device == "cuda")
        return loss(a, b, xt, wt, torch.zeros(n, dtype=torch.long, device=device))

    def liger_triton(a, b):
        if device == "cpu":
            raise Left("needs CUDA")
        try:
            from liger_kernel.transformers.fused_linear_jsd import LigerFusedLinearJSD
        except ImportError as error:
            raise Left(f"liger-kernel is not installed ({error})") from None
        return LigerFusedLinearJSD(jsd_beta=0.0)(a, b, xt, wt)

    return {"loss": {
        "the matrix products alone (floor)": floor,
        "distillation_loss": ours,
        "the formula, eager": by_logits(eager),
        "the formula under torch.compile": by_logits(compiled),
        "the formula in checkpointed chunks": by_logits(checkpointed),
        "TRL, generalized_jsd_loss": by_logits(trl),
        "Liger, fused linear JSD in torch chunks": by_logits(liger),
        "Liger, fused linear JSD in Triton": by_logits(liger_triton),
        "distillation_loss, JSD (beta 0.5)": lambda: ours(beta=0.5),
    }, "loss, frozen head": {
        "the matrix products without the head's (floor)": lambda: floor(frozen=True),
        "distillation_loss, frozen head": lambda: ours(frozen=True),
        "distillation_loss, the teacher's top 20 alone": lambda: ours(frozen=True, top_k=20),
    }}


def peak_bytes(run, device: str) -> int:
    """What `run` holds above what is alive before it, at its worst moment (Linux or CUDA)."""
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        return torch.cuda.max_memory_allocated() - before

    def status(name):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    run()
    return status("VmHWM") - before


# ---------------------------------------------------------------------------------------------------- the sampler
def qwen3(shape: dict, device: str, context: int):
    """The same architecture and sizes from transformers, with random weights."""
    try:
        from transformers import Qwen3Config, Qwen3ForCausalLM, logging
    except ImportError as error:
        raise Left(f"transformers is not installed ({error})") from None
    logging.set_verbosity_error()
    config = Qwen3Config(vocab_size=shape["vocab_size"], hidden_size=shape["n_embd"], intermediate_size=shape["mlp_width"],
                         num_hidden_layers=shape["n_layer"], num_attention_heads=shape["n_head"],
                         num_key_value_heads=shape["n_kv_head"], head_dim=shape["head_dim"], tie_word_embeddings=True,
                         max_position_embeddings=context, eos_token_id=None, bos_token_id=None, pad_token_id=0)
    return Qwen3ForCausalLM(config).to(device)


def sampler_contenders(device: str, quick: bool, shape: dict, batch: int) -> dict:
    """Functions that return how many tokens they sampled. 64 new ones after prompts of 96, at temperature 1."""
    prompt, new = (24, 16) if quick else (96, 64)
    torch.manual_seed(0)
    ours = GPT(GPTConfig(**shape, max_seq_len=2 * prompt + new)).to(device)
    ids = torch.randint(1, shape["vocab_size"], (batch, prompt))
    prompts, peer = ids.tolist(), []
    weights = [p for name, p in ours.named_parameters() if p.dim() == 2 and "embed" not in name]

    def sample(prompts, eos=-1, noise=None):
        return sum(len(c.ids) for c in generate(ours, prompts, max_new_tokens=new, eos=eos, noise=noise))

    def floor():
        with torch.inference_mode():
            for weight in weights:
                many = torch.ones(prompt * batch, weight.shape[1], device=device)
                few = many[:batch]
                for rows in many.split(2048):
                    rows @ weight.T
                for _ in range(new - 1):
                    few @ weight.T
            for _ in range(new):
                torch.ones(batch, shape["n_embd"], device=device) @ ours.head_weight.T
        return batch * new

    def transformers():
        if not peer:
            peer.append(qwen3(shape, device, prompt + new).eval())
        inputs = ids.to(device)
        out = peer[0].generate(inputs, attention_mask=torch.ones_like(inputs), do_sample=True, temperature=1.0, top_k=0,
                               top_p=1.0, max_new_tokens=new, pad_token_id=0)
        return out[:, prompt:].numel()

    # With random weights each token is about as likely: noise 0 draws token 0, which ends the row, other noise never does.
    noise = torch.rand(batch, new, dtype=torch.float64) / 2 + 0.5
    noise[torch.arange(batch), torch.arange(batch) * new // batch] = 0.0
    noise = noise.to(device)
    ragged = [row[:prompt // 4] if b % 2 else row + row[:3 * prompt // 4] for b, row in enumerate(prompts)]
    return {
        "the matrix products alone (floor)": floor,
        "generate": lambda: sample(prompts),
        "transformers, Qwen3 generate": transformers,
        "generate, 8 samples of each prompt": lambda: sample([p for p in prompts[::8] for _ in range(8)]),
        f"generate, prompts of {prompt // 4} and {prompt + 3 * prompt // 4}": lambda: sample(ragged),
        "generate, rows that end one after another": lambda: sample(prompts, eos=0, noise=noise),
    }


# ------------------------------------------------------------------------------------------------- a training step
class Ids:
    """What `rollout` asks of a tokenizer; no completion ends early."""
    eos = -1


def loop_contenders(device: str, quick: bool) -> dict:
    """One on-policy step, forward KL: sample 32 completions of 64 tokens after prompts of 96, and learn from them."""
    batch, prompt, new = (8, 24, 16) if quick else (32, 96, 64)
    settings = Settings(max_new_tokens=new, batch=batch, device=device, max_seq_len=prompt + new + 1)
    torch.manual_seed(0)
    student, teacher = (GPT(GPTConfig(**SMALL, max_seq_len=prompt + new)).to(device) for _ in range(2))
    ids = torch.randint(1, SMALL["vocab_size"], (batch, prompt))
    prompts, kept, steps = ids.tolist(), [], iter(range(10**9))
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-5)

    def draw():
        kept[:] = [Rollout(p, c.ids, p) for p, c in zip(prompts, rollout(student, prompts, Ids, settings, next(steps)))]

    def learn():
        update(distillation, student, teacher, kept, [optimizer], settings)

    def ours():
        draw()
        learn()

    def trl():
        made = []

        def step():
            if not made:
                made.append(trl_step(ids, new, device))
            made[0]()
        return step

    draw()
    return {"a step: rollout and update": ours, "  of it rollout": draw, "  of it update": learn,
            "TRL, GKDTrainer with lmbda=1": trl()}


def trl_step(ids: torch.Tensor, new: int, device: str):
    """A step of TRL's on-policy distillation trainer: the same models, prompts and sizes, forward KL, AdamW."""
    import tempfile
    teacher, student = qwen3(SMALL, device, 512), qwen3(SMALL, device, 512)
    try:
        from datasets import Dataset
        from tokenizers import Tokenizer, models
        from transformers import PreTrainedTokenizerFast
        from trl.experimental.gkd import GKDConfig, GKDTrainer
    except ImportError as error:
        raise Left(f"trl is not installed ({error})") from None
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(SMALL["vocab_size"])}, unk_token="w0"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", eos_token="w0")
    config = GKDConfig(output_dir=tempfile.mkdtemp(), lmbda=1.0, beta=0.0, temperature=1.0, max_new_tokens=new,
                       per_device_train_batch_size=len(ids), learning_rate=1e-5, report_to=[], use_cpu=device == "cpu",
                       bf16=False, gradient_checkpointing=False, disable_tqdm=True)
    trainer = GKDTrainer(student, teacher, args=config, data_collator=lambda rows: rows, processing_class=tokenizer,
                         train_dataset=Dataset.from_dict({"id": [0]}))
    trainer.generation_config.eos_token_id = None  # as ours: no completion ends early
    trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()

    def step():
        inputs = {"prompts": ids.to(device), "prompt_attention_mask": torch.ones_like(ids).to(device)}
        trainer.training_step(trainer.model, inputs, num_items_in_batch=torch.tensor(ids.shape[0] * new))
        torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), 1.0)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
    return step


# ---------------------------------------------------------------------------------------------- taking turns, a table
def race(title: str, contenders: dict, device: str, rounds: int) -> dict:
    """Run all in turn. Returns name -> {"seconds": one a round, "result": what it returned} or {"left_out": why}."""
    found = {name: {"seconds": []} for name in contenders}
    for turn in tqdm(range(-1, rounds), title, leave=False):  # the first round is a warm-up
        for name, run in contenders.items():
            if "left_out" in found[name]:
                continue
            try:
                began = time.perf_counter()
                result = run()
                if device == "cuda":
                    torch.cuda.synchronize()
                seconds = time.perf_counter() - began
            except Left as why:
                found[name] = {"left_out": str(why)}
                continue
            except torch.OutOfMemoryError:
                found[name] = {"left_out": "out of memory"}
                continue
            except Exception as error:  # other people's code on a machine that lacks something
                found[name] = {"left_out": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:80]}"}
                continue
            if turn >= 0:
                found[name]["seconds"].append(seconds)
                found[name]["tokens"] = result if isinstance(result, int) else None
    return found


def measure(parts, device: str, quick: bool) -> dict:
    found = {"machine": machine(device), "quick": quick, "parts": {}}
    for part in parts:
        if part == "loss":
            for title, contenders in loss_contenders(device, quick).items():
                rows = found["parts"][title] = race(title, contenders, device, 3)
                for name in tqdm(contenders, "memory", leave=False):
                    if "left_out" not in rows[name] and (device == "cuda" or sys.platform == "linux"):
                        command = [sys.executable, "-m", "bench.bench", "--device", device, "--peak", name, *["--quick"] * quick]
                        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
                        rows[name]["peak"] = int(done.stdout)
        if part == "sampler":
            for title, shape in (("1.4 million parameters", SMALL), ("15 million parameters", LARGE)):
                for batch in (64, 512) if device == "cuda" else (64,):
                    contenders = sampler_contenders(device, quick, shape, batch)
                    found["parts"][f"sampler, {title}, {batch} rows"] = race(title, contenders, device, 5)
        if part == "loop":
            found["parts"]["loop"] = race("loop", loop_contenders(device, quick), device, 5)
    return found


def machine(device: str) -> str:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next((line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line), cpu)
    name = torch.cuda.get_device_name() if device == "cuda" else f"{cpu}, {torch.get_num_threads()} threads"
    return f"{name}, torch {torch.__version__}"


def table(found: dict) -> str:
    """One block a part. `ratio` is this row's time (for samplers: time a token) over ours, the second row's."""
    lines = []
    for part, rows in found["parts"].items():
        cost = {name: [s / (row.get("tokens") or 1) for s in row["seconds"]] for name, row in rows.items() if row.get("seconds")}
        names = list(cost)
        ours = next(name for name in names if "floor" not in name)
        unit = "tokens/s" if part.startswith("sampler") else "ms"
        lines += ["", f"{part:<50} {unit:>9} {'spread':>7} {'/ ours':>7} {'/ floor':>8}" + f" {'peak MB':>8}" * part.startswith("loss")]
        for name, row in rows.items():
            if "left_out" in row:
                lines.append(f"  {name:<48} not measured: {row['left_out']}")
                continue
            middle = statistics.median(cost[name])
            def ratio(other):
                return statistics.median(a / b for a, b in zip(cost[name], cost[other]))
            floor = next((f"{ratio(other):8.2f}" for other in names if "floor" in other), " " * 8)
            value = f"{1 / middle:9,.0f}" if unit == "tokens/s" else f"{1000 * middle:9,.0f}"
            spread = 50 * (max(cost[name]) - min(cost[name])) / middle
            lines.append(f"  {name:<48} {value} {f'±{spread:.0f}%':>7} {ratio(ours):7.2f} {floor}"
                         + (f" {row['peak'] / 2**20:8,.0f}" if "peak" in row else ""))
    return "\n".join([found["machine"] + (", small shapes (--quick)" if found["quick"] else ""), *lines])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="small shapes")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "bench.json", help="where the figures go")
    parser.add_argument("--readme", type=Path, nargs="?", const=README, metavar="FILE",
                        help="measure nothing: put the table of bench/bench.json into this file (default: bench/README.md)")
    parser.add_argument("--peak", help=argparse.SUPPRESS)  # for the child processes of the loss
    args = parser.parse_args(arguments)
    if wrong := [part for part in args.parts if part not in PARTS]:
        parser.exit(2, f"bench.py: part {wrong[0]!r}: expected {', '.join(PARTS)}\n")
    if args.peak:
        races = loss_contenders(args.device, args.quick).values()
        print(peak_bytes(next(race[args.peak] for race in races if args.peak in race), args.device))
        return 0
    if args.readme:
        before, rest = args.readme.read_text(encoding="utf-8").split(MARKERS[0])
        text, after = table(json.loads(RESULTS.read_text(encoding="utf-8"))), rest.split(MARKERS[1])[1]
        args.readme.write_text(f"{before}{MARKERS[0]}\n\n```\n{text}\n```\n\n{MARKERS[1]}{after}", encoding="utf-8")
        return 0
    found = measure(args.parts or PARTS, args.device, args.quick)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(found), f"\nwrote {args.out}", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
