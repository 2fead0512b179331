"""Read at the start of every process whose path has this folder: these packages are not there."""

import os
import sys
from importlib.machinery import PathFinder

ABSENT = set(os.environ["ABSENT_PACKAGES"].split(","))
_find = PathFinder.find_spec


def _found(name, path=None, target=None):
    return None if name.split(".")[0] in ABSENT else _find(name, path, target)


PathFinder.find_spec = _found
sys.absent_packages = ABSENT
