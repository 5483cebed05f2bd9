"""Run a map: in order, with bounded look-ahead, through every failure.

    items --take--> pieces (first in, first out) --dispatch--> session (a started strategy)
                       |  head                                      |
    caller <--deliver--+ <----------------- settle <---- reply -----+

`Piece`s wait in one deque in the order of their items; only the head is delivered, so order
and "nothing twice" need no book-keeping. What can go wrong with the head, and what follows:

    task raised                  the error travels, the rest is cancelled
    worker lacks a shared file   the call is sent again, with the bytes in it
    item or result can't travel  that item runs here (`FallbackWarning`)
    strategy fails               everything missing runs here (`FallbackWarning`)
    workers die                  see `_recovery`
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future
from itertools import islice
from typing import Any

from . import _costs, _limits
from ._broadcast import Broadcast, Handle
from ._gain import Gain
from ._metrics import ExecutionReport
from ._pool import Pool, PoolClosedError, Session, cancel_call, owner_of, watch_for_exit
from ._recovery import Recovery
from ._run import Job, Piece, add_note, brief
from ._selection import chunk_for
from ._transport import LocalCall, Raised, RemoteCall, Reply, Stays, on_our_clock, unpack
from .strategies._futures import kills_workers

LOOKAHEAD = 4  # calls in flight or finished but undelivered, per worker
LOOK_SECONDS = 1.0  # at most, before Ctrl-C is noticed where waiting blocks it
MAX_TRANSPORT_FAILURES = 3  # items that cannot travel, before nothing is sent any more


class PoolRun(Recovery):
    """Run items on a pool. Inherits how to stop; items that must run here do so too."""

    def __init__(self, job: Job, report: ExecutionReport, pool: Pool, broadcast: Broadcast) -> None:
        super().__init__(job, report, pool)
        self._crosses = pool.prototype.crosses_process
        self._broadcast = broadcast
        self._task = job.task
        self._next = 0
        self._exhausted = False
        self._items_error: Exception | None = None
        self._handles: tuple[Handle, ...] = ()
        self._held = contextlib.ExitStack()  # limits and shared files, until the end
        self._opening: list[Future[Reply]] = []  # no sending before these are done
        self._loading: dict[Session, list[Future[Reply]]] = {}  # before tasks are timed
        self._wake = threading.Event()
        self._awaited: Future[Reply] | None = None  # whose arrival wakes the consumer
        self._unsupplied: deque[Future[Reply]] = deque()  # from workers that lack a file
        self._supplied: set[str] = set()  # workers on whose account the bytes were sent
        self._has_loaded = False  # a worker did, what tasks need
        self._gain: Gain | None = None  # of threads that were chosen by measurement
        self._kills = True  # processes with unfinished calls, at the end
        self._trouble: tuple[str, BaseException] | None = None
        self._transport_failures = 0

    # -- from items to calls ---------------------------------------------------------

    def open(self) -> None:
        """Let cold workers come up and load what they need.

        Until they have, items run in the caller. Failures wait for `results`.
        """
        needs = self.job.packages
        if not self._crosses or self.pool.has_loaded(needs):
            return
        if not self._lease():
            return
        try:
            self._opening = self._preload(self.pool.session())
        except Exception as error:
            self._give_up("could not start", error)

    def _preload(self, session: Session) -> "list[Future[Reply]]":
        """Let every worker load the function and the shared state."""
        call, needs = self._remote_call([]), self.job.packages
        return [session.preload(call, needs) for _ in range(self.pool.n_workers)]

    @property
    def is_open(self) -> bool:
        """Whether items are sent."""
        if self._opening and all(future.done() for future in self._opening):
            self._opening = []
        return not self._opening

    def release(self) -> None:
        """Let go of a run that is not to be started."""
        self._held.close()

    def start(self) -> None:
        """Send the first items. Failures wait for `results`, which announces them."""
        self._next = self.job.first
        if self.job.cost is not None and not self._crosses:
            self._gain = Gain(self.job.cost, self.pool.n_workers)
        if not (self._crosses or _limits.in_worker()):
            self._held.enter_context(_limits.one_blas_thread())
        self._refill()
        watch_for_exit(self)

    def learn(self, cost: float) -> None:
        """Take note of what an item cost in the caller, that was still running when this began."""
        if self._gain is not None:
            self._gain.learn(cost)

    def _lease(self) -> bool:
        """Hold handles of the function and the shared state; say whether that worked."""
        if not self._handles and self._crosses:
            job = self.job
            objects = (job.func, job.shared) if job.has_shared else (job.func,)
            try:
                self._handles = self._held.enter_context(self._broadcast.lease(*objects))
            except Exception as error:
                self._give_up("could not send the function or the shared state", error)
        return not self._here

    def _refill(self) -> None:
        """Keep the look-ahead full."""
        if self._retrying:
            self._redispatch()
        window = 1 if self._runs_here() else LOOKAHEAD * self.pool.n_workers
        while len(self._pieces) < window and not (self._exhausted or self._retrying):
            piece = self._take()
            if piece is None:
                return
            self._pieces.append(piece)
            self._dispatch(piece)

    def _take(self) -> Piece | None:
        """Draw the next items; an error of the iterable is kept for its place in the order."""
        size = self._chunk()
        items: list[Any] = []
        try:
            items.extend(islice(self.job.items, size))  # keeps what came before an error
        except Exception as error:
            self._items_error = error
        self._exhausted = len(items) < size
        if not items:
            return None
        piece = Piece(self._next, items)
        self._next += len(items)
        return piece

    def _chunk(self) -> int:
        job, report = self.job, self.report
        if self._runs_here():
            return 1
        if job.chunksize is not None:
            return job.chunksize
        cost = report.busy_time / report.n_tasks if report.n_tasks else job.cost
        if cost is None:
            return 1
        left = None if job.n_tasks is None else job.n_tasks - self._next
        return chunk_for(cost, left, self.pool.n_workers)

    def _runs_here(self) -> bool:
        """Say whether the next items run in the caller."""
        paused = self._gain is not None and self._gain.paused
        return self._here or paused or not self.is_open

    def _dispatch(self, piece: Piece) -> None:
        """Send a piece, or mark why it must run here."""
        if self._runs_here() or not self._lease():
            piece.failure = ""
            return
        try:
            call = self._call(piece)
        except Exception as error:
            piece.failure = f"cannot be pickled ({brief(error)})"
            piece.cause = error
            return
        self._send(piece, call, self.pool)

    def _send(self, piece: Piece, call: Callable[[], Reply], pool: Pool) -> None:
        piece.submitted = time.perf_counter()
        try:
            session = piece.session = pool.session()
            if self._crosses and self.job.task_timeout and session not in self._loading:
                self._loading[session] = self._preload(session)
            try:
                piece.future = self._submit(session, call)
                if piece.future is None:  # it broke before this map, so it lost nothing of ours
                    pool.renew_after(session)
                    session = piece.session = pool.session()
                    piece.future = session.submit(call)
            except BrokenExecutor as error:
                piece.future = Future()
                piece.future.set_exception(error)
            except RuntimeError:
                if not session.deliberate:
                    raise
                piece.future = Future()  # ended meanwhile by another map: send it again
                piece.future.cancel()
        except PoolClosedError:
            self._here, piece.failure = True, ""
        except Exception as error:
            self._give_up("could not start", error)
            piece.failure = ""
        else:
            piece.future.add_done_callback(self._arrived)

    def _arrived(self, future: "Future[Reply]") -> None:
        """Wake the consumer; runs in a thread of the strategy's."""
        lacks = self._crosses and _lacks_a_file(future)
        if lacks:
            self._unsupplied.append(future)
        if lacks or self._retrying or future is self._awaited:
            self._wake.set()

    def _submit(self, session: Session, call: Callable[[], Reply]) -> "Future[Reply] | None":
        """Return the call's future, or None if an unused session turns out to be broken."""
        try:
            return session.submit(call)
        except BrokenExecutor:
            if any(p.session is session and p.future is not None for p in self._pieces):
                raise
            return None

    def _call(self, piece: Piece) -> Callable[[], Reply]:
        if not self._crosses:
            return LocalCall(self._task, piece.items)
        call = self._remote_call(piece.items)
        piece.n_bytes = len(call.items)
        return call.with_bytes() if piece.with_bytes else call

    def _remote_call(self, items: list[Any]) -> RemoteCall:
        func, *rest = self._handles
        shared = rest[0] if rest else None
        owner = owner_of(self.pool.prototype)
        return RemoteCall.make(func, shared, self.job.star, items, owner)

    # -- from replies to results -----------------------------------------------------

    def results(self) -> Iterator[Any]:
        """Yield results in order; see the module docstring for what happens to failures."""
        try:
            self._refill()
            while self._pieces:
                self._announce_trouble()
                piece = self._pieces[0]
                if self._settle(piece):
                    self._pieces.popleft()
                    self._refill()
                    results = self._deliver(piece)
                    left, busy = time.perf_counter(), self.report.busy_time
                    yield from results
                    ran_here = self.report.busy_time - busy
                    self.report.away += time.perf_counter() - left - ran_here
                else:
                    self._refill()
            self._announce_trouble()
            if self._items_error is not None:
                raise self._items_error
            self._name_poisoned()
            self.report.is_complete = True
        finally:
            self.stop()

    def _settle(self, piece: Piece) -> bool:
        """Wait for the head. Return whether it can be delivered, here or from its reply."""
        if piece.failure is not None:
            return True
        if piece.alone:
            return self._try_alone(piece)
        self._wait(piece)
        if piece.failure is not None:
            return True
        assert piece.future is not None
        assert piece.session is not None
        if piece.future.cancelled() or (piece.session.deliberate and piece.is_out()):
            self._send_again(piece.session)
            return False
        error = piece.future.exception()
        if error is None:
            if piece.future.result().missing:
                self._supply(piece.future)
                return False
            return True
        if isinstance(error, BrokenExecutor):
            self._worker_died(piece.session, error)
            return False
        if kills_workers(error):
            self._suspect(piece, error)
            return False
        piece.failure, piece.cause = f"cannot travel ({brief(error)})", error
        return True

    def _wait(self, piece: Piece) -> None:
        """Wait until the piece has a finished future or must run here.

        The clock of a task runs while it is the oldest unfinished one and workers are up.
        """
        allowed = self.job.task_timeout
        allowed = None if allowed is None else allowed * len(piece.items)
        began: float | None = None
        while True:
            self.check()
            if self._retrying:
                self._redispatch()
            while self._unsupplied:
                self._supply(self._unsupplied.popleft())
            self._awaited = piece.future  # before looking whether it is done
            if piece.failure is not None or (piece.future and piece.future.done()):
                return
            now = time.perf_counter()
            patience = None if self.job.deadline is None else self.job.deadline - now
            if allowed is not None:
                if began is None and self._is_loaded(piece.session):
                    began = now
                left = 0.05 if began is None else began + allowed - now
                if left <= 0:
                    self.check_task(piece.first, float("inf"))
                patience = left if patience is None else min(left, patience)
            patience = LOOK_SECONDS if patience is None else min(patience, LOOK_SECONDS)
            self._wake.wait(max(0.0, patience))
            self._wake.clear()

    def _is_loaded(self, session: Session | None) -> bool:
        """Say whether the workers of a session are up and have loaded what they need."""
        if session is None or not session.ready.done():
            return False
        return all(future.done() for future in self._loading.get(session, ()))

    def _supply(self, future: "Future[Reply]") -> None:
        """Send a call again whose worker lacks a shared file; with the bytes, if need be.

        One call carries the bytes for each worker that asks. Whichever worker takes it keeps
        them, so other calls try without, and carry them when they come back once more.
        """
        piece = next((p for p in self._pieces if p.future is future), None)
        if piece is None:
            return  # sent again already
        worker = future.result().worker
        piece.with_bytes = piece.returned or worker not in self._supplied
        piece.returned, piece.future = True, None
        self._supplied.add(worker)
        self._dispatch(piece)

    def _deliver(self, piece: Piece) -> Iterable[Any]:
        """Return the results of a settled piece, or an iterator that finds those missing."""
        if piece.failure is not None:
            return self._deliver_here(piece, piece.failure)
        assert piece.future is not None
        reply = piece.future.result()
        if reply.failure is not None:
            return self._deliver_here(piece, reply.failure)
        if self._crosses and not self._has_loaded and piece.session is not None:
            self._has_loaded = True
            piece.session.loaded.add(_costs.packages_of(self.job.func, self.job.shared))
        values, ticks = unpack(reply), on_our_clock(reply.ticks, piece.submitted)
        if isinstance(values, Stays):
            return self._deliver_here(piece, values.why)
        piece.future = None  # lets go of a large reply
        if self._gain is not None and not self._gain.paused:  # else what was sent before it paused
            self._judge(ticks[-1] - ticks[0], len(values))
        self.report.payload_bytes += piece.n_bytes
        self.report.result_bytes += reply.n_bytes
        sizes = piece.n_bytes // len(piece.items), reply.n_bytes // len(values)
        of_call = piece.submitted, reply.worker, *sizes
        if type(values[-1]) in (Raised, Stays) or reply.parts:
            return self._deliver_singly(piece, values, ticks, of_call)
        self.report.add(piece.first, ticks, *of_call)
        return values

    def _deliver_singly(
        self, piece: Piece, values: list[Any], ticks: Sequence[float], of_call: tuple[Any, ...]
    ) -> Iterator[Any]:
        """Yield results of a piece of which some may be missing."""
        for k, value in enumerate(values):
            index = piece.first + k
            if isinstance(value, Raised):
                add_note(value.error, index)
                raise value.error
            if isinstance(value, Stays):
                self._cannot_travel(index, value.why, None)
                yield self._run_here(index, piece.items[k])
            else:
                self.report.add(index, ticks[k : k + 2], *of_call)
                yield value

    def _judge(self, seconds: float, n_items: int) -> None:
        """See whether threads are worth it, where that was a guess."""
        changed = self._gain.add(seconds, n_items) if self._gain else None
        if changed:
            self.report.note(changed)

    # -- failures --------------------------------------------------------------------

    def _deliver_here(self, piece: Piece, failure: str) -> Iterator[Any]:
        for offset, item in enumerate(piece.items):
            if failure and offset == 0:
                self._cannot_travel(piece.first, failure, piece.cause)
            yield self._run_here(piece.first + offset, item)

    def _run_here(self, index: int, item: Any) -> Any:
        self.check()
        with _limits.one_inner_thread():
            start = time.perf_counter()
            try:
                value = self._task(item)
            except BaseException as error:
                add_note(error, index)
                raise
            end = time.perf_counter()
        self.check_task(index, end - start)
        self.report.add(index, (start, end))
        if self._gain is not None and self._gain.paused:
            self._judge(end - start, 1)
        return value

    def _cannot_travel(self, index: int, why: str, cause: BaseException | None) -> None:
        """Announce that an item runs here; after a few, stop sending."""
        self._fall_back(
            f"Item {index} {why}. Make it picklable, or set preferred='threads' or 'serial'.",
            "It runs serially in the caller.",
            cause,
        )
        self._transport_failures += 1
        if self._transport_failures >= MAX_TRANSPORT_FAILURES:
            self._here = True

    def _give_up(self, what: str, error: BaseException) -> None:
        """Send nothing any more; `results` announces it."""
        self._here = True
        name = self.pool.prototype.name
        self._trouble = (
            f"The strategy {name!r} {what} ({brief(error)}). Set preferred='threads' or 'serial'.",
            error,
        )

    def _announce_trouble(self) -> None:
        if self._trouble is not None:
            (message, error), self._trouble = self._trouble, None
            self._fall_back(message, "The missing items run serially in the caller.", error)

    # -- the end ---------------------------------------------------------------------

    def cancel(self, *, kill: bool = True) -> None:
        """Cancel from any thread; the consumer gets ``CancelledError``."""
        super().cancel()
        self._kills = kill
        self.let_go()

    def let_go(self) -> None:
        """Take back what is unfinished; should anyone still ask for it, it is sent again."""
        self._end_sessions(list(self._pieces))
        self._wake.set()

    def stop(self) -> None:
        """Cancel what is unfinished and let go of everything; harmless when all is done.

        Worker processes with unfinished calls are killed at once. Threads finish their
        current task, unless time is over: then they are abandoned.
        """
        pieces = list(self._pieces)
        self._pieces.clear()
        self._exhausted = True
        self._end_sessions(pieces)
        self._held.close()
        self.report.finish()

    def _end_sessions(self, pieces: list[Piece]) -> None:
        """Kill before cancelling: loky's kill fails on futures that are already cancelled."""
        sent = [(p.future, p.session) for p in pieces if p.future is not None and p.session]
        for session in {session for future, session in sent if not future.done()}:
            if self._kills and (session.strategy.crosses_process or self.timed_out):
                session.end(kill=True, deliberate=True)
        for future, _ in sent:
            cancel_call(future)


def _lacks_a_file(future: "Future[Reply]") -> bool:
    """Say whether a call came back because its worker cannot reach a shared file."""
    if not future.done() or future.cancelled() or future.exception() is not None:
        return False
    return future.result().missing
