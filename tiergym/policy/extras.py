"""Import of a package that only one of the optional parts needs."""

from importlib import import_module
from types import ModuleType

from tiergym.errors import UserError


def require(module: str, extra: str) -> ModuleType:
    """Import `module`; raises `UserError` with the command that installs it where it is missing."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise UserError(f"{module} is not installed; install it with: pip install 'tiergym[{extra}]'") from error
