"""`tiergym validate marks`: what a person learns of a posted /proc/zoneinfo."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command_line import Cli
from tests.refusals import assert_refused
from tests.test_marks_report import EXPLAINED, REPORTS
from tiergym.recordings import proc_files

ZONEINFO = """\
Node {node}, zone   {zone}
  pages free     12
        min      {min}
        low      {low}
        high     {high}
        spanned  4095
        present  3999
        managed  {managed}
        protection: (0, 3828)
"""


def zoneinfo(report: str) -> str:
    names = ("node", "zone", "managed", "min", "low", "high")
    return "".join(
        ZONEINFO.format(**dict(zip(names, (*name.split(), *marks), strict=False)))
        for name, marks in REPORTS[report].items()
    )


@pytest.mark.parametrize(
    ("report", "said"),
    [
        ("x86-coreos-8g", ["67584", "khugepaged", "13709 pages were freed"]),
        ("x86-chromeos-guest", ["135168", "set by hand"]),
        ("x86-desktop-8g", ["Boosted: node 0 DMA32, node 0 Normal"]),
        ("arm64-thunderx2-kdump", ["9967, as Linux computes it"]),
    ],
)
def test_the_command_says_what_marks_are(cli: Cli, tmp_path: Path, report: str, said: list[str]) -> None:
    (tmp_path / "zoneinfo.txt").write_text(zoneinfo(report))
    done = cli("validate", "marks", tmp_path / "zoneinfo.txt", "--json", tmp_path / "marks.json")
    assert done.code == 0, done.err
    assert all(words in done.out.replace("\n", " ") for words in said), done.out
    document = json.loads((tmp_path / "marks.json").read_text())
    assert document["equal"] and document["min_free_kib"] == EXPLAINED[report][0]
    assert [zone["managed"] for zone in document["zones"]] == [marks[0] for marks in REPORTS[report].values()]


def test_the_command_fails_where_the_formula_does_not_hold(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "zoneinfo.txt").write_text(zoneinfo("x86-coreos-8g").replace("10855", "10000"))
    done = cli("validate", "marks", tmp_path / "zoneinfo.txt")
    assert done.code == 1 and "--scale" in done.out


@pytest.mark.parametrize("text", ["", "MemTotal: 5 kB\n", None])
def test_a_file_without_zones_is_refused(cli: Cli, tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "report.txt"
    if text is not None:
        path.write_text(text)
    done = cli("validate", "marks", path)
    assert done.code == 2 and "report.txt" in done.err and "Traceback" not in done.err


LINE = "Node {} Normal free:8kB min:{}kB low:5kB high:6kB managed:{}kB\n"


def endless(path: Path) -> None:
    path.touch()
    os.truncate(path, 2 << 30)


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "a FIFO": (os.mkfifo, "not a regular file; allowed: a file"),
    "a device without end": (lambda path: path.symlink_to("/dev/zero"), "not a regular file; allowed: a file"),
    "a file of 2 GiB": (endless, "allowed: at most 16777216"),
    "more zones than a machine has": (
        lambda path: path.write_text("".join(LINE.format(node, 4, 1024) for node in range(1000))),
        "1000 zones with managed pages; allowed: at most 128",
    ),
    "more memory than a machine has": (
        lambda path: path.write_text(LINE.format(0, 4, "9" * 15)),
        "node 0 Normal: managed is 249999999999999 pages; allowed: at most 1099511627776",
    ),
    "a node of many digits": (
        lambda path: path.write_text(ZONEINFO.format(node="9" * 5000, zone="Normal", min=1, low=2, high=3, managed=9)),
        "no zone with managed",
    ),
    "digits without end": (lambda path: path.write_text(LINE.format(0, "9" * 5000, 1024)), "no zone with managed"),
}


@pytest.mark.parametrize("case", ODD)
def test_a_report_of_no_machine_is_refused(case: str, cli: Cli, tmp_path: Path) -> None:
    make, part = ODD[case]
    make(tmp_path / "report.txt")
    assert_refused(cli("validate", "marks", tmp_path / "report.txt"), "report.txt: ", part)


def test_marks_of_nothing_are_not_the_formulas(cli: Cli, tmp_path: Path) -> None:
    """A min of less than a page: there is no setting to be found in it."""
    (tmp_path / "report.txt").write_text(LINE.format(0, 0, 4))
    done = cli("validate", "marks", tmp_path / "report.txt")
    assert done.code == 1 and "not the formula's" in done.out


@pytest.mark.parametrize("damage", ["2[9", "", "-", "--5", "9" * 5000, "٣", "1;2", "0x10"])
def test_a_damaged_number_leaves_its_line_out_and_raises_nothing(damage: str) -> None:
    """In every file of /proc and /sys that is read, wherever a number stands."""
    zone = (
        f"Node 0, zone Normal\n  per-node stats\n  nr_dirty {damage}\n  pages free {damage}\n  managed {damage}\n"
        f"  protection: ({damage}, 3)\n  count: {damage}\n  pagesets\n  cpu: 0\n  count: {damage}\n  high: 7\n"
    )
    assert set(proc_files.zoneinfo(zone)) <= {"z0.Normal.pcp_count", "z0.Normal.pcp_high", "z0.Normal.cpu"}
    assert proc_files.counters(f"pgfault {damage}\npgmajfault 7", "v.")["v.pgmajfault"] == 7
    assert proc_files.buddyinfo(f"Node 0, zone Normal 1 {damage} x") == {}
    assert proc_files.pressure(f"some avg10=0 total={damage}x", "p.") == {}
    slabs = f"a\nb\ndentry {damage} 2 3 4 {damage}a : tunables 0 : slabdata {damage} 1 0"
    assert proc_files.slabinfo(slabs) == {}
