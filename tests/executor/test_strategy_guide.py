"""The strategy that the guide on writing one quotes, and how others' strategies are found."""

import shutil
import sys
from pathlib import Path

import pytest

from ce_parallel.executor import ParallelConfig, ParallelExecutor
from ce_parallel.executor.testing import StrategyContract, square

pytestmark = pytest.mark.timeout(60)
DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(autouse=True, scope="module")
def installed(tmp_path_factory):
    """Install the distribution of the guide: its module, and its entry points."""
    site = tmp_path_factory.mktemp("site-packages")
    shutil.copy(DOCS / "command_strategy.py", site)
    info = site / "ce_parallel_command-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: ce-parallel-command\nVersion: 1.0\n"
    )
    (info / "entry_points.txt").write_text(
        "[ce_parallel.strategies]\n"
        "command = command_strategy:CommandStrategy\n"
        "absent = module_that_is_not_there:Strategy\n"
        "other = pathlib:Path\n"
    )
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(site)
    yield site
    patch.undo()
    sys.modules.pop("command_strategy", None)


@pytest.mark.slow
class TestCommandStrategy(StrategyContract):
    def make_strategy(self):
        from command_strategy import CommandStrategy

        return CommandStrategy()


def shout(x):
    print("what a task prints")
    return x


def test_what_tasks_print_stays_out_of_the_replies():
    with ParallelExecutor(ParallelConfig(preferred="command", max_workers=1)) as executor:
        assert list(executor.map(shout, range(3))) == [0, 1, 2]


def test_a_command_that_starts_no_python_is_replaced_by_the_caller():
    from command_strategy import CommandStrategy

    from ce_parallel.exceptions import FallbackWarning

    config = ParallelConfig(preferred=CommandStrategy("no-such-command"), max_workers=1)
    with (
        ParallelExecutor(config) as executor,
        pytest.warns(FallbackWarning, match=r"'command' could not start .*no-such-command"),
    ):
        assert list(executor.map(square, range(5))) == [0, 1, 4, 9, 16]


class TestEntryPoints:
    def test_by_name(self):
        with ParallelExecutor(ParallelConfig(preferred="command", max_workers=2)) as executor:
            assert list(executor.map(square, range(5))) == [0, 1, 4, 9, 16]
            assert (executor.report.strategy, executor.report.n_workers) == ("command", 2)
            assert executor.report.decision.step == 4

    def test_by_environment(self, monkeypatch):
        monkeypatch.setenv("CE_PARALLEL", "command,workers=1")
        with ParallelExecutor() as executor:
            assert list(executor.map(square, range(5))) == [0, 1, 4, 9, 16]
            assert (executor.report.strategy, executor.report.n_workers) == ("command", 1)
            assert executor.report.decision.step == 3

    def test_an_unknown_name_lists_those_that_are_known(self):
        with (
            ParallelExecutor(ParallelConfig(preferred="comand")) as executor,
            pytest.raises(ValueError, match=r"'absent', 'command', 'joblib'.*Got 'comand'"),
        ):
            executor.map(square, range(5))

    def test_one_that_cannot_be_imported(self):
        with (
            ParallelExecutor(ParallelConfig(preferred="absent")) as executor,
            pytest.raises(
                ImportError, match="Install the package that provides the strategy 'absent'"
            ),
        ):
            executor.map(square, range(5))

    def test_one_that_is_no_strategy(self):
        with (
            ParallelExecutor(ParallelConfig(preferred="other")) as executor,
            pytest.raises(TypeError, match="'other' must be a ce_parallel Strategy"),
        ):
            executor.map(square, range(5))
