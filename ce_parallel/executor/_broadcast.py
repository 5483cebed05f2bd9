"""Send an object to worker processes once: the function of a map, and its shared state.

    caller                          one file, in a fresh temporary folder      each worker
    pickle protocol 5  ----write--> | stream | array | array | ... |  --mmap--> loads once;
    (arrays out of band)              64-byte aligned, read-only                arrays are
                                                                                views on the map

Calls carry a `Handle`: a token and where the bytes are. Small objects travel inside it. A
worker that cannot reach the file, on another machine for example, says so (`MissingError`);
the call then comes again with the bytes in it, which that worker keeps by the token.
"""

import contextlib
import mmap
import os
import pickle
import shutil
import tempfile
import threading
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from joblib.externals.loky.backend import resource_tracker

try:
    import cloudpickle  # type: ignore[import-untyped]
except ImportError:  # joblib < 1.6 brings its own
    from joblib.externals import cloudpickle

INLINE_BYTES = 64 * 1024  # below this a file costs more than the bytes in each call
ALIGNMENT = 64
KEPT_IN_CALLER = 4
KEPT_IN_WORKER = 4  # function and shared state of two maps; more would hold on to old plans


class MissingError(LookupError):
    """A shared object was not loaded here before, and its file cannot be opened."""


class Handle(NamedTuple):
    """Leads to a pickled object: `spans` (offset, length) of the bytes `inline`, or of a file.

    The first span is the pickle stream, the others its out-of-band buffers.
    """

    token: str
    n_bytes: int
    spans: tuple[tuple[int, int], ...]
    inline: bytes | None = None
    path: str | None = None

    def load(self) -> Any:
        """Return the object, from this process' cache when it was loaded before.

        Its arrays are read-only views on the file's memory map, or on the bytes instead of it.

        Raises
        ------
        MissingError
            The object was not loaded before, and its file cannot be opened here.
        """
        with _loaded_lock:
            if self.token not in _loaded:
                _loaded[self.token] = self._read()
                while len(_loaded) > KEPT_IN_WORKER:
                    _loaded.popitem(last=False)
            _loaded.move_to_end(self.token)
            return _loaded[self.token]

    def with_bytes(self) -> Self:
        """Return the handle with what its file holds, for workers that cannot open it."""
        if self.path is None:
            return self
        return self._replace(inline=Path(self.path).read_bytes(), path=None)

    def _read(self) -> Any:
        view = memoryview(self._map() if self.inline is None else self.inline)
        parts = [view[offset : offset + length] for offset, length in self.spans]
        return pickle.loads(parts[0], buffers=parts[1:])

    def _map(self) -> mmap.mmap:
        try:
            with open(self.path or "", "rb") as file:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise MissingError(self.token) from error


_loaded: OrderedDict[str, Any] = OrderedDict()
_loaded_lock = threading.RLock()


class Broadcast:
    """What one executor has sent: makes handles, removes their files.

    An object that says it cannot change (see `is_frozen`) is recognised by identity and
    sent once for the life of the executor; anything else is sent once per map, because it
    may have been modified in between.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._folder: str | None = None
        self._remove: weakref.finalize[..., Any] | None = None
        self._known: OrderedDict[int, tuple[Any, Handle]] = OrderedDict()
        self._users: dict[str, int] = {}

    @contextlib.contextmanager
    def lease(self, *objects: Any) -> Iterator[tuple[Handle, ...]]:
        """Hold handles of `objects`, whose files stay in place within the block.

        Raises
        ------
        Exception
            Whatever pickling an object, or writing its file, raises.
        """
        handles: list[Handle] = []
        try:
            for obj in objects:
                handles.append(self._acquire(obj))
            yield tuple(handles)
        finally:
            with self._lock:
                for token in [h.token for h in handles if h.token in self._users]:
                    self._users[token] -= 1
                self._evict()

    def knows(self, obj: Any) -> bool:
        """Say whether `obj` has been sent before and need not be sent again."""
        return id(obj) in self._known and is_frozen(obj)

    def close(self) -> None:
        """Remove every file, once workers have gone."""
        with self._lock:
            self._known.clear()
            self._users.clear()
            if self._remove is not None:
                self._remove()
            self._folder = self._remove = None

    def _acquire(self, obj: Any) -> Handle:
        with self._lock:
            if self.knows(obj):
                handle = self._known[id(obj)][1]
            else:
                handle = self._send(obj)
                self._known[id(obj)] = (obj, handle)  # holding obj keeps its id its own
            self._known.move_to_end(id(obj))
            self._users[handle.token] = self._users.get(handle.token, 0) + 1
            return handle

    def _evict(self) -> None:
        """Forget what is not in use: all that may change, and the oldest of the rest."""
        wanted = {key for key, (obj, _) in self._known.items() if is_frozen(obj)}
        wanted = set([key for key in self._known if key in wanted][-KEPT_IN_CALLER:])
        for key in [key for key in self._known if key not in wanted]:
            if not self._users.get(self._known[key][1].token):
                del self._known[key]
        live = {handle.token for _, handle in self._known.values()}
        for token in [t for t, n in self._users.items() if n == 0 and t not in live]:
            del self._users[token]
            if self._folder is not None:
                with contextlib.suppress(OSError):  # Windows: still mapped; goes with the folder
                    (Path(self._folder) / token).unlink(missing_ok=True)

    def _send(self, obj: Any) -> Handle:
        buffers: list[pickle.PickleBuffer] = []
        stream = dumps(obj, buffer_callback=buffers.append)
        raw = [memoryview(stream)] + [buffer.raw() for buffer in buffers]
        size = sum(part.nbytes for part in raw)
        token = uuid.uuid4().hex
        if size <= INLINE_BYTES:
            inline = stream
            if buffers:  # in band: the handle is one string of bytes
                inline = dumps(obj)
            return Handle(token, size, ((0, len(inline)),), inline=inline)
        path = Path(self._make_folder(size)) / token
        try:
            return Handle(token, size, _write(path, raw), path=str(path))
        except BaseException:  # a full disk should not stay full
            path.unlink(missing_ok=True)
            raise

    def _make_folder(self, size: int) -> str:
        if self._folder is None:
            resource_tracker.ensure_running()  # before there is something to clean up
            folder = tempfile.mkdtemp(prefix="ce_parallel-", dir=_root(size))
            # The tracker is a process of loky's that outlives a killed caller.
            self._remove = weakref.finalize(self, _remove_folder, folder, os.getpid())
            resource_tracker.register(folder, "folder")
            self._folder = folder
        return self._folder


def dumps(obj: Any, **options: Any) -> bytes:
    """Pickle by cloudpickle: functions and classes of a script or notebook travel by value."""
    return bytes(cloudpickle.dumps(obj, protocol=pickle.HIGHEST_PROTOCOL, **options))


def is_frozen(obj: Any) -> bool:
    """Say whether `obj` promises not to change: a frozen dataclass, or a plain constant.

    A frozen dataclass is trusted with what it holds.
    """
    if is_dataclass(obj) and not isinstance(obj, type):
        return bool(obj.__dataclass_params__.frozen)  # type: ignore[attr-defined]
    if isinstance(obj, np.ndarray):
        return obj.base is None and not obj.flags.writeable
    if isinstance(obj, tuple):
        return all(map(is_frozen, obj))
    return isinstance(obj, str | bytes | int | float | complex | None)


def _write(path: Path, parts: list[memoryview]) -> tuple[tuple[int, int], ...]:
    """Write parts one after the other, aligned; return their (offset, length)."""
    spans, offset = [], 0
    with open(path, "wb") as file:
        for part in parts:
            file.write(bytes(-offset % ALIGNMENT))
            offset += -offset % ALIGNMENT
            file.write(part)
            spans.append((offset, part.nbytes))
            offset += part.nbytes
    return tuple(spans)


def _root(size: int) -> str | None:
    """Return where temporary folders go: joblib's choice, memory where there is plenty."""
    chosen = os.environ.get("JOBLIB_TEMP_FOLDER")
    if chosen:
        return chosen
    memory = "/dev/shm"
    with contextlib.suppress(OSError):
        if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 4 * size + 2**28:
            return memory
    return None


def _remove_folder(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # a forked child must not clean up after its parent
        shutil.rmtree(folder, ignore_errors=True)
        resource_tracker.unregister(folder, "folder")
