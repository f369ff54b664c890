"""Finding a policy: every place that takes one accepts the same spellings.

    online                     a baseline's name: agents/online.toml, agents/random.py
    mypackage.rules:MyRule     a class or function of an importable module
    rules.py  rules.py:MyRule  a Python file, and a class or function in it
    mine.toml                  named modes (`tiergym.policy.static`)
    policy.onnx                an exported policy
    plan.json                  which modes from which tick on (`tiergym.policy.plan`)
    runs/ppo-llama-1to2-0      a run directory: its policy.onnx

Naming a Python module or file runs it; TOML, JSON and ONNX files execute nothing.
"""

import ast
import importlib
import importlib.util
import inspect
import sys
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from tiergym import paths
from tiergym.env import static_actions
from tiergym.env.actions import plausibility
from tiergym.errors import UserError, suggest
from tiergym.files import read_toml
from tiergym.policy.base import CheckedPolicy, Policy, Rule
from tiergym.policy.plan import load_plan
from tiergym.policy.static import StaticPolicy

EXPORTED = "policy.onnx"
"""Name of the exported policy in a run directory."""


def list_policies() -> dict[str, str]:
    """Names of the shipped baselines with their descriptions; executes none of them."""
    rules = {
        path.stem: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        for path in paths.agents_dir().glob("*.py")
    }
    fixed = {name: static.description.strip() for name, static in static_actions.shipped().items()}
    return dict(sorted((fixed | rules).items()))


def shipped_plausibility(name: str) -> str:
    """How plausible a shipped baseline is: one of `tiergym.env.actions.PLAUSIBILITIES`."""
    static = static_actions.shipped().get(name)
    return load_policy(name).plausibility if static is None else plausibility(static.action)


def load_policy(spec: str | Path | Rule) -> Policy:
    """The policy that `spec` names (see the module's text), or a callable made into one; checked by one call.

    Raises `UserError` where nothing of that name exists (with the nearest name), and for a file, class or
    function that is not a policy of this tiergym's observations and actions.
    """
    if callable(spec):
        name = getattr(spec, "name", None) or getattr(spec, "__name__", None) or type(spec).__name__
        policy = CheckedPolicy(spec, name)
    else:
        policy = _load(str(spec))
    policy.probe()
    return policy


def _load(spec: str) -> CheckedPolicy:
    agents = paths.agents_dir()
    for path in (agents / f"{spec}.toml", agents / f"{spec}.py"):
        if path.parent == agents and path.is_file():
            return _from_file(path, "")
    location, _, target = spec.partition(":")
    path = Path(location)
    if path.is_dir():
        return _from_run(path)
    if path.suffix == ".py" or (path.suffix in (".toml", ".onnx", ".json") and not target):
        return _from_file(path, target)
    if target:
        return _named(_import(location, spec), target, spec)
    if len(path.parts) > 1:
        raise UserError(f"policy '{spec}': no such file or run directory")
    raise UserError(suggest(spec, list_policies(), "policy"))


def _from_run(run: Path) -> CheckedPolicy:
    path = run / EXPORTED
    if not path.is_file():
        raise UserError(f"{run}: has no {EXPORTED}; make it with: tiergym export {run} --format onnx")
    policy = _from_file(path, "")
    policy.name = run.resolve().name
    return policy


def _from_file(path: Path, target: str) -> CheckedPolicy:
    if not path.is_file():
        raise UserError(f"policy '{path}': no such file")
    if path.suffix == ".onnx":
        from tiergym.policy.onnx_policy import OnnxPolicy  # onnxruntime, only when needed

        return CheckedPolicy(OnnxPolicy(path), path.stem)
    if path.suffix == ".json":
        return CheckedPolicy(load_plan(path), path.stem)
    if path.suffix == ".toml":
        if "algorithm" in read_toml(path):
            raise UserError(
                f"{path} is a training recipe, not yet a policy; train it with: tiergym train --agent {path.stem}, "
                "then name the run directory"
            )
        return CheckedPolicy(StaticPolicy(static_actions.load(path)), path.stem)
    module = _execute(path)
    if target:
        return _named(module, target, f"{path}:{target}")
    return CheckedPolicy(_instance(_only_class(module, path), str(path)), path.stem)


def _execute(path: Path) -> ModuleType:
    """The module of a file outside any package, under a name of its own so that it hides no other module."""
    name = f"tiergym_policy_{sha256(str(path.resolve()).encode()).hexdigest()[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look a class's module up
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    return module


def _import(name: str, spec: str) -> ModuleType:
    """An importable module; the working directory is searched last, so that it shadows nothing installed."""
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.append(here)
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise UserError(f"policy '{spec}': cannot import {name}: {type(error).__name__}: {error}") from error
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


def _named(module: ModuleType, target: str, spec: str) -> CheckedPolicy:
    public = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
    if target not in vars(module):
        raise UserError(f"policy '{spec}': {suggest(target, public, 'class or function')}")
    return CheckedPolicy(_instance(vars(module)[target], spec), target)


def _instance(value: Any, spec: str) -> Rule:
    if inspect.isclass(value):
        try:
            value = value()
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"policy '{spec}': {value.__name__}() failed: {type(error).__name__}: {error}") from error
    if not callable(value):
        raise UserError(f"policy '{spec}': not callable; allowed: a class or function of (obs, masks)")
    rule: Rule = value
    return rule
