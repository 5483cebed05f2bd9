"""Tasks and initializers for workers that somebody else owns."""

import os
import signal
import sys
import threading
import time


def live_far_away():
    """Make this worker one that cannot open the files of shared state."""

    def refuse(event, args):
        if event == "open" and isinstance(args[0], str) and "ce_parallel-" in args[0]:
            raise FileNotFoundError(2, "this file is on another machine", args[0])

    sys.addaudithook(refuse)


def live_in_another_time():
    """Make this worker's clock another machine's."""
    clock = time.perf_counter
    time.perf_counter = lambda: clock() - 1e6


def total(shared, x):
    return float(shared[x])


def sum_of(array):
    return float(array.sum())


def environment(_=None):
    """Return what a worker lets later tasks see of its limits."""
    import joblib
    from threadpoolctl import threadpool_info

    pools = sorted((p["filepath"], p["num_threads"]) for p in threadpool_info())
    names = [name for name in os.environ if name.endswith("_NUM_THREADS")]
    return pools, {name: os.environ[name] for name in names}, joblib.effective_n_jobs(4)


def limits(_):
    """Return the threads of inner libraries and of joblib, and the number of our own threads."""
    pools, _, jobs = environment()
    return {threads for _, threads in pools}, jobs


def thread_names(_=None):
    return sorted(thread.name for thread in threading.enumerate())


def touch_and_wait(folder, name):
    """Say that this task runs, and wait until it may end."""
    open(os.path.join(folder, f"{name}.started"), "w").close()
    deadline = time.monotonic() + 30
    while not os.path.exists(os.path.join(folder, f"{name}.go")):
        assert time.monotonic() < deadline, "nobody let this task go"
        time.sleep(0.01)
    return name


def append_line(path, line):
    with open(path, "a") as file:
        file.write(f"{line}\n")
    return line


def submit_again(preferred):
    """Use an executor from inside a task, as code deep down does."""
    from ce_parallel.executor import ParallelConfig, ParallelExecutor

    with ParallelExecutor(ParallelConfig(preferred=preferred, max_workers=2)) as executor:
        return executor.submit(pow, 2, 5).result(timeout=20)


class WouldKillError(Exception):
    """Raised instead of killing the caller."""


def play(shared, item):
    """Do what an item of the state machine says, and return its number."""
    home, folder = shared[:2]
    number, what = item
    if what == "raise":
        raise ValueError("on purpose", number)
    if what == "lock":
        return threading.Lock()
    marker = os.path.join(folder, str(number))
    if what == "die once" and os.getpid() != home and not os.path.exists(marker):
        open(marker, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "die":
        if os.getpid() == home:
            raise WouldKillError(number)
        os.kill(os.getpid(), signal.SIGKILL)
    return number
