"""What a user may say about parallelism: `ParallelConfig`, and the variable CE_PARALLEL."""

import math
import numbers
import os
from concurrent.futures import Executor
from typing import Any, NamedTuple, Self

from sklearn.base import BaseEstimator

from ._registry import is_known, strategy_names
from .strategies import Strategy
from .strategies._processes import START_METHODS

MIB = 2**20
ENVIRONMENT_VARIABLE = "CE_PARALLEL"


class ParallelConfig(BaseEstimator):  # type: ignore[misc]
    """How work may be run in parallel; a scikit-learn style parameter object.

    Parameters
    ----------
    max_workers : int or None, default=None
        Hard cap. ``None``: the CPUs allowed to this process (affinity and cgroup aware).
    preferred : str, Strategy or concurrent.futures.Executor, default="auto"
        ``"auto"`` measures and chooses; ``"serial"``, ``"threads"``, ``"processes"``,
        ``"joblib"`` or a registered name; a strategy object; any live Executor.
    task_size_hint_bytes : int or None, default=None
        Pickled size of one task's item. ``None``: measured.
    task_cost_hint_seconds : float or None, default=None
        Duration of one task. ``None``: measured on the first item, whose result is kept.
    releases_gil : bool or None, default=None
        Whether tasks release the GIL. ``None``: measured.
    max_payload_bytes : int, default=32 MiB
        Above this size per task, processes are not chosen automatically.
    memory_budget_bytes : int, default=256 MiB
        Ceiling for one worker's block of work, for callers who cut work into blocks.
    force_serial_on_failure : bool, default=True
        Whether missing items run serially when a strategy fails; else `StrategyError`.
    task_timeout : float or None, default=None
        Seconds one task may take, or ``TimeoutError``. A serial run notices afterwards.
    start_method : {None, "spawn", "forkserver", "fork"}, default=None
        How worker processes start. ``None`` needs no ``__main__`` guard and never forks.

    Notes
    -----
    Values are checked when they are used. ``clone`` and ``deepcopy`` share strategies and
    live Executors by reference; a config that holds a live Executor cannot be pickled.

    Examples
    --------
    >>> from ce_parallel.executor import ParallelConfig
    >>> ParallelConfig(preferred="threads", max_workers=2)
    ParallelConfig(max_workers=2, preferred='threads')
    """

    def __init__(
        self,
        max_workers: int | None = None,
        preferred: str | Strategy | Executor = "auto",
        task_size_hint_bytes: int | None = None,
        task_cost_hint_seconds: float | None = None,
        releases_gil: bool | None = None,
        max_payload_bytes: int = 32 * MIB,
        memory_budget_bytes: int = 256 * MIB,
        force_serial_on_failure: bool = True,
        task_timeout: float | None = None,
        start_method: str | None = None,
    ) -> None:
        self.max_workers = max_workers
        self.preferred = preferred
        self.task_size_hint_bytes = task_size_hint_bytes
        self.task_cost_hint_seconds = task_cost_hint_seconds
        self.releases_gil = releases_gil
        self.max_payload_bytes = max_payload_bytes
        self.memory_budget_bytes = memory_budget_bytes
        self.force_serial_on_failure = force_serial_on_failure
        self.task_timeout = task_timeout
        self.start_method = start_method

    def __sklearn_clone__(self) -> Self:
        return type(self)(**self.get_params(deep=False))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.__sklearn_clone__()

    def __getstate__(self) -> dict[str, Any]:
        if isinstance(self.preferred, Executor):
            raise TypeError(
                f"preferred={self.preferred!r} is a live Executor, which cannot be pickled. Name "
                "a strategy instead, for example preferred='processes'."
            )
        return super().__getstate__()  # type: ignore[no-any-return]


def validate(config: ParallelConfig) -> ParallelConfig:
    """Return `config` if every value is usable.

    Raises
    ------
    TypeError, ValueError
        Names the parameter, what it must be and what was got.
    """
    if not isinstance(config, ParallelConfig):
        raise TypeError(f"config must be a ParallelConfig or None. Got {config!r} instead.")
    _integer(config, "max_workers", 1, optional=True)
    _integer(config, "task_size_hint_bytes", 0, optional=True)
    _integer(config, "max_payload_bytes", 0)
    _integer(config, "memory_budget_bytes", 1)
    _seconds(config, "task_cost_hint_seconds", zero=True)
    _seconds(config, "task_timeout", zero=False)
    _boolean(config, "releases_gil", optional=True)
    _boolean(config, "force_serial_on_failure")
    if config.start_method not in START_METHODS:
        raise ValueError(
            f"start_method must be one of {list(START_METHODS)}. "
            f"Got {config.start_method!r} instead."
        )
    _preferred(config.preferred)
    return config


def _integer(config: ParallelConfig, name: str, low: int, optional: bool = False) -> None:
    value = getattr(config, name)
    if value is None and optional:
        return
    expected = f"{name} must be an int >= {low}{' or None' if optional else ''}."
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{expected} Got {value!r} instead.")
    if int(value) < low:
        raise ValueError(f"{expected} Got {value!r} instead.")


def _seconds(config: ParallelConfig, name: str, zero: bool) -> None:
    value = getattr(config, name)
    if value is None:
        return
    expected = f"{name} must be a number of seconds {'>=' if zero else '>'} 0 or None."
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{expected} Got {value!r} instead.")
    if math.isnan(value) or value < 0 or (value == 0 and not zero):
        raise ValueError(f"{expected} Got {value!r} instead.")


def _boolean(config: ParallelConfig, name: str, optional: bool = False) -> None:
    value = getattr(config, name)
    if isinstance(value, bool) or (value is None and optional):
        return
    raise TypeError(
        f"{name} must be True or False{' or None' if optional else ''}. Got {value!r} instead."
    )


def _preferred(value: object) -> None:
    if isinstance(value, Strategy | Executor):
        return
    if isinstance(value, str) and (value == "auto" or is_known(value)):
        return
    expected = f"preferred must be 'auto', one of {strategy_names()}, a Strategy or an Executor."
    if not isinstance(value, str):
        raise TypeError(f"{expected} Got {value!r} instead.")
    raise ValueError(f"{expected} Got {value!r} instead.")


class Directives(NamedTuple):
    """What CE_PARALLEL says; ``None`` where it says nothing."""

    strategy: str | None = None  # "off", "auto" or a strategy's name
    workers: int | None = None


def read_environment() -> Directives:
    """Return the directives of CE_PARALLEL.

    Grammar: comma-separated, each ``off``, ``auto``, a strategy's name, or ``workers=N``.

    Raises
    ------
    ValueError
        A directive is unknown, or given twice; names it and what is allowed.
    """
    text = os.environ.get(ENVIRONMENT_VARIABLE, "").strip()
    if not text:
        return Directives()
    found: dict[str, Any] = {}
    for word in (part.strip() for part in text.split(",")):
        key, _, value = (part.strip() for part in word.partition("="))
        if key == "workers" and value.isascii() and value.isdigit() and int(value) >= 1:
            directive: tuple[str, Any] = ("workers", int(value))
        elif word in ("off", "auto") or is_known(word):
            directive = ("strategy", word)
        else:
            raise ValueError(
                f"{ENVIRONMENT_VARIABLE}={text!r}: cannot read {word!r}. Allowed are 'off', "
                f"'auto', one of {strategy_names()}, and 'workers=N' with N >= 1, "
                "separated by commas."
            )
        if directive[0] in found:
            raise ValueError(
                f"{ENVIRONMENT_VARIABLE}={text!r} gives two values for {directive[0]}."
            )
        found[directive[0]] = directive[1]
    return Directives(**found)
