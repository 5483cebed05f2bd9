"""What importing ce_parallel adds to importing scikit-learn and joblib.

Run as ``python tests/benchmarks/bench_import.py``: fresh interpreters in turn.
"""

import subprocess
import sys

from timing import paired_seconds, ratio

NEEDED = "import sklearn, joblib"


def main():
    """Print the ratio of the medians of pairs."""
    codes = {"without": NEEDED, "with": f"{NEEDED}, ce_parallel"}
    runs = {
        name: lambda code=code: subprocess.run([sys.executable, "-c", code], check=True)
        for name, code in codes.items()
    }
    seconds = paired_seconds(runs, repeat=31)
    print(f"importing ce_parallel adds {ratio(seconds, 'with', 'without') - 1:+.1%}")


if __name__ == "__main__":
    main()
