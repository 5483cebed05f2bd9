"""Every test starts from a clean environment, and every module leaves nothing behind."""

import time

import psutil
import pytest


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    """CE_PARALLEL of the caller must not decide what a test sees."""
    monkeypatch.delenv("CE_PARALLEL", raising=False)


@pytest.fixture(autouse=True, scope="module")
def temp_root(tmp_path_factory):
    """Send temporary folders where their leftovers can be seen, and look for them."""
    root = tmp_path_factory.mktemp("shared-state")
    patch = pytest.MonkeyPatch()
    patch.setenv("JOBLIB_TEMP_FOLDER", str(root))
    yield root
    shut_down_joblib()
    patch.undo()
    assert wait_until(lambda: not list(root.glob("ce_parallel-*"))), list(root.iterdir())
    assert wait_until(lambda: not workers()), [child.cmdline() for child in workers()]


def shut_down_joblib():
    """End joblib's own reusable workers, which are meant to outlive a map."""
    from joblib.externals.loky import reusable_executor

    if reusable_executor._executor is not None:
        reusable_executor._executor.shutdown(wait=True)


def workers():
    """Return this process' children that could be workers: not the helpers of Python's."""
    helpers = ("resource_tracker", "forkserver")
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if child.status() != psutil.STATUS_ZOMBIE and not any(
                helper in word for helper in helpers for word in child.cmdline()
            ):
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def wait_until(condition, seconds=10.0):
    """Return whether `condition` comes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
