"""The options of `nmref prune` that make a recipe."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nmref.cli.common import positive, read_text
from nmref.errors import Code, NmrefError

if TYPE_CHECKING:
    from nmref.prune.recipe.document import Saved
    from nmref.prune.settings import Recipe

PRESETS = ("paper", "fast", "sparsegpt", "best")

CHOOSING = ("pattern", "outliers", "score", "exponent", "equalize", "permute", "owl")
"""Options of what is chosen, which given masks leave nothing to choose for."""


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Options of the recipe; one that is not given leaves what the preset or recipe says."""
    group = parser.add_argument_group("recipe")
    source = group.add_mutually_exclusive_group()
    source.add_argument("--preset", choices=PRESETS, help="a recipe by name")
    source.add_argument("--recipe", type=Path, metavar="TOML", help="a recipe from a file")
    group.add_argument("--pattern", metavar="N:M", help="of the base, N stored")
    group.add_argument("--outliers", metavar="n:256", help="4:256, 8:256, 16:256 or none")
    group.add_argument(
        "--score", choices=("magnitude", "wanda", "relative", "ria", "gradient"), help="importance"
    )
    group.add_argument("--exponent", type=float, metavar="A", help="of RIA's activation norm")
    group.add_argument(
        "--equalize",
        nargs="?",
        const="multiply",
        choices=("multiply", "divide", "none"),
        help="scale columns for the score (paper, Eq. 1); multiply if nothing is said",
    )
    group.add_argument(
        "--permute", choices=("none", "heuristic", "hungarian"), help="channels, where it folds"
    )
    group.add_argument(
        "--owl", type=float, metavar="SPAN", help="N by layer; SPAN between lowest and highest"
    )
    group.add_argument(
        "--solver", choices=("none", "sparsegpt", "alps"), help="update of the weights that stay"
    )
    group.add_argument(
        "--variance-correction",
        nargs="?",
        const="rest",
        choices=("rest", "dense", "none"),
        help="variance to restore (paper, Eq. 2); rest, without outliers, if nothing is said",
    )
    group.add_argument(
        "--ebft", action=argparse.BooleanOptionalAction, help="fine-tune block by block"
    )
    group.add_argument("--epochs", type=positive, help="of fine-tuning")
    group.add_argument("--rate", type=float, help="of fine-tuning, at its beginning")


def recipe_of(args: argparse.Namespace) -> Saved:
    """Preset, recipe file or default, changed by the options.  Raises T_ARGUMENT, T_FILE.

    Options that would choose another mask are refused where masks are given.
    """
    from nmref.pattern import NMPattern
    from nmref.prune.recipe.document import Saved, check, read
    from nmref.prune.recipe.presets import preset
    from nmref.prune.settings import Recipe

    for name in CHOOSING:
        if args.mask is not None and getattr(args, name) is not None:
            got, want = "given with --mask", "one of them"
            raise NmrefError(Code.T_ARGUMENT, f"--{name}", got, want)
    if args.recipe is not None:
        saved = read(read_text(args.recipe, "recipe"), str(args.recipe))
    elif args.preset is not None:
        saved = Saved(preset(args.preset))
    else:
        saved = Saved(Recipe(NMPattern(8, 16), NMPattern(16, 256)))
    return replace(saved, recipe=check(_changed(saved.recipe, args)))


def _changed(recipe: Recipe, args: argparse.Namespace) -> Recipe:
    from nmref.pattern import base_pattern, outlier_pattern
    from nmref.prune.settings import Allocation, Correction, Equalization, Tuning

    changes: dict[str, object] = {}
    if args.pattern is not None:
        changes["pattern"] = base_pattern(args.pattern)
    if args.outliers is not None:
        none = args.outliers == "none"
        changes["outliers"] = None if none else outlier_pattern(args.outliers)
    for name in ("score", "exponent", "permute"):
        if getattr(args, name) is not None:
            changes[name] = getattr(args, name)
    if args.equalize is not None:
        how = replace(recipe.equalize or Equalization(), direction=args.equalize)
        changes["equalize"] = None if args.equalize == "none" else how
    if args.owl is not None:
        changes["allocate"] = replace(recipe.allocate or Allocation(), span=args.owl)
    if args.solver is not None:
        changes["solver"] = replace(recipe.solver, method=args.solver)
    if args.variance_correction is not None:
        numerator = args.variance_correction
        correct = replace(recipe.correct or Correction(), numerator=numerator)
        changes["correct"] = None if numerator == "none" else correct
    tune = recipe.tune
    if args.ebft is not None:
        tune = (tune or Tuning()) if args.ebft else None
    wanted = {name: getattr(args, name) for name in ("epochs", "rate")}
    wanted = {name: value for name, value in wanted.items() if value is not None}
    if tune is not None:
        tune = replace(tune, **wanted)
    elif wanted:
        where = f"--{next(iter(wanted))}"
        raise NmrefError(Code.T_ARGUMENT, where, "no fine-tuning", "--ebft with it")
    return replace(recipe, **changes, tune=tune)  # type: ignore[arg-type]
