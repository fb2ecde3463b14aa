"""nmref prune SRC OUT."""

from __future__ import annotations

import argparse
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmref.cli.common import add_json, note, positive, print_json
from nmref.cli.recipe import add_recipe, recipe_of
from nmref.errors import Code, NmrefError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nmref.model.checkpoint import Checkpoint
    from nmref.prune.masks.maskfile import Mask
    from nmref.prune.recipe.document import Calibration, Saved
    from nmref.prune.settings import Recipe

SAMPLES, LENGTH = 16, 512
MOST_THREADS = 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nmref prune`."""
    parser.epilog = (
        "examples:\n"
        "  nmref prune MODEL OUT --preset fast --calibration text.txt\n"
        "  nmref prune MODEL OUT --pattern 8:16 --outliers 16:256 --score ria --equalize \\\n"
        "      --variance-correction --ebft --calibration text.txt --samples 32 --seqlen 1024\n"
        "  nmref prune MODEL OUT --preset best --calibration text.txt --plan\n\n"
        "Without a preset or a recipe: 8:16 with 16:256 outliers by RIA. Options change what a\n"
        "preset or recipe says. OUT has the recipe beside the weights, as nmref-recipe.toml, and\n"
        "--recipe does it again. An interrupted run leaves OUT.unfinished, and the same command\n"
        "goes on."
    )
    parser.add_argument("source", type=Path, metavar="SRC", help="a dense model folder")
    parser.add_argument("target", type=Path, metavar="OUT", help="the packed model folder to make")
    add_recipe(parser)
    text = parser.add_argument_group("calibration")
    text.add_argument(
        "--calibration", type=Path, metavar="FILE", help="a text; most scores need it"
    )
    text.add_argument("--samples", type=positive, help=f"windows of the text ({SAMPLES})")
    text.add_argument("--seqlen", type=positive, help=f"tokens in a window ({LENGTH})")
    work = parser.add_argument_group("the run")
    work.add_argument(
        "--plan",
        action="store_true",
        help="say what would be done, from sizes alone: neither text nor weights are read",
    )
    work.add_argument("--mask", type=Path, metavar="FILE", help="keep these masks; choose nothing")
    work.add_argument("--save-mask", type=Path, metavar="FILE", help="write the masks, too")
    work.add_argument("--restart", action="store_true", help="do not go on with OUT.unfinished")
    work.add_argument("--threads", type=_threads, metavar="N", help="default: every CPU")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prune and pack, then print the ledger; the folder appears when all is done."""
    from nmref.model.checkpoint import open_checkpoint

    saved = recipe_of(args)
    checkpoint = open_checkpoint(args.source)
    given = _checked_masks(args, checkpoint, saved)
    if args.plan:
        return _plan(args, checkpoint, saved, given)
    samples, calibration = _samples(args, saved.recipe, saved.calibration, given)
    if saved.made_with is not None:
        _warn_of_differences(saved, checkpoint)
    _prune(args, checkpoint, saved.recipe, samples, calibration, given)
    return _ledger(args)


def _checked_masks(
    args: argparse.Namespace, checkpoint: Checkpoint, saved: Saved
) -> Mapping[str, Mask]:
    """The masks of --mask, if any; what `prune` would refuse is refused before the text is read.

    Raises T_FILE, T_ARGUMENT, and what reading masks raises.
    """
    from nmref.model.config import linear_names
    from nmref.prune.masks import maskfile
    from nmref.prune.run import checks

    checks.check_outputs(args.source, args.target, args.save_mask)
    checks.check_packable(saved.recipe)
    given = None if args.mask is None else maskfile.read(args.mask)
    if saved.masks is not None:
        saved.masks.check(given, "--mask")
    if given is None:
        return {}
    checks.check_given(checkpoint, saved.recipe, given)
    dense = len(set(linear_names(checkpoint.config)) - set(given))
    if dense:
        note(f"weights without a mask stay dense: {dense}")
    return given


def _plan(
    args: argparse.Namespace, checkpoint: Checkpoint, saved: Saved, given: Mapping[str, Mask]
) -> int:
    from nmref.prune.report.plan import plan

    windows = _windows(args, saved.calibration)
    text = 0 if args.calibration is None else args.calibration.stat().st_size
    found = plan(checkpoint, saved.recipe, *windows, threads=args.threads, given=given, text=text)
    if args.json:
        print_json(found.as_dict())
    else:
        print(found.text())
    return 0


def _prune(
    args: argparse.Namespace,
    checkpoint: Checkpoint,
    recipe: Recipe,
    samples: list[list[int]],
    calibration: Calibration | None,
    given: Mapping[str, Mask],
) -> None:
    from tqdm import tqdm

    from nmref.prune import prune
    from nmref.prune.run.work import work_folder

    try:
        with tqdm(total=checkpoint.config.num_hidden_layers, desc="prune", unit="block") as bar:
            prune(
                checkpoint,
                args.target,
                recipe,
                samples,
                calibration=calibration,
                given=given,
                save_masks=args.save_mask,
                restart=args.restart,
                threads=args.threads,
                report=_progress(bar),
            )
    except (KeyboardInterrupt, OSError, MemoryError):
        unfinished = work_folder(args.target)
        if unfinished.exists():
            note(f"the same command goes on from {unfinished}")
        raise


def _progress(bar: Any) -> Callable[[int, str], None]:
    """The bar counts blocks; beside it stands the stage, and after a restart it catches up."""

    def show(layer: int, stage: str) -> None:
        if stage == "allocate":
            bar.set_postfix_str(f"allocate, block {layer}")
        elif stage == "done":
            bar.update(layer + 1 - bar.n)
        else:
            bar.update(layer - bar.n)
            bar.set_postfix_str(stage)

    return show


def _ledger(args: argparse.Namespace) -> int:
    from nmref.model.checkpoint import open_checkpoint
    from nmref.model.config import linear_names
    from nmref.prune.report.ledger import ledger

    made = open_checkpoint(args.target)
    found = ledger(made.tensors.items(), linear_names(made.config))
    if args.json:
        print_json({"folder": str(args.target), **found.as_dict()})
    else:
        print(found.text())
    note(f"wrote {args.target}")
    return 0


def _warn_of_differences(saved: Any, checkpoint: Checkpoint) -> None:
    from nmref.prune.recipe.origin import made_with

    for line in saved.made_with.differences(made_with(saved.recipe, checkpoint)):
        note(f"the recipe was made with {line}: the bits may differ")


def _windows(args: argparse.Namespace, calibration: Calibration | None) -> tuple[int, int]:
    """How many samples and how long: as asked for, as the recipe says, or the default."""
    samples, length = (
        (calibration.samples, calibration.length) if calibration else (SAMPLES, LENGTH)
    )
    return args.samples or samples, args.seqlen or length


def _samples(
    args: argparse.Namespace,
    recipe: Recipe,
    wanted: Calibration | None,
    given: Mapping[str, Mask],
) -> tuple[list[list[int]], Calibration | None]:
    """Calibration windows and what they are; none where the recipe needs none."""
    from nmref.model.tokenizer import Tokenizer
    from nmref.prune.recipe.document import Calibration
    from nmref.prune.run.block import first_need
    from nmref.prune.run.calibrate import windows

    need = first_need(recipe, given)
    if need is None:
        return [], None
    if args.calibration is None:
        raise NmrefError(Code.T_ARGUMENT, "--calibration", "nothing", f"a text, for {need}")
    where = str(args.calibration)
    data, text = _read_once(args.calibration)
    if wanted is not None:
        wanted.check(where, data)
    ids = Tokenizer.open(args.source).encode(text, special=False)
    samples, length = _windows(args, wanted)
    try:
        parts = windows(ids, samples, length)
    except NmrefError as error:
        raise error.inside(where) from None
    return parts, Calibration.of_bytes(args.calibration.name, data, samples, length)


def _read_once(path: Path) -> tuple[bytes, str]:
    """Bytes and text of a file that may be a pipe.  Raises T_FILE as `read_text` does."""
    want = "a calibration text"
    try:
        data = path.read_bytes()
        return data, TextIOWrapper(BytesIO(data), encoding="utf-8").read()
    except OSError as error:
        got = error.strerror or str(error)
        raise NmrefError(Code.T_FILE, str(path), got, want) from None
    except UnicodeDecodeError as error:
        got = f"invalid UTF-8 at byte {error.start}"
        raise NmrefError(Code.T_FILE, str(path), got, f"{want} in UTF-8") from None


def _threads(text: str) -> int:
    """Argument type: threads, 1 to MOST_THREADS."""
    value = positive(text)
    if value > MOST_THREADS:
        raise argparse.ArgumentTypeError(f"{text} is more than {MOST_THREADS}")
    return value
