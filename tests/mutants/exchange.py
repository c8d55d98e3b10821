"""Puts the code of a mutant into the functions of a module that is already imported.

A mutation changes the body of one function, so its code is exchanged in place: nothing is imported again, and callers,
decorators and validators that hold the function run the mutant. What was computed during the import stays.
"""

import gc
import inspect
from types import CodeType, FunctionType


def exchange(original: CodeType, mutant: CodeType) -> bool:
    """Exchange the code of every function that differs in two versions of a module; False when that is impossible."""
    before, after = _functions(original), _functions(mutant)
    changed = {name: code for name, code in after.items() if before.get(name) != code}
    if before.keys() != after.keys() or not changed:
        return False
    places = {(before[name].co_qualname, before[name].co_firstlineno): code for name, code in changed.items()}
    found = set()
    for function in gc.get_objects():
        if type(function) is not FunctionType or function.__code__.co_filename != original.co_filename:
            continue
        place = function.__code__.co_qualname, function.__code__.co_firstlineno
        if place in places:
            if len(places[place].co_freevars) != len(function.__code__.co_freevars):
                return False
            function.__code__ = places[place]
            found.add(place)
    return found == places.keys()


def _functions(code: CodeType) -> dict[tuple[str, int], CodeType]:
    """Return the functions of a module and of its classes by qualified name, numbered where a name occurs again."""
    found: dict[tuple[str, int], CodeType] = {}
    for constant in code.co_consts:
        if not isinstance(constant, CodeType):
            continue
        if constant.co_flags & inspect.CO_OPTIMIZED:  # a function, not the body of a class
            number = sum(name == constant.co_qualname for name, _ in found)
            found[constant.co_qualname, number] = constant
        else:
            found |= _functions(constant)
    return found
