"""Rules: where the feature space is cut, what is tried instead, and what came of it.

    _discretize   reference rows and their predictions -> edges (or categories) of each feature
    _grid         edges, categories, reference rows -> cells, alternative regions, their values
    _block        plan and tile -> mean prediction of the alternative regions (runs in workers)
    _conjunctions single rules -> rules that hold together, and their prediction (in workers)
    _filters      rules -> which of them support, or change, the prediction
    _ranking      rules -> the order of their importance
    _text         a region of a feature -> a sentence such as "2.00 < age <= 3.50" or "deck = C"

The grid is computed once per fit and kind. Everything ragged is flat arrays plus pointers.
"""

from ce_parallel.rules._block import (
    Tile,
    TileResult,
    TileShape,
    block_rows,
    explain_tile,
    make_tiles,
    ranges,
)
from ce_parallel.rules._conjunctions import (
    Conjunctions,
    RuleValues,
    evaluate_conjunctions,
    make_conjunction_tiles,
    pair_rules,
)
from ce_parallel.rules._discretize import MAX_DEPTH, fit_categories, fit_edges
from ce_parallel.rules._filters import Alternatives, select_rules
from ce_parallel.rules._grid import Grid, build_grid
from ce_parallel.rules._ranking import rank_by_ensured, rank_by_uncertainty, rank_by_weight
from ce_parallel.rules._stability import Stability
from ce_parallel.rules._text import rule_text

__all__ = [
    "MAX_DEPTH",
    "Alternatives",
    "Conjunctions",
    "Grid",
    "RuleValues",
    "Stability",
    "Tile",
    "TileResult",
    "TileShape",
    "block_rows",
    "build_grid",
    "evaluate_conjunctions",
    "explain_tile",
    "fit_categories",
    "fit_edges",
    "make_conjunction_tiles",
    "make_tiles",
    "pair_rules",
    "rank_by_ensured",
    "rank_by_uncertainty",
    "rank_by_weight",
    "ranges",
    "rule_text",
    "select_rules",
]
