"""The checks that are programs of their own: lint, format, types, import direction, docs."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ce_parallel

ROOT = Path(__file__).resolve().parents[1]

# import-linter has no `python -m` form, and its console script need not be on PATH.
LINT_IMPORTS = "from importlinter.cli import lint_imports_command as main; main()"

OPTIONAL = [
    "calibrated_explanations",
    "cloudpickle",
    "crepes",
    "dask",
    "distributed",
    "matplotlib",
    "opentelemetry",
    "pandas",
    "polars",
    "prometheus_client",
    "psutil",
    "pyarrow",
    "ray",
    "tqdm",
    "venn_abers",
]


def run(*args):
    """Run this Python with `args` in the repository root; fail with what it printed."""
    done = subprocess.run(
        [sys.executable, *map(str, args)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        pytest.fail(f"{' '.join(map(str, args))}\n\n{done.stdout}", pytrace=False)
    return done.stdout


@pytest.mark.parametrize(
    "args",
    [
        pytest.param(["-m", "ruff", "check", "."], id="lint"),
        pytest.param(["-m", "ruff", "format", "--check", "."], id="format"),
        pytest.param(["-m", "mypy"], id="types"),
        pytest.param(["-c", LINT_IMPORTS, "--no-cache", "--no-logo"], id="import-direction"),
    ],
)
def test_tool_is_content(args):
    run(*args)


def test_docs_build_without_warnings(tmp_path):
    # -E and a doctree folder of our own: nothing is reused from an earlier build.
    run("-m", "sphinx", "-W", "-q", "-E", "-d", tmp_path / "doctrees", "docs", tmp_path / "html")


def test_api_page_names_every_public_name():
    page = (ROOT / "docs" / "api.rst").read_text(encoding="utf-8")
    documented = re.findall(r"^\.\. auto(?:class|function|exception):: (\w+)$", page, re.M)
    listed = re.findall(r"^   (\w+)$", page, re.M)
    public = [name for name in ce_parallel.__all__ if not name.startswith("__")]
    assert sorted(documented) == sorted(public)
    assert sorted(listed) == sorted(public)


def test_citation_has_the_version_of_the_package():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.+)$", citation, re.M) == [ce_parallel.__version__]


SIDE_EFFECTS = """
import json, logging, os, random, sys, threading, warnings
import joblib, numpy, sklearn
import sklearn.pipeline, sklearn.tree, sklearn.model_selection  # they have effects of their own

def state():
    return {
        "environment": dict(os.environ),
        "global random numbers": repr((random.getstate(), numpy.random.get_state())),
        "logging": repr((logging.root.handlers, logging.root.level)),
        "numpy.seterr": numpy.geterr(),
        "threads": threading.active_count(),
        "warning filters": repr(warnings.filters),
    }

def packages():
    return {name.partition(".")[0] for name in sys.modules}

before, loaded = state(), packages()
import ce_parallel
after = state()
print(json.dumps({
    "changed": [key for key in before if before[key] != after[key]],
    "loaded": sorted(packages() - loaded),
}))
"""


def test_importing_changes_nothing_and_loads_nothing_optional():
    seen = json.loads(run("-c", SIDE_EFFECTS))
    assert seen["changed"] == []
    assert [name for name in seen["loaded"] if name in OPTIONAL] == []
