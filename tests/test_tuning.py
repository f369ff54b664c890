"""Tuning: what can be tuned, that trials are counted once, and that what is found is a policy like any other."""

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.command_line import Cli
from tests.refusals import assert_refused
from tests.short_runs import random_masks, random_observations
from tests.tiny_training import small, tiny_scenario
from tiergym.env import actions as act
from tiergym.errors import UserError
from tiergym.lab import tuning, tuning_recipes, tuning_score
from tiergym.lab.evaluate import evaluation_seeds
from tiergym.lab.run_dir import toml_text
from tiergym.lab.tuning import Search, TuningInterruptedError, best_of, search
from tiergym.lab.tuning_targets import CONSTANTS, find_target
from tiergym.paths import experiments_dir
from tiergym.policy.load import list_rules, load_policy, load_rule
from tiergym.policy.rule_parameters import Parameter, arguments, choice, parameters_of, tunable

PARAMETRISED = ("adaptive", "cost_benefit", "ping_pong_stop", "pt_walk_latency", "selector")
OWN = """
from dataclasses import dataclass

from tiergym.policy.rule_parameters import tunable
from tiergym.policy.rules import default_actions, obs_index, set_mode


@dataclass
class Spare:
    spare: float = tunable(0.05, 0.0, 1.0, "of DRAM")

    def __post_init__(self):
        self.free = obs_index("free.normal")

    def __call__(self, obs, masks):
        return set_mode(default_actions(len(obs)), "place.pt_leaf", "restrict", where=obs[:, self.free] > self.spare)
"""
SPACE = {
    "x": Parameter("x", 0.5, 0.0, 1.0),
    "n": Parameter("n", 3, 1, 9),
    "mode": Parameter("mode", "a", options=("a", "b")),
}
START = {"x": 0.5, "n": 3, "mode": "a"}


def hill(values, number, report):
    """A score that is known without a simulator."""
    return -((values["x"] - 0.2) ** 2) - (values["n"] - 5) ** 2 / 100 + (values["mode"] == "b"), 7


def found(out: Path, trials: int, measure=hill, asked=None, **how) -> list[tuning.Trial]:
    out.mkdir(exist_ok=True)
    return search(SPACE, [START], lambda: measure, asked or {"what": "hill"}, Search(trials, 0, "hill", **how), out)


@pytest.mark.parametrize("name", PARAMETRISED)
def test_a_shipped_rule_says_what_it_can_be_tuned_by(name: str) -> None:
    """Its defaults are allowed, and given as arguments they change nothing."""
    code = load_rule(name)
    assert code is not None
    parameters = parameters_of(code.value)
    assert parameters
    obs, masks = random_observations(64), random_masks(64)
    defaults = {key: each.default for key, each in parameters.items()}
    plain, told = load_policy(name), code.policy(defaults, name)
    for policy in (plain, told):
        policy.reset(64, 0)
    assert (plain(obs, masks) == told(obs, masks)).all()


def test_the_rules_without_parameters_are_known() -> None:
    rules = {name: load_rule(name) for name in list_rules()}
    without = {name for name, code in rules.items() if code is not None and not parameters_of(code.value)}
    assert without == {"random"}


def test_a_default_outside_of_its_range_is_refused() -> None:
    @dataclass
    class Wrong:
        share: float = tunable(2.0, 0.0, 1.0, "of memory")

    @dataclass
    class Zero:
        share: float = tunable(0.5, 0.0, 1.0, "of memory", log=True)

    @dataclass
    class Word:
        mode: str = choice("c", ("a", "b"))

    for rule, words in ((Wrong, "share is 2.0; allowed: a number from 0 to 1"), (Zero, "log"), (Word, "one of a, b")):
        with pytest.raises(UserError, match=words):
            parameters_of(rule)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"nothing": 1.0}, "unknown parameter 'nothing'"),
        ({"payback_s": 0.0}, "payback_s is 0.0; allowed: a number from 0.1 to 1000 (seconds"),
        ({"payback_s": True}, "payback_s is True"),
        ({"payback_s": float("nan")}, "payback_s is nan"),
        ({"payback_s": "10"}, "payback_s is '10'"),
    ],
)
def test_values_that_a_rule_does_not_take_are_refused(values: dict, words: str) -> None:
    code = load_rule("cost_benefit")
    assert code is not None
    with pytest.raises(UserError) as refused:
        arguments(code.value, values, "mine.toml")
    assert str(refused.value).startswith("mine.toml: ") and words in str(refused.value)


def test_a_choice_of_a_table_changes_that_one_alone() -> None:
    code = load_rule("selector")
    assert code is not None
    key = "demotion, swap, to 1:3, normal"
    made = arguments(code.value, {f"table.{key}": "soft"}, "mine.toml")
    table = load_policy("selector").rule.table  # type: ignore[attr-defined]
    assert made == {"table": table | {key: "soft"}} and table[key] != "soft"


def test_trials_go_on_where_they_stopped_and_none_is_counted_twice(tmp_path: Path) -> None:
    """Interrupted in the middle of a trial, twice, it finds what it finds in one go."""
    whole = found(tmp_path / "whole", 14)
    calls = []

    def interrupted(values, number, report):
        calls.append(number)
        if len(calls) in (4, 9):
            raise KeyboardInterrupt
        return hill(values, number, report)

    for _ in range(2):
        with pytest.raises(TuningInterruptedError):
            found(tmp_path / "parts", 14, interrupted)
    parts = found(tmp_path / "parts", 14, interrupted)
    assert [(t.values, t.score) for t in parts] == [(t.values, t.score) for t in whole]
    assert len(calls) == 16 and sum(t.steps for t in parts) == 14 * 7
    assert found(tmp_path / "parts", 14, interrupted) == parts and len(calls) == 16


def test_more_trials_extend_a_study_and_the_first_is_the_untuned_one(tmp_path: Path) -> None:
    few, more = found(tmp_path / "a", 5), found(tmp_path / "a", 12)
    assert more[:5] == few and len(more) == 12
    assert few[0].values == START
    assert best_of(more).values["mode"] == "b"
    assert all(0 <= t.values["x"] <= 1 and isinstance(t.values["n"], int) for t in more)


def test_a_study_of_something_else_is_refused(tmp_path: Path) -> None:
    found(tmp_path / "a", 2)
    with pytest.raises(UserError, match="its what is 'hill'; allowed: 'valley'"):
        found(tmp_path / "a", 2, asked={"what": "valley"})


def test_a_database_that_is_none_is_refused_without_its_password(tmp_path: Path) -> None:
    (tmp_path / tuning.DATABASE).write_text("no database")
    with pytest.raises(UserError, match="no database that Optuna can use"):
        found(tmp_path, 2)
    with pytest.raises(UserError) as refused:
        found(tmp_path, 2, storage="nothing://me:secret@there/db")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("storage", ["", "sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite+pysqlite://"])
def test_a_database_that_keeps_nothing_is_refused(storage: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="which keeps nothing; allowed: as sqlite:///FILE"):
        found(tmp_path, 2, storage=storage)


TRIALS = "update trial_user_attributes set value_json = "
STRANGE_STUDIES: dict[str, tuple[str, str]] = {
    "of a number": ("update study_user_attributes set value_json = '3'", "does not say what it is of"),
    "of a list": ("update study_user_attributes set value_json = '\"[1]\"'", "does not say what it is of"),
    "of nothing": ("update study_user_attributes set value_json = '\"\"'", "does not say what it is of"),
    "of what is nested": (
        f"update study_user_attributes set value_json = '\"{'[' * 5000}\"'",
        "does not say what it is of",
    ),
    "not JSON": (TRIALS + "'{'", "no database that Optuna can use"),
    "to be small": ("update study_directions set direction = 'MINIMIZE'", "is to be small"),
    "steps in words": (TRIALS + "'\"x\"' where key = 'steps'", "trial 0: steps is 'x'; allowed"),
    "steps of nothing": (TRIALS + "'null' where key = 'steps'", "trial 0: steps is None"),
    "steps below 0": (TRIALS + "'-1' where key = 'steps'", "trial 0: steps is -1"),
    "steps without end": (TRIALS + "'1e400' where key = 'steps'", "trial 0: steps is inf"),
    "measured to a number": (TRIALS + "'3' where key = 'measured'", "trial 0: measured is 3"),
    "measured to none": (
        TRIALS + """'{"score": NaN, "steps": 1, "reported": []}' where key = 'measured'""",
        "trial 0: measured is {'score': nan",
    ),
    "a class": (
        """update trial_params set distribution_json = '{"name": "os.system"}'""",
        "Unknown distribution class",
    ),
    "values out of range": ("update trial_params set param_value = 1e12", "allowed: "),
    "a parameter of another": (
        "update trial_params set param_name = 'y' where param_name = 'x'",
        "unknown parameter 'y'",
    ),
    "a parameter too few": ("delete from trial_params where param_name = 'x'", "has no x; allowed: all parameters"),
    "a score without end": ("update trial_values set value_type = 'INF_POS', value = null", "trial 0: score is inf"),
    "a score beyond all": ("update trial_values set value = 1e300", "trial 0: score is 1e+300"),
    "a first trial of no score": ("update trials set state = 'PRUNED'", "trial 0, the first, was stopped early"),
}


@pytest.mark.parametrize("case", STRANGE_STUDIES)
def test_a_study_that_no_search_wrote_is_refused(case: str, tmp_path: Path) -> None:
    change, words = STRANGE_STUDIES[case]
    found(tmp_path, 2)
    with sqlite3.connect(tmp_path / tuning.DATABASE) as database:
        database.execute(change)
    database.close()
    with pytest.raises(UserError) as refused:
        found(tmp_path, 2)
    assert str(refused.value).startswith(f"{tmp_path / tuning.DATABASE}: ") and words in str(refused.value)


def test_a_study_may_lie_in_another_database(tmp_path: Path) -> None:
    first = found(tmp_path / "a", 3, storage=f"sqlite:///{tmp_path}/other.db")
    assert found(tmp_path / "b", 3, storage=f"sqlite:///{tmp_path}/other.db") == first
    assert not (tmp_path / "a" / tuning.DATABASE).exists()
    rows = sqlite3.connect(tmp_path / "other.db").execute("select count(*) from trials").fetchone()
    assert rows == (3,)


def test_a_trial_that_others_are_better_than_is_stopped_and_never_the_best(tmp_path: Path) -> None:
    def slow(values, number, report):
        score, steps = hill(values, number, report)
        if report(score) and number > 0:
            raise tuning.PrunedError(3)
        return score, steps

    trials = found(tmp_path / "a", 20, slow, sampler="random")
    stopped = [t for t in trials if t.score is None]
    assert stopped and all(t.steps == 3 for t in stopped) and best_of(trials).score is not None


def test_no_machine_is_tuned_on_and_evaluated_on(tmp_path: Path) -> None:
    scenario = tiny_scenario(tmp_path)
    tuned, checked = (
        tuning_score.tuning_arena([scenario], 64, 0, key) for key in (tuning_score.TUNING, tuning_score.CHECKING)
    )
    assert not set(tuned.seeds.tolist()) & set(checked.seeds.tolist())
    assert not set(tuned.seeds.tolist()) & set(evaluation_seeds(0, 4096).tolist())
    assert (tuned.seeds < 1 << 63).all() and (evaluation_seeds(0, 64) >= 1 << 63).all()


def test_saved_is_what_stock_linux_loses_less(tmp_path: Path) -> None:
    """Of several scenarios at once as of each alone; stock Linux itself saves nothing."""
    tiny = tiny_scenario(tmp_path)
    machines = tuning_score.tuning_arena([tiny, tiny], 3, 0, tuning_score.TUNING)
    assert tuning_score.mean_saved(list(machines.saved(load_policy("online")))) == pytest.approx(0, abs=1e-12)
    saved = machines.saved(load_policy("restrict"))
    assert saved.shape == (2, 3) and machines.steps == 2 * 3 * 12
    gain = tuning_score.difference(saved, machines.saved(load_policy("online")), 0)
    assert gain.mean == pytest.approx(saved.mean())


def test_what_is_tuned_follows_from_the_spelling(tmp_path: Path) -> None:
    constants = find_target(CONSTANTS)
    assert set(constants.parameters) == set(act.NAMES)
    assert act.from_modes(constants.starts[0]).tolist() == act.DEFAULT.tolist()
    available = find_target(CONSTANTS, act.AVAILABLE)
    assert available.parameters["place.pt_leaf"].options == ("fallback",) and len(available.starts) > 1
    assert set(find_target("restrict_pt").parameters) == {"place.pt_leaf", "place.pt_upper"}
    threshold = find_target("threshold", act.AVAILABLE)
    assert threshold.parameters["above.place.kstack"].options == ("fallback",)
    (tmp_path / "own.py").write_text(OWN)
    own = find_target(str(tmp_path / "own.py"))
    assert list(own.parameters) == ["spare"] and own.pair


@pytest.mark.parametrize("name", ["cost_benefit", "threshold", CONSTANTS, "selector", "restrict_pt"])
def test_the_file_of_values_is_the_policy_of_these_values(name: str, tmp_path: Path) -> None:
    target = find_target(name)
    rng = np.random.default_rng(1)
    values = {
        key: str(rng.choice(each.options)) if each.options else float(each.low + 0.3 * (each.high - each.low))
        for key, each in target.parameters.items()
    }
    path = tmp_path / "values.toml"
    path.write_text(toml_text({"description": "d"} | target.document(values)))
    obs, masks = random_observations(64), random_masks(64)
    asked, read = target.policy(values), load_policy(path)
    asked.reset(64, 0)
    read.reset(64, 0)
    assert (asked(obs, masks) == read(obs, masks)).all()
    again = find_target(str(path))
    same = again.policy(again.starts[0])
    for policy in (asked, same):
        policy.reset(64, 0)
    assert (asked(obs, masks) == same(obs, masks)).all()


def test_tune_writes_a_policy_that_compare_takes_and_goes_on(cli: Cli, tmp_path: Path) -> None:
    tiny_scenario(tmp_path)
    args = ("tune", "cost_benefit", "--scenario", "tiny.toml", "--out", "t", "--json", "t.json")
    first = cli(*args, "--trials", 3)
    assert first.code == 0, first.err
    assert "3 trials of 2 episodes on each of 1 scenarios, 72 simulator steps" in first.err
    document = json.loads((tmp_path / "t.json").read_text())
    assert document["steps"] == 72 and len(document["trials"]) == 3
    path = tmp_path / "t" / "cost_benefit_tuned.toml"
    head = path.read_text()
    assert document["suite_digest"] in head and "study cost_benefit-tiny: 3 trials" in head
    longer = cli(*args, "--trials", 5)
    assert longer.code == 0 and "trial 4 of 5" in longer.err and "trial 3 of 5" not in longer.err
    assert json.loads((tmp_path / "t.json").read_text())["trials"][:3] == document["trials"]
    compared = cli(
        "compare", "--policies", "online,t/cost_benefit_tuned.toml", "--scenario", "tiny.toml", "--episodes", 2
    )
    assert compared.code == 0, compared.err


def test_a_rule_of_ones_own_is_named_with_its_numbers(cli: Cli, tmp_path: Path) -> None:
    """The file alone never runs Python."""
    tiny_scenario(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    done = cli("tune", "own.py", "--scenario", "tiny.toml", "--trials", 2, "--out", "t")
    assert done.code == 0 and "own.py@t/own_tuned.toml" in done.out
    both = cli("evaluate", "own.py@t/own_tuned.toml", "--scenario", "tiny.toml", "--episodes", 1)
    assert both.code == 0, both.err
    assert_refused(
        cli("evaluate", "t/own_tuned.toml", "--scenario", "tiny.toml"), "own.py", "Python code", "@own_tuned"
    )


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("nothing",), "unknown thing to tune 'nothing'"),
        (("random",), "has no parameters to tune"),
        (("online",), "names no entry"),
        (("cost_benefit", "--suite", "test"), "suite 'test' is for measuring"),
        (("cost_benefit", "--scenario", "optane-graph"), "which is for measuring"),
        (("cost_benefit", "--suite", "train", "--scenario", "llama-1to2"), "both given"),
        (("cost_benefit", "--scenario", "tiny.toml", "--trials", "2", "--steps", "23"), "allowed: at least 24"),
        (("ppo", "--scenario", "tiny.toml"), "--steps is missing"),
        (("restrict", "--plausibility", "available"), "less plausible than available"),
        (("cost_benefit", "--out", "tiny.toml", "--scenario", "tiny.toml"), "it is a file"),
    ],
)
def test_what_cannot_be_tuned_is_refused(cli: Cli, tmp_path: Path, args: tuple, words: str) -> None:
    tiny_scenario(tmp_path)
    assert_refused(cli("tune", *args), words)


def test_a_recipe_is_tuned_at_the_budget_that_is_printed(cli: Cli, tmp_path: Path) -> None:
    """Two trainings; the file is a recipe, with one of the values that were tried."""
    tiny_scenario(tmp_path)
    recipe = small("ppo")
    (tmp_path / "mine.toml").write_text(toml_text(recipe.document()))
    steps = 2 * (4 * 24 + 128 * recipe.hold_ticks)
    args = ("tune", "mine.toml", "--scenario", "tiny.toml", "--trials", 2, "--out", "t", "--json", "t.json")
    assert_refused(cli(*args, "--steps", steps - 1), f"at least {steps}")
    done = cli(*args, "--steps", steps)
    assert done.code == 0, done.err
    document = json.loads((tmp_path / "t.json").read_text())
    assert [trial["steps"] for trial in document["trials"]] == [steps // 2] * 2
    assert document["trials"][0]["values"]["learning_rate"] == pytest.approx(
        tuning_recipes.parameters_of_recipe(recipe)["learning_rate"].default
    )
    tuned = tuning_recipes.load_tunable_recipe(str(tmp_path / "t" / "mine_tuned.toml"))
    assert tuned is not None
    assert ",".join(map(str, tuned.network["hidden"])) == document["best"]["values"]["hidden"]


@pytest.mark.parametrize("path", sorted((experiments_dir() / "tuned").glob("*_tuned.toml")), ids=lambda path: path.stem)
def test_what_is_shipped_as_tuned_is_a_policy_that_says_how_it_was_made(path: Path) -> None:
    command, content, *_ = path.read_text().splitlines()
    assert command.startswith(f"# tiergym tune {path.stem.removesuffix('_tuned')} --suite train ")
    assert content.startswith("# train ")
    rule = find_target(path.stem.removesuffix("_tuned"))
    tuned = find_target(str(path))
    assert tuned.digest == rule.digest and tuned.starts[0] != rule.starts[0] == tuned.starts[1]
    assert load_policy(path).name == path.stem
