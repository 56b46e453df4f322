"""Command lines in processes of their own that begin with torch imported.

Each is a fork of a server that has imported the commands, and what an optimizer imports when it is
made, and has done nothing else. So a run is what `python rcsd.py ...` runs, without the 5 seconds
that the imports take.
"""

import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["rcsd", "evaluate", "torch._dynamo", "torch.distributed.fsdp"])


def run_as_main(command: list[str], output: str, environment: dict[str, str]) -> None:
    """In the fork: a script with its arguments, in one thread."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{output}.{name}", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644), number)
    os.environ.update(environment)
    torch.set_num_threads(1)
    sys.argv = command
    runpy.run_path(command[0], run_name="__main__")


def start(command: list[str], output: Path, **environment: str) -> BaseProcess:
    """Start a command line without its `python`, which writes to `output`.stdout and .stderr."""
    process = FORKS.Process(target=run_as_main, args=(command, str(output), environment))
    process.start()
    return process


def free_port() -> str:
    """A port of this machine that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return str(free.getsockname()[1])


def start_ranks(command: list[str], count: int, folder: str) -> list[BaseProcess]:
    """Start a command line as the ranks of one run, which write to files in `folder`."""
    world = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    running = []
    for rank in range(count):
        names = {"RANK": str(rank), "LOCAL_RANK": str(rank), **world}  # as torchrun sets them
        running.append(start(command, Path(folder, str(rank)), **names if count > 1 else {}))
    return running


def run_ranks(command: list[str], count: int) -> list[subprocess.CompletedProcess]:
    """Run a command line to its end, as the ranks of one run if `count` is above 1."""
    done = []
    with tempfile.TemporaryDirectory() as folder:
        for rank, process in enumerate(start_ranks(command, count, folder)):
            process.join()
            printed = [
                Path(folder, f"{rank}.{name}").read_text(encoding="utf-8")
                for name in ("stdout", "stderr")
            ]
            done.append(subprocess.CompletedProcess(command, process.exitcode, *printed))
    return done


def run(command: list[str]) -> subprocess.CompletedProcess:
    """Run a command line, without its `python`, to its end."""
    return run_ranks(command, 1)[0]
