"""Machines as people have them: sockets and CXL, blocks of 2 GiB, settings by hand, containers, old kernels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.made_recordings import grown, made
from tests.test_record import fake_machine
from tiergym.cli.record_commands import fold_of
from tiergym.errors import UserError
from tiergym.recordings.machine_facts import machine_facts
from tiergym.recordings.preflight import check_machine
from tiergym.recordings.sampling import Machine, Sampler
from tiergym.recordings.tiers import Fold, parse_nodes
from tiergym.sim.layout import BLOCK_SIZES
from tiergym.sim.units import LEAST_BLOCK_MIB
from tiergym.validation.recorded_machine import block_mib, check_tiers, first_sample, min_free_set_by_hand, sections
from tiergym.validation.replay import replay

VMSTAT = "pgsteal_file 0\nworkingset_refault_file 0\noom_kill 0\npgsteal_kswapd 0\npgsteal_direct 0\n"
ZONE = """\
Node {node}, zone {zone:>8}
  pages free     {free}
        boost    0
        min      {least}
        low      {low}
        high     {high}
        spanned  {managed}
        present  {managed}
        managed  {managed}
        protection: (0, 0, 0, 0, 0)
  pagesets
    cpu: 0
              count:    10
              high:     63
              batch:    1
"""


def zone(node: int, name: str, managed: int) -> str:
    return ZONE.format(node=node, zone=name, managed=managed, free=managed // 2, least=100, low=150, high=200)


def server(root: Path) -> Machine:
    """Two sockets of 256 MiB and 2 GiB blocks, and CXL of 2 GiB as node 2, MOVABLE."""
    machine = fake_machine(root)
    zones = zone(0, "Normal", 65536) + zone(1, "Normal", 65536) + zone(2, "Movable", 524288)
    files = {
        "proc/vmstat": VMSTAT,
        "proc/zoneinfo": zones,
        "proc/buddyinfo": "Node 0, zone Normal 1 2\nNode 1, zone Normal 10 20\nNode 2, zone Movable 3 4\n",
        "sys/devices/system/memory/block_size_bytes": "80000000\n",
        "sys/devices/system/memory/memory3/state": "online\n",
        "sys/devices/system/memory/memory3/valid_zones": "Movable\n",
        "sys/devices/system/memory/memory3/node2/meminfo": "",
        "sys/devices/virtual/memory_tiering/memory_tier4/nodelist": "0-1\n",
        "sys/devices/virtual/memory_tiering/memory_tier33/nodelist": "2\n",
        "sys/devices/system/node/node0/distance": "10 21 50\n",
        "sys/devices/system/node/node1/cpulist": "8-15\n",
    }
    for node in range(3):
        files[f"sys/devices/system/node/node{node}/vmstat"] = f"nr_free_pages {10**node}\nnr_file_pages 5\n"
        files[f"sys/devices/system/node/node{node}/meminfo"] = f"Node {node} MemTotal: 100 kB\n"
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return machine


def test_two_sockets_and_cxl_are_two_tiers(tmp_path: Path) -> None:
    machine = server(tmp_path)
    machine.fold = Fold((0, 1), (2,))
    assert check_machine(machine, machine.fold) == []
    values = Sampler(machine, parent=1).sample(0.0)
    assert (values["n0.nr_free_pages"], values["n1.nr_free_pages"]) == (11, 100)
    assert not any(name.startswith(("n2.", "z2.", "m2.", "b2.")) for name in values)
    assert (values["z0.Normal.managed"], values["z0.Normal.low"], values["z1.Movable.managed"]) == (131072, 300, 524288)
    assert (values["b0.Normal.o1"], values["m0.MemTotal"], values["z0.Normal.pcp_count"]) == (22, 200, 20)
    facts = machine_facts(machine, values)
    assert (facts["dram_mib"], facts["cxl_mib"], facts["block_mib"], facts["numa_distance"]) == (512, 2048, 2048, 50)
    assert (facts["memhp_default_state"], facts["hmat"]) == ("online_movable", True)
    assert facts["folded_nodes"] == {"fast": [0, 1], "slow": [2]}
    assert {"tier memory_tier4 nodes 0", "tier memory_tier33 nodes 1"} <= set(facts["guest_report"])
    assert any("memory3:online:1:Movable" in line for line in facts["guest_report"])
    assert "nodes" not in machine.notes and "node 2" not in machine.notes


def test_the_recorder_says_before_it_starts_that_three_nodes_are_no_two_tiers(tmp_path: Path) -> None:
    (warning,) = check_machine(server(tmp_path))
    assert "nodes 0, 1, 2" in warning and "--fast 0,1 --slow 2" in warning


@pytest.mark.parametrize(
    ("fast", "slow", "words"),
    [
        ("0,1", "1,2", ["node 1 is in both"]),
        ("0", "2", ["node 1 has memory and is in neither", "0, 1, 2"]),
        ("0-1", "2,7", ["--slow: node 7 has no memory"]),
        ("0-1", "two", ["--slow = 'two'", "numbers of memory nodes"]),
        ("1-0", "2", ["--fast = '1-0'"]),
        (None, "2", ["--slow without --fast"]),
    ],
)
def test_nodes_that_do_not_fold_are_refused(tmp_path: Path, fast: str | None, slow: str, words: list[str]) -> None:
    machine = server(tmp_path)
    with pytest.raises(UserError) as error:
        check_machine(machine, fold_of(fast, slow))
    assert all(word in str(error.value) for word in words)


def test_lists_of_nodes() -> None:
    assert parse_nodes("0,2-4,2", "--fast") == (0, 2, 3, 4)
    assert fold_of(None, None) is None and fold_of("0", None) == Fold((0,), ())


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("proc/vmstat", VMSTAT.replace("oom_kill 0\n", ""), ["proc/vmstat", "oom_kill", "Linux 4.13"]),
        ("proc/zoneinfo", "", ["proc/zoneinfo", "no zone with managed pages", "container"]),
        ("proc/zoneinfo", None, ["proc/zoneinfo", "No such file"]),
    ],
)
def test_what_cannot_be_recorded_is_noticed_before(
    tmp_path: Path, file: str, text: str | None, words: list[str]
) -> None:
    machine = server(tmp_path)
    if text is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(text)
    with pytest.raises(UserError) as error:
        check_machine(machine)
    assert all(word in str(error.value) for word in words)


def test_other_pages_than_4_kib_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pages of 64 KiB; allowed: 4 KiB"):
        check_machine(server(tmp_path), page_bytes=65536)


def test_a_meminfo_of_four_lines_is_enough(tmp_path: Path) -> None:
    """Containers show four; /proc/vmstat has the totals, and without it the processes' own sums stand."""
    machine = server(tmp_path)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 100 kB\nMemFree: 9 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n")
    machine.fold = Fold((0, 1), (2,))
    values = Sampler(machine, parent=1).sample(0.0)
    assert (values["w.anon_touched_pages"], values["w.file_rss_pages"]) == (100, 20)
    (tmp_path / "proc/vmstat").write_text(VMSTAT + "nr_anon_pages 60\nnr_mapped 20\n")
    assert Sampler(machine, parent=1).sample(0.0)["w.anon_touched_pages"] == 60


def recorded(folder: Path, columns: dict[str, Any] | None = None, **meta: Any) -> Any:
    return made(folder, {"t_s": np.arange(3.0)} | (columns or {}), **meta)


def test_blocks_are_as_large_as_recorded(tmp_path: Path) -> None:
    assert block_mib(recorded(tmp_path / "a")) == LEAST_BLOCK_MIB
    large = recorded(tmp_path / "b", block_mib=512)
    assert sections(large)["machine"]["block_mib"] == 512
    assert replay(large).blocks == float(large.meta["cxl_mib"]) / 512


def test_no_block_is_cut_off(tmp_path: Path) -> None:
    """33 GiB of 128 MiB blocks are more than the small record has."""
    command = "memory_hotplug.memmap_on_memory=1"  # so much memory's struct pages have no room in this DRAM
    many = recorded(tmp_path, cxl_mib=33 * 1024, kernel_cmdline=command)
    assert replay(many).blocks == 33 * 8 > BLOCK_SIZES[0]


@pytest.mark.parametrize(
    ("meta", "words"),
    [
        ({"block_mib": 768}, ["block_mib is 768", "cxl_mib 1024", "whole blocks"]),
        ({"block_mib": 0.5}, ["'block_mib' is 0.5", "a whole number"]),
        ({"block_mib": 64}, ["block_mib is 64", "from 128"]),
        ({"cxl_mib": 1 << 20}, ["8192 blocks", "at most 4096"]),
    ],
)
def test_blocks_that_cannot_be_are_refused(tmp_path: Path, meta: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        block_mib(recorded(tmp_path, **meta))
    assert all(word in str(error.value) for word in ["meta.json", *words])


def test_three_tiers_and_large_pages_are_refused_by_validate(tmp_path: Path) -> None:
    third = {f"n2.{name.partition('.')[2]}": column for name, column in recorded(tmp_path / "a").columns.items()
             if name.startswith("n1.")}  # fmt: skip
    third |= {f"z2.Normal.{name}": np.full(3, 70) for name in ("free", "min", "low", "high", "managed", "pcp_count")}
    with pytest.raises(UserError, match=r"nodes 0, 1, 2 have memory .* --fast 0,1 --slow 2"):
        check_tiers(recorded(tmp_path / "b", third))
    with pytest.raises(UserError, match="page_size is 65536; allowed: 4096"):
        check_tiers(recorded(tmp_path / "c", page_size=65536))


def test_marks_of_the_first_sample_are_without_their_boost(tmp_path: Path) -> None:
    recording = recorded(tmp_path / "a")
    plain = first_sample(recording).marks
    name = next(column for column in recording.columns if column.endswith("DMA32.min"))
    prefix = name.removesuffix("min")
    columns = {prefix + mark: grown(prefix + mark, np.full(3, 512)) for mark in ("min", "low", "high", "promo")}
    boosted = first_sample(recorded(tmp_path / "b", columns | {prefix + "boost": np.full(3, 512)})).marks
    assert boosted == plain


@pytest.mark.parametrize(("kib", "by_hand"), [(1 << 20, True), (100, True), (None, False)])
def test_min_free_kbytes_that_somebody_wrote_makes_the_marks(tmp_path: Path, kib: int | None, by_hand: bool) -> None:
    """A server with vm.min_free_kbytes at 1 GiB, and one with less than Linux would choose."""
    base = recorded(tmp_path / "a")
    report = list(base.meta["guest_report"])
    at = next(i for i, line in enumerate(report) if line.startswith("demotion "))
    words = report[at].split()
    computed = int(words[words.index("min_free_kbytes") + 1])
    words[words.index("min_free_kbytes") + 1] = str(kib or computed)
    report[at] = " ".join(words)
    changed = recorded(tmp_path / "b", guest_report=report)
    assert (min_free_set_by_hand(changed, computed) is not None) == by_hand
    least = sum(marks[1] for marks in replay(changed).marks.values() if marks[0])
    assert least == pytest.approx((kib or computed) / 4, rel=0.06, abs=130)  # MOVABLE has a min of its own
