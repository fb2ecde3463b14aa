"""The designs of conformance/gates that are measured, as rows of its RESULTS.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Design:
    """A row of the tables.

    Attributes
    ----------
    top : the module.
    title : what it is.
    bench, parameters : its bench and the parameters of that.
    copies : how many of it 16 columns need.
    clocks : from one code to the next.
    slow : to synthesize and check; the tests and --small leave it out.
    """

    top: str
    title: str
    bench: str
    parameters: Mapping[str, object] = field(default_factory=dict)
    copies: int = 1
    clocks: int = 1
    slow: bool = False


def _decoder(n: int, m: int, width: int, count: int) -> dict[str, object]:
    words = (
        count if (n, m) == (8, 16) else 1 << width
    )  # the other tables have the invalid codes too
    table = f"formats/tables/{n}-{m}-decode.memh"
    return {"N": n, "M": m, "WIDTH": width, "COUNT": count, "WORDS": words, "TABLE": table}


P24, P48, P816 = _decoder(2, 4, 3, 6), _decoder(4, 8, 7, 70), _decoder(8, 16, 14, 12870)
DECODE, SERIAL = "tb_gates_decode", "tb_gates_serial"
MOVE, MULTIPLY = "tb_gates_move", "tb_gates_multiply"
M24, META = {"N": 2, "M": 4}, {"N": 2, "M": 4, "META": 1}

DECODERS = (
    Design("top_2_4_table", "2:4, six masks", DECODE, P24, copies=4),
    Design("top_4_8_steps", "4:8, narrow steps", DECODE, P48, copies=2),
    Design("nm_rom_8_16", "8:16, ROM of 12,870 words", DECODE, P816, slow=True),
    Design("nm_half_rom_8_16", "8:16, ROM of 6,435 words", DECODE, P816, slow=True),
    Design("top_8_16_bisect", "8:16, bytes, table S (B.2)", DECODE, P816, slow=True),
    Design("nm_split_8_16", "8:16, bytes, steps for S", DECODE, P816, slow=True),
    Design("nm_nibbles_8_16", "8:16, nibbles side by side", DECODE, P816, slow=True),
    Design("nm_unrank_8_16_serial", "8:16, 16 steps (B.3)", DECODE, P816, slow=True),
    Design("top_8_16_steps", "8:16, 16 narrow steps", DECODE, P816),
    Design("nm_serial_8_16", "8:16, one step per clock", SERIAL, clocks=16),
)
MOVERS = (
    Design("top_gather_2_4_meta", "2:4 gather, by metadata", MOVE, META, copies=4),
    Design("top_gather_2_4", "2:4 gather, by mask", MOVE, M24, copies=4),
    Design("top_gather_4_8", "4:8 gather, by mask", MOVE, {"N": 4, "M": 8}, copies=2),
    Design("top_gather_8_16", "8:16 gather, by mask", MOVE),
    Design("top_compact_8_16", "8:16 gather, by shifts", MOVE, slow=True),
    Design("top_gather_2_4_meta_byte", "2:4 gather, by metadata, 8-bit operands", MOVE,
           META | {"W": 8}, copies=4),
    Design("top_gather_8_16_byte", "8:16 gather, by mask, 8-bit operands", MOVE,
           {"W": 8}, slow=True),
    Design("top_spread_2_4", "2:4 spread, by mask", MOVE, M24 | {"SPREAD": 1}, copies=4),
    Design("top_spread_8_16", "8:16 spread, by mask", MOVE, {"SPREAD": 1}, slow=True),
    Design("top_multiply_8", "for scale: one signed 8 x 8 multiplier", MULTIPLY),
)  # fmt: skip

# Position bits of 16 columns, decoder, gather.
FRONT_ENDS = (
    ("2:4 metadata, two column numbers", 16, None, "top_gather_2_4_meta"),
    ("2:4 codes", 12, "top_2_4_table", "top_gather_2_4"),
    ("4:8 codes", 14, "top_4_8_steps", "top_gather_4_8"),
    ("8:16 mask, not coded", 16, None, "top_gather_8_16"),
    ("8:16 code, 16 narrow steps", 14, "top_8_16_steps", "top_gather_8_16"),
    ("8:16 code, nibbles side by side", 14, "nm_nibbles_8_16", "top_gather_8_16"),
    ("8:16 code, one step per clock", 14, "nm_serial_8_16", "top_gather_8_16"),
)

COPIES = {design.top: design.copies for design in DECODERS + MOVERS}
