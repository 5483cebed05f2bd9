"""What workers of this process cost, as measured since it began; the cost model starts from it.

``start``     strategy -> seconds from its start until a worker answers
``dispatch``  strategy -> seconds from a call to its answer, with workers up
``load``      packages -> seconds until a worker has loaded work that needs them
"""

import functools
import itertools
import sys
from collections.abc import Collection
from typing import Any

import joblib

from ._gil import is_enabled
from ._selection import Machine

start: dict[str, float] = {}
dispatch: dict[str, float] = {}
load: dict[frozenset[str], float] = {}

SECONDS_PER_MODULE = 0.003  # of a package, with what it imports in turn; until it is measured
IN_EVERY_WORKER = {"__main__", "joblib", "numpy", "threadpoolctl", *sys.stdlib_module_names}


def packages_of(*objects: Any) -> frozenset[str]:
    """Return the packages that functions and objects come from, those of every worker aside."""
    try:
        return frozenset(_packages(objects) - IN_EVERY_WORKER)
    except Exception:  # an odd object must not fail a map for a guess
        return frozenset()


def _packages(objects: tuple[Any, ...]) -> set[str]:
    kinds: list[Any] = []
    for obj in objects:
        parts = obj if isinstance(obj, list | tuple) else getattr(obj, "__dict__", {}).values()
        kinds += [obj, *itertools.islice(parts, 20)]
    modules = [getattr(k, "__module__", None) or type(k).__module__ for k in kinds]
    return {m.partition(".")[0] for m in modules if isinstance(m, str)}


def load_seconds(packages: frozenset[str]) -> float:
    """Return how long a fresh worker takes to import `packages`, as measured or roughly."""
    if packages in load:
        return load[packages]
    return SECONDS_PER_MODULE * _count_modules(packages, len(sys.modules))


@functools.lru_cache(maxsize=64)
def _count_modules(packages: frozenset[str], n_loaded: int) -> int:
    """Count the modules of `packages` here; `n_loaded` makes the answer lapse."""
    return sum(name.partition(".")[0] in packages for name in list(sys.modules))


def this_machine(cap: int | None = None, warm: Collection[str] = ()) -> Machine:
    """Return what this process may use, and what was measured in it so far.

    Parameters
    ----------
    cap : int or None, default=None
        Workers allowed from outside.
    warm : collection of str, default=()
        Strategies whose workers are up.
    """
    measured: dict[str, Any] = {}
    for name in ("threads", "processes"):
        measured[f"{name}_warm"] = name in warm
        if name in start:
            measured[f"{name}_start"] = start[name]
        if name in dispatch:
            measured[f"{name}_dispatch"] = dispatch[name]
    return Machine(cpus=joblib.cpu_count(), cap=cap, has_gil=is_enabled(), **measured)
