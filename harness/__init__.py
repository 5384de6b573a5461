"""Fine-tune any encoder on GLUE-style tasks, on whatever devices accelerate is set up for, and keep the numbers."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.api import load_records, predict, run

__version__ = "0.1.0"
__all__ = ["load_records", "predict", "run"]


def __getattr__(name: str) -> Any:
    """The functions of `harness.api`, which is read when one is asked for: `import harness` alone costs nothing."""
    if name in __all__:
        return getattr(importlib.import_module("harness.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _CallableModule(ModuleType):
    """A module that is called as the function of its name."""

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return getattr(importlib.import_module("harness.api"), self.__name__.rpartition(".")[2])(*arguments, **keywords)


class _Package(ModuleType):
    """This package, in which `run` and `predict` are functions and modules.

    Python binds a module to its package under the module's name when it is first imported, whoever imports it, and
    would so replace the function of that name. `harness/run.py` is what people launch and import from, so the module
    stays what it is and can be called as well.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name in __all__ and type(value) is ModuleType:
            value.__class__ = _CallableModule
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
