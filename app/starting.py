"""How processes begin: with all that they import, before anything else."""

from __future__ import annotations

import gc
from importlib import import_module
from types import ModuleType


def imported(name: str) -> ModuleType:
    """The module, imported without a look at garbage: imports leave hardly any, and looking for it again and again
    takes an eighth of their time. Nor is what they made looked at later."""
    gc.disable()
    try:
        return import_module(name)
    finally:
        gc.freeze()
        gc.enable()
