"""The version, for the command line, the headers of generated files and the wheel."""

from __future__ import annotations

VERSION = "0.1.0"
