"""[kernel] of a scenario: which release's defaults are in force, and what the machine's file and the scenario change.

A field of the table of releases (`tiergym.sim.releases`) has the scenario's value, where that states one. Else it has
the release's. A machine's file states values of the kernel that its author had: they stand as long as the release is
that file's or the default, and not where the scenario names a release of its own.
"""

from collections.abc import Mapping
from typing import Any

from tiergym.errors import UserError
from tiergym.sim.releases import BY_RELEASE, DEFAULT_RELEASE, RELEASE_FIELD, RELEASES, defaults, version

Table = dict[str, Any]

RELEASE = RELEASE_FIELD.name
OF_RELEASE, OF_MACHINE, OF_SCENARIO = "release", "machine", "scenario"
"""Where the value of a field of the table of releases is from."""


def settle(machine: Mapping[str, Any], scenario: Mapping[str, Any], file: str) -> tuple[Table, dict[str, str]]:
    """[kernel] without the fields' own defaults, and the origin of the release and of each field that depends on it.

    `machine` and `scenario` are what their files state. Raises `UserError`, naming `file`, for a value that no kernel
    of the stated release can have.
    """
    own = RELEASE in scenario
    inherited = {name: value for name, value in machine.items() if not own or name not in BY_RELEASE}
    stated = inherited | dict(scenario)
    check_release(stated, file)
    release = stated.get(RELEASE, DEFAULT_RELEASE)
    origins = {
        name: OF_SCENARIO if name in scenario else OF_MACHINE if name in inherited else OF_RELEASE
        for name in (RELEASE, *BY_RELEASE)
    }
    return {RELEASE: release} | defaults(version(release)) | stated, origins


def check_release(stated: Mapping[str, Any], file: str) -> None:
    """Raise `UserError` where [kernel] states a release and a value that its kernels cannot have.

    Without a release any value may be tried on the default one.
    """
    release = stated.get(RELEASE)
    if release is None:
        return
    if not isinstance(release, str):
        allowed = ", ".join(f'"{name}"' for name in RELEASES)
        raise UserError(f"{file}: kernel.{RELEASE} = {release!r}; allowed: one of {allowed}, not drawn")
    for name, switch in BY_RELEASE.items():
        if name in stated and version(needed := switch.needs(stated[name])) > version(release):
            raise UserError(
                f"{file}: kernel.{name} = {stated[name]!r} with kernel.{RELEASE} = {release!r}; allowed: "
                f"{switch.default(version(release))!r}, a release from {needed} on, or no release at all"
            )


def unstated(sections: Mapping[str, Any]) -> frozenset[str]:
    """Fields of a complete scenario's [kernel] whose value the release gives."""
    return frozenset(name for name, origin in sections["origins"].items() if origin == OF_RELEASE)
