"""Where the shipped templates, specs and generated ops lie: in a wheel or in a checkout."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _folder(packaged: str, checkout: str) -> Path:
    inside = _PACKAGE / packaged
    return inside if inside.is_dir() else _PACKAGE.parent / checkout


def templates_dir() -> Path:
    """The folder of the Jinja templates."""
    return _folder("_data/templates", "templates")


def specs_dir() -> Path:
    """The folder of the shipped specs."""
    return _folder("_data/specs", "specs")


def generated_dir() -> Path:
    """The folder of the shipped generated ops, one package each."""
    return _folder("generated", "generated")


def defaults_dir() -> Path:
    """The tables of default configurations, one file a target: part of the package."""
    return Path(__file__).parent / "configs" / "defaults"


def important_ops_file() -> Path:
    """The ops that are checked, tuned and timed first, a name a line: part of the package."""
    return Path(__file__).parent / "configs" / "important_ops.txt"


def tuned_dir() -> Path:
    """The packaged tables of tuned configurations, one file a device."""
    return Path(__file__).parent / "configs"


def records_dir() -> Path:
    """The records of tuning, from which the user's tables are made."""
    return config_dir() / "records"


def offline_dir() -> Path:
    """What a model chose for devices that were not there: tables that no look-up reads."""
    return config_dir() / "offline"


def config_dir() -> Path:
    """The user's own tables and records: ``$LINCODEGEN_CONFIG_DIR``, else the platform's place.

    Raises:
        RuntimeError: no variable names it and there is no home folder.
    """
    named = os.environ.get("LINCODEGEN_CONFIG_DIR")
    if named:
        return Path(named)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "lincodegen"
    base = os.environ.get("APPDATA" if sys.platform == "win32" else "XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "lincodegen"


def results_dir() -> Path:
    """The committed results of benchmarks: in a checkout alone."""
    return _PACKAGE.parent / "benchmarks" / "results"
