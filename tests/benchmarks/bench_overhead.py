"""What the executor adds: to a bare loop, and to ``concurrent.futures`` with the same chunks.

Run as ``python tests/benchmarks/bench_overhead.py``. Expected: a serial map adds less than 2
microseconds a task; threads and processes take at most 1.3 times as long as the bare pool. The
last lines are the costs that the defaults of `Machine` stand for.
"""

import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from itertools import islice
from statistics import median

import numpy as np
from joblib.externals.loky import ProcessPoolExecutor as LokyPool
from timing import paired_seconds, ratio

from ce_parallel import ParallelConfig, ParallelExecutor

REPEAT = 15
SERIAL_BAR, POOL_BAR = 2.0, 1.3  # microseconds a task; times as long
N_SERIAL = 100_000
# name -> (number of tasks, items per call, loop of each task)
SHAPES = {
    "2,000 tiny, one a call": (2_000, 1, 0),
    "20,000 tiny, 100 a call": (20_000, 100, 0),
    "300 of 0.5 ms, one a call": (300, 1, 10_000),
    "3,000 of 0.05 ms, 50 a call": (3_000, 50, 1_000),
}


def work(n, x):
    """Loop `n` times and return `x`."""
    for _ in range(n):
        x * x
    return x


def run_chunk(func, chunk):
    """What a bare pool runs for a chunk."""
    return [func(x) for x in chunk]


def consume(results):
    """Take every result."""
    for _ in results:
        pass


def serial():
    """Return microseconds that a serial map adds to each task of a bare loop."""

    def bare():
        for x in range(N_SERIAL):
            abs(x)

    with ParallelExecutor(ParallelConfig(preferred="serial")) as executor:
        runs = {"bare": bare, "map": lambda: consume(executor.map(abs, range(N_SERIAL)))}
        seconds = paired_seconds(runs, repeat=REPEAT)
    added = (m - b for m, b in zip(seconds["map"], seconds["bare"], strict=True))
    return 1e6 * median(added) / N_SERIAL


def chunks(n, size):
    """The items 0..n-1 in lists."""
    items = iter(range(n))
    return iter(lambda: list(islice(items, size)), [])


def pools():
    """Yield kind of pool, shape, and how many times as long as the same pool, bare, ours takes."""
    context = multiprocessing.get_context("forkserver")
    of_kind = {
        "threads": (ThreadPoolExecutor(2), {"preferred": "threads"}),
        "loky": (LokyPool(2), {"preferred": "processes"}),
        "forkserver": (
            ProcessPoolExecutor(2, mp_context=context),
            {"preferred": "processes", "start_method": "forkserver"},
        ),
    }
    for kind, (bare, settings) in of_kind.items():
        with bare, ParallelExecutor(ParallelConfig(max_workers=2, **settings)) as ours:
            for shape, (n, size, loop) in SHAPES.items():
                func = partial(work, loop)

                def run_bare(bare=bare, func=func, n=n, size=size):
                    consume(bare.map(partial(run_chunk, func), chunks(n, size)))

                def run_ours(ours=ours, func=func, n=n, size=size):
                    consume(ours.map(func, range(n), chunksize=size))

                seconds = paired_seconds({"bare": run_bare, "ours": run_ours}, repeat=REPEAT)
                yield kind, shape, ratio(seconds, "ours", "bare")


def costs():
    """Yield what the cost model's constants stand for, in microseconds."""
    for name in ("threads", "processes"):
        begun = time.perf_counter()
        with ParallelExecutor(ParallelConfig(preferred=name, max_workers=2)) as executor:
            consume(executor.map(abs, range(2)))
            yield f"{name}: start", 1e6 * (time.perf_counter() - begun)

            def timed(n, size, executor=executor):
                begun = time.perf_counter()
                consume(executor.map(abs, range(n), chunksize=size))
                return time.perf_counter() - begun

            per_call = median(timed(2000, 1) for _ in range(5)) / 2000
            per_item = median(timed(100_000, 1000) for _ in range(5)) / 100_000
            yield f"{name}: a call", 1e6 * (per_call - per_item)
            yield f"{name}: an item in it", 1e6 * per_item
            if name == "processes":
                array = np.ones(2_000_000)
                begun = time.perf_counter()
                consume(executor.map(np.size, [array] * 8))
                yield "processes: a MB sent", 1e6 * (time.perf_counter() - begun) / (8 * 16)


def main():
    """Print every figure, then whether all are within their bars."""
    added = serial()
    fine = added < SERIAL_BAR
    print(f"serial map: {added:.2f} microseconds added to a task of a bare loop")
    for kind, shape, times in pools():
        fine = fine and times <= POOL_BAR
        print(f"{kind:<10} {shape:<28} {times:.2f} times a bare pool", flush=True)
    for name, microseconds in costs():
        print(f"{name:<26} {microseconds:>10.1f} microseconds")
    sys.exit(not fine)


if __name__ == "__main__":
    main()
