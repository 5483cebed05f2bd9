"""Every example runs as a script, without a warning, and says what it promises."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_runs(path, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    if path.name == "plot_quickstart.py":
        for phrase in ("malignant: 0.", "raises it by", "weight from", "rows explained", "using"):
            assert phrase in done.stdout
        assert (tmp_path / "quickstart.png").stat().st_size > 10_000
