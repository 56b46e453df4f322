"""All that this project claims for a GPU, measured by one command in at most 25 minutes.

    python -m bench.gpu                          # all parts; writes bench/gpu.json after each
    python -m bench.gpu --only loss sampler      # some of them; the others in the file stay
    python -m bench.gpu --readme                 # puts its tables into bench/README.md

    preset     preset gpu from the data to the table
    loss       the loss beside eager, compiled, Liger's kernels and the bare products
    sampler    64 and 512 rows beside transformers, with and without CUDA graphs
    step       a training step beside the trainers of TRL
    memory     LoRA on the shapes of Qwen3 0.6B, 1.7B and 8B: announced memory and measured peak
    torchrun   one process under nccl

A part that fails or runs out of time is recorded with its error, and the next one begins. Without
a GPU the same parts run with their smallest shapes on the CPU, as a test of this command: that
writes a file only where --out says, and its figures mean nothing.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from bench.bench import HERE, README, ROOT, fill_in, machine, read_figures, table_of
from bench.gpu_parts import PARTS
from data.console import Parser, exit_code, file_path
from data.files import write_lines
from data.reading import each, is_dict, is_text

RESULTS = HERE / "gpu.json"
MINUTES = 25
GPU = {
    "machine": (is_text, "a text"),
    "device": (lambda value: value in ("cuda", "cpu"), "cuda or cpu"),
    "parts": (each(is_dict), "what each part found"),
}


# --------------------------------------------------------------------------------------- measuring
def run_part(name: str, device: str, seconds: float) -> dict:
    """{"seconds", "races": {title: rows}} of a part from a process of its own; "error" if it failed."""
    found = {"races": {}}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        file, said = Path(folder, "found.json"), Path(folder, "said")
        command = [sys.executable, "-m", "bench.gpu_parts", name, device, str(file)]
        with open(said, "wb") as output:
            process = subprocess.Popen(
                command, cwd=ROOT, stdout=output, stderr=output, start_new_session=True
            )
        try:
            if code := process.wait(timeout=seconds):
                lines = said.read_text(encoding="utf-8", errors="replace").split("\n")
                lines = [line.strip() for line in lines if line.strip()]
                found["error"] = lines[-1][:200] if lines else f"exit code {code}"
        except subprocess.TimeoutExpired:
            found["error"] = f"no end after {seconds / 60:.1f} min"
        finally:
            end(process)
        if file.exists():
            found["races"] = json.loads(file.read_text(encoding="utf-8"))
    return found | {"seconds": time.monotonic() - began}


def end(process: subprocess.Popen) -> None:
    """End a part and all that it has started."""
    try:
        os.killpg(process.pid, signal.SIGTERM)
        for _ in range(100):  # torchrun ends its workers, which are in groups of their own
            time.sleep(0.1)
            process.poll()
            os.killpg(process.pid, 0)
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # nobody is left
        pass
    process.wait()


def measure(names: list[str], device: str, out: Path | None) -> dict:
    """Run the parts in their order, and write the file after each.

    A part may use what the parts before it have left of the time. Parts that the file has from
    before, on the same device, stay.
    """
    found = {"machine": machine(device), "device": device, "parts": {}}
    if out and out.exists():
        before = read_figures(out, GPU)
        if before["machine"] == found["machine"]:
            found["parts"] = before["parts"]
    ends = time.monotonic() + 60 * MINUTES
    for i, name in enumerate(names):
        later = sum(PARTS[other].minutes for other in names[i + 1 :])
        print(f"{name} ...", flush=True)
        found["parts"][name] = run_part(name, device, ends - time.monotonic() - 60 * later)
        print("\n".join(lines_of(name, found["parts"][name])), "", sep="\n", flush=True)
        if out:
            in_order = {part: found["parts"][part] for part in PARTS if part in found["parts"]}
            write_lines(out, [json.dumps(found | {"parts": in_order}, indent=1)])
    return found


# --------------------------------------------------------------------------------------- the tables
def number(digits: int, scale: float = 1.0):
    """How a column shows its number."""
    return lambda value: f"{value * scale:,.{digits}f}"


COLUMNS = {  # of a part: (head, field of a row, how it is shown)
    "preset": [
        ("min", "seconds", number(1, 1 / 60)),
        ("tokens/s", "rate", number(0)),
        ("peak MB", "peak", number(0, 2**-20)),
    ],
    "memory": [
        ("said MB", "announced", number(0, 2**-20)),
        ("peak MB", "peak", number(0, 2**-20)),
        ("/ said", "ratio", number(2)),
        ("s", "seconds", number(1)),
    ],
    "torchrun": [
        ("ms, base", "base seconds", number(0, 1000)),
        ("loss", "base loss", number(5)),
        ("ms, stage2", "stage2 seconds", number(0, 1000)),
        ("loss", "stage2 loss", number(5)),
    ],
}


def columns_of(title: str, rows: dict[str, dict], columns: list[tuple]) -> list[str]:
    """The lines of one table: a row by name, a field in each column, empty where there is none."""
    lines = [f"{title:<40}" + "".join(f" {head:>11}" for head, _, _ in columns)]
    for name, row in rows.items():
        if "left_out" in row:
            lines.append(f"  {name:<38} not measured: {row['left_out']}")
            continue
        if "announced" in row:
            row = row | {"ratio": row["peak"] / row["announced"]}
        cells = [show(row[field]) if field in row else "" for _, field, show in columns]
        lines.append(f"  {name:<38}" + "".join(f" {cell:>11}" for cell in cells))
    return lines


def lines_of(part: str, found: dict) -> list[str]:
    """The tables of a part, and its error if it has one."""
    lines = []
    for title, rows in found["races"].items():
        if lines:
            lines.append("")
        if "lines" in rows:
            lines += rows["lines"]
        elif part in COLUMNS:
            lines += columns_of(title, rows, COLUMNS[part])
        elif any(row.get("seconds") for row in rows.values()):
            lines += table_of(title, rows)
        else:
            lines += columns_of(title, rows, [])
    if "error" in found:
        lines.append(f"{part}: failed after {found['seconds'] / 60:.1f} min: {found['error']}")
    return [line.rstrip() for line in lines]


def tables(found: dict) -> str:
    """All tables, from what gpu.json holds. Raises ValueError if that is not of a GPU."""
    if found["device"] != "cuda":
        raise ValueError("these figures are of a CPU: they test the command and mean nothing")
    lines = [found["machine"]]
    for part, content in found["parts"].items():
        lines += ["", *lines_of(part, content)]
    return "\n".join(lines)


# -------------------------------------------------------------------------------------- the command
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = Parser(__doc__, prog="gpu.py")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument(
        "--out", type=file_path, metavar="FILE", help="default: bench/gpu.json; on a CPU none"
    )
    parser.add_argument(
        "--readme", action="store_true", help="measure nothing: fill in bench/README.md"
    )
    args = parser.parse_args(arguments)

    def action() -> None:
        if args.readme:
            found = tables(read_figures(args.out or RESULTS, GPU))
            fill_in(README, "gpu", f"```\n{found}\n```")
            return
        device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cpu":
            print("no usable GPU: the smallest shapes on the CPU, as a test of this command")
        out = args.out or (RESULTS if device == "cuda" else None)
        if out and out.is_dir():
            raise ValueError(f"--out {out}: expected a file, got a folder")
        if out:
            out.parent.mkdir(parents=True, exist_ok=True)
        names = [name for name in PARTS if not args.only or name in args.only]
        found = measure(names, device, out)
        failed = [name for name in names if "error" in found["parts"][name]]
        print(f"{len(names) - len(failed)} of {len(names)} parts are measured")
        if out:
            print(f"wrote {out}")

    return exit_code("gpu.py", action, "the same command begins again")


if __name__ == "__main__":
    sys.exit(main())
