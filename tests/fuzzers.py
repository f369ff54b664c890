"""A fuzzer per parser: a nearly right file, the command that reads it, and what must then hold.

Each takes hypothesis's `draw` and a folder of its own, and says whether the file was accepted. What is refused is one
line and exit code 2; what is accepted runs: scenarios step 50 ticks, policies decide, learners are built.
"""

import gzip
import json
import shutil
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tests.bad_recordings import unpacked_copy
from tests.command_line import Done, captured
from tests.invariants import check_steps
from tests.mutations import HOSTILE, as_json, damaged, donors, maybe_damaged, mutated, toml
from tests.refusals import assert_refused
from tests.test_bad_onnx import FIRST, ZEROS, chain, model_of
from tiergym import memory, paths
from tiergym.env import actions as act
from tiergym.env.placement_env import PlacementEnv
from tiergym.errors import UserError, one_line
from tiergym.files import parse_toml, read_toml
from tiergym.policy.base import Policy
from tiergym.policy.load import load_policy
from tiergym.specs import families, load_scenario, load_suite, scenario_digest, scenario_toml
from tiergym.specs.catalogue import read_catalogue

Fuzzer = Callable[[DrawFn, Path], bool]
SMALL_MACHINE_BYTES = 1 << 30
"""What learners may take: a recipe for more is refused here as it is elsewhere on a smaller machine."""


@cache
def documents(folder: str) -> list[dict[str, Any]]:
    """Shipped files of a folder beneath `envs`, or of `agents` or `experiments`."""
    root = {"agents": paths.agents_dir(), "experiments": paths.experiments_dir()}.get(folder)
    return [read_toml(path) for path in sorted((root or paths.envs_dir() / folder).glob("*.toml"))]


@cache
def known(*folders: str) -> dict[str, list[Any]]:
    """What the files of some folders say, by key."""
    return donors([document for folder in folders for document in documents(folder)])


SPECS = ("scenarios", "machines", "workloads")


def is_refused(*args: object, begun: bool = False) -> bool:
    """Whether the command refuses; raises where it ends in any other way but success or a verdict (exit code 1).

    `begun`: it may have said before what it does.
    """
    done = captured(*args)
    if done.code in (0, 1):
        return False
    assert_refused(Done(done.code, done.out, done.err.splitlines()[-1]) if begun else done)
    return True


def refuses(work: Callable[[], object]) -> bool:
    """Whether a function refuses its input in what makes one line."""
    try:
        work()
    except UserError as error:
        line = one_line(str(error))
        assert line.isprintable() and len(line) <= 5000
        return True
    return False


def _write(draw: DrawFn, path: Path, of: Sequence[dict[str, Any]], told: dict[str, list[Any]]) -> Path:
    document = draw(mutated(draw(st.sampled_from(of)), told))
    path.write_bytes(draw(maybe_damaged(toml(document))))
    return path


def _steps(draw: DrawFn, path: Path) -> bool:
    """Whether a scenario is accepted; then it says what it is in full, is the same when that is read, and steps."""
    if is_refused("scenarios", "show", path, "--kind", "scenarios"):
        return False
    scenario = load_scenario(path)
    whole = path.with_name("whole.toml")
    whole.write_text(scenario_toml(scenario))
    assert scenario_digest(load_scenario(whole)) == scenario_digest(scenario)
    check_steps(scenario, draw(st.integers(0, 2**32 - 1)))
    return True


def _is_shown(path: Path, kind: str) -> bool:
    return not is_refused("scenarios", "show", path, "--kind", kind)


@cache
def complete_scenarios() -> list[dict[str, Any]]:
    """Shipped scenarios as files say them, and with every field stated."""
    stated = [parse_toml(scenario_toml(name)) for name in ("llama-1to2", "hotunplug-phases", "randomised-mix")]
    return [*documents("scenarios"), *stated]


def scenarios(draw: DrawFn, folder: Path) -> bool:
    return _steps(draw, _write(draw, folder / "s.toml", complete_scenarios(), known(*SPECS)))


def machines(draw: DrawFn, folder: Path) -> bool:
    shown = _is_shown(_write(draw, folder / "m.toml", documents("machines"), known(*SPECS)), "machines")
    path = folder / "s.toml"
    path.write_text('machine = "m.toml"\nworkload = "phases"\n')
    steps = _steps(draw, path)
    assert shown or not steps  # a whole scenario may show more that is wrong, never less
    return steps


def workloads(draw: DrawFn, folder: Path) -> bool:
    shown = _is_shown(_write(draw, folder / "w.toml", documents("workloads"), known(*SPECS)), "workloads")
    path = folder / "s.toml"
    path.write_text('machine = "spr_cxl_asic"\nworkload = "w.toml"\n')
    steps = _steps(draw, path)
    assert shown or not steps
    return steps


def suites(draw: DrawFn, folder: Path) -> bool:
    shipped = [
        document | {key: _first(document[key]) for key in FROZEN & document.keys()} for document in documents("suites")
    ]
    path = _write(draw, folder / "suite.toml", [*shipped, *SUITES], known("suites"))
    if refuses(lambda: load_suite(path).load()):
        assert is_refused("matrix", "--suite", path, "--policies", "online", "--episodes", 1)
        return False
    loaded = load_suite(path).load()
    if loaded:
        check_steps(loaded[draw(st.integers(0, len(loaded) - 1))], 0, ticks=10)
    return True


def _first(families_of_suite: dict[str, str]) -> dict[str, str]:
    """Three of a frozen suite's families: all of them would take a second to load."""
    return dict(list(families_of_suite.items())[:3])


FROZEN = {"families", "undecided"}
SUITES: list[dict[str, Any]] = [
    {"description": "x", "scenarios": ["llama-1to2", "kvstore+tiering+asic+1to4+tight+boot+6.12"], "purpose": "train"},
    {"undecided_of": ["train", "test"]},
]


def family_names(draw: DrawFn, folder: Path) -> bool:
    axes = families.catalogue()
    levels = [draw(st.sampled_from(sorted(axes[axis]))) for axis in families.AXES]
    for _ in range(draw(st.integers(0, 2))):
        levels[draw(st.integers(0, len(levels) - 1))] = draw(st.one_of(st.text(max_size=9), st.sampled_from(levels)))
    name = families.SEPARATOR.join(levels)
    if refuses(lambda: load_scenario(name)):
        assert is_refused("scenarios", "show", "--", name)
        return False
    check_steps(load_scenario(name), draw(st.integers(0, 2**32 - 1)))
    return True


def families_of_scenarios(draw: DrawFn, folder: Path) -> bool:
    path = folder / "families.toml"
    whole = read_toml(paths.envs_dir() / "families.toml")
    path.write_bytes(draw(maybe_damaged(toml(draw(mutated(whole, donors([whole, *documents("machines")])))))))
    if refuses(lambda: read_catalogue(path)):
        return False
    found = read_catalogue(path)
    with mock.patch.object(families, "catalogue", return_value=found):
        chosen = [draw(st.sampled_from(sorted(found[axis]) or ["x"])) for axis in families.AXES]
        name = families.SEPARATOR.join(chosen)
        if not refuses(lambda: load_scenario(name)):
            check_steps(load_scenario(name), draw(st.integers(0, 2**32 - 1)))
    return True


def settings_of_scenarios(draw: DrawFn, folder: Path) -> bool:
    key = draw(st.sampled_from(("kernel.swap_mib", "machine.dram_mib", "episode.dt_s", "workload", "region.x", "")))
    value = draw(st.one_of(st.text(max_size=20), st.sampled_from(HOSTILE).map(str), st.integers().map(str)))
    text = draw(st.one_of(st.just(f"{key}={value}"), st.text(max_size=30)))
    if is_refused("scenarios", "show", "llama-1to2", f"--set={text}"):
        return False
    from tiergym.specs import override, read_assignments

    check_steps(override(load_scenario("llama-1to2"), read_assignments([text], "--set")), 0)
    return True


def _decides(policy: Policy, folder: Path) -> None:
    """A policy decides 50 ticks of a machine, whose rewards stay what they may be."""
    env = PlacementEnv("llama-1to2")
    obs, info = env.reset(seed=0)
    policy.reset(1, 0)
    for _ in range(50):
        action = policy(obs[None], info["action_masks"][None])
        assert action.shape == (1, len(act.ENTRIES)) and (action >= 0).all() and (action < act.NVEC).all()
        obs, reward, _, _, info = env.step(action[0])
        assert env.observation_space.contains(obs) and np.isfinite(reward) and reward <= 0


def policies(draw: DrawFn, folder: Path) -> bool:
    baselines = [document for document in documents("agents") if "modes" in document]
    path = _write(draw, folder / "p.toml", baselines, donors(baselines))
    return _policy_is_accepted(path, folder)


def _policy_is_accepted(path: Path, folder: Path) -> bool:
    if refuses(lambda: load_policy(path)):
        assert is_refused("evaluate", path, "--episodes", 1, "--scenario", folder / "short.toml")
        return False
    _decides(load_policy(path), folder)
    return True


PLAN: dict[str, Any] = {
    "schema": 1,
    "plan": "llama-1to2",
    "horizon_ticks": 8,
    "pieces": [{"ticks": 4, "modes": {"zone": "movable"}}, {"ticks": 4, "modes": {"place.pt_leaf": "restrict"}}],
}


def plans(draw: DrawFn, folder: Path) -> bool:
    path = folder / "plan.json"
    document = draw(mutated(PLAN, donors([PLAN, *documents("agents")])))
    path.write_bytes(draw(maybe_damaged(as_json(document))))
    if not _policy_is_accepted(path, folder):
        return False
    is_refused("evaluate", path, "--episodes", 1, "--scenario", folder / "short.toml")  # of another length, perhaps
    return True


def agents(draw: DrawFn, folder: Path) -> bool:
    from tiergym.lab import learner
    from tiergym.lab.recipe import load_recipe
    from tiergym.lab.training_env import TrainingVecEnv

    recipes = [document for document in documents("agents") if "algorithm" in document]
    path = _write(draw, folder / "a.toml", recipes, donors(recipes))
    with mock.patch.object(memory, "physical_bytes", return_value=SMALL_MACHINE_BYTES):
        if refuses(lambda: load_recipe(path)):
            assert is_refused("train", "--agent", path, "--scenario", folder / "short.toml", "--out", folder / "run")
            assert not (folder / "run").exists()
            return False
        recipe = load_recipe(path)
        if recipe.envs > 64:
            return True
        env = TrainingVecEnv(
            [load_scenario(folder / "short.toml")],
            recipe.envs,
            action_form=recipe.action_form,
            baselines=recipe.baselines or None,
        )
        if refuses(lambda: learner.build(recipe, 0, env)):
            return False
        model = learner.build(recipe, 0, env)
        obs: Any = env.reset()
        for _ in range(10):
            obs, rewards, _, _ = env.step(model.predict(obs)[0])
            assert np.isfinite(rewards).all() and (rewards <= 0).all()
    return True


EXPERIMENT: dict[str, Any] = {
    "description": "x",
    "scenarios": ["llama-1to2"],
    "policies": ["online", "leaf"],
    "episodes": 1,
    "modes": {"leaf": {"place": {"pt_leaf": "restrict"}}},
    "set": {"episode": {"horizon_s": 2}},
    "axes": {"release": {"6.12": {"kernel": {"release": "6.12"}}, "7.2": {"kernel": {"release": "7.2"}}}},
    "tables": {"gain": {"against": "online", "columns": "release"}},
}


def experiments(draw: DrawFn, folder: Path) -> bool:
    from tiergym.lab.experiment import load_experiment

    told = donors([*documents("experiments"), EXPERIMENT])
    path = _write(draw, folder / "e.toml", [*documents("experiments"), EXPERIMENT, EXPERIMENT], told)
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)

    def load() -> None:
        found = load_experiment(str(path))
        found.load_scenarios()
        found.load_policies()

    if refuses(load):
        assert is_refused("run", path, "--out", out)
        return False
    found = load_experiment(str(path))
    scenarios = found.load_scenarios()
    check_steps(scenarios[draw(st.integers(0, len(scenarios) - 1))], 0, ticks=10)
    ticks = max(scenario.sections["episode"]["horizon_s"] for scenario in scenarios[:1])
    if not found.agents and found.episodes <= 4 and len(scenarios) <= 4 and ticks == 2 and len(found.policies) <= 4:
        is_refused("run", path, "--out", out)
    return True


def _recording(folder: Path) -> Path:
    """A real recording, its samples unpacked; a fresh copy."""
    shutil.rmtree(folder / "rec", ignore_errors=True)
    (folder / "rec").mkdir()
    return unpacked_copy(folder / "rec")


def recordings(draw: DrawFn, folder: Path) -> bool:
    run = _recording(folder)
    name = draw(st.sampled_from(("meta.json", "samples.csv", "samples.csv", "workload.csv")))
    path = run / name
    if name == "meta.json":
        document = json.loads(path.read_text())
        path.write_bytes(draw(maybe_damaged(as_json(draw(mutated(document, donors([document])))))))
    else:
        path.write_bytes(_changed_table(draw, path.read_bytes()))
        if name == "samples.csv" and draw(st.booleans()):
            packed = draw(maybe_damaged(gzip.compress(path.read_bytes())))
            path.unlink()
            path.with_name("samples.csv.gz").write_bytes(packed)
    out = folder / "recorded.toml"
    if is_refused("workload", "from-recording", run, "--out", out):
        return False
    scenario = folder / "of_recording.toml"
    scenario.write_text('machine = "qemu_lab"\nworkload = "recorded.toml"\n')
    if refuses(lambda: load_scenario(scenario)):  # more than that machine holds
        return True
    check_steps(load_scenario(scenario), 0)
    is_refused("validate", "recordings", run)
    return True


CELLS = ("", " ", "-1", "0", "1e400", "nan", "inf", "-inf", "0x10", "1_000", "9" * 30, "é", '"', '"a\n"', ",", "1e15")


def _changed_table(draw: DrawFn, data: bytes) -> bytes:
    """A CSV file with one to four cells, lines or bytes changed."""
    lines = data.split(b"\r\n")
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(lines) - 2))
        kind = draw(st.sampled_from(("cell", "cell", "cell", "swap", "double", "cut", "bytes")))
        if kind == "cell":
            cells = lines[at].split(b",")
            cells[draw(st.integers(0, len(cells) - 1))] = draw(st.sampled_from(CELLS)).encode()
            lines[at] = b",".join(cells)
        elif kind == "swap":
            lines[at], lines[at - 1] = lines[at - 1], lines[at]
        elif kind == "double":
            lines.insert(at, lines[at])
        elif kind == "cut" and len(lines) > 2:
            del lines[at]
        else:
            lines[at] = draw(damaged(lines[at]))
    return b"\r\n".join(lines)


def zone_reports(draw: DrawFn, folder: Path) -> bool:
    path = folder / "zoneinfo"
    path.write_bytes(draw(damaged(draw(st.sampled_from(ZONE_REPORTS)))))
    return not is_refused("validate", "marks", path)


ZONE_REPORTS = (
    Path("/proc/zoneinfo").read_bytes(),
    b"".join(
        b"Node 0 %s free:8kB min:4kB low:5kB high:6kB present:2048kB managed:1024kB\n" % zone
        for zone in (b"DMA", b"DMA32", b"Normal")
    ),
)


def exported_policies(draw: DrawFn, folder: Path) -> bool:
    from tiergym.policy.onnx_layout import current_layout

    model = model_of(chain(*FIRST, ("Identity", ["picked"], "actions", {})), zeros=ZEROS)
    if draw(st.booleans()):
        layout = draw(mutated(current_layout(), donors([current_layout()])))
        model.metadata_props[0].value = draw(maybe_damaged(as_json(layout))).decode(errors="replace")
        data = model.SerializeToString()
    else:
        data = draw(damaged(model.SerializeToString()))
    path = folder / "p.onnx"
    path.write_bytes(data)
    return _policy_is_accepted(path, folder)


OF_FILES: dict[str, Fuzzer] = {
    fuzzer.__name__: fuzzer
    for fuzzer in (
        scenarios,
        machines,
        workloads,
        suites,
        family_names,
        families_of_scenarios,
        settings_of_scenarios,
        policies,
        plans,
        agents,
        experiments,
        recordings,
        zone_reports,
        exported_policies,
    )
}
"""By what is read; with those of `tests/fuzzers_of_folders.py`."""
