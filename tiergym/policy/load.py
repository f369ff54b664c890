"""Finding a policy: every place that takes one accepts the same spellings.

    online                     a baseline's name: agents/online.toml, agents/random.py
    mypackage.rules:MyRule     a class or function of an importable module
    rules.py  rules.py:MyRule  a Python file, and a class or function in it
    mine.toml                  named modes (`tiergym.policy.static`), or a shipped rule with other numbers
    mine.py@tuned.toml         a rule with the numbers of a file (`tiergym.policy.rule_file`)
    policy.onnx                an exported policy
    plan.json                  which modes from which tick on (`tiergym.policy.plan`)
    tree.json                  a decision tree (`tiergym.policy.tree`)
    policy.h                   C made of a tree, which is compiled and run (`tiergym.policy.header_policy`)
    runs/ppo-llama-1to2-0      a run directory: its policy.onnx
    model.zip                  an archive of stable-baselines3 (`tiergym.policy.sb3_archive`), where it is trusted

Naming a Python module or file, or C, runs it, so it is refused where a file does the naming; TOML, JSON and ONNX files
execute nothing (SECURITY.md).
"""

import ast
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from tiergym import paths
from tiergym.env import static_actions
from tiergym.env.actions import plausibility
from tiergym.errors import UserError, suggest
from tiergym.files import is_dir, is_file, read_json, read_toml
from tiergym.policy import rule_file
from tiergym.policy.base import CheckedPolicy, Policy, Rule
from tiergym.policy.guarding import guarded
from tiergym.policy.header_policy import HeaderPolicy
from tiergym.policy.plan import load_plan
from tiergym.policy.rule_parameters import arguments
from tiergym.policy.static import StaticPolicy
from tiergym.policy.tree import is_tree, load_tree
from tiergym.trust import refuse_code

EXPORTED = "policy.onnx"
"""Name of the exported policy in a run directory."""
WITH = "@"
"""Between a rule and the file of its numbers."""
THRESHOLD = "threshold"
"""Name of `tiergym.policy.threshold.Threshold`, a rule that is nothing without its numbers."""


@dataclass(frozen=True, slots=True)
class RuleCode:
    """A rule's class or function, under the name that it was asked for by, with the digest of its source."""

    value: Any
    spec: str
    name: str
    digest: str

    def policy(self, values: Mapping[str, Any], source: str) -> CheckedPolicy:
        """The rule with these numbers. Raises `UserError`, naming `source`, where it has no such parameters."""
        made = arguments(self.value, values, source)
        return CheckedPolicy(_instance(self.value, self.spec, made), self.name, self.digest)


def list_policies() -> dict[str, str]:
    """Names of the shipped baselines with their descriptions; executes none of them."""
    rules = {
        path.stem: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        for path in paths.agents_dir().glob("*.py")
    }
    fixed = {name: static.description.strip() for name, static in static_actions.shipped().items()}
    tuned = [path for path in paths.agents_dir().glob("*.toml") if rule_file.RULE in read_toml(path)]
    return dict(sorted((fixed | rules | {path.stem: rule_file.read(path).description for path in tuned}).items()))


def list_rules() -> list[str]:
    """Names of the rules that are code, not files of modes; executes none of them."""
    return sorted([THRESHOLD, *(path.stem for path in paths.agents_dir().glob("*.py"))])


def shipped_plausibility(name: str) -> str:
    """How plausible a shipped baseline is: one of `tiergym.sim.names.PLAUSIBILITIES`."""
    static = static_actions.shipped().get(name)
    return load_policy(name).plausibility if static is None else plausibility(static.action)


def load_policy(spec: str | Path | Rule, named_in: str = "", *, trust: bool = False) -> Policy:
    """The policy that `spec` names (see the module's text), or a callable made into one; checked by one call.

    `named_in`: the file that names it, where nobody has said that its Python code may run. `trust`: somebody answers
    for an archive of stable-baselines3, which nobody who names one can see the code of.

    Raises `UserError` where nothing of that name exists (with the nearest name), for a file, class or
    function that is not a policy of this tiergym's observations and actions, and for Python that is not shipped where
    there is a `named_in`.
    """
    if callable(spec):
        name = getattr(spec, "name", None) or getattr(spec, "__name__", None) or type(spec).__name__
        policy = CheckedPolicy(spec, name)
    else:
        policy = _load(str(spec), named_in, trust)
    policy.probe()
    return policy


def load_rule(spec: str, named_in: str = "") -> RuleCode | None:
    """The code of a rule, unmade, to be asked for its parameters; None where `spec` names no Python.

    Raises `UserError` as `load_policy` does.
    """
    if spec == THRESHOLD:
        from tiergym.policy import threshold

        return RuleCode(threshold.Threshold, spec, spec, _digest(Path(threshold.__file__)))
    shipped = paths.agents_dir() / f"{spec}.py"
    if shipped.parent == paths.agents_dir() and is_file(shipped):
        return _rule_in(shipped, "", spec)
    location, _, target = spec.partition(":")
    path = Path(location)
    if is_dir(path) or (path.suffix != ".py" and not target):
        return None
    if named_in:
        raise refuse_code(spec, named_in)
    if path.suffix == ".py":
        return _rule_in(path, target, f"{path}:{target}" if target else str(path))
    return _rule_of(_import(location, spec), target, spec)


def _load(spec: str, named_in: str, trust: bool) -> CheckedPolicy:
    agents = paths.agents_dir()
    static = agents / f"{spec}.toml"
    if static.parent == agents and is_file(static):
        return _from_file(static)
    rule, at, numbers = spec.rpartition(WITH)
    if at and rule and numbers.endswith(".toml") and not is_file(Path(spec)):
        return _with_numbers(rule, Path(numbers), named_in)
    code = load_rule(spec, named_in)
    if code is not None:
        return code.policy({}, spec)
    path = Path(spec)
    if is_dir(path):
        return _from_run(path)
    if path.suffix == ".zip":
        return _from_archive(path, trust)
    if path.suffix == ".h" and named_in:
        raise refuse_code(spec, named_in)
    if path.suffix in (".toml", ".onnx", ".json", ".h"):
        return _from_file(path)
    if len(path.parts) > 1:
        raise UserError(f"policy '{spec}': no such file or run directory")
    raise UserError(suggest(spec, list_policies(), "policy"))


def _with_numbers(rule: str, path: Path, named_in: str) -> CheckedPolicy:
    """A rule with the parameters of a file, under the file's name; its digest is of both."""
    told = rule_file.read(path)
    code = load_rule(rule, named_in)
    if code is None:
        raise UserError(f"{path}: {suggest(rule, list_rules(), 'rule')}")
    policy = code.policy(told.values, str(path))
    both = f"{_digest(path)} {code.digest}"
    return CheckedPolicy(policy.rule, path.stem, sha256(both.encode()).hexdigest()[:16])


def _from_run(run: Path) -> CheckedPolicy:
    path = run / EXPORTED
    if not is_file(path):
        raise UserError(f"{run}: has no {EXPORTED}; make it with: tiergym export {run} --format onnx")
    policy = _from_file(path)
    policy.name = run.resolve().name
    return policy


def _from_archive(path: Path, trust: bool) -> CheckedPolicy:
    from tiergym.policy.export_onnx import make_actor
    from tiergym.policy.sb3_archive import load_archive
    from tiergym.policy.torch_policy import TorchPolicy

    actor = make_actor(load_archive(path, trust))
    return CheckedPolicy(TorchPolicy(actor, path.stem), path.stem, _digest(path))


def _from_file(path: Path) -> CheckedPolicy:
    if not is_file(path):
        raise UserError(f"policy '{path}': no such file, or no regular one")
    if path.suffix == ".onnx":
        from tiergym.policy.onnx_policy import OnnxPolicy  # onnxruntime, only when needed

        return CheckedPolicy(OnnxPolicy(path), path.stem, _digest(path))
    if path.suffix == ".h":
        return CheckedPolicy(HeaderPolicy(path), path.stem, _digest(path))
    if path.suffix == ".json":
        load_json: Callable[[Path], Rule] = load_tree if is_tree(read_json(path)) else load_plan
        return CheckedPolicy(load_json(path), path.stem, _digest(path))
    document = read_toml(path)
    if "algorithm" in document:
        raise UserError(
            f"{path} is a training recipe, not yet a policy; train it with: tiergym train --agent {path.stem}, "
            "then name the run directory"
        )
    if rule_file.RULE in document:
        return _with_numbers(rule_file.read(path).rule, path, f"{path} (RULE.py{WITH}{path.name} names both)")
    return CheckedPolicy(StaticPolicy(static_actions.load(path)), path.stem, _digest(path))


def _rule_in(path: Path, target: str, spec: str) -> RuleCode:
    """A class or function of a file, the only class where none is named."""
    if not is_file(path):
        raise UserError(f"policy '{path}': no such file, or no regular one")
    module = _execute(path)
    if target:
        return _rule_of(module, target, spec)
    return RuleCode(_only_class(module, path), spec, path.stem, _digest(path))


def _execute(path: Path) -> ModuleType:
    """The module of a file outside any package, under a name of its own so that it hides no other module."""
    name = f"tiergym_policy_{sha256(str(path.resolve()).encode()).hexdigest()[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look a class's module up
    with guarded(f"{path} cannot be imported"):
        spec.loader.exec_module(module)
    return module


def _import(name: str, spec: str) -> ModuleType:
    """An importable module; the working directory is searched last, so that it shadows nothing installed."""
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.append(here)
    try:
        with guarded(f"policy '{spec}': cannot import {name}"):
            return importlib.import_module(name)
    finally:
        if added:
            sys.path.remove(here)


def _only_class(module: ModuleType, path: Path) -> Any:
    classes = {
        name: value
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and value.__module__ == module.__name__
        and "__call__" in vars(value)
        and not name.startswith("_")
    }
    if len(classes) != 1:
        found = ", ".join(classes) or "none"
        raise UserError(f"{path}: need one class with __call__(obs, masks), found: {found}; name one as {path}:Class")
    return next(iter(classes.values()))


def _rule_of(module: ModuleType, target: str, spec: str) -> RuleCode:
    public = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
    if target not in vars(module):
        raise UserError(f"policy '{spec}': {suggest(target, public, 'class or function')}")
    source = getattr(module, "__file__", None)
    return RuleCode(vars(module)[target], spec, target, _digest(Path(source)) if source else "")


def _digest(path: Path) -> str:
    """Of a file's bytes, as results carry it."""
    return sha256(path.read_bytes()).hexdigest()[:16]


def _instance(value: Any, spec: str, values: Mapping[str, Any]) -> Rule:
    if inspect.isclass(value):
        with guarded(f"policy '{spec}': {value.__name__}() failed"):
            value = value(**values)
    if not callable(value):
        raise UserError(f"policy '{spec}': not callable; allowed: a class or function of (obs, masks)")
    rule: Rule = value
    return rule
