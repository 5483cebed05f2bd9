"""Strategies: one way each of running calls concurrently.

``_base``       the three methods a strategy has
``_serial``     in the caller, one after the other
``_threads``    a thread pool
``_processes``  a process pool (loky by default, or a standard start method)
``_joblib``     any joblib backend
``_futures``    any live ``concurrent.futures.Executor`` that the user brings

A strategy knows nothing of order, retries, chunks or metrics.
"""

from ._base import Strategy
from ._futures import FuturesStrategy
from ._joblib import JoblibBackendStrategy
from ._processes import ProcessPoolExecutorStrategy
from ._serial import SerialStrategy
from ._threads import ThreadPoolExecutorStrategy

__all__ = [
    "FuturesStrategy",
    "JoblibBackendStrategy",
    "ProcessPoolExecutorStrategy",
    "SerialStrategy",
    "Strategy",
    "ThreadPoolExecutorStrategy",
]
