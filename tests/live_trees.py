"""Trees of /proc and /sys of machines that tests make up, or that are copies of simulated ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiergym.recordings.live_observation import BLOCKS, TIERING
from tiergym.recordings.sampling import NODES
from tiergym.sim import names as n

ZONE = """\
Node {node}, zone {zone:>8}
  pages free     {free}
        min      {low}
        low      {low}
        high     {low}
        present  {managed}
        managed  {managed}
        protection: (0, 0, 0, 0, 0)
  pagesets
    cpu: 0
              count:    {pcp}
  node_unreclaimable:  {hopeless}
"""
Zone = Mapping[str, int]
"""free, low and managed pages; pcp and hopeless, if they are not 0."""
LINUX_ZONES = ("DMA", "DMA32", "Normal", "Movable", "Normal", "Movable")
"""Of the zones of `tiergym.sim.names.ZONES`."""


def lines(values: Mapping[str, float]) -> str:
    return "".join(f"{name} {round(value)}\n" for name, value in values.items())


def write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def tree(
    root: Path,
    zones: Mapping[tuple[int, str], Zone],
    nodes: Mapping[int, Mapping[str, float]],
    vmstat: Mapping[str, float],
    files: Mapping[str, str],
) -> Path:
    """A machine of zones by node and name, nodes with their vmstat, and other files; node 0 alone has CPUs."""
    text = "".join(
        ZONE.format(node=node, zone=zone, **{"pcp": 0, "hopeless": 0, **pages}) for (node, zone), pages in zones.items()
    )
    base = {
        "proc/zoneinfo": text,
        "proc/vmstat": lines({"oom_kill": 0, "pgsteal_kswapd": 0, "pgsteal_direct": 0, **vmstat}),
        "proc/meminfo": "MemTotal: 9 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n",
        "proc/loadavg": "0.00 0.00 0.00 1/100 4711\n",
        "proc/sys/fs/inode-nr": "500 20\n",
        "proc/sys/fs/dentry-state": "900 800 45 0 60 0\n",
        "proc/net/sockstat": "sockets: used 7\nTCP: inuse 1\n",
        f"{BLOCKS}/auto_online_blocks": "online\n",
    }
    for node, counters in nodes.items():
        free = sum(pages["free"] for (of, _), pages in zones.items() if of == node)
        base[f"{NODES}/node{node}/vmstat"] = lines({"nr_free_pages": free, **counters})
        base[f"{NODES}/node{node}/meminfo"] = f"Node {node} HugePages_Total: 0\n"
        base[f"{NODES}/node{node}/cpulist"] = "\n" if node else "0-3\n"
    write(root, {**base, **files})
    return root


def block(number: int, node: int, state: str, zones: str) -> dict[str, str]:
    """Files of one memory block."""
    folder = f"{BLOCKS}/memory{number}"
    return {
        f"{folder}/state": f"{state}\n",
        f"{folder}/valid_zones": f"{zones}\n",
        f"{folder}/node{node}/meminfo": "",
    }


def two_nodes(root: Path, grown: Mapping[str, float] | None = None, **files: str) -> Path:
    """DRAM of 100,000 pages, demotion off, and CXL of 200,000, one NORMAL block and one MOVABLE. `grown`: counters of
    /proc/vmstat since boot. `files`: of settings, by a short name."""
    nodes = {
        0: {
            "nr_anon_pages": 20_000,
            "nr_file_pages": 11_000,
            "nr_swapcached": 1_000,
            "nr_page_table_pages": 1_026,
            "nr_kernel_stack": 800,
            "nr_slab_unreclaimable": 3_000,
            "nr_slab_reclaimable": 4_000,
        },
        1: {"nr_anon_pages": 50_000, "nr_page_table_pages": 1_026, "nr_kernel_stack": 2_400, "numa_miss": 0},
    }
    zones: dict[tuple[int, str], Zone] = {
        (0, "DMA32"): {"free": 5_000, "low": 100, "managed": 20_000},
        (0, "Normal"): {"free": 1_000, "low": 900, "managed": 80_000, "pcp": 74},
        (1, "Normal"): {"free": 40_000, "low": 400, "managed": 80_000},
        (1, "Movable"): {"free": 20_000, "low": 600, "managed": 120_000},
    }
    settings = {
        "sys/kernel/mm/numa/demotion_enabled": "false\n",
        "proc/sys/kernel/numa_balancing": "0\n",
        "proc/sys/vm/watermark_scale_factor": "10\n",
        "proc/sys/vm/min_free_kbytes": "4816\n",
        "proc/sys/kernel/numa_balancing_promote_rate_limit_MBps": "65536\n",
        "sys/module/memory_hotplug/parameters/online_policy": "contig-zones\n",
        "sys/module/memory_hotplug/parameters/memmap_on_memory": "N\n",
        f"{NODES}/node0/distance": "10 25\n",
        **block(32, 1, "online", "Normal Movable"),
        **block(33, 1, "online", "Movable"),
        **block(34, 1, "offline", "Normal Movable"),
        **block(1, 0, "online", "Normal"),
    }
    return tree(root, zones, nodes, {"nr_memmap_pages": 3_000, **(grown or {})}, {**settings, **files})


def simulated(root: Path, record: Any) -> Path:
    """The tree that a simulated machine, a record of `tiergym.sim.layout`, would show."""
    zones: dict[tuple[int, str], Zone] = {}
    for zone, name in enumerate(LINUX_ZONES):
        node = int(zone >= n.FIRST_SLOW_ZONE)
        zones[node, name] = {
            "free": int(record["free_pages"][zone]),
            "low": int(record["wmark_pages"][n.WMARK_LOW, zone]),
            "managed": int(record["managed_pages"][zone]),
            "pcp": int(record["pcp_pages"][zone] + record["reserved_pages"][zone]),
            "hopeless": 0,
        }
    nodes = {}
    for node, of in enumerate(n.TIER_ZONES):
        used = record["used_pages"][:, of].sum(axis=1)
        nodes[node] = {
            "nr_anon_pages": used[n.ANON],
            "nr_file_pages": used[n.FILE],
            "nr_page_table_pages": used[n.PT_LEAF] + used[n.PT_UPPER],
            "nr_kernel_stack": 4 * used[n.KSTACK],
            "nr_slab_unreclaimable": used[n.SLAB_UNRECLAIM],
            "nr_slab_reclaimable": used[n.SLAB_RECLAIM],
        }
    states = {n.BLOCK_NORMAL: ("online", "Normal"), n.BLOCK_MOVABLE: ("online", "Movable")}
    files = {
        "proc/meminfo": lines({"SwapTotal": 1024 * record["swap_mib"], "SwapFree": 4 * int(record["swap_free_pages"])}),
        "proc/loadavg": f"0.00 0.00 0.00 1/{record['pool_now'][n.POOL_THREADS]} 4711\n",
        "proc/sys/fs/inode-nr": f"{record['pool_now'][n.POOL_FILES]} 0\n",
        "proc/net/sockstat": f"sockets: used {record['pool_now'][n.POOL_SOCKETS]}\n",
        "sys/kernel/mm/numa/demotion_enabled": f"{'true' if record['demotion'] else 'false'}\n",
        "proc/sys/kernel/numa_balancing": f"{2 * (record['numa_balancing'] == n.NUMA_BALANCING_TIERING)}\n",
        f"{TIERING}/memory_tier4/nodelist": "0\n",
        f"{TIERING}/memory_tier22/nodelist": "1\n",
    }
    for tier, kind in enumerate(("dram", "slow")):
        folder = f"{NODES}/node{tier}/access1/initiators"
        files[f"{folder}/read_latency"] = f"{round(record[f'{kind}_latency_ns'])}\n"
        files[f"{folder}/read_bandwidth"] = f"{round(1000 * record[f'{kind}_read_gbps'])}\n"
    for number in range(int(record["blocks"])):
        files |= block(100 + number, 1, *states.get(int(record["block_state"][number]), ("offline", "Normal")))
    memmap = record["used_pages"][n.MEMMAP, n.TIER_ZONES[n.FAST]].sum()
    return tree(root, zones, nodes, {"nr_memmap_pages": memmap}, files)
