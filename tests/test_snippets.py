"""Every Python block of the README and of the guide runs, as a reader would run it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


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
def test_page_runs_as_a_script(name, tmp_path):
    # A real script, because a worker process may import its caller: what is printed
    # on the page has to work without an `if __name__ == "__main__"` guard.
    path = tmp_path / "page.py"
    path.write_text(SCRIPTS[name], encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        pytest.fail(f"{name}, whose line numbers these are:\n{done.stderr}", pytrace=False)
