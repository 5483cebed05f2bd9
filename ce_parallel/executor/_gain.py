"""Watch whether threads gain anything, where they were chosen from what a task cost alone."""

CALLS_TO_JUDGE = 2  # per worker, after which the gain is judged, again and again
MIN_GAIN = 1.15


class Gain:
    """What threads gain; where it is too little, the caller goes on alone.

    Where threads wait for one another, a task takes longer in them than it took in the caller.
    But it may be that later tasks are longer: those that the caller runs then tell which it is,
    and threads go on if it was the tasks.

    Attributes
    ----------
    paused : bool
        Whether the caller goes on alone.
    """

    def __init__(self, alone: float, n_workers: int) -> None:
        self.paused = False
        self._alone, self._n_workers = alone, n_workers
        self._in_threads = 0.0
        self._calls: list[tuple[float, int]] = []  # seconds and items, since the last judgement

    def learn(self, alone: float) -> None:
        """Take note of what a task costs in the caller, which was a guess while it ran."""
        self._alone = alone

    def add(self, seconds: float, n_items: int) -> str | None:
        """Count a call; return what has changed, in words, if anything has."""
        self._calls.append((seconds, n_items))
        if len(self._calls) < CALLS_TO_JUDGE * self._n_workers:
            return None
        total, n = map(sum, zip(*self._calls, strict=True))
        self._calls.clear()
        if self.paused:
            self._alone = total / n
        else:
            self._in_threads = total / n
        gain = self._n_workers * self._alone / max(self._in_threads, 1e-9)
        if self.paused == (gain < MIN_GAIN):
            return None
        self.paused = not self.paused
        what = "the caller alone" if self.paused else "threads again"
        return f"then, as threads gain a factor of {gain:.1f}, {what}"
