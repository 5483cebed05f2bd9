"""Names of strategies: data, imported when first used.

Built-in names are in `STRATEGIES`; other packages add theirs through the entry-point group
``ce_parallel.strategies`` (name -> ``"module:Class"``).
"""

import importlib
from importlib.metadata import entry_points

from .strategies import Strategy

GROUP = "ce_parallel.strategies"
_HERE = "ce_parallel.executor.strategies"

# name -> (where it is, what to type when importing it fails)
STRATEGIES: dict[str, tuple[str, str]] = {
    "serial": (f"{_HERE}:SerialStrategy", ""),
    "threads": (f"{_HERE}:ThreadPoolExecutorStrategy", ""),
    "processes": (f"{_HERE}:ProcessPoolExecutorStrategy", ""),
    "joblib": (f"{_HERE}:JoblibBackendStrategy", "pip install joblib"),
}


def strategy_names() -> list[str]:
    """Return every name that `make_strategy` takes."""
    return sorted({*STRATEGIES, *(entry.name for entry in entry_points(group=GROUP))})


def is_known(name: str) -> bool:
    """Say whether `name` is registered, without importing anything for built-in names."""
    return name in STRATEGIES or name in strategy_names()


def make_strategy(name: str) -> Strategy:
    """Return the strategy registered as `name`, with its default parameters.

    Raises
    ------
    ValueError
        The name is unknown.
    ImportError
        The strategy needs a package that is not installed; says what to type.
    """
    hint = f"Install the package that provides the strategy {name!r}."
    if name in STRATEGIES:
        target, command = STRATEGIES[name]
        hint = f"Install it with: {command}" if command else hint
    else:
        found = entry_points(group=GROUP, name=name)
        if not found:
            raise ValueError(f"Unknown strategy {name!r}: choose one of {strategy_names()}.")
        target = next(iter(found)).value
    module, _, attribute = target.partition(":")
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise ImportError(f"The strategy {name!r} could not be imported. {hint}") from error
    strategy = cls()
    if not isinstance(strategy, Strategy):
        raise TypeError(
            f"The strategy {name!r} must be a ce_parallel Strategy. Got {strategy!r} instead."
        )
    return strategy
