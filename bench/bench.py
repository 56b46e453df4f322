"""How fast and how large: the loss, the sampler and a training step, beside other libraries.

    python -m bench.bench                     # all parts; writes out/bench.json
    python -m bench.bench loss --quick        # one part, small shapes
    python -m bench.bench --readme            # puts the table of bench.json into bench/README.md
    python -m bench.bench --out bench/bench.json && python -m bench.bench --readme

Other libraries race where they are installed (pip install -r bench/peers.txt); without them the
table has a line that says so. All contenders of a part take turns, one run each, over several
rounds. Times are medians. A ratio is the median of the ratios within a round, so a drift of the
machine's speed does not change it. Peak memory is what is alive at the worst moment beyond the
inputs, each contender in a process of its own. Nothing here is a test: no number makes it fail.
"""

import json
import platform
import statistics
import subprocess
import sys
import time
from argparse import SUPPRESS
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from tqdm import tqdm

from bench.contenders import (
    LARGE,
    SMALL,
    Contenders,
    base_contenders,
    loop_contenders,
    loss_contenders,
    loss_sizes,
    peak_bytes,
    sampler_contenders,
    shape_contenders,
)
from bench.peers import Left
from data.console import Parser, exit_code, file_path
from data.files import replacing, write_lines
from data.reading import check_fields, each, is_dict, is_text, parse, read_text

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS, README = HERE / "bench.json", HERE / "README.md"
PARTS = ("loss", "shapes", "sampler", "loop")


# ------------------------------------------------------------------------------------- taking turns
def time_once(run, device: str) -> tuple[float, object]:
    """Seconds of one run, and what it returned."""
    began = time.perf_counter()
    result = run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began, result


def race(title: str, contenders: Contenders, device: str, rounds: int) -> dict:
    """Run all contenders in turn, `rounds` times after a warm-up.

    Returns by name {"seconds": one a round, "tokens": what a sampler returned} or {"left_out":
    why}.
    """
    found = {name: {"seconds": []} for name in contenders}
    for turn in tqdm(range(-1, rounds), title, leave=False):  # the first round is a warm-up
        for name, run in contenders.items():
            if "left_out" in found[name]:
                continue
            try:
                seconds, result = time_once(run, device)
            except Exception as error:  # other people's code on a machine that lacks something
                found[name] = {"left_out": reason(error)}
            else:
                if turn >= 0:
                    found[name]["seconds"].append(seconds)
                    found[name]["tokens"] = result if isinstance(result, int) else None
    return found


def reason(error: Exception) -> str:
    """Why a contender is left out, in one line."""
    if isinstance(error, Left):
        return str(error)
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory"
    first_line = (str(error).strip().splitlines() or [""])[0][:80]
    return f"{type(error).__name__}: {first_line}"


def measure_peak(name: str, quick: bool) -> int:
    """The peak memory of a contender of the loss in bytes, from a process of its own on the CPU."""
    command = [sys.executable, "-m", "bench.bench", "--device", "cpu", "--peak", name]
    if quick:
        command.append("--quick")
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return int(done.stdout)


def measure_losses(device: str, quick: bool) -> Iterator[tuple[str, dict]]:
    """The races of the loss, (title, rows) each; and again with peak memory where it can be read."""
    sizes = loss_sizes(device, quick)
    for title, contenders in loss_contenders(device, sizes).items():
        rows = race(title, contenders, device, 3)
        yield title, rows
        # The allocator counts: no process of its own beside the cache of this one.
        if device == "cuda":
            contenders = loss_contenders(device, sizes)[title]  # without the buffers of the race
        for name in tqdm(contenders, "memory", leave=False):
            if "left_out" in rows[name]:
                continue
            if device == "cuda":
                rows[name]["peak"] = peak_bytes(contenders[name], device)
            elif sys.platform == "linux":
                rows[name]["peak"] = measure_peak(name, quick)
        yield title, rows


def measure_samplers(device: str, quick: bool) -> Iterator[tuple[str, dict]]:
    """The races of the sampler, (title, rows) each."""
    for size, shape in (("1.4 million parameters", SMALL), ("15 million parameters", LARGE)):
        for batch in (64, 512) if device == "cuda" else (64,):
            contenders = sampler_contenders(device, quick, shape, batch)
            title = f"sampler, {size}, {batch} rows"
            yield title, race(title, contenders, device, 5)


def measure(parts: Iterable[str], device: str, quick: bool) -> dict:
    """Run the races of the parts; returns what bench.json holds."""
    found = {"machine": machine(device), "quick": quick, "parts": {}}
    for part in parts:
        if part == "loss":
            found["parts"] |= dict(measure_losses(device, quick))
        if part == "shapes" and not quick:
            for title, contenders in shape_contenders(device):
                found["parts"][title] = race(title, contenders, device, 3)
        if part == "sampler":
            found["parts"] |= dict(measure_samplers(device, quick))
        if part == "loop":
            found["parts"]["loop"] = race("loop", loop_contenders(device, quick), device, 5)
            found["parts"]["stage 0"] = race("stage 0", base_contenders(device, quick), device, 9)
    return found


def machine(device: str) -> str:
    """The processor or GPU and the version of torch."""
    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if "model name" in line:
                cpu = line.split(":")[1].strip()
                break
    return f"{cpu}, {torch.get_num_threads()} threads, torch {torch.__version__}"


# ---------------------------------------------------------------------------------------- the table
def median_ratio(costs: list[float], others: list[float]) -> float:
    """The median of the ratios within a round."""
    return statistics.median(a / b for a, b in zip(costs, others))


def table_of(title: str, rows: dict[str, dict]) -> list[str]:
    """The lines of one race.

    "/ ours" is the time of a row (for samplers: the time a token) over that of ours, which is the
    first row after the floor.
    """
    costs = {}  # seconds, or seconds a token, of each round
    for name, row in rows.items():
        if row.get("seconds"):
            costs[name] = [seconds / (row.get("tokens") or 1) for seconds in row["seconds"]]
    ours = next(name for name in costs if "floor" not in name)
    floors = [name for name in costs if "floor" in name]
    unit = "tokens/s" if title.startswith("sampler") else "ms"
    head = f"{title:<50} {unit:>9} {'spread':>7} {'/ ours':>7} {'/ floor':>8}"
    if title.startswith("loss"):
        head += f" {'peak MB':>8}"
    lines = [head]
    for name, row in rows.items():
        if "left_out" in row:
            lines.append(f"  {name:<48} not measured: {row['left_out']}")
            continue
        cost = costs[name]
        middle = statistics.median(cost)
        value = 1 / middle if unit == "tokens/s" else 1000 * middle
        spread = f"±{50 * (max(cost) - min(cost)) / middle:.0f}%"
        to_ours = f"{median_ratio(cost, costs[ours]):7.2f}"
        to_floor = f"{median_ratio(cost, costs[floors[0]]):8.2f}" if floors else " " * 8
        line = f"  {name:<48} {value:9,.0f} {spread:>7} {to_ours} {to_floor}"
        if "peak" in row:
            line += f" {row['peak'] / 2**20:8,.0f}"
        lines.append(line)
    return lines


def table(found: dict) -> str:
    """The table of all races, from what bench.json holds."""
    lines = [found["machine"] + (", small shapes (--quick)" if found["quick"] else "")]
    for title, rows in found["parts"].items():
        lines += ["", *table_of(title, rows)]
    return "\n".join(lines)


FLOOR = "the matrix products alone (floor)"
SAMPLER = "sampler, {} million parameters, 64 rows"
CLAUSES = (  # of the sentence in the project's README: text, race, row, the row it is divided by
    ("the loss takes {} × the bare matrix products", "loss", "distillation_loss", FLOOR),
    ("TRL's {} ×", "loss", "TRL, generalized_jsd_loss", FLOOR),
    ("Liger's {} ×", "loss", "Liger, fused linear JSD in torch chunks", FLOOR),
    (
        "`transformers` samples in {} × our time with 1.4 million parameters",
        SAMPLER.format("1.4"),
        "transformers, Qwen3 generate",
        "generate",
    ),
    ("{} × with 15 million", SAMPLER.format("15"), "transformers, Qwen3 generate", "generate"),
    (
        "TRL's GKDTrainer makes a step in {} × our time",
        "loop",
        "TRL, GKDTrainer with lmbda=1",
        "a step: rollout and update",
    ),
    (
        "its DistillationTrainer in {} ×",
        "loop",
        "TRL, DistillationTrainer",
        "a step: rollout and update",
    ),
)


def in_words(found: dict) -> str:
    """The main ratios of the table as a sentence; what was not measured is left out."""
    said = []
    for text, title, *names in CLAUSES:
        rows = found["parts"].get(title, {})
        if all(rows.get(name, {}).get("seconds") for name in names):
            costs = ([s / (rows[n].get("tokens") or 1) for s in rows[n]["seconds"]] for n in names)
            said.append(text.format(f"{median_ratio(*costs):.2f}"))
    return f"{found['machine']}: {', '.join(said)}. More: [bench/](bench/README.md)."


# -------------------------------------------------------------------------------------- the command
def print_peak(name: str, device: str, quick: bool) -> None:
    """Print the peak memory of a contender of the loss, for the process that started this one."""
    for contenders in loss_contenders(device, loss_sizes(device, quick)).values():
        if name in contenders:
            print(peak_bytes(contenders[name], device))
            return
    raise ValueError(f"--peak {name!r}: no such contender of the loss")


BENCH = {
    "machine": (is_text, "a text"),
    "quick": (lambda value: isinstance(value, bool), "true or false"),
    "parts": (each(each(is_dict)), "the rows of each race, by title and name"),
}


def read_figures(path: Path, fields: dict) -> dict:
    """What a file of figures holds. Raises ValueError for one without these fields."""
    found = parse(read_text(path), str(path))
    check_fields(found, fields, str(path))
    return found


def fill_in(readme: Path, name: str, lines: str) -> None:
    """Put lines between the lines <!-- name --> and <!-- /name --> of a file.

    Raises ValueError for a file without these lines.
    """
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    text = read_text(readme)
    if not (text.count(start) == text.count(end) == 1 and text.find(start) < text.find(end)):
        raise ValueError(f"{readme}: expected one line {start} and after it one line {end}")
    before, after = text.split(start)[0], text.split(end)[1]
    with replacing(readme) as file:
        file.write(f"{before}{start}\n{lines}\n{end}{after}".encode("utf-8"))


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = Parser(__doc__, prog="bench.py")
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)"
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu"
    )
    parser.add_argument("--quick", action="store_true", help="small shapes")
    parser.add_argument(
        "--out", type=file_path, default=ROOT / "out" / "bench.json", help="where the figures go"
    )
    parser.add_argument(
        "--readme",
        type=file_path,
        nargs="?",
        const=README,
        metavar="FILE",
        help="measure nothing: put the table of bench/bench.json into this file "
        "(default: bench/README.md)",
    )
    parser.add_argument("--peak", help=SUPPRESS)  # for measure_peak
    args = parser.parse_args(arguments)
    for part in args.parts:
        if part not in PARTS:
            parser.error(f"part {part!r}: expected {', '.join(PARTS)}")

    def action() -> None:
        if args.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("--device cuda: this machine has no usable GPU; expected cpu")
        if args.out.is_dir():
            raise ValueError(f"--out {args.out}: expected a file, got a folder")
        if args.peak:
            print_peak(args.peak, args.device, args.quick)
        elif args.readme:
            found = read_figures(RESULTS, BENCH)
            fill_in(args.readme, "bench", f"```\n{table(found)}\n```")
            if args.readme == README:
                fill_in(ROOT / "README.md", "bench", in_words(found))
        else:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            found = measure(args.parts or PARTS, args.device, args.quick)
            write_lines(args.out, [json.dumps(found, indent=1)])
            print(table(found), f"\nwrote {args.out}", sep="\n")

    return exit_code("bench.py", action, "the same command begins again")


if __name__ == "__main__":
    sys.exit(main())
