"""The readers of recordings against whatever bytes there are: a recording, or one line (hypothesis)."""

import gzip
import io
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.bad_recordings import unpacked_copy
from tests.mutations import as_json, damaged, donors, mutated
from tests.places import EVIDENCE
from tiergym.errors import UserError, one_line
from tiergym.recordings import csv_reading
from tiergym.recordings.csv_reading import read_rows, to_numbers
from tiergym.recordings.format import Recording, read_recording
from tiergym.recordings.workload import workload_toml
from tiergym.validation.outcomes import validate

T = TypeVar("T")
FEW = settings(max_examples=60, suppress_health_check=list(HealthCheck))
NUMBERS = st.one_of(
    st.floats().map(str),
    st.integers().map(str),
    st.text(max_size=6),
    st.sampled_from(("", " ", "1_0", "٣", "0x1", "1e999", "+1", " 1 ", "-0", "NaN", "Infinity", "9" * 400)),
)


def result(work: Callable[[], T]) -> tuple[T | None, str]:
    """What comes of it, or the line by which it refuses."""
    try:
        return work(), ""
    except UserError as error:
        line = one_line(str(error))
    assert line.isprintable()
    return None, line


def read(folder: Path) -> Recording | None:
    """The recording; None where it is refused in a line that names one of its files."""
    found, refusal = result(lambda: read_recording(folder))
    if found is None:
        assert str(folder) in refusal
        return None
    assert (np.diff(found.t_s) > 0).all() and np.isfinite(found.t_s).all()
    times = [event.t_s for event in found.events]
    assert times == sorted(times) and np.isfinite(times).all()
    assert all(len(column) == len(found.t_s) and not np.isinf(column).any() for column in found.columns.values())
    return found


@FEW
@given(cells=st.lists(NUMBERS, min_size=1, max_size=20))
def test_a_column_is_numbers_or_names_its_first_bad_line(cells: list[str]) -> None:
    try:
        column = to_numbers(Path("x.csv"), "c", cells)
    except UserError as error:
        line = int(str(error).split("line ")[1].split(",")[0])
        assert 2 <= line <= len(cells) + 1
        return
    assert column.shape == (len(cells),) and not column.flags.writeable
    assert [bool(np.isnan(value)) for value in column] == [not cell.strip() for cell in cells]


@FEW
@given(data=st.one_of(st.binary(max_size=300), st.text(alphabet=',"\n\r\tab1é\0', max_size=80).map(str.encode)))
def test_any_bytes_are_rows_of_one_length_or_refused(data: bytes, tmp_path: Path) -> None:
    for name, content in (("a.csv", data), ("a.csv.gz", gzip.compress(data)), ("b.csv.gz", data)):
        path = tmp_path / name
        path.write_bytes(content)
        found, refusal = result(lambda path=path: read_rows(path))  # type: ignore[misc]
        if found is None:
            assert str(path) in refusal
            continue
        header, rows = found
        assert all(len(row) == len(header) for row in rows) and len(set(header)) == len(header)


@FEW
@given(data=st.data())
def test_a_spoilt_recording_is_read_in_order_or_refused(data: st.DataObject, tmp_path: Path) -> None:
    run = tmp_path / "rec"
    if not run.exists():
        unpacked_copy(tmp_path).rename(run)
        for name in ("meta.json", "samples.csv", "workload.csv"):
            (tmp_path / name).write_bytes((run / name).read_bytes())
    name = data.draw(st.sampled_from(("meta.json", "samples.csv", "workload.csv")))
    whole = (tmp_path / name).read_bytes()
    if name == "meta.json" and data.draw(st.booleans()):
        document = json.loads(whole)
        (run / name).write_bytes(as_json(data.draw(mutated(document, donors([document])))))
    else:
        (run / name).write_bytes(data.draw(damaged(whole)))
    try:
        found = read(run)
        if found is not None:
            result(lambda: workload_toml(found))  # which no scenario could have, perhaps
    finally:
        (run / name).write_bytes(whole)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig", "latin-1", "cp037"])
@pytest.mark.parametrize("name", ["samples.csv", "workload.csv", "meta.json"])
def test_other_encodings_are_refused(name: str, encoding: str, unpacked: Path) -> None:
    path = unpacked / name
    path.write_bytes(path.read_text().replace("phase", "phasé").replace('"run"', '"é", "run"', 1).encode(encoding))
    if encoding == "latin-1" and name == "samples.csv":
        path.write_bytes(path.read_bytes() + b"\xe9\r\n")
    assert read(unpacked) is None


def bomb(line: bytes, times: int) -> bytes:
    """A gzip of a line, many times over: a thousandth of its size."""
    out = io.BytesIO()
    with gzip.open(out, "wb", compresslevel=1) as file:
        for _ in range(times):
            file.write(line)
    return out.getvalue()


@pytest.mark.parametrize("line", [b"0," * 32768, b"0" * 65536, b"0\n" * 32768, b"\n" * 65536, b'"' + b"0" * 65535])
def test_a_bomb_or_an_endless_line_takes_no_more_memory_than_is_allowed(
    line: bytes, unpacked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = 1 << 20
    monkeypatch.setattr(csv_reading, "MAX_BYTES", allowed)
    (unpacked / "samples.csv").unlink()
    (unpacked / "samples.csv.gz").write_bytes(bomb(line, 512))  # 32 MiB of text
    tracemalloc.start()
    try:
        assert read(unpacked) is None
        assert tracemalloc.get_traced_memory()[1] < 4 * allowed
    finally:
        tracemalloc.stop()


def test_cells_that_do_not_fit_into_memory_are_refused_before_they_are_made(
    unpacked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiergym.memory.physical_bytes", lambda: 1 << 20)
    with pytest.raises(UserError, match=r"samples\.csv: \d+ cells would take .* of memory"):
        read_recording(unpacked)


FILES: dict[str, Callable[[Path], object]] = {
    "a FIFO": os.mkfifo,
    "a folder": Path.mkdir,
    "/dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "a loop": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("name", ["samples.csv", "samples.csv.gz", "workload.csv", "meta.json"])
@pytest.mark.parametrize("kind", FILES)
def test_what_is_no_file_is_not_waited_for(kind: str, name: str, unpacked: Path) -> None:
    for path in (unpacked / name, unpacked / "samples.csv" if name.startswith("samples") else unpacked / name):
        path.unlink(missing_ok=True)
    FILES[kind](unpacked / name)
    assert read(unpacked) is None


def test_a_long_text_takes_no_room_for_it_in_every_line() -> None:
    """An array of texts has as much for each as for the longest: of these, 400 MB."""
    tracemalloc.start()
    with pytest.raises(UserError, match="line 10002, column 'x': '999"):
        to_numbers(Path("a.csv"), "x", ["1"] * 10_000 + ["9" * 10_000])
    assert tracemalloc.get_traced_memory()[1] < 50 << 20
    tracemalloc.stop()


MANY = "9" * 5000
ARGUMENTS: dict[str, tuple[str, str, str, str]] = {
    "pages of a process that are none": ("fitted/c_threads_on", "kb=64", "kb=0x10", "kb is '0x10'; allowed: a whole"),
    "pages of many digits": ("fitted/c_threads_on", "kb=64", f"kb={MANY}", "kb is '999"),
    "a node that is none": ("fitted/c_threads_on", "node=0", "node=here", "node is 'here'; allowed: a whole"),
    "blocks of many digits": ("kinds/m_unplug_live_mov", "ok=", f"ok={MANY}", "ok is '999"),
    "no blocks": ("kinds/m_unplug_live_mov", "ok=", "ok=none", "ok is 'none"),
}
"""By what is wrong: a run, what its events say, what they say instead, and what is refused."""


@pytest.mark.parametrize("case", ARGUMENTS)
def test_a_number_that_no_command_takes_is_bad_input_and_no_defect(case: str, tmp_path: Path) -> None:
    run, old, new, part = ARGUMENTS[case]
    spoilt = unpacked_copy(tmp_path, EVIDENCE / run)
    events = spoilt / "workload.csv"
    assert old in events.read_text()
    events.write_text(events.read_text().replace(old, new))
    (outcome,) = validate([read_recording(spoilt)])
    assert part in outcome.score.failure and "defect" not in outcome.score.failure
