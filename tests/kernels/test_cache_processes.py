"""The kernel cache between processes: a copy of its modules with a few tiny kernels."""

import importlib.util
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nmref.kernels.fingerprint import PACKAGE
from nmref.kernels.isa import cpu_name

MACHINERY = ("__init__", "cache", "compile", "entries", "fingerprint", "identity", "lock")
KERNELS = 3  # of CALL

TINY = {
    "consts.py": "FACTOR = 3\n",
    "parts.py": """
from nmref.kernels.compile import kernel
from nmref.kernels.consts import FACTOR

@kernel(forceinline=True)
def scaled(x):
    return x * FACTOR
""",
    "tiny.py": """
from nmref.kernels.compile import kernel
from nmref.kernels.parts import scaled

@kernel
def total(n):
    found = 0
    for i in range(n):
        found += scaled(i)
    return found

@kernel
def outer(n):
    return total(n) + 1

@kernel
def wrong(n):
    return n + "no number"

def made(step):
    @kernel
    def add(n):
        return scaled(n) + step
    return add
""",
    "long.py": """
from nmref.kernels.compile import kernel

def made(step):
    @kernel
    def part(x):  # too long to be inlined into its caller, so it keeps its symbol
BODY
        return x

    @kernel
    def whole(x):
        return part(x) + part(x + 1)
    return whole
""".replace(
        "BODY",
        "\n".join(f"        x = x * {i} % 1009 if x % {i} else x + step" for i in range(2, 60)),
    ),
}

CALL = "from nmref.kernels.tiny import outer; result = outer(4)"  # 3 * (0 + 1 + 2 + 3) + 1
TELL = """
import json
from nmref.kernels import cache, compile
state, stats = cache.state(), compile.stats()
print(json.dumps([result, stats.compiled, stats.loaded, str(state.folder), state.why,
                  state.writable, state.files, state.trouble]))
"""


@pytest.fixture
def copy(tmp_path):
    """A folder with the package; nmref/kernels/ holds only what the cache is made of, and TINY."""
    kernels = tmp_path / "site" / "nmref" / "kernels"
    kernels.mkdir(parents=True)
    for path in PACKAGE.glob("*.py"):
        shutil.copy(path, kernels.parent)
    for name in MACHINERY:
        shutil.copy(PACKAGE / "kernels" / f"{name}.py", kernels)
    for name, text in TINY.items():
        (kernels / name).write_text(text)
    return tmp_path


def start(copy: Path, code: str = CALL, **more: str | None) -> subprocess.Popen[str]:
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("NMREF_", "NUMBA_"))}
    variables |= {"PYTHONPATH": str(copy / "site"), "PYTHONDONTWRITEBYTECODE": "1"}
    variables |= {"NMREF_CACHE_DIR": str(copy / "cache"), "TMPDIR": str(copy)}
    for name, value in more.items():
        variables.pop(name, None)
        if value is not None:
            variables[name] = value
    return subprocess.Popen(
        [sys.executable, "-c", code], env=variables, cwd=copy, stdout=-1, stderr=-1, text=True
    )


def run(copy: Path, code: str = CALL, **more: str | None) -> dict[str, object]:
    return said(start(copy, code + TELL, **more))


def said(process: subprocess.Popen[str]) -> dict[str, object]:
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    names = ("result", "compiled", "loaded", "folder", "why", "writable", "files", "trouble")
    return dict(zip(names, json.loads(out.splitlines()[-1]), strict=True))


def counts(found: dict[str, object]) -> tuple[object, object, object]:
    return found["result"], found["compiled"], found["loaded"]


def rewrite(path: Path, text: str) -> None:
    """Another text of the same length and time."""
    before = path.stat()
    assert len(text) == before.st_size
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_second_process_compiles_nothing(copy):
    first, second = run(copy), run(copy)
    assert counts(first) == (19, KERNELS, 0)
    assert counts(second) == (19, 0, 1)  # the outer one has the others in it
    assert first["files"] == second["files"] == KERNELS
    assert first["folder"].startswith(str(copy / "cache" / "kernels"))
    assert first["why"] == "NMREF_CACHE_DIR"
    assert not first["trouble"]


def test_closures_over_kernels_are_found_again(copy):
    code = "from nmref.kernels.tiny import made; result = made(10)(1) + made(20)(1)"
    assert counts(run(copy, code)) == (36, 3, 0)  # `scaled` and two sums
    assert counts(run(copy, code)) == (36, 0, 2)


WHOLE = "from nmref.kernels.long import made; result = [made(s)(10) for s in {}]"


def test_kernels_of_one_factory_from_two_processes_are_two(copy):
    """Numba numbers symbols in every process; with equal ones the first ran for the second."""
    want = run(copy, WHOLE.format([2, 1]), NUMBA_DISABLE_JIT="1")["result"]
    assert want[0] != want[1]
    for step in (1, 2):
        run(copy, WHOLE.format([step]))
    assert counts(run(copy, WHOLE.format([2, 1]))) == (want, 0, 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_kernels_of_one_factory_from_two_forked_children_are_two(copy):
    program = """
import os
from nmref.kernels.long import made
from nmref.kernels.tiny import outer
outer(4)
for step in (1, 2):
    child = os.fork()
    if not child:
        made(step)(10)
        os._exit(0)
    os.waitpid(child, 0)
result = 0
"""
    run(copy, program)
    want = run(copy, WHOLE.format([2, 1]), NUMBA_DISABLE_JIT="1")["result"]
    assert counts(run(copy, WHOLE.format([2, 1]))) == (want, 0, 2)


def test_an_edit_of_the_same_size_and_time_gives_the_new_result(copy):
    consts = copy / "site" / "nmref" / "kernels" / "consts.py"
    assert counts(run(copy)) == (19, KERNELS, 0)
    rewrite(consts, "FACTOR = 5\n")
    assert counts(run(copy)) == (31, KERNELS, 0)
    rewrite(consts, "FACTOR = 3\n")
    assert counts(run(copy)) == (19, 0, 1)


def test_an_edit_of_a_lower_module_is_noticed(copy):
    run(copy)
    with (copy / "site" / "nmref" / "dtypes.py").open("a") as file:
        file.write("\n")
    assert counts(run(copy)) == (19, KERNELS, 0)


def test_an_old_pyc_leaves_no_stale_kernel(copy):
    """Python itself runs the old code then; once it does not, neither do we."""
    consts = copy / "site" / "nmref" / "kernels" / "consts.py"
    assert run(copy, PYTHONDONTWRITEBYTECODE=None)["result"] == 19
    rewrite(consts, "FACTOR = 5\n")
    assert run(copy, PYTHONDONTWRITEBYTECODE=None)["result"] == 19
    Path(importlib.util.cache_from_source(str(consts))).unlink()
    assert counts(run(copy)) == (31, KERNELS, 0)


def test_an_edit_between_import_and_call_leaves_no_stale_kernel(copy):
    path = copy / "site" / "nmref" / "kernels" / "consts.py"
    edit = f"import pathlib; pathlib.Path({str(path)!r}).write_text('FACTOR = 5\\n')"
    code = f"from nmref.kernels.tiny import outer\n{edit}\nresult = outer(4)"
    assert run(copy, code)["result"] == 19
    assert run(copy)["result"] == 31


def test_nothing_compiles_at_import(copy):
    done = run(copy, "import nmref.kernels.tiny; result = 0")
    assert counts(done) == (0, 0, 0)
    imported = start(copy, "import nmref.kernels.tiny", NMREF_CACHE_DIR=str(copy / "none"))
    assert imported.communicate(timeout=60) == ("", "")
    assert imported.returncode == 0
    assert not (copy / "none").exists()


def test_every_kernel_module_of_the_package_compiles_nothing_at_import(tmp_path):
    code = """
import importlib, pathlib, nmref.kernels
from nmref.kernels import compile
for path in sorted(pathlib.Path(nmref.kernels.__file__).parent.glob("*.py")):
    importlib.import_module("nmref.kernels." + path.stem)
print(compile.stats())
"""
    variables = os.environ | {"NMREF_CACHE_DIR": str(tmp_path / "none")}
    found = subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True
    )
    assert found.stdout == "Stats(compiled=0, loaded=0)\n"
    assert not (tmp_path / "none").exists()


def test_a_cache_that_cannot_be_made_is_replaced_by_a_private_temporary_folder(copy):
    (copy / "cache").write_text("a file where the folder should be")
    first, second = run(copy), run(copy)
    assert counts(first) == (19, KERNELS, 0)
    assert counts(second) == (19, 0, 1)
    private = copy / f"nmref-{os.getuid()}"
    assert first["folder"].startswith(str(private / "kernels"))
    assert private.stat().st_mode & 0o777 == 0o700
    assert first["why"] == (
        f"temporary directory; not NMREF_CACHE_DIR ({copy / 'cache' / 'kernels'}: File exists)"
    )


def test_without_any_folder_kernels_are_compiled_in_memory(copy):
    (copy / "cache").write_text("")
    (copy / f"nmref-{os.getuid()}").write_text("")
    found = run(copy)
    assert counts(found) == (19, KERNELS, 0)
    assert (found["folder"], found["writable"]) == ("None", False)
    assert found["why"].startswith("in memory; not NMREF_CACHE_DIR (")
    assert "is a link or a file" in found["why"]


READ_ONLY = """
from nmref.kernels import cache
plain = cache._prepare
cache._prepare = lambda base, folder: (
    "Read-only file system" if base.name == "NMREF_CACHE_DIR" else plain(base, folder))
"""


def test_a_filled_folder_that_can_only_be_read_is_read(copy):
    run(copy)
    before = sorted((copy / "cache" / "kernels").rglob("*"))
    assert counts(run(copy, READ_ONLY + CALL)) == (19, 0, 1)
    more = "from nmref.kernels.tiny import made; result = made(10)(1)"  # `scaled` is there
    assert counts(run(copy, READ_ONLY + more)) == (13, 1, 1)
    assert counts(run(copy, READ_ONLY + more)) == (13, 0, 1)  # from the temporary folder
    assert sorted((copy / "cache" / "kernels").rglob("*")) == before


def files(copy: Path) -> list[Path]:
    found = sorted((copy / "cache" / "kernels").rglob("*.nmk"))
    assert len(found) == KERNELS
    return found


DAMAGES = {
    "empty": lambda data: b"",
    "cut": lambda data: data[:-1],
    "in the head": lambda data: data[:10],
    "one bit": lambda data: data[:-100] + bytes([data[-100] ^ 1]) + data[-99:],
    "numba's index": lambda data: b"\x80\x05.",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_files_are_written_anew(copy, damage):
    run(copy)
    for path in files(copy):
        path.write_bytes(damage(path.read_bytes()))
    assert counts(run(copy)) == (19, KERNELS, 0)
    assert counts(run(copy)) == (19, 0, 1)


def test_a_whole_file_with_other_contents_is_written_anew(copy):
    run(copy)
    from nmref.kernels import entries

    for path in files(copy):
        entries.write(path, b"no pickle")
    found = run(copy)
    assert counts(found) == (19, KERNELS, 0)
    assert "UnpicklingError" in found["trouble"]
    assert counts(run(copy)) == (19, 0, 1)


def test_a_kernel_under_the_name_of_another_is_not_run(copy):
    run(copy)
    first, second, third = files(copy)
    shutil.copy(first, second)
    shutil.copy(first, third)
    assert run(copy)["result"] == 19


def test_a_full_disk_costs_only_time(copy):
    full = """
import errno, os
from nmref.kernels import entries
def write(path, body):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
entries.write = write
"""
    found = run(copy, full + CALL)
    assert counts(found) == (19, KERNELS, 0)
    assert "No space left on device" in found["trouble"]


def test_a_folder_that_vanishes_is_made_again(copy):
    code = f"""
import shutil
from nmref.kernels.tiny import outer, total
assert total(4) == 18
shutil.rmtree({str(copy / "cache")!r})
result = outer(4)
"""
    assert counts(run(copy, code)) == (19, KERNELS, 0)
    assert len(list((copy / "cache" / "kernels").rglob("*.nmk"))) == 1  # of the outer one


def test_four_processes_at_once_compile_each_kernel_once(copy):
    wait = f"""
import pathlib, time
import nmref.kernels.compile
print("ready", flush=True)
while not pathlib.Path({str(copy / "go")!r}).exists():
    time.sleep(0.001)
"""
    processes = [start(copy, wait + CALL + TELL) for _ in range(4)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    (copy / "go").touch()
    found = [said(process) for process in processes]
    assert [one["result"] for one in found] == [19] * 4
    assert sum(one["compiled"] for one in found) == KERNELS
    assert not list((copy / "cache").rglob("*.tmp"))


HOLD = """
from nmref.kernels import cache, compile, fingerprint, lock
from nmref.kernels.tiny import outer
import numba
entry = outer._cache._entry((numba.int64,), fingerprint.cpu_target.target_context.codegen())
assert lock.acquire(cache.folder() / cache.LOCK, entry.number, 1)
print("held", flush=True)
import time
time.sleep(600)
"""


@pytest.fixture
def holder(copy):
    """A process that has the lock of `outer` and does nothing."""
    process = start(copy, HOLD)
    assert process.stdout.readline() == "held\n", process.stderr.read()
    yield process
    process.kill()
    process.communicate()


def test_a_lock_is_waited_for_until_its_holder_is_killed(copy, holder):
    waiting = start(copy, CALL + TELL)
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(3)
    os.kill(holder.pid, signal.SIGKILL)
    assert counts(said(waiting)) == (19, KERNELS, 0)


def test_a_lock_that_is_never_freed_is_not_waited_for_for_ever(copy, holder):
    hurry = "from nmref.kernels import compile; compile.LOCK_SECONDS = 0.2\n"
    assert counts(run(copy, hurry + CALL)) == (19, KERNELS, 0)


def test_a_compile_error_frees_the_lock(copy):
    code = """
from nmref.kernels import lock
from nmref.kernels.tiny import wrong
for _ in range(2):
    try:
        wrong(1)
    except Exception as error:
        assert type(error).__name__ == "TypingError", error
assert lock.held() == 0 and not lock._files
"""
    assert counts(run(copy, code + CALL)) == (19, KERNELS, 0)


def test_threads_compile_a_kernel_once(copy):
    code = """
from concurrent.futures import ThreadPoolExecutor
from nmref.kernels.tiny import outer, total
with ThreadPoolExecutor(8) as pool:
    found = set(pool.map(lambda i: outer(4) if i % 2 else total(4) + 1, range(64)))
(result,) = found
"""
    assert counts(run(copy, code)) == (19, KERNELS, 0)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names a CPU of x86-64")
def test_another_cpu_has_entries_of_its_own(copy):
    here, other = run(copy), run(copy, NUMBA_CPU_NAME="haswell")
    assert counts(other) == (19, KERNELS, 0)
    assert Path(here["folder"]).parent == Path(other["folder"]).parent
    assert "-haswell-" in other["folder"]
    assert f"-{cpu_name()}-" in here["folder"]
    assert counts(run(copy, NUMBA_CPU_NAME="haswell")) == (19, 0, 1)
    assert counts(run(copy)) == (19, 0, 1)


def test_options_of_the_compiler_have_entries_of_their_own(copy):
    run(copy)
    assert counts(run(copy, NUMBA_BOUNDSCHECK="1")) == (19, KERNELS, 0)
    assert counts(run(copy, NUMBA_OPT="1")) == (19, KERNELS, 0)
    assert counts(run(copy)) == (19, 0, 1)


def test_without_a_compiler_a_kernel_is_the_function(copy):
    code = CALL + "; assert type(outer).__name__ == 'function'"
    assert counts(run(copy, code, NUMBA_DISABLE_JIT="1"))[:2] == (19, 0)


def test_explicit_signatures_share_entries_with_calls(copy):
    code = "from nmref.kernels.tiny import total; total.compile('(int64,)'); result = total(4)"
    assert counts(run(copy, code)) == (18, 2, 0)
    assert counts(run(copy, "from nmref.kernels.tiny import total; result = total(4)"))[1] == 0


def test_what_a_killed_writer_leaves_does_no_harm(copy):
    run(copy)
    (path, *_) = files(copy)
    path.with_name(path.name + ".1.0.tmp").write_bytes(b"half")
    assert counts(run(copy)) == (19, 0, 1)


def test_a_running_process_is_not_told_by_time(copy):
    """Sources from the future, or from 1980, change nothing."""
    run(copy)
    for path in (copy / "site").rglob("*.py"):
        os.utime(path, (time.time() + 1e6, time.time() + 1e6))
    assert counts(run(copy)) == (19, 0, 1)
