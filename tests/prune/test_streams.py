"""Activations between two blocks, in memory and in files, change places alike."""

import numpy as np
import pytest

from nmref.errors import NmrefError
from nmref.prune.run.streams import DiskStreams, Streams
from tests.prune.conftest import contents

SHAPE = (2, 3, 4)
TEACHERS = [None, "pruned", "dense"]


def array(value):
    return np.full(SHAPE, value, dtype=np.float32)


def kinds(folder, teacher, first=0):
    return [Streams(SHAPE, teacher, first), DiskStreams(folder, SHAPE, teacher, first)]


@pytest.mark.parametrize("teacher", TEACHERS)
def test_outputs_become_inputs(teacher, tmp_path):
    for streams in kinds(tmp_path, teacher):
        streams.inputs[:] = array(1)
        for value in range(2, 7):
            assert (streams.inputs == value - 1).all()
            streams.outputs[:] = array(value)
            assert (streams.inputs == value - 1).all()  # two arrays
            streams.advance()
        assert (streams.inputs == 6).all()


def test_without_a_teacher_there_are_no_targets(tmp_path):
    for streams in kinds(tmp_path, None):
        assert streams.targets is None
        assert streams.dense_inputs is None
    assert sorted(contents(tmp_path)) == ["stream-0.f32", "stream-1.f32"]


def test_targets_of_the_pruned_inputs_stay_in_place(tmp_path):
    for streams in kinds(tmp_path, "pruned"):
        assert streams.dense_inputs is None
        streams.targets[:] = array(5)
        streams.inputs[:] = streams.outputs[:] = array(0)
        streams.advance()
        assert (streams.targets == 5).all()
    assert sorted(contents(tmp_path)) == ["stream-0.f32", "stream-1.f32", "targets-0.f32"]


def test_targets_of_the_dense_model_change_places(tmp_path):
    for streams in kinds(tmp_path, "dense"):
        streams.inputs[:], streams.dense_inputs[:] = array(-1), array(1)
        for value in range(2, 6):
            assert (streams.dense_inputs == value - 1).all()
            streams.targets[:], streams.outputs[:] = array(value), array(-value)
            assert (streams.dense_inputs == value - 1).all()
            streams.advance()
        assert (streams.inputs == -5).all()
    assert len(contents(tmp_path)) == 4


@pytest.mark.parametrize("teacher", TEACHERS)
@pytest.mark.parametrize("done", [1, 2, 3, 4])
def test_opened_again_they_are_where_they_were(teacher, done, tmp_path):
    before = DiskStreams(tmp_path, SHAPE, teacher)
    for layer in range(done):
        before.outputs[:] = array(layer + 1)
        if before.targets is not None:
            before.targets[:] = array(layer + 10)
        before.flush()
        before.advance()
    files = contents(tmp_path)
    after = DiskStreams(tmp_path, SHAPE, teacher, done)
    assert (after.inputs == done).all()
    if teacher == "dense":
        assert (after.dense_inputs == done + 9).all()
    assert contents(tmp_path) == files


def test_files_are_little_endian_rows_of_samples(tmp_path):
    streams = DiskStreams(tmp_path, SHAPE, None)
    streams.inputs[:] = np.arange(24, dtype=np.float32).reshape(SHAPE)
    streams.flush()
    assert (tmp_path / "stream-0.f32").read_bytes() == np.arange(24, dtype="<f4").tobytes()
    assert type(streams.inputs) is np.memmap


def test_no_samples_no_files(tmp_path):
    streams = DiskStreams(tmp_path, (0, 0, 4), None)
    assert len(streams.inputs) == len(streams.outputs) == 0
    streams.flush()
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("size", [None, 0, 95, 97])
@pytest.mark.parametrize("name", ["stream-0", "stream-1", "targets-0", "targets-1"])
def test_activations_that_are_gone_are_no_zeros(name, size, tmp_path):
    DiskStreams(tmp_path, SHAPE, "dense").flush()
    path = tmp_path / f"{name}.f32"
    path.unlink() if size is None else path.write_bytes(bytes(size))
    message = f"T_FILE {path}: {size or 0} bytes, want the 96 that were there"
    with pytest.raises(NmrefError) as error:
        DiskStreams(tmp_path, SHAPE, "dense", 1)
    assert str(error.value) == message
    streams = DiskStreams(tmp_path, SHAPE, "dense")  # a run that begins takes any
    assert streams.inputs.shape == SHAPE
    assert path.stat().st_size == 96


def test_room_is_taken_before_anything_is_written(tmp_path):
    DiskStreams(tmp_path, (8, 64, 64), None)
    found = (tmp_path / "stream-0.f32").stat()
    assert found.st_size == 8 * 64 * 64 * 4
    assert found.st_blocks * 512 >= found.st_size  # no hole
