"""``python -m lincodegen``: the command line, from a source tree without installation."""

from __future__ import annotations

from lincodegen.cli import main

if __name__ == "__main__":
    main()
