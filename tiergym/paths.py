"""Where the files that researchers edit lie: scenarios, policies and experiments.

A wheel carries copies as `tiergym/_data/{envs,agents,experiments}`; in a checkout, and for an editable
install of one, the folders beside the package are used themselves. Never the current working
directory's: a user's own `envs/` is reached by naming a file in it.
"""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _data_root(package: Path) -> Path:
    shipped = package / "_data"
    if shipped.is_dir():
        return shipped
    checkout = package.parent
    if (checkout / "pyproject.toml").is_file():
        return checkout
    raise FileNotFoundError(f"neither {shipped} nor a checkout's pyproject.toml beside {package}: reinstall tiergym")


def envs_dir() -> Path:
    """Folder of the machines, workloads, scenarios and suites (TOML)."""
    return _data_root(_PACKAGE) / "envs"


def agents_dir() -> Path:
    """Folder of the baselines (TOML or Python) and of the agents' hyperparameters."""
    return _data_root(_PACKAGE) / "agents"


def experiments_dir() -> Path:
    """Folder of the experiments: which agents meet which scenarios, with what settings."""
    return _data_root(_PACKAGE) / "experiments"
