"""Run calls through any joblib backend, by joblib's own extension interface."""

import contextlib
import os
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, InvalidStateError, wait
from typing import Any, NamedTuple

import joblib
from joblib.parallel import ParallelBackendBase, SequentialBackend

from .. import _limits
from ._base import Strategy, T
from ._processes import drain, kill_all, processes_of, shut_down_killed
from ._serial import SerialStrategy


class JoblibBackendStrategy(Strategy):
    """Drive a joblib backend.

    Parameters
    ----------
    backend : str or joblib.parallel.ParallelBackendBase, default="loky"
        ``"loky"``, ``"threading"``, ``"multiprocessing"``, a registered name, or an instance.
    **backend_kwargs
        Passed to the backend, as in ``joblib.parallel_config``.

    Notes
    -----
    The ``loky`` workers are joblib's own and outlive the strategy, as they do after
    ``joblib.Parallel``.
    """

    name = "joblib"
    _parallel: joblib.Parallel
    _first_processes: list[Any]
    _unanswered: set[Future[Any]]

    def __init__(self, backend: Any = "loky", **backend_kwargs: Any) -> None:
        self.backend = backend
        self.backend_kwargs = backend_kwargs
        instance = self._instance()
        self.crosses_process = not getattr(instance, "uses_threads", False)
        self.owns_workers = type(instance).__module__ == ParallelBackendBase.__module__

    def _instance(self) -> ParallelBackendBase:
        """Return the joblib backend object that `backend` names."""
        if isinstance(self.backend, ParallelBackendBase):
            return self.backend
        with joblib.parallel_config(self.backend, **self.backend_kwargs) as config:
            backend = config["backend"]
        backend.nesting_level = 0
        return backend

    def start(self, n_workers: int) -> None:
        """Configure the backend for `n_workers` jobs."""
        self._unanswered = set()
        self._parallel = joblib.Parallel(n_jobs=n_workers, backend=self._instance())
        self._parallel.__enter__()
        self._parallel._backend.start_call()
        pool = self._multiprocessing_pool()
        self._first_processes = [] if pool is None else list(pool._pool)
        loky_pool = self._loky_pool()
        if loky_pool is not None and loky_pool._initializer is None:
            # Settled before the first call, so that no worker outlives a caller killed early.
            loky_pool._initializer = _limits.settle_process
            loky_pool._initargs = (os.getpid(),)

    def _loky_pool(self) -> Any:
        return getattr(self._parallel._backend, "_workers", None)

    def _multiprocessing_pool(self) -> Any:
        pool = getattr(self._parallel._backend, "_pool", None)
        return pool if self.crosses_process else None

    def submit(self, call: Callable[[], T]) -> "Future[T]":
        """Schedule `call` in the backend; its callback fills the future."""
        backend = self._parallel._backend
        if isinstance(backend, SequentialBackend):
            with _limits.one_inner_thread():
                return SerialStrategy().submit(call)
        future: Future[T] = Future()
        self._unanswered.add(future)
        future.add_done_callback(self._unanswered.discard)

        def done(out: Any) -> None:
            with contextlib.suppress(InvalidStateError):  # it was cancelled or given up
                try:
                    (result,) = backend.retrieve_result_callback(out)
                    future.set_result(result)
                except BaseException as error:
                    future.set_exception(error)

        def call_unless_cancelled() -> Any:
            return call() if future.set_running_or_notify_cancel() else None

        if self.crosses_process:
            future.set_running_or_notify_cancel()
            backend.submit(_Batch([(call, (), {})]), callback=done)
        else:
            backend.submit(_Batch([(call_unless_cancelled, (), {})]), callback=done)
        return future

    def lost_worker(self) -> bool:
        """Say whether a worker process has died, of loky's or of multiprocessing's.

        A pool of multiprocessing's replaces dead workers and forgets their calls.
        """
        processes = processes_of(self._loky_pool()) + self._first_processes
        return any(not process.is_alive() for process in processes)

    def stop(self, *, kill: bool = False) -> None:
        """Terminate the backend; with `kill`, abort what it is running."""
        backend = self._parallel._backend
        while not kill and wait(list(self._unanswered), timeout=1.0).not_done:
            kill = self.lost_worker()
        pool = self._multiprocessing_pool()
        if pool is not None:
            _end_pool(pool)
            backend._pool = None
        elif kill and self._loky_pool() is not None:
            shut_down_killed(self._loky_pool())
        elif kill and not isinstance(backend, SequentialBackend):
            backend.abort_everything(ensure_ready=False)
        backend.stop_call()
        if self._loky_pool() is not None or not kill:
            self._parallel.__exit__(None, None, None)
        for future in list(self._unanswered):
            with contextlib.suppress(InvalidStateError):
                future.set_exception(BrokenExecutor("the joblib backend was aborted"))


class _Batch(NamedTuple):
    """A batch as joblib makes them; dask's backend looks into its `items`."""

    items: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]]

    def __call__(self) -> list[Any]:
        """Return a list of results."""
        return [func(*args, **kwargs) for func, args, kwargs in self.items]


def _end_pool(pool: Any) -> None:
    """Kill the processes of a ``multiprocessing.pool.Pool``, and end its threads.

    Its own `terminate` waits for ever where a process died holding one of the locks, or half-way
    through a result.
    """
    pool._terminate.cancel()  # what would run at interpreter exit
    for part in (pool, pool._worker_handler, pool._task_handler):
        part._state = "TERMINATE"
    pool._change_notifier.put(None)  # wakes the worker handler
    pool._worker_handler.join()  # from here on nobody replaces a process
    kill_all(pool._pool)
    for process in pool._pool:
        process.join()
    with contextlib.suppress(ValueError, AttributeError):  # nobody held it; Windows has none
        pool._outqueue._wlock.release()
    if os.name == "posix":
        drain(os.dup(pool._inqueue._reader.fileno()), [pool._task_handler])
    pool._task_handler.join()
    pool._outqueue._writer.close()  # an end of file, instead of the other half
    pool._result_handler.join()
    pool._temp_folder_manager._clean_temporary_resources()
