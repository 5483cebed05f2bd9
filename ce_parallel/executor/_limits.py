"""Keep inner parallelism out of the way: one BLAS and OpenMP thread per task.

Always one, never "CPUs divided by workers": BLAS sums in another order with another number
of threads, and a serial run must compute the same bits as a parallel one.

    worker process   environment before start + `settle_process` as it comes up, for good
    our threads      `settle_thread` when they start, for good
    somebody else's  `borrowed_process()`, `borrowed_thread()` around a call, restored afterwards
    caller           `one_inner_thread()` around a map, restored afterwards

BLAS pools are global to a process, OpenMP limits belong to a thread, hence two books. And of
OpenBLAS, threadpoolctl lets only one thread set the limit and silently ignores all others, so
whichever of ours is the first in, or the last out, takes that role over.
"""

import contextlib
import multiprocessing.connection
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import joblib
from joblib.parallel import ParallelBackendBase
from threadpoolctl import OpenBLASController, ThreadpoolController

_lock = threading.RLock()
_here = threading.local()  # .settled: this thread is a worker; .openmp: controller it obeys
_process_settled = False
_controller: ThreadpoolController | None = None
_n_modules = -1
_blas_users = 0
_blas_limit: Any = None
_openmp_books: dict[int, list[Any]] = {}  # thread id -> [users, limiter]


def in_worker() -> bool:
    """Say whether this thread or process runs tasks for an executor of ours."""
    return _process_settled or getattr(_here, "settled", False)


def worker_environment() -> dict[str, str]:
    """Return environment variables that cap libraries a worker has not loaded yet."""
    names = [*ParallelBackendBase.MAX_NUM_THREADS_VARS, "POLARS_MAX_THREADS"]
    return dict.fromkeys(names, "1")


def settle_process(parent: int) -> None:
    """Make this process a worker of process `parent`: capped, sequential joblib, watchful."""
    global _process_settled
    if _process_settled or os.getpid() == parent:
        return
    _process_settled = True
    os.environ.update(worker_environment())
    ThreadpoolController().limit(limits=1)
    joblib.parallel_config("sequential")  # stays: this thread is a worker for good
    loky = sys.modules.get("joblib.externals.loky.process_executor")
    if loky is not None:
        # loky restarts workers whose memory grew by 300 MB, and counts mapped shared state.
        loky._USE_PSUTIL = False  # type: ignore[attr-defined]
    threading.Thread(target=_follow_parent, args=(parent,), daemon=True).start()


def _follow_parent(parent: int) -> None:
    """End this worker soon after its parent was killed."""
    process = multiprocessing.parent_process()
    sentinel = getattr(process, "_sentinel", None)
    if sentinel is not None:
        multiprocessing.connection.wait([sentinel])
    elif os.name == "posix" and (os.getppid() == parent or _is_lokys()):
        while os.getppid() == parent:  # at once where the parent was killed before we came up
            time.sleep(1.0)
    else:
        return  # somebody else's worker, perhaps on another machine
    os._exit(1)


def _is_lokys() -> bool:
    """Say whether this is a worker of loky's, which are always children of their caller."""
    return multiprocessing.current_process().name.startswith("LokyProcess")


def settle_thread() -> None:
    """Make this thread a worker for good: sequential joblib, one OpenMP thread."""
    _here.settled = True
    joblib.parallel_config("sequential")


def _current_controller() -> ThreadpoolController:
    """Return a controller of the libraries loaded now (building one takes milliseconds)."""
    global _controller, _n_modules
    with _lock:
        if _controller is None or len(sys.modules) != _n_modules:
            _controller = ThreadpoolController()
            _n_modules = len(sys.modules)
        return _controller


def cap_openmp_for_good() -> None:
    """Cap OpenMP in this worker thread, again when libraries were loaded since."""
    controller = _controller
    if controller is not None and getattr(_here, "openmp", None) is not controller:
        controller.select(user_api="openmp").limit(limits=1)
        _here.openmp = controller


@contextlib.contextmanager
def borrowed_thread() -> Iterator[None]:
    """Treat a thread that is not ours as a worker for the length of one call."""
    if in_worker():
        cap_openmp_for_good()
        yield
        return
    _here.settled = True
    try:
        with joblib.parallel_config("sequential"), _one_openmp_thread():
            yield
    finally:
        _here.settled = False


@contextlib.contextmanager
def borrowed_process() -> Iterator[None]:
    """Treat a process that is not ours as a worker for the length of one call."""
    if in_worker():
        yield
        return
    with one_blas_thread(), borrowed_thread():
        yield


@contextlib.contextmanager
def one_inner_thread() -> Iterator[None]:
    """Cap BLAS for this process and OpenMP for this thread while the block runs."""
    if in_worker():
        yield
        return
    with one_blas_thread(), _one_openmp_thread():
        yield


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Cap BLAS for this process, from the first user in to the last one out."""
    global _blas_users, _blas_limit
    with _lock:
        if _blas_users == 0:
            _release_openblas()
            _blas_limit = _current_controller().select(user_api="blas").limit(limits=1)
        _blas_users += 1
    try:
        yield
    finally:
        with _lock:
            _blas_users -= 1
            if _blas_users == 0:
                _release_openblas()
                _blas_limit.restore_original_limits()
                _release_openblas()


def _release_openblas() -> None:
    """Let any thread set OpenBLAS' limit next; threadpoolctl before 3.8 always does."""
    release = getattr(OpenBLASController, "clear_controlling_thread", None)
    if release is not None:
        release(force=True)


@contextlib.contextmanager
def _one_openmp_thread() -> Iterator[None]:
    """Counted per thread: interleaved maps of one thread must not restore too early."""
    thread = threading.get_ident()
    with _lock:
        book = _openmp_books.setdefault(thread, [0, None])
        if book[0] == 0:
            book[1] = _current_controller().select(user_api="openmp").limit(limits=1)
        book[0] += 1
    try:
        yield
    finally:
        with _lock:
            book[0] -= 1
            if book[0] == 0:
                _openmp_books.pop(thread, None)
                if thread == threading.get_ident():  # cannot reach into another thread
                    book[1].restore_original_limits()
