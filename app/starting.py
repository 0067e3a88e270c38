"""How processes begin: with all that they import."""

from __future__ import annotations

import gc
from importlib import import_module
from types import ModuleType


def imported(name: str) -> ModuleType:
    """The module, imported without a look at garbage: imports leave hardly any, and looking for it again and again
    takes an eighth of their time. Nor is what the first such import made looked at later, least of all at the end."""
    gc.disable()
    try:
        module = import_module(name)
    finally:
        gc.enable()
    if not gc.get_freeze_count():
        gc.freeze()
    return module
