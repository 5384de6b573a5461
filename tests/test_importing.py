"""Imports without the garbage collector: off meanwhile, as it was afterwards."""

import gc
import sys
from importlib import import_module

import pytest

from harness.system.importing import uncollected

RARE = "this"
"""A module that nobody imports."""


@pytest.fixture(autouse=True)
def as_before():
    was_on = gc.isenabled()
    yield
    gc.unfreeze()
    gc.enable() if was_on else gc.disable()


@pytest.mark.parametrize("is_on", [True, False])
def test_the_collector_is_off_meanwhile_and_as_it_was_afterwards(is_on):
    gc.enable() if is_on else gc.disable()
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled() is is_on


def test_the_collector_is_on_again_after_an_import_that_failed():
    with pytest.raises(ModuleNotFoundError), uncollected():
        import_module("no_such_module")
    assert gc.isenabled()


def test_only_what_an_import_brought_is_left_alone_for_good():
    gc.unfreeze()
    with uncollected():
        pass
    assert gc.get_freeze_count() == 0
    sys.modules.pop(RARE, None)
    with uncollected():
        import_module(RARE)
    assert gc.get_freeze_count() > 1000
