"""ParallelConfig and CE_PARALLEL say what they mean, and refuse the rest in a sentence."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import pytest
from sklearn.base import clone

from ce_parallel.executor import ParallelConfig, ProcessPoolExecutorStrategy
from ce_parallel.executor._config import Directives, read_environment, validate

pytestmark = pytest.mark.timeout(60)


def test_it_is_a_parameter_object():
    config = ParallelConfig(preferred="threads", max_workers=2)
    assert clone(config).get_params() == config.get_params()
    assert pickle.loads(pickle.dumps(config)).get_params() == config.get_params()
    assert config.set_params(max_workers=3).max_workers == 3
    assert repr(ParallelConfig()) == "ParallelConfig()"
    with pytest.raises(ValueError, match="max_worker"):
        config.set_params(max_worker=3)


@pytest.mark.parametrize("copy", [clone, deepcopy])
def test_copies_share_strategies_and_executors(copy):
    strategy = ProcessPoolExecutorStrategy()
    with ThreadPoolExecutor(1) as pool:
        for live in (strategy, pool):
            assert copy(ParallelConfig(preferred=live)).preferred is live


def test_a_live_executor_does_not_pickle_and_says_so():
    with ThreadPoolExecutor(1) as pool, pytest.raises(TypeError, match="live Executor"):
        pickle.dumps(ParallelConfig(preferred=pool))


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"max_workers": 0}, ValueError, "max_workers must be an int >= 1 or None. Got 0 instead."),
        ({"max_workers": 1.5}, TypeError, "max_workers must be an int >= 1 or None. Got 1.5"),
        ({"max_workers": True}, TypeError, "Got True instead"),
        (
            {"preferred": "nonsense"},
            ValueError,
            "preferred must be 'auto', one of .*'threads'.*"
            "a Strategy or an Executor. Got 'nonsense' instead.",
        ),
        ({"preferred": 42}, TypeError, "Got 42 instead"),
        ({"preferred": None}, TypeError, "Got None instead"),
        ({"task_timeout": 0}, ValueError, "task_timeout must be a number of seconds > 0 or None"),
        ({"task_cost_hint_seconds": "1"}, TypeError, "seconds >= 0 or None. Got '1' instead."),
        ({"task_size_hint_bytes": -1}, ValueError, "task_size_hint_bytes must be an int >= 0"),
        ({"max_payload_bytes": None}, TypeError, "max_payload_bytes must be an int >= 0. Got None"),
        ({"memory_budget_bytes": 0}, ValueError, "memory_budget_bytes must be an int >= 1."),
        ({"releases_gil": "yes"}, TypeError, "releases_gil must be True or False or None."),
        ({"force_serial_on_failure": None}, TypeError, "must be True or False. Got None"),
        ({"start_method": "x"}, ValueError, "start_method must be one of .*'spawn'.* Got 'x'"),
    ],
)
def test_values_are_checked_at_use(params, error, message):
    config = ParallelConfig(**params)
    with pytest.raises(error, match=message):
        validate(config)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Directives()),
        ("off", Directives("off")),
        ("auto", Directives("auto")),
        ("joblib", Directives("joblib")),
        (" threads , workers=4 ", Directives("threads", 4)),
        ("workers=2", Directives(None, 2)),
    ],
)
def test_environment_grammar(monkeypatch, text, expected):
    monkeypatch.setenv("CE_PARALLEL", text)
    assert read_environment() == expected


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "threads,nonsense",
        "workers=0",
        "workers=",
        "workers=x",
        "worker=2",
        "threads,,workers=2",
        "off=1",
    ],
)
def test_an_unknown_directive_is_named_with_what_is_allowed(monkeypatch, text):
    monkeypatch.setenv("CE_PARALLEL", text)
    with pytest.raises(ValueError, match=r"CE_PARALLEL=.*cannot read .*'off'.*workers=N"):
        read_environment()


@pytest.mark.parametrize("text", ["threads,processes", "workers=2,workers=3"])
def test_contradictions_are_refused(monkeypatch, text):
    monkeypatch.setenv("CE_PARALLEL", text)
    with pytest.raises(ValueError, match="gives two values"):
        read_environment()
