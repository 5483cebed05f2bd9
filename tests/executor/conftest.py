"""Every module of executor tests leaves no process, file, semaphore or shared memory behind."""

import contextlib
import gc
import multiprocessing
import os
import time
from pathlib import Path

import psutil
import pytest

# Workers of this kind then start in milliseconds: the forkserver has imported all they need.
multiprocessing.get_context("forkserver").set_forkserver_preload(
    ["ce_parallel.executor._transport"]
)


@pytest.fixture(autouse=True, scope="module")
def temp_root(tmp_path_factory):
    """Send temporary folders where their leftovers can be seen, and look for them."""
    root = tmp_path_factory.mktemp("shared-state")
    patch = pytest.MonkeyPatch()
    patch.setenv("JOBLIB_TEMP_FOLDER", str(root))
    before = shared_memory()
    yield root
    shut_down_joblib()
    patch.undo()
    assert wait_until(lambda: not list(root.glob("ce_parallel-*"))), list(root.iterdir())
    assert wait_until(lambda: not workers()), [child.cmdline() for child in workers()]
    assert wait_until(lambda: not leaked(before, os.getpid())), leaked(before, os.getpid())


def shared_memory():
    """Return the names of all semaphores and shared memory, where Linux keeps them."""
    kinds = ("sem.", "loky-", "mp-", "psm_", "joblib_memmapping")
    names = os.listdir("/dev/shm") if os.path.isdir("/dev/shm") else []
    return {name for name in names if name.startswith(kinds)}


def leaked(before, creator):
    """Return what came into shared memory since and belongs to `creator` or to nobody alive.

    loky and joblib write the creator into the name; for others, some process has it mapped.
    """
    gc.collect()  # semaphores go with their objects
    new = shared_memory() - before
    mine = {name for name in new if f"-{creator}-" in name or f"_{creator}_" in name}
    others = {name for name in new - mine if not name.startswith(("sem.loky", "loky", "joblib"))}
    ours = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    for process in psutil.process_iter() if others else []:
        if process.pid not in ours:
            with contextlib.suppress(OSError):
                maps = Path(f"/proc/{process.pid}/maps").read_text()
                others = {name for name in others if name not in maps}
    return mine | others


def shut_down_joblib():
    """End joblib's own reusable workers, which are meant to outlive a map."""
    from joblib.externals.loky import reusable_executor

    if reusable_executor._executor is not None:
        reusable_executor._executor.shutdown(wait=True)


def workers():
    """Return this process' children that could be workers: not the helpers of Python's."""
    me = psutil.Process()
    found = []
    for child in me.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            command = " ".join(child.cmdline())
            forks_others = "forkserver" in command and child.ppid() == me.pid
            helper = forks_others or "resource_tracker" in command
            if not helper and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
    return found


def wait_until(condition, seconds=10.0):
    """Return whether `condition` comes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
