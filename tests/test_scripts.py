"""The README, the guide and the examples run as a reader would run them: as plain scripts."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run_script(path, folder):
    """Run a script in `folder`, warnings as errors; return what it printed.

    A real script, because a worker process may import its caller: what is printed on a page has to
    work without an `if __name__ == "__main__"` guard.
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        pytest.fail(f"{path.name}, whose line numbers these are:\n{done.stderr}", pytrace=False)
    return done.stdout


def python_blocks(text):
    """The ```python blocks of a page as one script, each line where it stands on the page."""
    lines, inside = [], False
    for line in text.splitlines():
        fence = re.match(r"```(\w*)", line)
        if fence:
            inside = fence.group(1) == "python"
        lines.append(line if inside and not fence else "")
    return "\n".join(lines)


SCRIPTS = {page.name: python_blocks(page.read_text(encoding="utf-8")) for page in PAGES}


@pytest.mark.parametrize("name", [name for name, script in SCRIPTS.items() if script.strip()])
def test_page(name, tmp_path):
    path = tmp_path / f"{name}.py"
    path.write_text(SCRIPTS[name], encoding="utf-8")
    run_script(path, tmp_path)


SLOW = {"plot_best_parallel_config.py": pytest.mark.slow}  # a search


@pytest.mark.parametrize(
    "path", [pytest.param(p, id=p.name, marks=SLOW.get(p.name, ())) for p in EXAMPLES]
)
def test_example(path, tmp_path):
    printed = run_script(path, tmp_path)
    if path.name == "plot_quickstart.py":
        for phrase in ("is malignant: 0.", "raises it by", "weight from", "rows explained"):
            assert phrase in printed
        assert (tmp_path / "quickstart.png").stat().st_size > 10_000
