"""The package's parts, `core` and the optional extras: what each brings, and how what is missing is installed.

The advice names the packages themselves, in the versions of this tiergym's metadata: that works beside a wheel and in
a checkout alike, wherever tiergym itself came from.
"""

import re
import shlex
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec
from types import ModuleType
from typing import Final

from tiergym.errors import UserError

PARTS: Final[dict[str, tuple[str, ...]]] = {
    "core": ("filelock", "gymnasium", "numba", "numpy", "rich", "typer"),
    "train": ("torch", "stable-baselines3", "sb3-contrib", "safetensors", "tensorboard"),
    "export": ("onnx", "onnxruntime"),
    "lab": ("jinja2", "matplotlib", "pyarrow"),
    "cluster": ("ray",),
    "tune": ("optuna",),
    "distill": ("scikit-learn",),
}
"""The extras of pyproject.toml and the packages that a person may have to install for them."""
MODULES: Final = {"scikit-learn": "sklearn"}
"""What packages are imported as that have another name."""


def missing(part: str) -> tuple[str, ...]:
    """Packages of a part that cannot be imported."""
    return tuple(name for name in PARTS[part] if find_spec(_module(name)) is None)


def advice(part: str) -> str:
    """The command that installs what is missing of a part, in the versions that this tiergym asks for."""
    wanted = _versions(part)
    return " ".join(["pip install", *(shlex.quote(wanted.get(name, name)) for name in missing(part) or PARTS[part])])


def require(module: str) -> ModuleType:
    """Import `module`; raises `UserError` with the command that installs it where it is missing."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        told = absent(error)
        if told is None or error.name != module.partition(".")[0]:
            raise
        raise told from error


def absent(error: ModuleNotFoundError) -> UserError | None:
    """What to tell of an import that failed for want of a package of an optional part; None of any other."""
    for part, names in PARTS.items():
        if part != "core" and (error.name or "") in map(_module, names):
            return UserError(f"{error.name} is not installed; this installs it: {advice(part)}")
    return None


def _module(name: str) -> str:
    return MODULES.get(name, name.replace("-", "_"))


def _versions(part: str) -> dict[str, str]:
    """Each package of a part with its bounds, as the metadata spells them; nothing where tiergym is not installed."""
    try:
        lines = requires("tiergym") or []
    except PackageNotFoundError:
        return {}
    out = {}
    for line in lines:
        requirement, _, marker = line.partition(";")
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        if name in PARTS[part] and marker.replace('"', "'").strip() == f"extra == '{part}'":
            out[name] = requirement.strip()
    return out
