"""Exchange what a function does without touching the function object, so that every name ever given to it follows.

A patched attribute misses ``from torch.hub import load`` and ``functools.partial``; an exchanged code object does not.
"""

import gc
from collections.abc import Callable
from functools import partial
from inspect import CO_VARARGS, CO_VARKEYWORDS, unwrap
from types import CodeType, FunctionType, ModuleType
from typing import Any

from hublock.runtime.forksafe import ForkSafeLock

Function = Callable[..., Any]
_PLACE = "hublock: the function that is called instead"
_lock = ForkSafeLock()
_swapped: set[FunctionType] = set()


def swap(function: Function, decide: Callable[[Function], Function]) -> None:
    """Let every call of ``function`` go to ``decide(original)``, once per process; a second swap does nothing.

    Identity, signature, defaults, closure, name and source of ``function`` stay. ``original`` is a new function with
    the original code; decorators that keep ``__wrapped__``, and partials, are looked through.

    Raises:
        TypeError: ``function`` is not written in Python.
    """
    target = _innermost(function)
    if not isinstance(target, FunctionType):
        raise TypeError(f"{function!r} has no code object")
    with _lock:
        if target not in _swapped:
            target.__code__ = _forwarding(target.__code__, decide(_copy(target)))
            _swapped.add(target)


def own(module: ModuleType, name: str) -> Function:
    """Return the function ``name`` that ``module`` defines, also where its user has put another one in its place.

    That one, which calls it in its turn, is then left as it is; if nothing does any more, it is returned itself.
    """
    there: Function = vars(module)[name]
    if getattr(_innermost(there), "__globals__", None) is vars(module):
        return there
    functions = [item for item in gc.get_referrers(vars(module)) if isinstance(item, FunctionType)]
    mine = (item for item in functions if item.__globals__ is vars(module) and item.__code__.co_qualname == name)
    return next(mine, there)


def _innermost(function: Function) -> Function:
    """Look through decorators, and through what users put in its place: ``partial(torch.load, weights_only=False)``."""
    while True:
        inner = unwrap(function)
        inner = inner.func if isinstance(inner, partial) else getattr(inner, "__func__", inner)
        if inner is function:
            return function
        function = inner


def _copy(function: FunctionType) -> FunctionType:
    copy = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__ = dict(function.__kwdefaults__ or {})
    copy.__qualname__ = function.__qualname__
    copy.__module__ = function.__module__
    copy.__doc__ = function.__doc__
    return copy


def _forwarding(code: CodeType, instead: Function) -> CodeType:
    """Return code with the parameters and free variables of ``code`` that only calls ``instead``."""
    parameters, arguments = _signature(code)
    free = ", ".join(code.co_freevars)
    source = (
        f"def enclosing({free}):\n"
        f"    def forward({parameters}):\n"
        # never runs, but makes the names free variables here as well: the closure must fit
        f"        if 0: {free or 'pass'}\n"
        f"        __hublock__ = {_PLACE!r}\n"
        f"        return __hublock__({arguments})\n"
    )
    module = compile(source, code.co_filename, "exec", dont_inherit=True)
    forward = _inner(_inner(module))
    return forward.replace(
        # a constant instead of a global: the function's module is left as it is
        co_consts=tuple(instead if constant == _PLACE else constant for constant in forward.co_consts),
        co_firstlineno=code.co_firstlineno,
        co_name=code.co_name,
        co_qualname=code.co_qualname,
    )


def _inner(code: CodeType) -> CodeType:
    return next(constant for constant in code.co_consts if isinstance(constant, CodeType))


def _signature(code: CodeType) -> tuple[str, str]:
    """Return the parameter list of ``code`` as source, and the arguments that pass them on."""
    names = list(code.co_varnames)
    positional, keyword = names[: code.co_argcount], names[code.co_argcount :][: code.co_kwonlyargcount]
    rest = names[code.co_argcount + code.co_kwonlyargcount :]
    parameters, arguments = list(positional), list(positional)
    if code.co_posonlyargcount:
        parameters.insert(code.co_posonlyargcount, "/")
    if code.co_flags & CO_VARARGS:
        star = "*" + rest.pop(0)
        parameters.append(star)
        arguments.append(star)
    elif keyword:
        parameters.append("*")
    parameters += keyword
    arguments += [f"{name}={name}" for name in keyword]
    if code.co_flags & CO_VARKEYWORDS:
        parameters.append("**" + rest[0])
        arguments.append("**" + rest[0])
    return ", ".join(parameters), ", ".join(arguments)
