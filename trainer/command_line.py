"""The command line of rcsd.py and evaluate.py: the settings as flags, and the output folder."""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import ContextManager

import torch

from data.console import Parser, file_path, folder_path
from data.files import only_run
from trainer.checkpoints import load
from trainer.processes import rank_and_size, wait_for_all
from trainer.settings import PRESET_ONLY, PRESETS, Settings, settings_of

GROUPS = {  # of --help, by the first stage whose result a setting changes
    "data": "data",
    "base": "stage 0 and the model",
    "stage1": "stages I and II",
    "stage2": "stage II alone",
    "": "this machine; the result is the same up to rounding",
}


def settings_parser(description: str) -> Parser:
    """A parser with the flags that name a run and, in groups, a flag for each setting."""
    parser = Parser(
        description,
        epilog="Defaults are preset cpu's. All presets, and flags such as --n-layer: trainer/settings.py.",
    )
    parser.add_argument(
        "--preset",
        choices=("auto", *PRESETS),
        default="auto",
        help="auto: own with --model, gpu with CUDA, else cpu",
    )
    parser.add_argument(
        "--out", type=folder_path, metavar="DIR", help="output folder (default out/PRESET)"
    )
    parser.add_argument(
        "--from",
        type=file_path,
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
    preset = "own" if args.model else "gpu" if gpu else "cpu"
    preset = args.preset if args.preset != "auto" else preset
    given = {
        f.name: getattr(args, f.name) for f in fields(Settings) if getattr(args, f.name) is not None
    }
    start = PRESETS[preset]
    if args.source and args.preset == "auto":
        start = start | settings_of_run(args.source)
    settings = Settings(**{**start, **given})
    if not settings.base_steps and not settings.model:
        raise ValueError("--base-steps 0: expected at least 1, or --model DIR to start from")
    if settings.shard == "yes" and int(os.environ.get("WORLD_SIZE", 1)) < 2:
        raise ValueError("--shard yes: expected several processes, got one (see docs/devices.md)")
    return args.out or Path("out") / preset, settings


def settings_of_run(folder: Path) -> dict:
    """The settings of the last stage that a run has finished; none if it has no checkpoint."""
    for stage in ("stage2", "stage1", "base"):
        if (folder / f"{stage}.pt").exists():
            path = folder / f"{stage}.pt"
            made = load(path)["settings"]
            settings_of(made, path)
            return made
    return {}


def with_run_settings(out: Path, settings: Settings) -> Settings:
    """The settings of the finished run in `out`; those of this machine stay as they are.

    Raises ValueError for a checkpoint that is missing or of another version.
    """
    path = out / "stage2.pt"
    made = load(path)["settings"]
    settings_of(made, path)
    return replace(settings, **made)


def hold(out: Path) -> ContextManager:
    """An output folder for this run alone, if it is there (see `only_run`)."""
    is_first = rank_and_size()[0] == 0
    return only_run(out) if is_first and out.exists() else nullcontext()


BEFORE_STAGE2 = ("data", "base.pt", "base.jsonl", "stage1.pt", "stage1.jsonl", "rubrics.jsonl")


@contextmanager
def hold_output(out: Path, source: Path | None, create: bool) -> Iterator[None]:
    """Hold the output folder; with `source` it has links to the results of that run."""
    if source:
        require_run(source, out)
    if source or create:
        out.mkdir(parents=True, exist_ok=True)
    with hold(out):
        if source and rank_and_size()[0] == 0:
            link_run(source, out)
        wait_for_all()
        yield


def require_run(source: Path, out: Path) -> None:
    """Raises ValueError if `source` has no data or is `out`."""
    if not (source / "data" / "tokenizer.txt").exists():
        raise ValueError(
            f"--from {source}: no run there; expected a folder that `rcsd.py data` wrote"
        )
    if source.resolve() == out.resolve():
        raise ValueError(f"--from {source} and --out are the same folder")


def link_run(source: Path, out: Path, names: tuple[str, ...] = BEFORE_STAGE2) -> None:
    """Links in `out` to these results of the run in `source`, where `out` has none of its own.

    Raises ValueError as `require_run` does.
    """
    require_run(source, out)
    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (source / name).exists() and not (out / name).exists():
            (out / name).symlink_to((source / name).resolve())
