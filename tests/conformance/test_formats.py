"""formats/: current, described by its schemas, and equal to SPEC.md and to the naive witness."""

import bisect
import copy
import hashlib
import itertools
import json
import re
import shutil
import subprocess
import sys
import zlib
from decimal import Decimal, localcontext
from math import comb
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, ValidationError

from conformance import naive
from conformance.naive.codes import OUTLIER_PATTERNS as NAIVE_OUTLIERS
from nmref import NmrefError
from nmref.conformance import generate
from nmref.conformance.memh import Field, Memory
from nmref.pattern import BASE_PATTERNS, OUTLIER_PATTERNS

ROOT = Path(__file__).parents[2]
FORMATS = ROOT / "formats"
SPEC = (ROOT / "SPEC.md").read_text(encoding="utf-8")

PAGES = {path.stem: json.loads(path.read_bytes()) for path in sorted(FORMATS.glob("*.json"))}
SIDECARS = {
    path.stem: json.loads(path.read_bytes()) for path in sorted((FORMATS / "tables").glob("*.json"))
}
every_page = pytest.mark.parametrize("page", PAGES.values(), ids=list(PAGES))
every_table = pytest.mark.parametrize("name", SIDECARS)


def schema(name):
    return json.loads((FORMATS / "schema" / f"{name}.schema.json").read_bytes())


def clause(number):
    """The text of one clause of SPEC.md, without its heading."""
    found = re.search(rf"^### {re.escape(number)} .*\n((?:(?!^##).*\n)*)", SPEC, re.MULTILINE)
    assert found, f"SPEC.md has no clause {number}"
    return found[1]


def rows(text):
    """The cells of every table row of a text; the row of dashes is left out."""
    lines = [line.strip("| ") for line in text.splitlines() if line.startswith("|")]
    return [[c.strip() for c in line.split("|")] for line in lines if set(line) - set("-| ")]


def patterns_in(text):
    return set(re.findall(r"\b[0-9]+:[0-9]+\b", text))


def read_memh(path):
    """$readmemh in plain Python: words with their addresses; comments and @ addresses too."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", " ", path.read_text(encoding="ascii"), flags=re.DOTALL)
    memory, address = {}, 0
    for token in text.split():
        if token.startswith("@"):
            address = int(token[1:], 16)
        else:
            memory[address] = int(token, 16)
            address += 1
    return memory


def words(name):
    """The words of a table, address 0 first."""
    memory = read_memh(FORMATS / "tables" / f"{name}.memh")
    assert list(memory) == list(range(SIDECARS[name]["depth"]))
    return list(memory.values())


def spec_words(digest_name):
    """A SHA-256 that annex B states: of the ROM, S, R8 or L8."""
    if digest_name == "ROM":
        return re.findall(r"`([0-9a-f]{64})`", clause("B.1"))[0]
    return re.search(rf"^ +{digest_name} +([0-9a-f]{{64}})$", clause("B.2"), re.MULTILINE)[1]


# --- the files -----------------------------------------------------------------------------------


def test_files_on_disk_are_what_the_code_generates():
    assert generate.differences(ROOT, generate.build()) == {}, "run `make vectors`"


def test_another_process_generates_the_same_files(tmp_path):
    command = [sys.executable, "-m", "nmref.conformance.generate", "--root", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    made = {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    files = [p for folder in generate.OWNED for p in (ROOT / folder).rglob("*") if p.is_file()]
    there = {p.relative_to(ROOT): p.read_bytes() for p in files}
    kept = {Path(name) for name in generate.KEPT}
    assert made == {name: content for name, content in there.items() if name not in kept}


def test_generated_text_is_ascii_with_lf_and_names_no_place_or_time():
    for name, content in generate.build().items():
        text = content.decode("ascii")
        assert text.endswith("\n"), name
        assert not re.search(r"\r|\t| $", text, re.MULTILINE), name
        assert str(ROOT) not in text, name
        assert not re.search(r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}\b|[0-9]:[0-9]{2}:[0-9]{2}", text), name


def test_formats_stay_small():
    assert sum(len(content) for content in generate.build().values()) < 1_000_000


def test_check_names_the_first_file_that_differs(tmp_path, capsys):
    arguments = ["--root", str(tmp_path)]

    def check():
        status = generate.main([*arguments, "--check"])
        output = capsys.readouterr()
        return status, output.err if status else output.out

    assert check() == (
        1,
        "T_FILE conformance/traces/nmref-tiny.json: missing, want the generated file "
        "(make vectors)\n",
    )
    assert generate.main(arguments) == 0
    capsys.readouterr()
    assert check() == (0, f"{len(generate.build())} generated files, 0 written\n")

    rom = tmp_path / "formats/tables/8-16-decode.memh"
    good = rom.read_bytes()
    rom.write_bytes(good.replace(b"\n017f\n", b"\n017e\n"))
    assert check()[1].startswith("T_FILE formats/tables/8-16-decode.memh: differs, want ")
    (tmp_path / "formats/base-2-4.json").unlink()
    assert check()[1].startswith("T_FILE formats/base-2-4.json: missing, want ")
    assert generate.main(arguments) == 0
    assert capsys.readouterr().out.endswith(", 2 written\n")
    assert rom.read_bytes() == good

    (tmp_path / generate.KEPT[0]).write_text("made elsewhere")
    assert check()[0] == 0
    extra = tmp_path / "formats/tables/mine.txt"
    extra.write_text("mine")
    assert check()[1].startswith("T_FILE formats/tables/mine.txt: extra, want ")
    assert generate.main(arguments) == 1
    capsys.readouterr()
    assert extra.read_text() == "mine"


def test_generate_reports_a_root_it_cannot_use(tmp_path, capsys):
    assert generate.main(["--root", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.startswith("T_FILE ")
    (tmp_path / "formats").write_text("a file where a folder should be")
    assert generate.main(["--root", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("T_FILE ")


# --- the schemas ---------------------------------------------------------------------------------


def test_pages_and_sidecars_keep_to_their_schemas():
    for name, documents in (("format", PAGES), ("table", SIDECARS)):
        Draft202012Validator.check_schema(schema(name))
        validator = Draft202012Validator(schema(name))
        assert documents
        for document in documents.values():
            validator.validate(document)


def objects(node, place=""):
    """Every object schema, wherever it is."""
    if isinstance(node, dict):
        if node.get("type") == "object":
            yield place, node
        for key, value in node.items():
            yield from objects(value, f"{place}/{key}")
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from objects(value, f"{place}/{i}")


@pytest.mark.parametrize("name", ["format", "table"])
def test_schemas_describe_every_field_and_allow_no_other(name):
    for place, node in objects(schema(name)):
        assert node["additionalProperties"] is False, place
        assert sorted(node["required"]) == sorted(node["properties"]), place
        for field, member in node["properties"].items():
            assert member["description"], f"{place} {field}"


@pytest.mark.parametrize(("name", "documents"), [("format", PAGES), ("table", SIDECARS)])
def test_schemas_refuse_missing_other_and_wrong_members(name, documents):
    validator = Draft202012Validator(schema(name))
    document = next(iter(documents.values()))
    for broken in [document | {"extra": 1}, document | {"width": 0}, document | {"schema": "x"}]:
        with pytest.raises(ValidationError):
            validator.validate(broken)
    for member in document:
        broken = copy.deepcopy(document)
        del broken[member]
        with pytest.raises(ValidationError):
            validator.validate(broken)


def test_numbers_above_2_to_the_53_are_text():
    validator = Draft202012Validator(schema("format"))
    page = PAGES["outliers-16-256"]
    assert isinstance(page["count"], str)
    with pytest.raises(ValidationError):
        validator.validate(page | {"count": int(page["count"])})
    with pytest.raises(ValidationError):
        validator.validate(page | {"count": "12870"})


# --- one set of formats --------------------------------------------------------------------------


def test_spec_pages_and_code_name_the_same_formats():
    base, outliers = set(map(str, BASE_PATTERNS)), set(map(str, OUTLIER_PATTERNS))
    assert patterns_in(" ".join(rows(clause("2.7"))[0])) == base | outliers
    assert patterns_in(clause("4.1")) == outliers == set(NAIVE_OUTLIERS)
    assert {p["pattern"] for p in PAGES.values() if p["role"] == "base"} == base
    assert {p["pattern"] for p in PAGES.values() if p["role"] == "outliers"} == outliers
    assert patterns_in((FORMATS / "README.md").read_text()) >= base | outliers


def test_page_names_say_what_they_hold():
    for name, page in PAGES.items():
        assert name == page["id"] == f"{page['role']}-{page['stored']}-{page['block']}"
        assert page["pattern"] == f"{page['stored']}:{page['block']}"


# --- the pages -----------------------------------------------------------------------------------


@every_page
def test_numbers_of_a_page(page):
    n, m, w = page["stored"], page["block"], page["width"]
    count = comb(m, n)
    assert int(page["count"]) == count
    assert 2 ** (w - 1) < count <= 2**w
    assert w == naive.width(n, m)
    assert int(page["unused_codes"]) == 2**w - count
    blocks = next(b for b in range(1, 9) if b * w % 8 == 0)
    assert page["group"] == {"blocks": blocks, "bytes": blocks * w // 8}
    touched = max(((b + 1) * w - 1) // 8 - b * w // 8 + 1 for b in range(8))
    assert page["most_bytes_of_one_code"] == touched


@every_page
def test_rates_of_a_page(page):
    n, m, rates = page["stored"], page["block"], page["rates"]
    with localcontext() as context:
        context.prec = 50
        entropy = Decimal(comb(m, n)).ln() / Decimal(2).ln() / m
    assert Decimal(str(rates["entropy"])) == round(entropy, 6)
    index_bits = next(b for b in range(10) if 2**b >= m)
    assert rates["code"] * m == page["width"]
    assert rates["index_list"] * m == n * index_bits
    assert rates["bitmap"] == 1
    if page["role"] == "base":
        assert rates["idx8"] is None
        wanted = [("colex", bits, n * bits + page["width"]) for bits in (8, 16, 32)]
    else:
        assert rates["idx8"] * m == n * 8
        wanted = [("idx8", bits, n * bits + n * 8) for bits in (16, 32)]
        wanted += [("colex", bits, n * bits + page["width"]) for bits in (16, 32)]
    assert [(t["coding"], t["value_bits"], t["total"] * m) for t in rates["totals"]] == wanted


@every_page
def test_first_and_last_codes(page):
    n, m = page["stored"], page["block"]
    entries = page["first_codes"] + page["last_codes"]
    count = comb(m, n)
    assert [int(e["code"], 16) for e in entries] == [0, 1, 2, count - 3, count - 2, count - 1]
    for entry in entries:
        mask = naive.unrank(int(entry["code"], 16), n, m)
        assert int(entry["mask"], 16) == mask
        assert entry["columns"] == naive.positions(mask)
        assert len(entry["code"]) == 2 + -(-page["width"] // 4)
        assert len(entry["mask"]) == 2 + -(-m // 4)


@every_page
def test_worked_examples(page):
    n, m, w = page["stored"], page["block"], page["width"]
    padded = []
    for example in page["examples"]:
        masks = [int(mask, 16) for mask in example["masks"]]
        codes = [int(code, 16) for code in example["codes"]]
        data = bytes.fromhex(example["bytes"])
        assert [naive.rank(mask) for mask in masks] == codes
        assert [naive.unrank(code, n, m) for code in codes] == masks
        assert naive.pack(codes, w) == data
        assert naive.unpack(data, len(codes), w) == codes
        assert example["padding_bits"] == len(data) * 8 - len(codes) * w < 8
        index = bytes(c for mask in masks for c in naive.positions(mask))
        assert example["idx8"] == (index.hex(" ") if page["role"] == "outliers" else None)
        padded.append(example["padding_bits"] > 0)
        if example["clause"]:
            assert f"`{example['bytes']}`" in clause(example["clause"])
    assert padded == [False, True]


@every_page
def test_pages_cite_clauses_that_exist_and_their_tables(page):
    for cited in page["spec"]["clauses"]:
        assert f"### {cited['clause']} {cited['title']}\n" in SPEC
    assert SPEC.split("\n")[2] == f"Version {page['spec']['version']}"
    mine = [n for n, sidecar in SIDECARS.items() if sidecar["format"] == page["id"]]
    assert sorted(t["file"] for t in page["tables"]) == [f"tables/{n}.memh" for n in sorted(mine)]
    for table in page["tables"]:
        sidecar = SIDECARS[Path(table["file"]).stem]
        for member in ("title", "width", "depth", "sha256"):
            assert table[member] == sidecar[member]
        assert table["clause"] == sidecar["spec"]["clause"]


def test_pages_agree_with_the_tables_of_the_spec():
    by_pattern = {page["pattern"]: page for page in PAGES.values()}
    patterns, widths = rows(clause("2.7"))
    assert {p: int(w) for p, w in zip(patterns[1:], widths[1:], strict=True)} == {
        p: page["width"] for p, page in by_pattern.items()
    }
    w, groups, touched = rows(clause("2.12"))
    assert sorted(zip(w[1:], groups[1:], touched[1:], strict=True)) == sorted(
        (
            str(page["width"]),
            f"{page['group']['blocks']} / {page['group']['bytes']}",
            str(page["most_bytes_of_one_code"]),
        )
        for page in PAGES.values()
    )
    for row in rows(clause("A.1"))[1:]:
        page = by_pattern[row[0]]
        rates, unused = page["rates"], int(page["unused_codes"]) / 2 ** page["width"]
        assert row[1:] == [
            f"{int(page['count']):,}",
            str(page["width"]),
            f"{rates['entropy']:.4f}",
            f"{rates['code']:.4f}",
            f"{rates['index_list']:.4f}",
            "1",
            f"{unused:.1%}".replace("%", " %"),
        ]


def test_totals_agree_with_annex_a():
    totals = {
        (page["pattern"], total["coding"], total["value_bits"]): f"{total['total']:.4f}"
        for page in PAGES.values()
        for total in page["rates"]["totals"]
    }
    for base, values, alone, *_ in rows(clause("A.3"))[1:]:
        assert totals[base, "colex", 8 if values == "I8" else 16] == f"{float(alone):.4f}"
    outliers = [row for row in rows(clause("A.2")) if row[0].endswith(":256")]
    assert len(outliers) == 3
    for pattern, *_, idx8, colex, _ in outliers:
        assert totals[pattern, "idx8", 16] == f"{float(idx8):.4f}"
        assert totals[pattern, "colex", 16] == f"{float(colex):.4f}"


# --- the tables ----------------------------------------------------------------------------------


@every_table
def test_sidecars_describe_their_files(name):
    sidecar = SIDECARS[name]
    path = FORMATS / "tables" / sidecar["file"]
    assert path.stem == name
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sidecar["sha256"]
    values = words(name)
    assert len(values) == sidecar["depth"]
    assert max(values) < 2 ** sidecar["width"]
    size = sidecar["words"]["bytes_per_word"]
    raw = b"".join(value.to_bytes(size, "little") for value in values)
    assert size == -(-sidecar["width"] // 8)
    assert f"{zlib.crc32(raw):08x}" == sidecar["words"]["crc32"]
    assert hashlib.sha256(raw).hexdigest() == sidecar["words"]["sha256"]
    bits = [b for f in sidecar["fields"] for b in range(f["high"], f["low"] - 1, -1)]
    assert bits == list(reversed(range(sidecar["width"])))
    clause(sidecar["spec"]["clause"])


@every_table
def test_memh_files_hold_one_word_a_line_after_a_comment(name):
    sidecar = SIDECARS[name]
    lines = (FORMATS / "tables" / sidecar["file"]).read_text(encoding="ascii").splitlines()
    head = [line for line in lines if line.startswith("//")]
    body = lines[len(head) :]
    digits = -(-sidecar["width"] // 4)
    assert len(body) == sidecar["depth"]
    assert all(re.fullmatch(rf"[0-9a-f]{{{digits}}}", line) for line in body)
    comment = "\n".join(head)
    assert f"width {sidecar['width']} bits, depth {sidecar['depth']} words" in comment
    assert sidecar["order"] in comment
    assert f"reg [{sidecar['width'] - 1}:0] memory [0:{sidecar['depth'] - 1}];" in comment


@pytest.mark.parametrize(("n", "m"), [(2, 4), (4, 8)])
def test_small_decode_tables_cover_every_code(n, m):
    values = words(f"{n}-{m}-decode")
    assert len(values) == 2 ** naive.width(n, m)
    for code, word in enumerate(values):
        valid = code < comb(m, n)
        assert word == (naive.unrank(code, n, m) | 1 << m if valid else 0)


def test_decode_rom_is_that_of_the_spec():
    rom = words("8-16-decode")
    assert rom == [naive.unrank(code, 8, 16) for code in range(12870)]
    assert SIDECARS["8-16-decode"]["words"]["sha256"] == spec_words("ROM")
    named = [int(word, 16) for word in re.findall(r"0x([0-9A-F]{4})\b", clause("B.1"))]
    assert named == rom[:6] + rom[-3:]
    assert all(rom[12869 - i] == rom[i] ^ 0xFFFF for i in range(12870))


def test_byte_split_tables_code_and_decode_every_mask():
    s, r8, l8, a = (words(f"8-16-split-{t}") for t in ("s", "r8", "l8", "a"))
    for code in range(12870):
        mask = naive.unrank(code, 8, 16)
        assert s[mask >> 8] + r8[mask & 255] == naive.rank(mask) == code
        high = bisect.bisect_right(s, code) - 1
        q = 8 - high.bit_count()
        assert high << 8 | l8[a[q] + code - s[high]] == mask
    assert all(low < high for low, high in itertools.pairwise(s))  # so bisection works
    assert (max(s), max(r8)) == (12869, 69)


def test_byte_split_digests_are_those_of_the_spec():
    for table in ("s", "r8", "l8"):
        stated = spec_words(table.upper())
        assert SIDECARS[f"8-16-split-{table}"]["words"]["sha256"] == stated
    stated = re.search(r"A = ([0-9 ]+) for q", clause("B.2"))[1]
    assert words("8-16-split-a") == [int(number) for number in stated.split()]


@pytest.mark.parametrize(("n", "m"), [(2, 4), (4, 8), (8, 16)])
def test_serial_constants_decode_every_code(n, m):
    c = words("8-16-serial-c")
    for wanted in range(comb(m, n)):
        code, mask, j = wanted, 0, n
        for p in reversed(range(m)):
            if code >= c[9 * p + j]:
                mask |= 1 << p
                code -= c[9 * p + j]
                j -= 1
        assert (mask, code, j) == (naive.unrank(wanted, n, m), 0, 0)


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="iverilog is not installed")
def test_a_simulator_reads_the_tables_without_a_warning(tmp_path):
    lines = ["module test;"]
    for i, sidecar in enumerate(SIDECARS.values()):
        shape = f"reg [{sidecar['width'] - 1}:0] m{i} [0:{sidecar['depth'] - 1}];"
        source = FORMATS / "tables" / sidecar["file"]
        lines += [shape, f'initial begin $readmemh("{source}", m{i});']
        lines += [f'$writememh("{tmp_path / sidecar["file"]}", m{i}); end']
    (tmp_path / "test.v").write_text("\n".join([*lines, "endmodule", ""]))
    run = {"cwd": tmp_path, "check": True, "capture_output": True, "text": True}
    compiled = subprocess.run(["iverilog", "-g2012", "-Wall", "-o", "test", "test.v"], **run)
    simulated = subprocess.run(["vvp", "-n", "test"], **run)
    assert compiled.stderr + simulated.stdout + simulated.stderr == ""
    for name, sidecar in SIDECARS.items():
        assert list(read_memh(tmp_path / sidecar["file"]).values()) == words(name)


def test_a_memory_refuses_a_word_that_does_not_fit():
    fields = (Field("x", 3, 0, "x"),)
    with pytest.raises(NmrefError, match=r"T_ARGUMENT t word 1: 16, want 4 bits"):
        Memory("t", "base-2-4", "t", "2.5", "ascending", fields, None, 4, (15, 16))
