"""Rules: where the feature space is cut, what is tried instead, and what came of it.

    _discretize   reference rows and their predictions -> edges of each feature
    _grid         edges and reference rows -> cells, alternative regions, perturbation values
    _block        plan and tile -> mean prediction of the alternative regions (runs in workers)
    _text         a region of a feature -> a sentence such as "2.00 < age <= 3.50"

The grid is computed once per fit and kind. Everything ragged is flat arrays plus pointers.
"""

from ce_parallel.rules._block import Tile, TileResult, TileShape, explain_tile, make_tiles
from ce_parallel.rules._discretize import MAX_DEPTH, fit_edges
from ce_parallel.rules._grid import Grid, build_grid
from ce_parallel.rules._text import rule_text

__all__ = [
    "MAX_DEPTH",
    "Grid",
    "Tile",
    "TileResult",
    "TileShape",
    "build_grid",
    "explain_tile",
    "fit_edges",
    "make_tiles",
    "rule_text",
]
