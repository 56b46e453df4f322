"""The command line of rcsd.py and evaluate.py: flags, the output folder, errors in one line."""

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import ContextManager

import torch

from data.files import only_run
from trainer.checkpoints import load
from trainer.processes import rank_and_size
from trainer.settings import PRESET_ONLY, PRESETS, Settings


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{self.prog}: {message} (see --help)\n")  # one line, without the usage


GROUPS = {  # of --help, by the first stage whose result a setting changes
    "data": "data",
    "base": "stage 0 and the model",
    "stage1": "stages I and II",
    "stage2": "stage II alone",
    "": "this machine; the result does not depend on them",
}


def settings_parser(description: str) -> Parser:
    """A parser with the flags that name a run and, in groups, a flag for each setting."""
    parser = Parser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="What a preset sets has a flag too, such as --n-layer: see trainer/settings.py.",
    )
    parser.add_argument(
        "--preset", choices=("auto", *PRESETS), default="auto", help="auto: gpu with CUDA, else cpu"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="output folder (default out/PRESET)"
    )
    parser.add_argument(
        "--from",
        type=Path,
        metavar="DIR",
        dest="source",
        help="a finished run: start from its settings, data, base model and learned rubrics",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with what is in the output folder"
    )
    groups = {stage: parser.add_argument_group(title) for stage, title in GROUPS.items()}
    for f in fields(Settings):
        default = f" (default {f.default})" if f.default != "" else ""
        choices, text = f.metadata["choices"], f.metadata["help"] + default
        groups[f.metadata["stage"]].add_argument(
            "--" + f.name.replace("_", "-"),
            type=f.type,
            choices=choices,
            metavar=None if choices else "X",
            help=argparse.SUPPRESS if f.name in PRESET_ONLY else text,
        )
    return parser


def settings_from(args: argparse.Namespace) -> tuple[Path, Settings]:
    """The output folder and the settings: a preset's or those of --from, then the flags given."""
    gpu = torch.cuda.is_available() and args.device != "cpu"
    preset = args.preset if args.preset != "auto" else "gpu" if gpu else "cpu"
    given = {
        f.name: getattr(args, f.name) for f in fields(Settings) if getattr(args, f.name) is not None
    }
    start = PRESETS[preset]
    if args.source and args.preset == "auto":
        start = start | settings_of_run(args.source)
    return args.out or Path("out") / preset, Settings(**{**start, **given})


def settings_of_run(folder: Path) -> dict:
    """The settings of the last stage that a run has finished; none if it has no checkpoint."""
    for stage in ("stage2", "stage1", "base"):
        if (folder / f"{stage}.pt").exists():
            return load(folder / f"{stage}.pt")["settings"]
    return {}


def exit_code(program: str, action: Callable[[], None]) -> int:
    """Run a command line's action. What a user can mend becomes one line on stderr and code 2."""
    go_on = "the same command with --resume goes on from the last checkpoint"
    try:
        action()
    except BrokenPipeError:  # whoever read the output, `head` say, has seen enough
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
        return 0
    except (ValueError, OSError) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except torch.OutOfMemoryError:
        hint = "try a smaller --micro-tokens or --batch"
        print(f"{program}: out of GPU memory; {hint}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{program}: interrupted; {go_on}", file=sys.stderr)
        return 130
    except RuntimeError as error:
        rank, size = rank_and_size()
        if size == 1:
            raise
        reason = str(error).splitlines()[0]
        print(
            f"{program}: rank {rank}: another process of this run has ended ({reason}); {go_on}",
            file=sys.__stderr__,
        )
        return 1
    return 0


def hold(out: Path) -> ContextManager:
    """An output folder for this run alone, if it is there (see `only_run`)."""
    is_first = rank_and_size()[0] == 0
    return only_run(out) if is_first and out.exists() else nullcontext()


BEFORE_STAGE2 = ("data", "base.pt", "base.jsonl", "stage1.pt", "stage1.jsonl", "rubrics.jsonl")


def link_run(source: Path, out: Path, names: tuple[str, ...] = BEFORE_STAGE2) -> None:
    """Links in `out` to these results of the run in `source`, where `out` has none of its own.

    Raises ValueError if `source` has no data or is `out`.
    """
    if not (source / "data" / "tokenizer.txt").exists():
        raise ValueError(
            f"--from {source}: no run there; expected a folder that `rcsd.py data` wrote"
        )
    if source.resolve() == out.resolve():
        raise ValueError(f"--from {source} and --out are the same folder")
    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (source / name).exists() and not (out / name).exists():
            (out / name).symlink_to((source / name).resolve())
