"""Run calls in interpreters that any command starts: here, under `nice`, in a container, by ssh.

caller, one thread per worker                    worker
pickle a call  ---- standard input ---->  read it, call it, pickle the reply
fill a future  <--- standard output ----
"""

import contextlib
import pickle
import sys
from concurrent.futures import BrokenExecutor, Future
from queue import SimpleQueue
from subprocess import PIPE, Popen
from threading import Thread

from ce_parallel.executor import Strategy

# What tasks print must not get between the replies, so it goes to standard error.
WORKER = """
import os, pickle, sys
replies = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)
while sys.stdin.buffer.peek(1):
    pickle.dump(pickle.load(sys.stdin.buffer)(), replies)
    replies.flush()
"""


class CommandStrategy(Strategy):
    """Start every worker by a command that ends in a Python interpreter with ce_parallel.

    ``CommandStrategy("ssh", "node7", "python3")``; without arguments, this interpreter.
    """

    name = "command"
    crosses_process = True

    def __init__(self, *command):
        self.command = command

    def start(self, n_workers):
        """Start the workers, and a thread to talk to each."""
        command = [*(self.command or [sys.executable]), "-c", WORKER]
        self._calls = SimpleQueue()
        pipes = {"stdin": PIPE, "stdout": PIPE, "start_new_session": True}
        self._workers = [Popen(command, **pipes) for _ in range(n_workers)]
        self._threads = [Thread(target=self._serve, args=[w], daemon=True) for w in self._workers]
        for thread in self._threads:
            thread.start()

    def submit(self, call):
        """Put the call where the first idle worker finds it."""
        future = Future()
        self._calls.put((future, call))
        return future

    def stop(self, *, kill=False):
        """Let the workers finish what was submitted, or end them now."""
        for worker in self._workers:
            if kill:
                worker.kill()
            self._calls.put(None)
        for thread in self._threads:
            thread.join()

    def _serve(self, worker):
        """Pass calls to one worker. One that has died fails them all, each at once."""
        with contextlib.suppress(OSError), worker:  # leaving closes the pipes and waits
            while (job := self._calls.get()) is not None:
                future, call = job
                if not future.set_running_or_notify_cancel():
                    continue
                try:
                    pickle.dump(call, worker.stdin)
                    worker.stdin.flush()
                    future.set_result(pickle.load(worker.stdout))
                except (OSError, EOFError, pickle.UnpicklingError) as error:
                    future.set_exception(BrokenExecutor(f"a worker has died ({error!r})"))
