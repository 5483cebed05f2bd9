"""Paired timing: candidates run in turn, so that a machine's moods hit them alike."""

from statistics import median
from time import perf_counter


def paired_seconds(candidates, *, repeat, calls=1, clock=perf_counter):
    """Run every candidate once for warming up, then `repeat` times in turn.

    Parameters
    ----------
    candidates : dict of callables
    repeat : int
    calls : int, default=1
        How often a candidate is called in its turn.
    clock : callable, default=perf_counter
        `process_time` leaves out what others do on the machine; for serial work only.

    Returns
    -------
    dict of lists of float
        Seconds of each call, the mean of a turn, by candidate.
    """
    for run in candidates.values():
        run()
    seconds = {name: [] for name in candidates}
    for _ in range(repeat):
        for name, run in candidates.items():
            started = clock()
            for _ in range(calls):
                run()
            seconds[name].append((clock() - started) / calls)
    return seconds


def ratio(seconds, slow, fast):
    """Median over pairs of how many times longer `slow` took than `fast`."""
    return median(a / b for a, b in zip(seconds[slow], seconds[fast], strict=True))
