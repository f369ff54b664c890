"""Python rules that exit, fail late, take the output away, return what lies or has no end, or go on writing into what
they returned: one line with the rule and the tick."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.command_line import Cli, Done
from tests.places import ROOT
from tests.refusals import assert_refused
from tests.short_runs import short_scenario
from tiergym.env.actions import N_MASK
from tiergym.env.observations import N_OBS
from tiergym.errors import UserError
from tiergym.lab.evaluate import evaluate
from tiergym.policy.load import load_policy
from tiergym.sim.names import N_ACTIONS

RULE = """
import sys
import numpy as np
from tiergym.sim.names import N_ACTIONS

class Rule:
    tick = 0

    def __call__(self, obs, masks):
        self.tick += 1
        actions = np.zeros((len(obs), N_ACTIONS), np.int64)
        if self.tick > 3:  # the first call is a trial
            {}
        return actions
"""
LATE = {
    "exits": ("sys.exit(0)", "failed in tick 2: SystemExit: 0"),
    "exits with a text": ("sys.exit('bye')", "failed in tick 2: SystemExit: bye"),
    "raises": ("1 / 0", "failed in tick 2: ZeroDivisionError: division by zero"),
    "raises what is no exception": ("raise BaseException('x')", "failed in tick 2: BaseException: x"),
    "ends a generator": ("raise GeneratorExit", "failed in tick 2: GeneratorExit"),
    "raises what cannot be shown": (
        "raise type('Mute', (Exception,), {'__str__': lambda self: sys.exit(0)})()",
        "failed in tick 2: Mute: (what it says cannot be shown)",
    ),
    "raises a long text": ("raise ValueError('x' * 10_000_000)", "failed in tick 2: ValueError: xxx"),
    "returns time differences": ("return actions.astype('m8[s]')", "actions are timedelta64[s]; allowed: integers"),
    "recurses": ("self(obs, masks)", "failed in tick 2: RecursionError: "),
    "takes all memory": ("np.zeros(1 << 60)", "failed in tick 2: "),
    "forgets machines": ("actions = actions[1:]", "actions have shape (0, "),
    "forgets entries": ("actions = actions[:, 1:]", "actions have shape (1, "),
    "returns numbers": ("actions = actions + 0.5", "actions are float64; allowed: integers"),
    "returns nothing": ("return None", "actions have shape (); allowed: "),
    "returns lists of lists": ("return [[1], [1, 2]]", "actions are no array: "),
    "returns a generator": ("return (a for a in actions)", "actions have shape (); allowed: "),
    "returns modes that there are not": ("actions[:] = 99", "is 99 on machine 0; allowed: 0 to "),
}
LATE |= {
    f"raises {name}": (f"raise {name}", f"failed in tick 2: {name}") for name in ("KeyboardInterrupt", "SystemExit")
}
RETURNED = {
    "counts for ever": ("return __import__('itertools').count()", "actions have shape (); allowed: "),
    "is a list in which there is no end": ("a = []; a.append(a); return a", "a row is no list of numbers"),
    "is a list out of all proportion": ("return [[0] * 10_000] * 1_000_000", "a list of 1000000; allowed: 1 rows"),
    "is a row out of all proportion": ("return [[0] * 100_000_000]", "a row has the shape (100000000,); allowed: "),
    "is an array out of all proportion": (
        "return np.broadcast_to(np.int64(0), (1 << 20, 1 << 20))",
        "actions have shape (1048576, 1048576); allowed: ",
    ),
    "is longer the longer one looks": (
        "return type('S', (), {'__len__': lambda s: 3, '__getitem__': lambda s, i: s})()",
        "actions have shape (); allowed: ",
    ),
    "has such a row": (
        "return [type('S', (), {'__len__': lambda s: 3, '__getitem__': lambda s, i: s})()]",
        "a row is no list of numbers",
    ),
    "never says how long it is": (
        "return type('S', (list,), {'__len__': lambda s: [0 for _ in iter(int, 1)]})()",
        "actions have shape (); allowed: ",
    ),
    "interrupts when it is made an array": (
        "def stop(*a, **k): raise KeyboardInterrupt\n            return type('S', (), {'__array__': stop})()",
        "failed in tick 2: KeyboardInterrupt",
    ),
    "is made no array": (
        "return type('S', (), {'__array__': lambda *a, **k: 5})()",
        "actions are no array: __array__ of a S gives none",
    ),
    "lies about its memory": (
        "return type('S', (), {'__array_interface__': dict(shape=actions.shape, typestr='<i8', data=(8, False), "
        "version=3)})()",
        "actions have shape (); allowed: ",
    ),
    "has numbers that are none": (
        "return [[type('F', (), {'__index__': lambda s: sys.exit(0)})()] * N_ACTIONS]",
        "a row is no list of numbers",
    ),
    "is a dict of false keys": (
        "return type('D', (dict,), {'keys': lambda s: iter(int, 1)})()",
        "actions have shape (); allowed: ",
    ),
    "is masked": ("return np.ma.masked_array(actions, mask=True)", "actions are a masked array; allowed: "),
    "is an array that lies": (
        "return actions[:, 1:].view(type('A', (np.ndarray,), {'shape': property(lambda s: (1, N_ACTIONS))}))",
        "actions have shape (1, 16); allowed: ",
    ),
}
LATE |= {f"returns what {case}": given for case, given in RETURNED.items()}


@pytest.mark.parametrize("case", LATE)
def test_a_rule_that_fails_late_is_named_with_its_tick(case: str, cli: Cli, tmp_path: Path) -> None:
    line, part = LATE[case]
    (tmp_path / "late.py").write_text(RULE.format(line))
    done = cli("evaluate", "late.py", "--episodes", 1, "--set", "episode.horizon_s=2")
    assert_refused(done, "policy 'late'", part)
    assert "in tick 2" in done.err


BEGIN = {
    "exits when imported": ("import sys\nsys.exit(3)", "begin.py cannot be imported: SystemExit: 3"),
    "exits when made": (
        "class Rule:\n  def __init__(self): exit()\n  def __call__(self, o, m): 0",
        "Rule() failed: SystemExit",
    ),
    "exits when asked": (
        "class Rule:\n  def __call__(self, o, m): raise SystemExit",
        "failed on a blank observation: SystemExit",
    ),
    "raises no exception when imported": ("raise BaseException('x')", "cannot be imported: BaseException: x"),
    "has no attributes": (
        "class Rule:\n  def __getattr__(self, name): raise OSError(name)\n  def __call__(self, o, m): 0",
        "policy 'begin' failed when asked for its reset: OSError: reset",
    ),
    "is of no plausibility": (
        RULE.format("pass") + "    plausibility = 'high'\n",
        "policy 'begin': plausibility is 'high'; allowed: ",
    ),
    "does not say its plausibility": (
        RULE.format("pass") + "    @property\n    def plausibility(self): raise OSError('x')\n",
        "policy 'begin' failed when asked for its plausibility: OSError: x",
    ),
    "interrupts when imported": ("raise KeyboardInterrupt", "begin.py cannot be imported: KeyboardInterrupt"),
    "interrupts when made": (
        "class Rule:\n  def __init__(self): raise KeyboardInterrupt\n  def __call__(self, o, m): 0",
        "Rule() failed: KeyboardInterrupt",
    ),
    "exits when asked for its attributes": (
        "class Rule:\n  def __getattr__(self, name): raise SystemExit\n  def __call__(self, o, m): 0",
        "policy 'begin' failed when asked for its reset: SystemExit",
    ),
    "fails in its reset": (
        "class Rule:\n  def reset(self, n, seed): raise OSError('x')\n  def __call__(self, o, m): 0",
        "policy 'begin' failed in its reset: OSError: x",
    ),
}


@pytest.mark.parametrize("case", BEGIN)
def test_a_rule_that_ends_the_process_does_not(case: str, cli: Cli, tmp_path: Path) -> None:
    text, part = BEGIN[case]
    (tmp_path / "begin.py").write_text(text)
    assert_refused(cli("evaluate", "begin.py", "--episodes", 1), part)


HARM = {
    "closes stdout": ("sys.stdout.close()", "stdout"),
    "closes stderr": ("sys.stderr.close()", "stderr"),
    "closes both": ("sys.stdout.close(), sys.stderr.close()", "stdout and stderr"),
    "has no stdout": ("sys.stdout = None", "stdout"),
    "replaces stderr": ("sys.stderr = 3", "stderr"),
    "closes descriptor 1": ("__import__('os').close(1)", "stdout"),
    "closes descriptors 1 and 2": ("__import__('os').closerange(1, 3)", "stdout and stderr"),
    "puts a file in place of stdout": ("__import__('os').dup2(__import__('os').open('/dev/null', 1), 1)", "stdout"),
}


@pytest.mark.parametrize("case", HARM)
def test_a_rule_that_takes_the_output_away_is_named_on_it(case: str, short_toml: Path, tmp_path: Path) -> None:
    """In a process of its own: streams of pytest are no descriptors."""
    line, part = HARM[case]
    (tmp_path / "late.py").write_text(RULE.format(line))
    (tmp_path / "begin.py").write_text(f"import sys\n{line}\n")
    for rule, told in (("late", "policy 'late' failed in tick 2"), ("begin", "begin.py cannot be imported")):
        words = f"evaluate {rule}.py --scenario short.toml --episodes 1".split()
        command = [sys.executable, "-m", "tiergym", *words]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert_refused(
            Done(done.returncode, done.stdout, done.stderr), f"{told}: it closed or replaced {part}; allowed: "
        )


def test_ctrl_c_in_a_rule_is_a_person_s(cli: Cli, tmp_path: Path) -> None:
    """Even where the rule catches it and raises another one."""
    pressed = "__import__('signal').raise_signal(2)"
    caught = f"try: {pressed}\n            except BaseException: raise KeyboardInterrupt"
    for line in (pressed, caught):
        (tmp_path / "late.py").write_text(RULE.format(line))
        done = cli("evaluate", "late.py", "--episodes", 1, "--set", "episode.horizon_s=2")
        assert (done.code, done.err.strip()) == (130, "interrupted"), done


def test_ticks_are_counted_from_the_last_reset() -> None:
    calls = []

    def rule(obs, masks):
        calls.append(len(obs))
        return np.full((len(obs), N_ACTIONS), 0 if len(calls) < 6 else -1)

    policy = load_policy(rule)
    policy.reset(1, 0)
    policy(np.zeros((1, N_OBS), np.float32), np.ones((1, N_MASK), np.bool_))
    with pytest.raises(UserError, match=r"in tick 3$"):
        evaluate(policy, short_scenario(), 1, 0)


def test_what_a_rule_returned_and_changes_later_changes_nothing() -> None:
    kept: list[np.ndarray] = []

    class Rule:
        def __call__(self, obs, masks):
            kept.append(np.zeros((len(obs), N_ACTIONS), np.int64))
            return kept[-1][:]

    policy = load_policy(Rule())
    obs, masks = np.zeros((1, N_OBS), np.float32), np.ones((1, N_MASK), np.bool_)
    given = policy(obs, masks)
    kept[-1][:] = 99
    assert (given == 0).all()
    assert evaluate(policy, short_scenario(), 1, 0).values["return"].shape == (1,)
