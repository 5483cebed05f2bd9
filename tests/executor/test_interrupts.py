"""Interpreters that are interrupted, killed, or exit in the middle: nobody stays, nothing is left.

Real child interpreters, each in a session of its own, so that whatever it started can be found.
"""

import itertools
import os
import signal
import subprocess
import textwrap
import time

import pytest

from tests.executor.children import IN_THREADS, STRATEGIES, finish, run, start, wait_for_tasks

pytestmark = [
    pytest.mark.timeout(90),
    pytest.mark.skipif(os.name == "nt", reason="sessions and signals of POSIX"),
]

slow = pytest.mark.slow
DEFAULT = ("threads", "processes", "forkserver", "joblib-loky", "joblib-multiprocessing")


def first(names, chosen=DEFAULT):
    """Return parameters for all names; those not chosen are slow."""
    return [pytest.param(name, marks=() if name in chosen else slow) for name in names]


IN_PROCESSES = [name for name in STRATEGIES if name not in (*IN_THREADS, "auto")]
# A user's own workers are left as they are: they follow no caller that is killed.
OURS = [name for name in IN_PROCESSES if name != "users-processes"]

# What the script does when it is interrupted, after it has printed "go".
MOMENTS = {
    "starting": """
        print("go", flush=True)
        list(ex.map(nap, [{nap}] * 8, shared=np.zeros(100_000), chunksize=1))
    """,
    "running": """
        print("go", flush=True)
        list(ex.map(nap, [{nap}] * 8, shared=np.zeros(100_000), chunksize=1))
    """,
    "consuming": """
        for n, _ in enumerate(ex.map(nap, [0.01] * 10**6, shared=np.zeros(100_000))):
            if n == 3:
                print("go", flush=True)
    """,
    "shutdown": """
        with ex:
            futures = [ex.submit(nap, None, {nap}) for _ in range(4)]
            print("go", flush=True)
    """,
}
NAP = 2.0  # seconds; threads finish their task
LONG_NAP = 60.0  # processes do not

QUICK = {
    *(("running", name, "alone") for name in ("threads", "processes", "forkserver")),
    ("starting", "processes", "group"),
    ("consuming", "joblib-loky", "group"),
    ("shutdown", "processes", "alone"),
    ("shutdown", "forkserver", "group"),
}
MATRIX = QUICK | {
    (moment, name, ("alone", "group")[(row + column) % 2])
    for row, moment in enumerate(MOMENTS)
    for column, name in enumerate(STRATEGIES)
    # Submitted calls run at once, in the caller, or in a pool that the user shuts down.
    if moment != "shutdown" or name not in ("serial", "users-threads", "users-processes")
}
INTERRUPTS = [
    pytest.param(*values, marks=() if values in QUICK else slow) for values in sorted(MATRIX)
]


@pytest.mark.parametrize(("moment", "name", "whom"), INTERRUPTS)
def test_ctrl_c_ends_the_interpreter_soon_and_cleanly(moment, name, whom, tmp_path):
    """Sent to the process alone, or to its whole group as a terminal does.

    Under 3 seconds; threads finish the task that runs, and so does a pool that is the user's,
    with those it has already queued in its workers' pipe.
    """
    waits_for_tasks = name in (*IN_THREADS, "users-processes", "auto")
    nap = NAP if waits_for_tasks else LONG_NAP
    process = start(tmp_path, name, MOMENTS[moment].format(nap=nap))
    assert process.stdout.readline() == "go\n", process.communicate()
    if moment in ("running", "shutdown"):
        wait_for_tasks(tmp_path, 1, process)
    sent = time.monotonic()
    (os.killpg if whom == "group" else os.kill)(process.pid, signal.SIGINT)
    process.wait(timeout=40)
    took = time.monotonic() - sent
    _, err = finish(process, tmp_path)
    assert process.returncode == -signal.SIGINT, err
    assert "KeyboardInterrupt" in err
    rounds = 3 if name == "users-processes" else 1
    assert took < 3 + (rounds * NAP if waits_for_tasks else 0)


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.02, 0.15, 0.5])
@pytest.mark.parametrize("name", ["processes", "forkserver", "joblib-loky"])
def test_ctrl_c_while_workers_start(name, delay, tmp_path):
    process = start(tmp_path, name, MOMENTS["starting"].format(nap=LONG_NAP))
    assert process.stdout.readline() == "go\n"
    time.sleep(delay)
    sent = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    process.wait(timeout=40)
    took = time.monotonic() - sent
    finish(process, tmp_path)
    assert took < 3


@pytest.mark.parametrize("name", first(OURS, ["processes"]))
def test_workers_follow_a_killed_caller(name, tmp_path):
    """In the middle of their tasks, within seconds, and its shared state goes as well."""
    process = start(tmp_path, name, MOMENTS["running"].format(nap=LONG_NAP))
    wait_for_tasks(tmp_path, 2, process)
    assert list(tmp_path.glob("ce_parallel-*"))
    process.kill()
    finish(process, tmp_path)


@pytest.mark.parametrize(
    ("name", "delay"),
    [
        ("processes", 0.3),
        pytest.param("joblib-loky", 0.6, marks=slow),
        *(
            pytest.param(name, delay, marks=slow)
            for name in ("processes", "fork", "forkserver", "spawn", "joblib-loky")
            for delay in (0.0, 0.15)
        ),
    ],
)
def test_workers_that_only_start_follow_a_killed_caller(name, delay, tmp_path):
    """Nor do those stay that never got a call."""
    body = "print('go', flush=True); list(ex.map(nap, [0.01] * 1000, shared=np.zeros(100_000)))"
    process = start(tmp_path, name, body)
    assert process.stdout.readline() == "go\n"
    time.sleep(delay)
    process.kill()
    finish(process, tmp_path)


# What is alive when the interpreter exits.
EXITS = {
    "iterator": """
        results = ex.map(nap, [0.01] * 10**6, shared=np.zeros(100_000), chunksize=1)
        next(results)
    """,
    "dropped": """
        next(ex.map(nap, [0.01] * 10**6, shared=np.zeros(100_000), chunksize=1))
    """,
    "tasks": """
        results = ex.map(nap, [{nap}] * 100, shared=np.zeros(100_000), chunksize=1)
        while not list(folder.glob("task-*")):
            time.sleep(0.01)
    """,
    "timed out": """
        ex.config.set_params(task_timeout=0.2)
        try:
            list(ex.map(nap, [{nap}] * 8, shared=np.zeros(100_000), chunksize=1))
        except TimeoutError:
            pass
    """,
}
KEPT = "\nglobal kept\nkept = dict(locals())\n"  # until the interpreter goes

QUICK_EXITS = {
    *(("tasks", name) for name in ("threads", "processes", "users-processes")),
    ("iterator", "processes"),
    ("timed out", "joblib-multiprocessing"),
    ("dropped", "joblib-multiprocessing"),
}
LIVE = [
    pytest.param(*values, marks=() if values in QUICK_EXITS else slow)
    for values in itertools.product(EXITS, STRATEGIES)
    if values != ("tasks", "serial") and (values[0] != "dropped" or values[1] in DEFAULT)
]


@pytest.mark.parametrize(("what", "name"), LIVE)
def test_an_interpreter_exits_with_a_live_executor(what, name, tmp_path):
    """Silently, without running what was only sent ahead."""
    theirs = ("serial", "users-threads", "users-processes", "auto")  # nobody may end these tasks
    abandoned = IN_PROCESSES if what == "tasks" else STRATEGIES  # threads are, when time is over
    nap = LONG_NAP if name in abandoned and name not in theirs else 0.5
    body = textwrap.dedent(EXITS[what].format(nap=nap))
    process = start(tmp_path, name, body if what == "dropped" else body + KEPT)
    out, err = finish(process, tmp_path, seconds=30)
    assert (process.returncode, out) == (0, "")
    # multiprocessing's tracker now and then reports a semaphore that was unlinked already.
    tracker = "resource_tracker: '/loky" in err and "[Errno 2] No such file" in err
    assert "Traceback" not in err
    assert err == "" or (tracker and name in ("fork", "forkserver", "spawn"))


@pytest.mark.parametrize("name", first(DEFAULT, ["processes"]))
def test_submitted_calls_finish_before_the_interpreter_exits(name, tmp_path):
    """As those of the standard library do."""
    done = "lambda: (time.sleep(0.5), (folder / 'done').touch())"
    process = start(tmp_path, name, f"ex.submit({done})" + KEPT)
    _, err = finish(process, tmp_path)
    assert (process.returncode, err) == (0, "")
    assert (tmp_path / "done").exists()


def test_a_map_in_another_thread_completes_after_the_main_thread_ended(tmp_path):
    """What it had sent is taken back, and runs in that thread."""
    process = run(
        tmp_path,
        """
import threading

def consume():
    with ParallelExecutor(ParallelConfig(preferred="processes", max_workers=2)) as ex:
        print(list(ex.map(nap, [0.01] * 100, shared=0, chunksize=1)) == [0.01] * 100)

thread = threading.Thread(target=consume)
thread.start()
while not list(folder.glob("task-*")):
    time.sleep(0.01)
""",
    )
    out, err = finish(process, tmp_path)
    assert (process.returncode, out, err) == (0, "True\n", "")


def listed(*names):
    """Return source code of the strategies of these names."""
    return "[" + ", ".join(STRATEGIES[name] for name in names) + "]"


UNGUARDED = [name for name in STRATEGIES if name not in ("forkserver", "spawn", "users-processes")]


def test_a_script_without_a_main_guard(tmp_path):
    """Its functions and classes travel by value; it ends with every executor still open."""
    process = run(
        tmp_path,
        f"""
class Point:
    def __init__(self, x):
        self.x = x

def shift(p):
    return Point(p.x + 1)

executors = []
for strategy in {listed(*UNGUARDED)}:
    executors.append(ParallelExecutor(ParallelConfig(preferred=strategy, max_workers=2)))
    results = list(executors[-1].map(shift, [Point(1), Point(2)]))
    print([p.x for p in results], all(type(p) is Point for p in results))
""",
    )
    out, err = finish(process, tmp_path, seconds=40)
    assert (process.returncode, err) == (0, "")
    assert out.splitlines() == ["[2, 3] True"] * len(UNGUARDED)


@pytest.mark.slow
def test_use_from_a_thread_while_others_run(tmp_path):
    """Forking ones included: what they fork holds no lock of another thread."""
    process = run(
        tmp_path,
        f"""
import logging, threading

def main():
    stop = threading.Event()
    log = logging.getLogger("busy")

    def busy():
        while not stop.wait(0.001):
            log.info("a lock is taken and released")

    def use(strategy):
        with ParallelExecutor(ParallelConfig(preferred=strategy, max_workers=2)) as ex:
            print(list(ex.map(lambda x: x * x, range(5))), ex.report.fallbacks)

    others = [threading.Thread(target=busy) for _ in range(3)]
    for thread in others:
        thread.start()
    for strategy in {listed(*STRATEGIES)}:
        user = threading.Thread(target=use, args=(strategy,))
        user.start()
        user.join()
    stop.set()

if __name__ == "__main__":
    main()
""",
    )
    out, err = finish(process, tmp_path, seconds=60)
    assert (process.returncode, err) == (0, "")
    assert out.splitlines() == ["[0, 1, 4, 9, 16] []"] * len(STRATEGIES)


REPL = """
def twice(x):
    return 2 * x

class Box:
    def __init__(self, x):
        self.x = x

for strategy in {strategies}:
    with ParallelExecutor(ParallelConfig(preferred=strategy, max_workers=2)) as ex:
        print(list(ex.map(twice, [1, 2])), [b.x for b in ex.map(Box, "ab")], ex.report.fallbacks)

"""


def test_functions_of_an_interactive_session(tmp_path):
    """Typed in after the script that opened the session; no start method needs a file."""
    process = run(tmp_path, "", "-i", stdin=subprocess.PIPE)
    process.stdin.write(REPL.format(strategies=listed(*UNGUARDED)))
    process.stdin.close()
    process.stdin = None
    out, err = finish(process, tmp_path, seconds=40)
    assert process.returncode == 0, err
    assert out.splitlines() == ["[2, 4] ['a', 'b'] []"] * len(UNGUARDED), err


@pytest.mark.parametrize("name", ["processes", pytest.param("joblib-multiprocessing", marks=slow)])
def test_files_that_may_not_grow(name, tmp_path):
    """A limit on their size fails like a full disk."""
    body = """
        import resource, warnings
        warnings.simplefilter("ignore")
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        with ex:
            print(list(ex.map(lambda s, x: s[x], range(3), shared=list(range(10**6)))))
            print(ex.report.fallbacks[0].count("File too large"))
            print(list(ex.map(abs, [-1, -2])), ex.report.fallbacks)
    """
    out, err = finish(start(tmp_path, name, body), tmp_path)
    assert (out.splitlines(), err) == (["[0, 1, 2]", "1", "[1, 2] []"], "")
