"""What all unit tests share.

Coroutine tests run in a loop of their own, closed at the end of each: in place of pytest-asyncio, which on Python 3.11
leaves a loop open (warnings are errors here). And no example of a property has a deadline: the machine may be busy.
"""

import asyncio
import inspect

import pytest
from hypothesis import settings

settings.register_profile("busy", deadline=None)
settings.load_profile("busy")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True
