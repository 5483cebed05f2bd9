"""Run calls through any joblib backend, by joblib's own extension interface."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import joblib
from joblib.parallel import ParallelBackendBase, SequentialBackend

from .. import _limits
from ._base import Strategy, T
from ._processes import processes_of, shut_down_killed
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
    joblib's ``multiprocessing`` backend never reports a killed worker: set a
    ``task_timeout`` with it. Its ``loky`` workers are joblib's own and outlive the
    strategy, as they do after ``joblib.Parallel``.
    """

    name = "joblib"
    _parallel: joblib.Parallel

    def __init__(self, backend: Any = "loky", **backend_kwargs: Any) -> None:
        self.backend = backend
        self.backend_kwargs = backend_kwargs
        self.crosses_process = not getattr(self._instance(), "uses_threads", False)

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
        self._parallel = joblib.Parallel(n_jobs=n_workers, backend=self._instance())
        self._parallel.__enter__()

    def submit(self, call: Callable[[], T]) -> "Future[T]":
        """Schedule `call` in the backend; its callback fills the future."""
        backend = self._parallel._backend
        if isinstance(backend, SequentialBackend):
            with _limits.one_inner_thread():
                return SerialStrategy().submit(call)
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()

        def done(out: Any) -> None:
            try:
                future.set_result(backend.retrieve_result_callback(out))
            except BaseException as error:
                future.set_exception(error)

        backend.submit(call, callback=done)
        return future

    def lost_worker(self) -> bool:
        """Say whether a loky process has died; other backends do not show theirs."""
        loky_pool = getattr(self._parallel._backend, "_workers", None)
        return any(not process.is_alive() for process in processes_of(loky_pool))

    def stop(self, *, kill: bool = False) -> None:
        """Terminate the backend; with `kill`, abort what it is running."""
        backend = self._parallel._backend
        loky_pool = getattr(backend, "_workers", None)
        if kill and loky_pool is not None:
            shut_down_killed(loky_pool)
        elif kill and not isinstance(backend, SequentialBackend):
            backend.abort_everything(ensure_ready=False)
            return
        self._parallel.__exit__(None, None, None)
