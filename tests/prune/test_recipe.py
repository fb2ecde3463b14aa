"""Recipe files: what is written reads back equal; everything else is refused by its key."""

import hashlib
import math
import tomllib
from dataclasses import MISSING, fields, is_dataclass, replace
from fnmatch import fnmatchcase
from typing import get_args, get_type_hints

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmref.errors import NmrefError
from nmref.pattern import OUTLIER_PATTERNS, NMPattern
from nmref.prune.masks import maskfile
from nmref.prune.recipe import toml
from nmref.prune.recipe.document import (
    Calibration,
    Masks,
    Saved,
    assign,
    check,
    dumps,
    loads,
    read,
    rule_of,
)
from nmref.prune.recipe.fields import LIMITS, as_table, from_table
from nmref.prune.recipe.origin import MadeWith
from nmref.prune.settings import Allocation, Correction, Equalization, Recipe, Rule, Solver, Tuning

HALF, SALIENT = NMPattern(8, 16), NMPattern(16, 256)
SHA = "0123456789abcdef" * 4


def whole(cls, **strategies):
    """Every field of a dataclass is drawn, so that a new one cannot be forgotten."""
    assert set(strategies) == {field.name for field in fields(cls)}
    return st.builds(cls, **strategies)


def named(cls, field):
    return st.sampled_from(get_args(get_type_hints(cls)[field]))


SIZES = st.floats(0, allow_nan=False, allow_infinity=False)
POSITIVE = st.floats(0, exclude_min=True, allow_nan=False, allow_infinity=False)
SHARES = st.floats(0, 1, exclude_max=True)
COUNTS = st.integers(1, 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
BASES = st.integers(2, 64).flatmap(
    lambda m: st.builds(NMPattern, st.integers(1, m - 1), st.just(m))
)
OUTLIERS = st.none() | st.sampled_from(OUTLIER_PATTERNS)

RULES = whole(Rule, match=TEXT.filter(bool), pattern=BASES, outliers=OUTLIERS) | st.builds(
    Rule, TEXT.filter(bool), st.none(), st.none()
)
EQUALIZE = whole(
    Equalization,
    direction=named(Equalization, "direction"),
    power=SIZES,
    scale_activation=st.booleans(),
)
CORRECT = whole(
    Correction, numerator=named(Correction, "numerator"), scope=named(Correction, "scope")
)
TUNE = whole(
    Tuning,
    epochs=COUNTS,
    batch=COUNTS,
    rate=POSITIVE,
    betas=st.tuples(SHARES, SHARES),
    epsilon=st.floats(2.0**-149, float(np.finfo(np.float32).max)),
    decay=SIZES,
    clip=POSITIVE,
    loss=named(Tuning, "loss"),
    teacher=named(Tuning, "teacher"),
    gains=st.booleans(),
    outliers=st.booleans(),
    seed=st.integers(0, 2**63 - 1),
)
SOLVER = whole(
    Solver,
    method=st.sampled_from(["none", "alps"]),  # SparseGPT's block depends on the pattern
    damping=SIZES,
    block=COUNTS,
    iterations=COUNTS,
    keep_mask=st.booleans(),
)
RECIPES = whole(
    Recipe,
    pattern=BASES,
    outliers=OUTLIERS,
    place=named(Recipe, "place"),
    score=named(Recipe, "score"),
    exponent=st.floats(0, float(np.finfo(np.float32).max)),
    equalize=st.none() | EQUALIZE,
    permute=named(Recipe, "permute"),
    permute_all=st.just(False),  # not with every solver
    allocate=st.none() | whole(Allocation, multiple=POSITIVE, span=st.floats(0, 2)),  # M at least
    solver=SOLVER,
    correct=st.none() | CORRECT,
    tune=st.none() | TUNE,
    rules=st.lists(RULES, max_size=3).map(tuple),
)
CALIBRATIONS = whole(
    Calibration,
    text=TEXT.filter(lambda name: name not in {"", ".", ".."} and not set(name) & set("/\\\0")),
    sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    samples=COUNTS,
    length=COUNTS,
)
MASKS = whole(
    Masks,
    content_sha256=st.just(SHA),
    file=st.none() | st.sampled_from(["masks", "a b.safetensors"]),
)
ORIGINS = whole(
    MadeWith,
    nmref=TEXT,
    numpy=TEXT,
    scipy=TEXT,
    numba=TEXT,
    blas=TEXT,
    source_sha256=st.just(SHA),
    seeds=st.dictionaries(TEXT, st.integers(0, 2**63 - 1), max_size=2),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(RECIPES, st.none() | CALIBRATIONS, st.none() | ORIGINS, st.none() | MASKS)
def test_a_recipe_reads_back_equal(recipe, calibration, made_with, masks):
    text = dumps(recipe, calibration, made_with, masks)
    assert read(text, "here") == Saved(recipe, calibration, made_with, masks)
    assert loads(text, "here") == (recipe, calibration)
    assert dumps(*loads(text, "here"), made_with, masks) == text
    assert text.isprintable() or not set(text) & {chr(i) for i in (*range(10), 13, 127)}


@settings(max_examples=20, deadline=None, derandomize=True)
@given(RECIPES)
def test_every_setting_is_written(recipe):
    """Defaults may change later; a file says what was done."""
    table = tomllib.loads(dumps(recipe))
    assert table.pop("version") == 1
    off = {"equalize", "allocate", "correct", "tune", "rules"} - set(table)
    assert off == set(as_off(recipe))
    assert set(table) | off == {field.name for field in fields(Recipe)}


def as_off(recipe):
    return [
        name
        for name in ("equalize", "allocate", "correct", "tune", "rules")
        if not getattr(recipe, name)
    ]


def test_every_number_and_text_has_a_limit():
    wanted = set()
    seen = [Recipe, Calibration, MadeWith, Masks]
    for cls in seen:
        for name, kind in get_type_hints(cls).items():
            parts = [kind, *get_args(kind)]
            seen += [part for part in parts if is_own(part) and part not in seen]
            if {int, float, str} & {part for part in parts if isinstance(part, type)}:
                wanted.add(f"{cls.__name__}.{name}")
    assert wanted == set(LIMITS)


def is_own(part):
    return is_dataclass(part) and part is not NMPattern


def test_only_the_pattern_is_needed():
    assert loads('version = 1\npattern = "2:4"', "f") == (Recipe(NMPattern(2, 4)), None)
    required = [field.name for field in fields(Recipe) if field.default is MISSING]
    assert required == ["pattern"]


def test_a_file_by_hand():
    text = """
        version = 1
        pattern = "8:16"
        outliers = "none"
        score = "wanda"
        [equalize]
        power = 1          # a whole number is a number
        [tune]
        [[rules]]
        match = "*.0.*"
        pattern = "dense"
        outliers = "none"
        [[rules]]
        match = "*.1.*"
        pattern = "3:4"
        outliers = "4:256"
    """
    want = Recipe(
        HALF,
        score="wanda",
        equalize=Equalization(power=1.0),
        tune=Tuning(),
        rules=(Rule("*.0.*", None), Rule("*.1.*", NMPattern(3, 4), NMPattern(4, 256))),
    )
    assert loads(text, "by-hand.toml") == (want, None)


def test_the_text_of_a_file():
    recipe = Recipe(HALF, SALIENT, correct=Correction(), rules=(Rule('a"b', None),))
    first, *sections = dumps(recipe, Calibration("wiki.txt", SHA, 32, 1024)).split("\n\n")
    assert first.startswith('version = 1\npattern = "8:16"\noutliers = "16:256"\n')
    assert {'score = "ria"', "exponent = 0.5", "permute_all = false"} <= set(first.splitlines())
    assert sections[0].startswith('[solver]\nmethod = "none"\ndamping = 0.01\n')
    assert sections[1:] == [
        '[correct]\nnumerator = "rest"\nscope = "matrix"',
        '[[rules]]\nmatch = "a\\"b"\npattern = "dense"\noutliers = "none"',
        f'[calibration]\ntext = "wiki.txt"\nsha256 = "{SHA}"\nsamples = 32\nlength = 1024\n',
    ]


GOOD = 'version = 1\npattern = "8:16"\n'
NUMBER = r"a number from 0 to 3\.403e\+38"
COUNT = r"a whole number from 1 to 2\^63 - 1"
TEXT_KEYS = f'text = "a.txt"\nsha256 = "{SHA}"\nsamples = 3\nlength = 4\n'
MADE = 'nmref = ""\nnumpy = ""\nscipy = ""\nnumba = ""\nblas = ""\n' + f'source_sha256 = "{SHA}"\n'

BAD = {
    "not toml": ("x", r"Expected '=' .*, want TOML"),
    "twice": (GOOD + 'pattern = "2:4"', r".*verwrite a value.*, want TOML"),
    "digits": (GOOD + f"exponent = {'9' * 5000}", r".*, want TOML"),
    "deep": (GOOD + f"exponent = {'[' * 100_000}", r".*, want TOML"),
    "no version": ('pattern = "8:16"', "version: no such key, want 1"),
    "version 2": ('version = 2\npattern = "8:16"', "version: 2, want 1"),
    "version true": ('version = true\npattern = "8:16"', "version: True, want 1"),
    "no pattern": ("version = 1", "pattern: no such key, want a value"),
    "unknown": (GOOD + "score2 = 1", "score2: an unknown key, want one of pattern, outliers, .*"),
    "unknown inside": (
        GOOD + "[equalize]\npowr = 1",
        "equalize.powr: an unknown key, want one of direction, power, scale_activation",
    ),
    "stage": (GOOD + "equalize = true", "equalize: true, want a table"),
    "rules": (GOOD + "rules = 'a'", "rules: 'a', want a list"),
    "rule": (GOOD + "rules = ['a']", r"rules\[0\]: 'a', want a table"),
    "pattern type": ("version = 1\npattern = 816", "pattern: 816, want a pattern N:M in quotes"),
    "pattern text": (
        "version = 1\npattern = 'half'",
        "pattern: 'half', want N:M, as in 8:16",
    ),
    "pattern dense": ("version = 1\npattern = 'dense'", "pattern: 'dense', want N:M, as in 8:16"),
    "pattern none": ("version = 1\npattern = 'none'", "pattern: 'none', want N:M, as in 8:16"),
    "pattern order": ("version = 1\npattern = '4:2'", "pattern: 4:2, want N:M with 1 <= N < M"),
    "long": ("version = 1\npattern = '8:128'", "pattern: 8:128, want a block of at most 64"),
    "outliers": (
        GOOD + "outliers = '2:256'",
        "outliers: 2:256, want one of 4:256, 8:256, 16:256",
    ),
    "score": (
        GOOD + "score = 'Ria'",
        """score: 'Ria', want "magnitude" or "wanda" or "relative" or "ria" or "gradient\"""",
    ),
    "score type": (GOOD + "score = ['ria']", r"""score: \['ria'\], want "magnitude" or .*"""),
    "span": (GOOD + "[allocate]\nspan = 17", r"allocate.span: 17\.0, want at most 16, M"),
    "epsilon": (
        GOOD + "[tune]\nepsilon = 1e-46",
        "tune.epsilon: 1e-46, want a number that float32 holds, above 0",
    ),
    "negative": (GOOD + "exponent = -0.5", f"exponent: -0.5, want {NUMBER}"),
    "nan": (GOOD + "exponent = nan", f"exponent: nan, want {NUMBER}"),
    "inf": (GOOD + "exponent = inf", f"exponent: inf, want {NUMBER}"),
    "huge": (GOOD + f"exponent = {'9' * 400}", f"exponent: 9{{80}}, want {NUMBER}"),
    "inexact": (GOOD + f"exponent = {2**53 + 1}", f"exponent: {2**53 + 1}, want {NUMBER}"),
    "number": (GOOD + "exponent = '1'", f"exponent: '1', want {NUMBER}"),
    "truth": (GOOD + "exponent = true", f"exponent: true, want {NUMBER}"),
    "flag": (GOOD + "permute_all = 1", "permute_all: 1, want true or false"),
    "date": (GOOD + "exponent = 2020-01-01", rf"exponent: .*date\(2020, 1, 1\), want {NUMBER}"),
    "count": (GOOD + "tune = {epochs = 0}", f"tune.epochs: 0, want {COUNT}"),
    "float count": (GOOD + "tune = {epochs = 1.0}", f"tune.epochs: 1.0, want {COUNT}"),
    "count 64": (GOOD + f"tune = {{batch = {2**63}}}", f"tune.batch: {2**63}, want {COUNT}"),
    "rate": (GOOD + "tune = {rate = 0}", "tune.rate: 0, want a number above 0"),
    "seed": (
        GOOD + "tune = {seed = -1}",
        r"tune.seed: -1, want a whole number from 0 to 2\^63 - 1",
    ),
    "betas": (
        GOOD + "tune = {betas = [0.9, 1.0]}",
        r"tune.betas\[1\]: 1.0, want a number from 0 to below 1",
    ),
    "three betas": (
        GOOD + "tune = {betas = [0, 0, 0]}",
        r"tune.betas: \[0, 0, 0\], want a list of 2",
    ),
    "no match": (
        GOOD + "rules = [{match = '', pattern = '2:4', outliers = 'none'}]",
        r"rules\[0\].match: '', want text that is not empty",
    ),
    "rule outliers": (
        GOOD + "rules = [{match = 'a', pattern = '2:4'}]",
        r"rules\[0\].outliers: no such key, want a value",
    ),
    "dense outliers": (
        GOOD + "rules = [{match = 'a', pattern = 'dense', outliers = '4:256'}]",
        r"""rules\[0\].outliers: "4:256", want "none" where the pattern is "dense\"""",
    ),
    "block": (
        GOOD + "solver = {method = 'sparsegpt', block = 24}",
        "solver.block: 24 with pattern 8:16, want a multiple of 16",
    ),
    "block of a rule": (
        GOOD + "solver.method = 'sparsegpt'\n"
        "rules = [{match = 'a', pattern = '2:6', outliers = 'none'}]",
        "solver.block: 128 with pattern 2:6, want a multiple of 6",
    ),
    "calibration": (GOOD + "calibration = 1", "calibration: 1, want a table"),
    "file name": (
        GOOD + "[calibration]\n" + TEXT_KEYS.replace("a.txt", "b/a.txt"),
        "calibration.text: 'b/a.txt', want the name of a file, without a folder",
    ),
    "digest": (
        GOOD + "[calibration]\n" + TEXT_KEYS.replace(SHA, SHA[1:]),
        f"calibration.sha256: '{SHA[1:]}', want 64 hexadecimal digits in lower case",
    ),
    "half a calibration": (
        GOOD + "[calibration]\ntext = 'a.txt'",
        "calibration.sha256: no such key, want a value",
    ),
    "digest case": (
        GOOD + "[calibration]\n" + TEXT_KEYS.replace(SHA, SHA.upper()),
        f"calibration.sha256: '{SHA.upper()}', want 64 hexadecimal digits in lower case",
    ),
    "made with": (
        GOOD + "[made_with]\n" + MADE + "seeds = 3",
        "made_with.seeds: 3, want a table",
    ),
    "seeds": (
        GOOD + "[made_with]\n" + MADE + "seeds = {tune = 0.5}",
        r"made_with.seeds.tune: 0.5, want a whole number from 0 to 2\^63 - 1",
    ),
    "version text": (
        GOOD + "[made_with]\n" + MADE.replace('numpy = ""', "numpy = 2"),
        "made_with.numpy: 2, want text",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_refused_by_its_key(name):
    text, message = BAD[name]
    with pytest.raises(NmrefError, match=rf"^T_ARGUMENT my.toml:? ?(?:{message})$"):
        loads(text, "my.toml")


def test_a_recipe_made_in_python_is_checked_too():
    for bad, message in (
        (replace(Recipe(HALF), exponent=math.nan), f"exponent: nan, want {NUMBER}"),
        (replace(Recipe(HALF), pattern=SALIENT), "pattern: 16:256, want a block of at most 64"),
        (replace(Recipe(HALF), solver=Solver("lasso")), "solver.method: 'lasso', want .*"),
    ):
        with pytest.raises(NmrefError, match=f"^T_ARGUMENT {message}$"):
            check(bad)
        with pytest.raises(NmrefError, match=f"^T_ARGUMENT {message}$"):
            dumps(bad)
    assert check(Recipe(HALF, exponent=1)) == Recipe(HALF, exponent=1.0)
    assert type(check(Recipe(HALF, exponent=1)).exponent) is float
    with pytest.raises(NmrefError, match=r"calibration\.text: 'a/b', want the name of a file"):
        dumps(Recipe(HALF), Calibration("a/b", SHA, 1, 1))


def test_tables_keep_fields_that_are_off_out():
    table = as_table(Recipe(HALF))
    assert not {"equalize", "tune", "rules"} & set(table)
    assert from_table(Recipe, table) == Recipe(HALF)


def test_the_text_is_known_by_its_digest(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"once upon a time")
    found = Calibration.of(path, 4, 128)
    assert found == Calibration("text.txt", hashlib.sha256(b"once upon a time").hexdigest(), 4, 128)
    assert found == Calibration.of_bytes("text.txt", b"once upon a time", 4, 128)
    found.check("text.txt", b"once upon a time")
    path.write_bytes(b"once upon a tim")
    got = hashlib.sha256(b"once upon a tim").hexdigest()
    message = f"^T_TEXT .*text.txt: sha256 {got}, want {found.sha256}, the text of the recipe$"
    with pytest.raises(NmrefError, match=message):
        found.check("text.txt", b"once upon a tim")
    almost = replace(Calibration.of(path, 1, 1), sha256=got[:-1] + ("1" if got[-1] == "0" else "0"))
    with pytest.raises(NmrefError, match=r"^T_TEXT"):
        almost.check("text.txt", path.read_bytes())
    with pytest.raises(NmrefError, match=r"^T_FILE .*no: No such file .*, want a readable text$"):
        Calibration.of(tmp_path / "no", 1, 1)


@pytest.mark.parametrize("method", ["sparsegpt", "alps"])
def test_a_solver_does_not_choose_again_what_was_permuted(method):
    recipe = Recipe(HALF, permute="hungarian", permute_all=True, solver=Solver(method))
    message = r"^T_ARGUMENT solver\.keep_mask: false, want true with permute_all$"
    with pytest.raises(NmrefError, match=message):
        check(recipe)
    kept = replace(recipe, solver=replace(recipe.solver, keep_mask=True))
    for good in (kept, replace(recipe, solver=Solver()), replace(recipe, permute_all=False)):
        assert loads(dumps(good), "here")[0] == good


def test_masks_are_known_by_their_content(tmp_path):
    mask = maskfile.Mask(np.eye(4, 8, dtype=bool), None, NMPattern(2, 4))
    path, other = tmp_path / "masks", tmp_path / "other"
    digest = maskfile.write(path, {"a": mask})
    maskfile.write(other, {"b": mask})
    found = Masks.of(maskfile.read(path))
    assert found == Masks(digest, "masks")
    assert Masks.of({"a": mask}) == Masks(digest)
    found.check(maskfile.read(path), "--mask")
    message = rf"^T_ARGUMENT --mask .*other: content \w+, want {digest}, the masks of the recipe$"
    with pytest.raises(NmrefError, match=message):
        found.check(maskfile.read(other), "--mask")
    message = rf"^T_ARGUMENT --mask: nothing, want masks with content {digest}, the masks of the re"
    with pytest.raises(NmrefError, match=message):
        found.check(None, "--mask")
    salient = maskfile.Mask(~mask.base, mask.base, None, None)
    both = {"z": mask, "a": salient}
    assert maskfile.content_sha256(both) == maskfile.write(path, both)


def test_the_rule_of_a_weight():
    rules = (Rule("a.*", None), Rule("*.y", HALF))
    recipe = Recipe(HALF, rules=rules)
    assert [rule_of(recipe, name) for name in ("a.x", "b.y", "c")] == [*rules, None]


GLOBS = st.sampled_from(["*", "a*", "?.x", "[ab].*", "*.x", "A.x", "c.z", "b.y"])
NAMES = ["a.x", "a.y", "b.x", "b.y", "c.z"]


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(st.builds(Rule, GLOBS, st.none() | BASES), max_size=3), st.integers(0, 5))
def test_assign_is_the_only_rule_or_the_default(rules, count):
    recipe, names = Recipe(HALF, SALIENT, rules=tuple(rules)), NAMES[:count]
    hits = {name: [r for r in rules if fnmatchcase(name, r.match)] for name in names}
    idle = [r for r in rules if not any(r in found for found in hits.values())]
    if idle or any(len(found) > 1 for found in hits.values()):
        with pytest.raises(NmrefError, match=r"^T_ARGUMENT "):
            assign(recipe, names)
        return
    want = {
        name: (found[0].pattern, found[0].outliers) if found else (HALF, SALIENT)
        for name, found in hits.items()
    }
    assert assign(recipe, names) == want
    assert list(assign(recipe, names)) == names


def test_assign_says_which_rule():
    twice = Recipe(HALF, rules=(Rule("z", None), Rule("a.*", None), Rule("*.y", HALF)))
    message = r"^T_ARGUMENT a.y: matched by rules\[1\] 'a.\*' and rules\[2\] '\*.y', want at most "
    with pytest.raises(NmrefError, match=message + "one rule$"):
        assign(twice, ["z", "a.x", "a.y"])
    message = r"^T_ARGUMENT rules\[1\].match: 'A.\*' matches no weight, want a glob such as "
    with pytest.raises(NmrefError, match=message + r"model.layers.0.\*$"):
        assign(Recipe(HALF, rules=(Rule("z", None), Rule("A.*", None))), ["z", "a.x"])


VALUES = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    st.recursive(
        st.dictionaries(TEXT, VALUES | st.lists(VALUES, max_size=3), max_size=4),
        lambda inner: st.dictionaries(
            TEXT, VALUES | inner | st.lists(inner, min_size=1, max_size=3), max_size=4
        ),
        max_leaves=6,
    )
)
def test_toml_reads_back_equal(document):
    found = tomllib.loads(toml.dumps(document))
    assert found == document
    assert repr(sort(found)) == repr(sort(document))  # -0.0 and 1 against 1.0


def sort(value):
    if isinstance(value, dict):
        return sorted((key, sort(item)) for key, item in value.items())
    return [sort(item) for item in value] if isinstance(value, list) else value


def test_toml_refuses_what_it_has_not():
    with pytest.raises(NmrefError, match=r"^T_ARGUMENT 'a\\udcff': half a surrogate pair, want "):
        toml.dumps({"x": "a\udcff"})
    with pytest.raises(TypeError, match="TOML has no NoneType"):
        toml.dumps({"x": None})
