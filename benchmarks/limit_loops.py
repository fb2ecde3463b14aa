"""The loops of benchmarks/limits.py as LLVM IR: nothing but the instruction in question in them.

Each is a module with `float kernel(ptr, i64)`: an address of 64-byte aligned memory, and steps.
"""

from __future__ import annotations

CHAINS = 12
"""Independent accumulators: more than latency times two a clock; AVX2's 16 registers hold them."""

L1_BYTES = 8192
"""What the loop with loads goes over; fits the smallest L1."""

_LOOP = """
define float @kernel(ptr %p, i64 %n) #0 {{
entry:
{entry}
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%next, %loop]
{body}
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %n
  br i1 %more, label %loop, label %done
done:
{done}
}}
"""


def fma(lanes: int, load: bool) -> str:
    """CHAINS multiply-adds of `lanes` floats; with `load`, one operand of each comes from L1."""
    vector, size = f"<{lanes} x float>", 4 * lanes
    steps = 1 << (L1_BYTES // (CHAINS * size)).bit_length() - 1
    body = [f"  %s = and i64 %i, {steps - 1}", f"  %o = mul i64 %s, {CHAINS * size}"]
    for c in range(CHAINS):
        body += [
            f"  %q{c} = getelementptr i8, ptr %p, i64 {c * size}",
            f"  %r{c} = getelementptr i8, ptr %q{c}, i64 %o",
            f"  %v{c} = load {vector}, ptr %r{c}, align {size}",
        ] * load
        operand = f"%v{c}" if load else "%b"
        call = f"call {vector} @llvm.fma.v{lanes}f32"
        body.append(f"  %t{c} = {call}({vector} %a, {vector} {operand}, {vector} %c{c})")
    entry = [f"  %a = load {vector}, ptr %p, align {size}", f"  %b = fneg {vector} %a"]
    name = f"@llvm.fma.v{lanes}f32({vector}, {vector}, {vector})"
    return f"declare {vector} {name}\n" + _chained(vector, entry, body)


def dot() -> str:
    """CHAINS vdpbf16ps from registers: 32 products a vector of 16 floats."""
    vector, pairs = "<16 x float>", "<32 x bfloat>"
    name = "@llvm.x86.avx512bf16.dpbf16ps.512"
    body = [
        f"  %t{c} = call {vector} {name}({vector} %c{c}, {pairs} %a, {pairs} %b)"
        for c in range(CHAINS)
    ]
    entry = [f"  %a = load {pairs}, ptr %p, align 64", f"  %b = fneg {pairs} %a"]
    declared = f"declare {vector} {name}({vector}, {pairs}, {pairs})\n"
    return declared + _chained(vector, entry, body)


def amx() -> str:
    """Four independent tdpbf16ps on tiles of 16 rows by 64 bytes; %p is the tile configuration."""
    names = ["ldtilecfg(ptr)", "tilerelease()", "tilezero(i8 immarg)"]
    names.append("tdpbf16ps(i8 immarg, i8 immarg, i8 immarg)")
    declared = "".join(f"declare void @llvm.x86.{name}\n" for name in names)
    call = "  call void @llvm.x86."
    entry = [f"{call}ldtilecfg(ptr %p)", *(f"{call}tilezero(i8 {t})" for t in range(8))]
    body = [f"{call}tdpbf16ps(i8 {t}, i8 {4 + t // 2}, i8 {6 + t % 2})" for t in range(4)]
    done = [f"{call}tilerelease()", "  ret float 0.0"]
    lines = {"entry": entry, "body": body, "done": done}
    return declared + _LOOP.format(**{name: "\n".join(text) for name, text in lines.items()})


def read(streams: int) -> str:
    """Two lines of 64 bytes from each stream a step; %n steps, so 128 n bytes a stream."""
    vector, body = "<8 x i64>", ["  %o = shl i64 %i, 7", "  %size = shl i64 %n, 7"]
    for s in range(streams):
        body += [
            f"  %k{s} = mul i64 %size, {s}",
            f"  %q{s} = getelementptr i8, ptr %p, i64 %k{s}",
            f"  %r{s} = getelementptr i8, ptr %q{s}, i64 %o",
            f"  %u{s} = getelementptr i8, ptr %r{s}, i64 64",
            f"  %v{s} = load {vector}, ptr %r{s}, align 64",
            f"  %w{s} = load {vector}, ptr %u{s}, align 64",
            f"  %x{s} = add {vector} %v{s}, %w{s}",
            f"  %t{s} = add {vector} %c{s}, %x{s}",
        ]
    return _chained(vector, [], body, streams)


def _chained(vector: str, entry: list[str], body: list[str], chains: int = CHAINS) -> str:
    """A loop with accumulators %c0.. that `body` makes into %t0.., summed at the end."""
    phis = [
        f"  %c{c} = phi {vector} [zeroinitializer, %entry], [%t{c}, %loop]" for c in range(chains)
    ]
    is_float = "float" in vector
    add = "fadd" if is_float else "add"
    done = [f"  %z0 = {add} {vector} %t0, zeroinitializer"]
    done += [f"  %z{c} = {add} {vector} %z{c - 1}, %t{c}" for c in range(1, chains)]
    element = vector.rpartition(" ")[2].rstrip(">")
    done.append(f"  %e = extractelement {vector} %z{chains - 1}, i32 0")
    done.append("  ret float %e" if is_float else f"  %f = sitofp {element} %e to float")
    done += [] if is_float else ["  ret float %f"]
    return _LOOP.format(entry="\n".join(entry), body="\n".join(phis + body), done="\n".join(done))
