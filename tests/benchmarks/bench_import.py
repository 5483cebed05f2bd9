"""What importing ce_parallel adds to importing scikit-learn and joblib.

Run as ``python tests/benchmarks/bench_import.py``. Each of many fresh interpreters times both, one
after the other, so that a pair sees the machine in one mood.
"""

import subprocess
import sys
from statistics import median

REPEAT = 41
CHILD = """
from time import perf_counter
begin = perf_counter()
import sklearn, joblib
between = perf_counter()
import ce_parallel
print(between - begin, perf_counter() - between)
"""


def main():
    """Print the median over interpreters of what is added, and the median times."""
    runs = []
    for _ in range(REPEAT):
        done = subprocess.run([sys.executable, "-c", CHILD], check=True, capture_output=True)
        runs.append([float(word) for word in done.stdout.split()])
    needed, added = (1e3 * median(column) for column in zip(*runs[1:], strict=True))
    share = median(ours / theirs for theirs, ours in runs[1:])
    print(f"scikit-learn and joblib {needed:.0f} ms, ce_parallel {added:.0f} ms: {share:+.1%}")


if __name__ == "__main__":
    main()
