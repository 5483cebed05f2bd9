"""Tasks that worker processes import by name."""

import contextlib
import os
import signal
import sys
import threading
import time


def identity(x):
    return x


def square_slowly(x):
    """So slowly that workers come up meanwhile, or fail to."""
    time.sleep(0.3)
    return x * x


def count_to(n):
    """Loop in Python, which holds the GIL."""
    total = 0
    for k in range(n):
        total += k
    return total


def number_and_process(x):
    """Take a moment."""
    time.sleep(0.005)
    return x, os.getpid()


def noisy_sum(shared, seed):
    """Return bits that depend on BLAS' order of summation."""
    import numpy as np

    rng = np.random.default_rng(seed)
    return (shared @ rng.normal(size=(shared.shape[1], 64))).tobytes()


def inner_threads(_):
    """Return the largest number of threads an inner library would use here."""
    import sklearn.ensemble  # noqa: F401  (brings OpenMP)
    from threadpoolctl import threadpool_info

    return max(pool["num_threads"] for pool in threadpool_info())


def inner_joblib(_):
    """Return how many jobs nested joblib would use."""
    import joblib

    return joblib.effective_n_jobs(2)


def load_and_flags(shared, _):
    """Return what a worker holds: who it is, whether arrays are frozen, and their address."""
    array = shared.data if hasattr(shared, "data") and not hasattr(shared, "dtype") else shared
    return os.getpid(), array.flags.writeable, array.__array_interface__["data"][0]


def write_into_shared(shared, x):
    shared[0] = x
    return x


class CountsLoads:
    """Writes a line into a file each time it is unpickled."""

    def __init__(self, path):
        self.path = path
        self.weight = bytes(200_000)  # too large to travel inside a call

    def __setstate__(self, state):
        self.__dict__.update(state)
        with open(self.path, "a") as file:
            file.write(f"{os.getpid()}\n")


def touch(shared, x):
    assert shared.weight[:1] == b"\0"
    return x


class FailsToLoad:
    """Pickles well, and raises when it is read back outside the process that made it."""

    def __init__(self):
        self.home = os.getpid()

    def __reduce__(self):
        return _load_at_home, (self.home,)


def _load_at_home(home):
    if os.getpid() != home:
        raise RuntimeError("this does not load elsewhere")
    return FailsToLoad()


class FailsToReturn:
    """Pickles in a worker, and cannot be read back by anyone."""

    def __reduce__(self):
        return _never, ()


def _never():
    raise RuntimeError("this never loads")


def fails_to_return(x):
    return FailsToReturn() if x == 2 else x


def kill_at_once_if_worker(home, x):
    if os.getpid() != home and x == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def kill_twice(shared, x):
    """Kill two workers, at two different items, each only once."""
    folder, victims = shared
    marker = os.path.join(folder, str(x))
    if x in victims and not os.path.exists(marker):
        open(marker, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def exit_politely(x):
    if x == 2:
        raise SystemExit(5)
    return x


def where(x):
    return os.getpid(), threading.current_thread().name


def slow_size(array):
    """Keep a worker busy, so that nobody reads what is sent to it."""
    time.sleep(0.05)
    return array.size


def die_sending(flag, x):
    """Return a large result; once, have the worker killed while it is being sent."""
    if x == 3:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(flag)
            threading.Thread(target=die_at_send, args=(threading.get_ident(),)).start()
    return bytes(30_000_000)


def die_at_send(thread):
    """Kill this process as soon as `thread` writes into a pipe."""
    while sys._current_frames()[thread].f_code.co_name != "_send":
        pass
    os.kill(os.getpid(), signal.SIGKILL)


def fail_at_start():
    """Fail as the initializer of a pool."""
    import logging

    logging.disable()  # the pool logs it
    raise RuntimeError("no worker today")


def large_in_little_memory(caller, x):
    """For item 2, return 80 MB; a worker then has memory for no copy of them."""
    if x != 2:
        return x
    import numpy as np
    import psutil

    if os.getpid() != caller:
        import resource

        used = psutil.Process().memory_info().vms
        resource.setrlimit(resource.RLIMIT_AS, (used + 120_000_000, resource.RLIM_INFINITY))
    return np.zeros(10_000_000)
