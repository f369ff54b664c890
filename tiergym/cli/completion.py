"""What a shell completes: names of what is shipped, beside the files that the shell finds itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tiergym.terminal import first_clause


def _told(names: Iterable[str], describe: Callable[[str], str], incomplete: str) -> list[tuple[str, str]]:
    return [(name, first_clause(" ".join(describe(name).split()))) for name in names if name.startswith(incomplete)]


def _presets(kind: str, incomplete: str) -> list[tuple[str, str]]:
    from tiergym import specs
    from tiergym.specs.reading import preset_names

    return _told(preset_names(kind), lambda name: specs.describe(kind, name), incomplete)


def scenarios(incomplete: str) -> list[tuple[str, str]]:
    """Shipped scenarios."""
    return _presets("scenarios", incomplete)


def suites(incomplete: str) -> list[tuple[str, str]]:
    """Shipped suites."""
    return _presets("suites", incomplete)


def presets(incomplete: str) -> list[tuple[str, str]]:
    """Whatever `scenarios show` shows."""
    kinds = ("scenarios", "machines", "kernels", "workloads", "suites")
    return [each for kind in kinds for each in _presets(kind, incomplete)]


def policies(incomplete: str) -> list[tuple[str, str]]:
    """Shipped policies."""
    from tiergym.policy.load import list_policies

    known = list_policies()
    return _told(known, known.__getitem__, incomplete)


def recipes(incomplete: str) -> list[tuple[str, str]]:
    """What can be trained."""
    from tiergym.lab.recipe import list_recipes

    known = list_recipes()
    return _told(known, known.__getitem__, incomplete)


def agents(incomplete: str) -> list[tuple[str, str]]:
    """Policies and recipes."""
    return sorted({*policies(incomplete), *recipes(incomplete)})


def experiments(incomplete: str) -> list[tuple[str, str]]:
    """What `tiergym run` runs."""
    from tiergym.lab.experiment import list_experiments

    known = list_experiments()
    return _told(known, known.__getitem__, incomplete)


def _last_of(complete: Callable[[str], list[tuple[str, str]]], incomplete: str) -> list[tuple[str, str]]:
    """The last of names separated by commas, those before it kept, and none twice."""
    before, comma, last = incomplete.rpartition(",")
    given = before.split(",")
    return [(f"{before}{comma}{name}", text) for name, text in complete(last) if name not in given]


def several_policies(incomplete: str) -> list[tuple[str, str]]:
    """Policies, separated by commas."""
    return _last_of(policies, incomplete)


def several_scenarios(incomplete: str) -> list[tuple[str, str]]:
    """Scenarios, separated by commas."""
    return _last_of(scenarios, incomplete)
