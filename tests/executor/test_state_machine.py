"""Anything that can be done to an executor, in any order, with real pools.

A model says which outcomes are right. Results come in order and none comes twice; what is missing
is missing for a reason that the model knows; afterwards no process and no file is left.
"""

import contextlib
import itertools
import os
import signal
import threading
import warnings
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from dataclasses import dataclass, field
from multiprocessing import get_context

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ce_parallel.exceptions import FallbackWarning, StrategyError
from ce_parallel.executor import ParallelConfig, ParallelExecutor
from tests.executor.conftest import wait_until, workers
from tests.executor.interop_tasks import WouldKillError, play

if os.name == "nt":
    pytest.skip("kills by signal", allow_module_level=True)

LOCK = type(threading.Lock())
PLAIN = st.just("plain")
HARMLESS = st.sampled_from(["plain"] * 8 + ["raise"])
DANGEROUS = st.sampled_from(["plain"] * 9 + ["raise", "lock", "die once", "die"])
# One that dies once is struck off as well if it was only in flight at the deaths of others, twice,
# and its own comes when it runs alone.
KILLS = {"die", "die once"}
KINDS = ["threads", "processes", "own threads", "own processes"]


@dataclass(eq=False)
class Mapped:
    """One map, and what the model knows of it."""

    results: object
    items: object  # (number, what) not delivered yet, in order
    ended: bool = False
    cancelled: bool = False
    skipped: list = field(default_factory=list)  # numbers of items that kill their workers


@dataclass(eq=False)
class Submitted:
    """One submitted call."""

    future: object
    number: int
    what: str
    cancelled: bool = False  # certainly
    may_be_cancelled: bool = False


class ExecutorMachine(RuleBasedStateMachine):
    """Drive one executor."""

    maps = Bundle("maps")
    calls = Bundle("calls")
    root = None  # where shared state goes
    folder = None  # where items that die once leave a mark

    @initialize(data=st.data(), workers=st.integers(1, 3))
    def open(self, data, workers):
        kind = data.draw(st.sampled_from(KINDS))
        self.kind = kind
        self.own = None
        preferred = kind
        if kind == "own threads":
            preferred = self.own = ThreadPoolExecutor(workers)
        elif kind == "own processes":
            preferred = self.own = ProcessPoolExecutor(
                workers, mp_context=get_context("forkserver")
            )
        self.executor = ParallelExecutor(
            ParallelConfig(preferred=preferred, start_method="forkserver", max_workers=workers)
        )
        self.can_die = kind.endswith("processes")
        self.shut = False
        self.deaths = False  # a worker may have died
        self.faults = False  # something may have fallen back
        self.numbers = itertools.count()
        self.all_maps, self.all_calls = [], []
        self.caught = warnings.catch_warnings(record=True)
        self.seen = self.caught.__enter__()
        warnings.simplefilter("always")

    # -- what a user does ------------------------------------------------------------

    @rule(
        target=maps,
        data=st.data(),
        n=st.one_of(st.integers(0, 30), st.none()),
        chunksize=st.sampled_from([None, 1, 3]),
        large=st.booleans(),
    )
    def map(self, data, n, chunksize, large):
        """Start a map; an endless one if `n` is None."""
        kinds = DANGEROUS if self.can_die else HARMLESS
        if n is None:
            items = ((next(self.numbers), "plain") for _ in itertools.count())
            sent, expected = itertools.tee(items)
        else:
            whats = data.draw(st.lists(kinds, min_size=n, max_size=n))
            sent = expected = [(next(self.numbers), what) for what in whats]
            self.faults |= "lock" in whats
            self.deaths |= not KILLS.isdisjoint(whats)
        shared = (os.getpid(), str(self.folder), bytes(100_000 if large else 10))
        if self.shut:
            with pytest.raises(RuntimeError, match="shut down"):
                self.executor.map(play, sent, shared=shared)
            return multiple()
        results = self.executor.map(play, sent, shared=shared, chunksize=chunksize)
        mapped = Mapped(results, iter(expected))
        self.all_maps.append(mapped)
        return mapped

    @rule(target=calls, what=DANGEROUS, large=st.booleans())
    def submit(self, what, large):
        """Submit a call."""
        if what == "lock" or not self.can_die:
            what = "plain"
        self.deaths |= what in KILLS
        number = next(self.numbers)
        shared = (os.getpid(), str(self.folder), bytes(100_000 if large else 10))
        if self.shut:
            with pytest.raises(RuntimeError, match="shut down"):
                self.executor.submit(play, shared, (number, what))
            return multiple()
        future = self.executor.submit(play, shared, (number, what))
        call = Submitted(future, number, what)
        self.all_calls.append(call)
        return call

    @rule(mapped=maps, n=st.integers(1, 12))
    def take(self, mapped, n):
        """Ask a map for a few results."""
        for _ in range(n):
            if not self.step(mapped):
                return

    @rule(mapped=maps)
    def close(self, mapped):
        mapped.results.close()
        mapped.ended = True

    @rule(mapped=maps)
    def cancel_map(self, mapped):
        mapped.results.cancel()
        mapped.cancelled = True

    @rule(call=calls)
    def look(self, call):
        """Wait for a submitted call."""
        self.check_call(call)

    @rule(call=calls)
    def cancel_call(self, call):
        if call.future.cancel():
            assert call.future.cancelled()
            call.cancelled = True

    @rule()
    def cancel_all(self):
        self.executor.cancel()
        self.note_cancel()

    @precondition(lambda self: self.can_die and not self.shut)
    @rule(which=st.integers(0, 5))
    def kill(self, which):
        """Kill a worker from outside."""
        alive = workers()
        if alive:
            self.deaths = True
            os.kill(alive[which % len(alive)].pid, signal.SIGKILL)

    @rule(wait=st.booleans(), cancel_futures=st.booleans(), rarely=st.integers(0, 3))
    def shutdown(self, wait, cancel_futures, rarely):
        if rarely:
            return
        self.executor.shutdown(wait, cancel_futures=cancel_futures)
        self.shut = True
        if cancel_futures:
            self.note_cancel()

    # -- what must come of it --------------------------------------------------------

    def note_cancel(self):
        for mapped in self.all_maps:
            mapped.cancelled = True
        for call in self.all_calls:
            call.may_be_cancelled = True

    def step(self, mapped):
        """Ask for one result and compare; return whether there may be more."""
        try:
            value = next(mapped.results)
        except StopIteration:
            if not mapped.ended:
                assert next(mapped.items, None) is None, "results are missing"
                assert not mapped.skipped, "an item that kills was not named"
            mapped.ended = True
        except CancelledError:
            assert mapped.cancelled
            assert not mapped.ended
            mapped.ended = True
        except ValueError as error:
            assert not mapped.ended
            assert error.args == ("on purpose", self.advance(mapped, "raise"))
            mapped.ended = True
        except WouldKillError as error:
            assert not mapped.ended
            assert self.shut or mapped.results.report.fallbacks, "it ran here without need"
            number, what = next(mapped.items)
            while number != error.args[0]:
                assert what in KILLS, "results are missing"
                number, what = next(mapped.items)
            mapped.ended = True
        except StrategyError as error:
            assert not mapped.ended
            left = list(itertools.islice(mapped.items, 100))
            assert {what for _, what in left} <= KILLS, "results are missing"
            mapped.skipped += left
            assert mapped.skipped, error
            assert "kill their workers" in str(error)
            mapped.ended = True
        else:
            assert not mapped.ended, "a result after the end"
            number, what = next(mapped.items)
            while what in KILLS and value != number:
                mapped.skipped.append(number)
                number, what = next(mapped.items)
            right = isinstance(value, LOCK) if what == "lock" else value == number
            assert right, (value, number, what, mapped.results.report.fallbacks)
        return not mapped.ended

    @staticmethod
    def advance(mapped, kind):
        """Return the number of the next item, which must be of one kind."""
        number, what = next(mapped.items)
        while what in KILLS:
            mapped.skipped.append(number)
            number, what = next(mapped.items)
        assert what == kind
        return number

    def check_call(self, call):
        try:
            value = call.future.result(timeout=30)
        except CancelledError:
            assert call.cancelled or call.may_be_cancelled
        except ValueError as error:
            assert call.what == "raise"
            assert error.args == ("on purpose", call.number)
        except WouldKillError:
            assert call.what == "die"
            assert self.deaths, "it ran here without need"
            assert any("it runs in the caller" in str(w.message) for w in self.seen)
        except StrategyError as error:
            assert self.deaths, error
            assert "The call was lost" in str(error)
        else:
            assert not call.cancelled
            assert value == call.number
            assert call.what in ("plain", "die once")

    def teardown(self):
        if not hasattr(self, "executor"):
            return
        try:
            for call in self.all_calls:
                self.check_call(call)
            for mapped in self.all_maps:
                for _ in range(100):
                    if not self.step(mapped):
                        break
                mapped.results.close()
            self.executor.shutdown()
        finally:
            self.executor.shutdown(cancel_futures=True)
            if self.own is not None:
                let_notice_a_death(self.own)
                self.own.shutdown(wait=True, cancel_futures=True)
            self.caught.__exit__(None, None, None)
        assert wait_until(lambda: not closing()), "a shutdown that never ends"
        assert wait_until(lambda: not workers()), "an orphan"
        assert wait_until(lambda: not list(self.root.glob("ce_parallel-*"))), "a leaked file"
        unexpected = [w for w in self.seen if w.category is not FallbackWarning]
        assert not unexpected, [str(w.message) for w in unexpected]
        if not (self.faults or self.deaths):
            assert not self.seen, [str(w.message) for w in self.seen]


def let_notice_a_death(pool):
    """Give a user's pool an occasion: shut down before it notices, a standard one hangs."""
    with contextlib.suppress(BrokenExecutor):
        try:
            pool.submit(int).result(timeout=5)
        except TimeoutError:
            for process in pool._processes.values():
                process.kill()


def closing():
    """Return the threads of shutdowns that did not wait."""
    return [t for t in threading.enumerate() if t.name == "ce_parallel-close"]


def run(temp_root, folder, **params):
    class Machine(ExecutorMachine):
        root = temp_root

    Machine.folder = folder
    run_state_machine_as_test(
        Machine,
        settings=settings(
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
            database=None,
            **params,
        ),
    )


@pytest.mark.timeout(120)
def test_any_order_of_events(temp_root, tmp_path):
    run(temp_root, tmp_path, max_examples=15, stateful_step_count=15, derandomize=True)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_any_order_of_events_at_length(temp_root, tmp_path):
    run(temp_root, tmp_path, max_examples=100, stateful_step_count=30, derandomize=True)
