"""Child interpreters that tests interrupt, kill or let exit; and what they leave behind."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil

from tests.executor.conftest import leaked, shared_memory, wait_until

ROOT = Path(__file__).parents[2]

# What a script says to get each strategy; those in NEEDS_GUARD re-run it in their workers.
STRATEGIES = {
    "serial": "'serial'",
    "threads": "'threads'",
    "processes": "'processes'",
    "fork": "ProcessPoolExecutorStrategy('fork')",
    "forkserver": "ProcessPoolExecutorStrategy('forkserver')",
    "spawn": "ProcessPoolExecutorStrategy('spawn')",
    "joblib-loky": "JoblibBackendStrategy('loky')",
    "joblib-threading": "JoblibBackendStrategy('threading')",
    "joblib-multiprocessing": "JoblibBackendStrategy('multiprocessing')",
    "users-threads": "ThreadPoolExecutor(2)",
    "users-processes": "ProcessPoolExecutor(2)",
    "auto": "'auto'",
}
IN_THREADS = ("serial", "threads", "joblib-threading", "users-threads")

PRELUDE = """
import os, signal, sys, time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
import numpy as np
from ce_parallel.executor import (
    JoblibBackendStrategy, ParallelConfig, ParallelExecutor, ProcessPoolExecutorStrategy,
)
# Ctrl-C works here even where the tests were started with that signal ignored, as shells do
# with what they run in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)
folder = Path(sys.argv[1])

def nap(shared, seconds):
    (folder / f"task-{os.getpid()}").touch()
    time.sleep(seconds)
    return seconds
"""


def start(folder, strategy, body):
    """Run `body` with an executor named `ex` on a strategy, in a guarded script."""
    return run(
        folder,
        f"""
def main():
    ex = ParallelExecutor(ParallelConfig(preferred={STRATEGIES[strategy]}, max_workers=2))
{textwrap.indent(textwrap.dedent(body), "    ")}
if __name__ == "__main__":
    main()
""",
    )


def run(folder, text, *options, **popen):
    """Run a script in a session of its own; its temporary files go to `folder`."""
    script = folder / "script.py"
    script.write_text(PRELUDE + text)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JOBLIB_TEMP_FOLDER": str(folder)}
    before = shared_memory()
    process = subprocess.Popen(
        [sys.executable, *options, str(script), str(folder)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **popen,
    )
    process.before = before
    return process


def in_session(leader):
    """Return the processes that live in the session of `leader`, itself excepted."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            same = os.getsid(process.pid) == leader
            if same and process.pid != leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def finish(process, folder, seconds=20.0):
    """Wait for a child, and return what it printed; it must leave nothing behind for long."""
    try:
        process.wait(timeout=seconds)
        _, alive = psutil.wait_procs(in_session(process.pid), timeout=seconds)
        left = [shown(p) for p in alive]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    out, err = process.communicate(timeout=10)
    assert left == [], err
    assert wait_until(lambda: not list(folder.glob("ce_parallel-*"))), list(folder.iterdir())
    assert wait_until(lambda: not leaked(process.before, process.pid)), leaked(
        process.before, process.pid
    )
    return out, err


def shown(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())[-150:]
    return "gone"


def wait_for_tasks(folder, n, process, seconds=30.0):
    """Wait until tasks run in `n` places."""
    deadline = time.monotonic() + seconds
    while len(list(folder.glob("task-*"))) < n:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
