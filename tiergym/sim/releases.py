"""What changed between releases of Linux, as values of [kernel] fields: the one place that knows versions.

A scenario names a release, and each field below takes that release's value unless the scenario states one. So a field
can be tried alone: `--set kernel.release=7.2 --set kernel.skip_busy_node=off` is 7.2 without its way round a busy node.
The mechanisms read the fields and never the release.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tiergym.sim.parameters import Field

RELEASES = ("6.1", "6.12", "6.18", "7.2")
"""Releases that a scenario can name, oldest first."""
DEFAULT_RELEASE = "6.12"

RELEASE_FIELD = Field(
    "release",
    RELEASES.index(DEFAULT_RELEASE),
    0,
    len(RELEASES) - 1,
    "release of Linux: gives the default of every field in the table of releases",
    integer=True,
    choices=RELEASES,
)
"""How a scenario spells the release. It is looked up when a scenario is read, so no machine draws it."""

Value = str | int
"""As TOML spells it."""
Version = tuple[int, int]
"""(6, 12) of "6.12"."""


def version(release: str) -> Version:
    """Its two numbers, which compare as releases do; 6.1 is older than 6.12."""
    major, minor = release.split(".")
    return int(major), int(minor)


@dataclass(frozen=True, slots=True)
class Switch:
    """A [kernel] field whose default depends on the release.

    since: the first release with each default, oldest first; a kernel can have those up to its own. others: the first
    release whose kernels can have any other value, where that is not the oldest. anywhere: every kernel can have every
    value, and the default is what is usual. fact: what docs/sources.md says about it.
    """

    field: str
    since: Mapping[str, Value]
    fact: str
    others: str = RELEASES[0]
    anywhere: bool = False

    def default(self, at: Version) -> Value:
        """The value in kernels of a version; that of the oldest known in older ones."""
        values = [value for release, value in self.since.items() if version(release) <= at]
        return values[-1] if values else next(iter(self.since.values()))

    def needs(self, value: object) -> str:
        """The first release whose kernels can have `value`, which may be a distribution."""
        if self.anywhere:
            return RELEASES[0]
        if isinstance(value, dict):
            return max((self.needs(each) for each in value.get("choice", [None])), key=version)
        return next((release for release, default in self.since.items() if value == default), self.others)


SWITCHES: tuple[Switch, ...] = (
    Switch("movable_shares_min", {"6.1": "on", "6.2": "off"}, "[K-movable-min]"),
    Switch("pcp_scale", {"6.1": 0, "6.7": 5}, "[K-per-cpu-lists]", anywhere=True),
    Switch("lru_gen", {"6.1": "off", "6.12": "on"}, "[K-lru-gen]", anywhere=True),
    Switch("claims_half_blocks", {"6.1": "off", "6.12": "on"}, "[K-pageblocks]"),
    Switch("damon_promotion", {"6.1": "off"}, "[K-damon]", others="6.11"),
    Switch("dontneed_frees_tables", {"6.1": "off", "6.14": "on"}, "[K-dontneed]"),
    Switch("file_folio_pages", {"6.1": 1, "6.16": 32}, "[K-large-folios]", anywhere=True),
    Switch("interleave_fast", {"6.1": 1, "6.16": 0}, "[K-interleave-weights]"),
    Switch("interleave_slow", {"6.1": 1, "6.16": 0}, "[K-interleave-weights]"),
    Switch("damon_falls_back", {"6.1": "off", "6.17": "on"}, "[K-damon-falls-back]"),
    Switch("skip_busy_node", {"6.1": "off", "6.18": "on"}, "[K-busy-node]"),
    Switch("hopeless_reset", {"6.1": "progress", "6.18": "progress_or_free", "7.0": "balance_or_free"}, "[K-hopeless]"),
    Switch("swap_table_pages", {"6.1": "off", "6.18": "on"}, "[K-swap-table]"),
    Switch("boosted_runs_fail", {"6.1": "on", "6.19": "off"}, "[K-boosted-runs]"),
    Switch("slab_follows_policy", {"6.1": "on", "7.0": "off"}, "[K-sheaves]"),
    Switch("slab_burst_objects", {"6.1": 1, "7.0": 28}, "[K-sheaves]", others="7.0"),
)
"""The table of releases, in the order of their first difference."""

BY_RELEASE: Mapping[str, Switch] = {switch.field: switch for switch in SWITCHES}


def defaults(at: Version) -> dict[str, Value]:
    """Every switch's value in kernels of a version, by field."""
    return {switch.field: switch.default(at) for switch in SWITCHES}
