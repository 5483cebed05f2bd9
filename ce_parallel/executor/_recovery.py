"""What a run on a pool does when workers die.

worker died, first time      what was in flight is tried again, one item per call, in a
                             fresh pool (`FallbackWarning`)
worker died again            items in flight both times run alone, one worker each; those
                             that kill it too are named in a `StrategyError` at the very
                             end; all others run here
strategy blames the call     its items run alone in the same way: it was tried before
"""

import logging
import warnings
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from concurrent.futures import wait as wait_for

from ..exceptions import FallbackWarning, StrategyError
from ._metrics import ExecutionReport
from ._pool import Pool, Session
from ._run import Job, Piece, SerialRun, brief, caller_level
from ._transport import Reply
from .strategies import ProcessPoolExecutorStrategy

_logger = logging.getLogger("ce_parallel")


class Recovery(SerialRun):
    """The part of `_engine.PoolRun` that deals with deaths; it says how to send and to wait."""

    def __init__(self, job: Job, report: ExecutionReport, pool: Pool) -> None:
        super().__init__(job, report)
        self.pool = pool
        self._pieces: deque[Piece] = deque()  # in the order of their items
        self._here = False  # nothing is sent any more
        self._retrying = False
        self._warned = False
        self._deaths = 0
        self._came_up = False  # a session that died had a worker that answered before
        self._poisoned: list[tuple[int, BaseException | None]] = []

    @abstractmethod
    def _call(self, piece: Piece) -> Callable[[], Reply]: ...

    @abstractmethod
    def _dispatch(self, piece: Piece) -> None: ...

    @abstractmethod
    def _send(self, piece: Piece, call: Callable[[], Reply], pool: Pool) -> None: ...

    @abstractmethod
    def _wait(self, piece: Piece) -> None: ...

    def _fall_back(self, what: str, consequence: str, error: BaseException | None) -> None:
        """Warn once per map, count and log every time; strict maps raise what happened."""
        if self.job.strict:
            raise StrategyError(what) from error
        message = f"{what} {consequence}"
        self.report.fallback(message)
        _logger.log(logging.WARNING if self._warned else logging.INFO, "%s", message)
        if not self._warned:
            self._warned = True
            warnings.warn(message, FallbackWarning, stacklevel=caller_level())

    def _send_again(self, session: Session) -> None:
        """Another map, or a shutdown, ended the session on purpose: no death, no warning."""
        for piece in [p for p in self._pieces if p.is_lost(session)]:
            piece.future = piece.session = None
            self._dispatch(piece)

    def _worker_died(self, session: Session, error: BaseException) -> None:
        """Keep what is finished; try the rest again, or find out who kills workers."""
        self._deaths += 1
        self._came_up = self._came_up or not self._never_came_up(session)
        sent = [p.future for p in self._pieces if p.session is session and p.future]
        wait_for(sent, timeout=10)  # the first to fail is a moment ahead of the others
        self.pool.renew_after(session)
        rebuilt: list[Piece] = []
        lost: list[Piece] = []
        for piece in self._pieces:
            parts = piece.split() if piece.is_lost(session) else [piece]
            lost += parts if parts[0] is not piece else []
            rebuilt += parts
        self._pieces = deque(rebuilt)
        names = ", ".join(str(piece.first) for piece in lost)
        died = f"A worker of {session.strategy.name!r} died while items {names} were in flight."
        if self._deaths == 1:
            self._retrying = True
            self._fall_back(
                f"{died} Common causes are too little memory (set fewer max_workers), a crash in "
                "native code, and os._exit.",
                "They are tried once more in a fresh pool.",
                error,
            )
            return
        self._here, self._retrying = True, False
        self._fall_back(died, "It was the second death: what is missing runs serially.", error)
        for piece in self._pieces:
            if piece.future is None:
                piece.alone = piece.deaths > 1
                piece.failure = None if piece.alone else ""

    def _suspect(self, piece: Piece, error: BaseException) -> None:
        """Let the items of a call run alone: the strategy says that it kills workers."""
        self._fall_back(
            f"The workers of {self.pool.prototype.name!r} died of the call of item {piece.first} "
            f"({brief(error)}).",
            "Its items are tried alone, each in a process of its own.",
            error,
        )
        self._came_up = True
        self._pieces.popleft()
        parts = piece.split()
        for part in parts:
            part.alone = True
        self._pieces.extendleft(reversed(parts))

    def _redispatch(self) -> None:
        """Send items of a broken pool again, at most one per worker at a time.

        So few are in flight that a second death leaves few suspects.
        """
        again = [piece for piece in self._pieces if piece.deaths]
        running = sum(1 for p in again if p.is_out())
        for piece in again:
            if running >= self.pool.n_workers:
                break
            if piece.future is None and piece.failure is None and not piece.alone:
                self._dispatch(piece)
                running += 1
        self._retrying = bool(again)

    def _try_alone(self, piece: Piece) -> bool:
        """Run a suspect in a process of its own: deliver it, or strike it off."""
        prototype = self.pool.prototype
        if not isinstance(prototype, ProcessPoolExecutorStrategy):
            prototype = ProcessPoolExecutorStrategy()  # joblib's backends run one job in the caller
        pool = Pool(prototype, 1)
        piece.with_bytes = True  # it must not come back for them
        try:
            self._send(piece, self._call(piece), pool)
            self._wait(piece)
            if piece.failure is None:
                assert piece.future is not None
                assert piece.session is not None
                error = piece.future.exception()
                if error is None:
                    return True
                if not isinstance(error, BrokenExecutor):
                    piece.failure, piece.cause = f"cannot travel ({brief(error)})", error
                    return True
                piece.cause = error
                if self._never_came_up(piece.session):
                    piece.failure = ""
            if piece.failure is not None and not self._came_up:
                return True  # no worker ever started, so the item killed none
            self._poisoned.append((piece.first, piece.cause))
            self._pieces.popleft()
            return False
        finally:
            pool.close(kill=piece.future is None or not piece.future.done())

    @staticmethod
    def _never_came_up(session: Session) -> bool:
        ready = session.ready
        return not ready.done() or ready.cancelled() or ready.exception() is not None

    def _name_poisoned(self) -> None:
        if self._poisoned:
            names = ", ".join(str(index) for index, _ in self._poisoned)
            raise StrategyError(
                f"These items kill their workers: {names}. They were in flight at two deaths and "
                "again when they ran alone, and were never run in the caller. Every other item "
                "was delivered."
            ) from self._poisoned[0][1]
