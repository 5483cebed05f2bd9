"""The errors and warnings of ce_parallel.

    Exception
    ├── ValueError, AttributeError
    │   └── sklearn.exceptions.NotFittedError
    │       └── NotCalibratedError      a calibrated output was asked for before calibration
    ├── RuntimeError
    │   └── StrategyError               the machinery failed, never the task
    └── concurrent.futures.CancelledError   a map was cancelled (re-exported, the stdlib's)

    Warning
    └── RuntimeWarning
        └── FallbackWarning             work went on in another way; says why and what to do

A task's own exception is none of these: it travels to the caller unchanged.
"""

from concurrent.futures import CancelledError

from sklearn.exceptions import NotFittedError

__all__ = ["CancelledError", "FallbackWarning", "NotCalibratedError", "StrategyError"]


class NotCalibratedError(NotFittedError):
    """A calibrated result was asked for before ``fit`` or ``calibrate`` provided one."""


class StrategyError(RuntimeError):
    """A strategy failed to start, to transport or to keep its workers alive.

    Raised instead of the serial fallback when ``force_serial_on_failure=False``, and for
    items that killed their worker twice, which are never run in the caller. Tasks' own
    exceptions are never wrapped in it.
    """


class FallbackWarning(RuntimeWarning):
    """A strategy failed and its missing items ran in another way (once per map)."""
