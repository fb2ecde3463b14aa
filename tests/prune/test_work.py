"""What an interrupted prune leaves on disk: nothing lost, mixed up or taken for another run's."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import nmref.container.atomic as atomic
from nmref.cli import main
from nmref.errors import Code, NmrefError
from nmref.prune.masks.maskfile import Mask
from nmref.prune.run import work as work_module
from nmref.prune.run.streams import DiskStreams
from nmref.prune.run.work import Work, work_folder, working
from tests.cli.conftest import write_model
from tests.prune.conftest import contents

ROOT = Path(__file__).parents[2]
SHAPE = (2, 3, 4)
RUN, LAYERS = "the run", 3


def array(value):
    return np.full(SHAPE, value, dtype=np.float32)


def prune(target, run=RUN, restart=False, stop=lambda layer: None, layers=LAYERS):
    """A run whose blocks are small sums; everything that is kept in the end."""
    with working(target, run, restart) as work:
        streams = DiskStreams(work.folder, SHAPE, "dense", work.done)
        if not work.done:
            streams.inputs[:], streams.dense_inputs[:] = array(1), array(-1)
        for layer in range(work.done, layers):
            stop(layer)
            streams.targets[:] = 3 * streams.dense_inputs - layer
            streams.outputs[:] = 2 * streams.inputs + layer + streams.targets
            block = {f"layers.{layer}.weight": np.array(streams.outputs[0])}
            masks = {name: Mask(weight % 2 > 0) for name, weight in block.items()}
            work.commit(block, masks if layer != 1 else {}, streams)
            streams.advance()
        tensors = {name: bytes(tensor) for name, tensor in work.tensors()}
        specs = work.mask_specs()
        masks = {name: mask.base.tobytes() for name, mask in work.masks()}
        assert set(specs) == set(masks)
        return tensors, masks


def interrupted(target, at=2, error=KeyboardInterrupt):
    def stop(layer):
        if layer == at:
            raise error

    with pytest.raises(error if isinstance(error, type) else type(error)):
        prune(target, stop=stop)


@pytest.fixture(scope="module")
def want(tmp_path_factory):
    return prune(tmp_path_factory.mktemp("whole") / "out")


def test_a_run_leaves_nothing_but_its_result(want, tmp_path):
    assert prune(tmp_path / "out") == want
    assert list(want[0]) == [f"layers.{layer}.weight" for layer in range(LAYERS)]
    assert list(want[1]) == ["layers.0.weight", "layers.2.weight"]
    assert not work_folder(tmp_path / "out").exists()


def test_the_folder_lies_beside_the_target(tmp_path):
    assert work_folder(tmp_path / "a.b") == tmp_path / "a.b.unfinished"


def test_a_crash_at_any_line_leaves_the_state_before_a_block_or_after_it(want, tmp_path):
    """A copy of the folder at every line of the code that writes is what a crash there leaves."""
    files, copies = {work_module.__file__, atomic.__file__}, {}

    def trace(frame, event, argument):
        if frame.f_code.co_filename not in files:
            return None
        folder = work_folder(tmp_path / "out")
        if folder.is_dir():
            state = contents(folder)
            copies.setdefault(tuple(sorted(state.items())), state)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        assert prune(tmp_path / "out") == want
    finally:
        sys.settrace(before)
    assert len(copies) > 15
    seen = set()
    for number, state in enumerate(copies.values()):
        target = tmp_path / f"crash-{number}"
        folder = work_folder(target)
        folder.mkdir()
        for name, data in state.items():
            (folder / name).write_bytes(data)
        blocks = sum(name.endswith("nmref.safetensors") for name in state)
        if "state.json" not in state:  # it ended before it began
            assert not blocks
            assert prune(target) == want
            continue
        done = json.loads(state["state.json"])["done"]
        if blocks < done:
            with pytest.raises(NmrefError, match=r"^T_FILE "):  # all is done, and being removed
                prune(target)
            assert prune(target, restart=True) == want
        else:
            seen.add(done)
            assert prune(target) == want
    assert seen == set(range(LAYERS + 1))


def test_activations_are_on_disk_before_the_state_says_so(monkeypatch, tmp_path):
    said, flush, note = [], np.memmap.flush, Work.note
    monkeypatch.setattr(
        np.memmap, "flush", lambda self: said.append(Path(self.filename).stem) or flush(self)
    )
    monkeypatch.setattr(Work, "note", lambda self, **n: said.append("state") or note(self, **n))
    prune(tmp_path / "out", layers=2)
    assert said == ["state", "stream-1", "targets-1", "state", "stream-0", "targets-0", "state"]


@pytest.mark.parametrize("at", range(LAYERS))
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.ENOSPC, "full")])
def test_an_interrupted_run_goes_on(at, error, want, tmp_path):
    target = tmp_path / "out"
    interrupted(target, at, error)
    assert work_folder(target).exists() == (at > 0)  # nothing is kept where nothing was done
    begun = []
    assert prune(target, stop=begun.append) == want
    assert begun == list(range(at, LAYERS))
    assert not work_folder(target).exists()


def test_notes_are_kept_too(tmp_path):
    target = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt), working(target, RUN) as work:  # noqa: PT012
        work.note(stored={"a": "2:4"})
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), working(target, RUN) as work:  # noqa: PT012
        assert work.notes == {"stored": {"a": "2:4"}}
        assert work.done == 0
        work.note(other=1)
        raise KeyboardInterrupt
    with working(target, RUN) as work:
        assert work.notes == {"stored": {"a": "2:4"}, "other": 1}


def test_bad_input_leaves_nothing(tmp_path):
    interrupted(tmp_path / "out", 2, NmrefError(Code.T_SCORE, "x", "y", "z"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [MemoryError(), ValueError("bug"), SystemExit(3), NmrefError(Code.T_FILE, "x", "y", "z")],
)
def test_whatever_else_ends_it_what_is_done_stays(error, want, tmp_path):
    target = tmp_path / "out"
    interrupted(target, 0, error)
    assert list(tmp_path.iterdir()) == []
    interrupted(target, 2, error)
    begun = []
    assert prune(target, stop=begun.append) == want
    assert begun == [2]


def test_a_full_disk_before_the_first_state_leaves_nothing(monkeypatch, tmp_path):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="full"):
            prune(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def refuses(target, run=RUN, restart=False):
    folder = work_folder(target)
    before = contents(folder) if folder.is_dir() else folder.read_bytes()
    message = (
        f"T_FILE {folder}: something without state.json of a run, want it removed"
        if restart or work_module._state(folder) is None
        else f"T_FILE {folder}: what another run left, "
        "want the same command as before, --restart, or the folder removed"
    )
    with pytest.raises(NmrefError) as error:
        prune(target, run, restart)
    assert str(error.value) == message
    assert before == (contents(folder) if folder.is_dir() else folder.read_bytes())


def test_another_run_is_not_gone_on_with(want, tmp_path):
    target = tmp_path / "out"
    interrupted(target)
    refuses(target, "another run")
    begun = []
    assert prune(target, "another run", restart=True, stop=begun.append) == want
    assert begun == [0, 1, 2]


def test_somebody_elses_folder_or_file_is_left_alone(tmp_path):
    folder = work_folder(tmp_path / "out")
    folder.mkdir()
    (folder / "thesis.txt").write_text("all of it")
    refuses(tmp_path / "out")
    refuses(tmp_path / "out", restart=True)
    (folder / "state.json").write_text('{"version": 4}')  # of another program
    refuses(tmp_path / "out", restart=True)
    work_folder(tmp_path / "file").write_text("all of it")
    refuses(tmp_path / "file")
    refuses(tmp_path / "file", restart=True)


def test_an_empty_folder_is_one_to_begin_in(want, tmp_path):
    work_folder(tmp_path / "out").mkdir()
    assert prune(tmp_path / "out") == want


GOOD = {"run": RUN, "done": 2, "notes": {}}
DAMAGED = {
    "empty": "",
    "cut": json.dumps(GOOD)[:-3],
    "not text": b"\xff\xfe",
    "a list": "[]",
    "a number": "7",
    "deep": "[" * 100_000,
    "no run": json.dumps({"done": 2, "notes": {}}),
    "no done": json.dumps({"run": RUN, "notes": {}}),
    "no notes": json.dumps({"run": RUN, "done": 2}),
    "half a block": json.dumps(GOOD | {"done": 1.5}),
    "true": json.dumps(GOOD | {"done": True}),
    "text": json.dumps(GOOD | {"done": "2"}),
    "negative": json.dumps(GOOD | {"done": -1}),
    "more than there are": json.dumps(GOOD | {"done": 3}),
    "far more": json.dumps(GOOD | {"done": 10**30}),
    "notes are a list": json.dumps(GOOD | {"notes": []}),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_state_is_not_gone_on_with(name, want, tmp_path):
    target, data = tmp_path / "out", DAMAGED[name]
    interrupted(target)
    path = work_folder(target) / "state.json"
    assert json.loads(path.read_bytes()) == GOOD
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    refuses(target)
    if name in {*list(DAMAGED)[:6], "no run", "no done", "no notes"}:
        refuses(target, restart=True)
    else:
        assert prune(target, restart=True) == want


def test_a_restart_leaves_what_is_not_its_own(want, tmp_path):
    target = tmp_path / "out"
    interrupted(target)
    (work_folder(target) / "notes.txt").write_text("mine")
    assert prune(target, restart=True) == want
    assert contents(work_folder(target)) == {"notes.txt": b"mine"}


@pytest.mark.parametrize("name", ["state.json", "block-0001.nmref.safetensors"])
def test_a_missing_file_is_seen_at_once(name, tmp_path):
    interrupted(tmp_path / "out")
    (work_folder(tmp_path / "out") / name).unlink()
    refuses(tmp_path / "out")


def test_a_damaged_block_is_seen_when_it_is_read(tmp_path):
    interrupted(tmp_path / "out")
    path = work_folder(tmp_path / "out") / "block-0000.nmref.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(NmrefError, match=r"^E_DIGEST .*block-0000"):
        prune(tmp_path / "out")


@pytest.mark.parametrize("restart", [True, False])
def test_two_at_once_do_not_share_a_folder(restart, want, tmp_path):
    target = tmp_path / "out"
    interrupted(target)
    inside, leave, found = threading.Event(), threading.Event(), []

    def first():
        def stop(layer):
            inside.set()
            assert leave.wait(20)

        found.append(prune(target, stop=stop))

    thread = threading.Thread(target=first)
    thread.start()
    try:
        assert inside.wait(20)
        before = contents(work_folder(target))
        with pytest.raises(NmrefError) as error:
            prune(target, restart=restart)
        folder = work_folder(target)
        assert str(error.value) == (
            f"T_FILE {folder}: another process at work in it, want one at a time"
        )
        assert contents(folder) == before
    finally:
        leave.set()
        thread.join()
    assert found == [want]


def test_a_file_system_without_locks_is_used_without(monkeypatch, want, tmp_path):
    def none(*arguments):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(work_module, "lock_byte", none)
    assert prune(tmp_path / "out") == want


OTHER = """
import os, sys, time
from pathlib import Path
from nmref.prune.run.work import working
with working(Path(sys.argv[1]), "the run") as work:
    if sys.argv[2] == "fork" and os.fork() == 0:
        os.close(1)
        time.sleep(60)
        os._exit(0)
    work.note(begun=True)
    print(os.getpid(), flush=True)
    sys.stdin.read()
    os._exit(1)  # no end of the block
"""


def other_process(target, how):
    """One that works in the folder until it is told to die."""
    return subprocess.Popen(
        [sys.executable, "-c", OTHER, str(target), how],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )


@pytest.mark.parametrize("how", ["alone", "fork"])
def test_two_processes_do_not_share_a_folder(how, want, tmp_path):
    """And a child that the first has forked does not keep the folder when that has died."""
    target = tmp_path / "out"
    process = other_process(target, how)
    try:
        assert process.stdout.readline()
        for restart in (False, True):
            with pytest.raises(NmrefError, match=r"another process at work in it, want one at a"):
                prune(target, restart=restart)
        process.stdin.close()
        process.wait(20)
        assert prune(target) == want
    finally:
        os.killpg(process.pid, signal.SIGKILL) if how == "fork" else process.kill()
        process.stdout.close()
        process.wait(20)


def test_a_lock_whose_file_is_gone_is_not_had(monkeypatch, tmp_path):
    """The run that had it ended between our opening of the file and our locking it."""
    folder, lock = work_folder(tmp_path / "out"), work_module.lock_byte

    def late(*arguments):
        (folder / "lock").unlink()
        lock(*arguments)

    monkeypatch.setattr(work_module, "lock_byte", late)
    with pytest.raises(NmrefError, match=r"another process at work in it, want one at a time$"):
        prune(tmp_path / "out")


# A disk that is really full


PROGRAM = """
import resource, sys
from nmref.cli import main
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
raise SystemExit(main(sys.argv[2:]))
"""


def command(limit, *words):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, str(limit), *map(str, words)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of files")
def test_a_full_disk_is_one_line_and_the_source_is_untouched(tmp_path):
    """No file may grow past a limit: activations, a block, the whole model."""
    model = write_model(tmp_path / "model")
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog. " * 8, "utf-8")
    options = ["--calibration", text, "--samples", "2", "--seqlen", "32"]
    assert main([str(word) for word in ("prune", model, tmp_path / "whole", *options)]) == 0
    before = contents(model)
    size = (tmp_path / "whole" / "model.nmref.safetensors").stat().st_size
    target = tmp_path / "out"
    for limit, goes_on in ((5_000, False), (8_000, False), (size - 1, True)):
        ended = command(limit, "prune", model, target, *options)
        assert ended.returncode == 1, (limit, ended.stderr)
        assert ended.stdout == ""
        lines = [line for line in ended.stderr.splitlines() if line.startswith("T_FILE ")]
        assert len(lines) == 1, ended.stderr
        assert re.match(rf"T_FILE {tmp_path}/out\S*: File too large, want it to work$", lines[0]), (
            lines
        )
        assert "Traceback" not in ended.stderr
        assert ("the same command goes on" in ended.stderr) == goes_on
        assert not target.exists()
        assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]
        assert work_folder(target).exists() == goes_on
        assert contents(model) == before
    assert main([str(word) for word in ("prune", model, target, *options)]) == 0
    assert contents(target) == contents(tmp_path / "whole")
