"""Registries: noise models, step-size rules and engines by the names that files and options use.

A class registers under a name. Of a dataclass the fields then describe an instance completely:
numbers and texts go to JSON, arrays to a dictionary that the JSON refers to, and the same fields
make the instance again. ``field(metadata={"array": name})`` stores an array under a name of its
own, and ``"argument"`` says what the constructor calls a field. Only what is exactly of a
registered class is described: a class derived from one may do anything else.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from . import checks

Arrays = dict[str, NDArray[Any]]
Class = TypeVar("Class")
Registered = TypeVar("Registered", bound=type)


class Registry(Generic[Class]):
    """Classes by name.

    Parameters
    ----------
    kind : str
        What they are, in errors.
    key : str
        Where a description holds the name.
    others : str, optional
        What else may stand for one, in errors.
    """

    def __init__(self, kind: str, key: str, others: str = "") -> None:
        self.kind = kind
        self.key = key
        self._others = others
        self._classes: dict[str, type[Class]] = {}
        self._aliases: dict[str, str] = {}

    def register(
        self, name: str, *, aliases: tuple[str, ...] = ()
    ) -> Callable[[Registered], Registered]:
        """Register a class under a name, and others by which it can be looked up.

        Raises
        ------
        ValueError
            If one of the names is taken by another class.

        Examples
        --------
        >>> from suspalign_fast.base.registry import RULES
        >>> RULES["interval"] is RULES["loss_interval"]
        True
        >>> RULES.names()[:2]
        ('constant', 'schedule')
        """

        def add(cls: Registered) -> Registered:
            for given in (name, *aliases):
                taken = self._find(given)
                if taken is not None and taken.__qualname__ != cls.__qualname__:
                    raise ValueError(
                        f"name must be one that no {self.kind} has, got {given!r} of "
                        f"{taken.__qualname__}"
                    )
            self._classes[name] = cls
            self._aliases |= dict.fromkeys(aliases, name)
            return cls

        return add

    def remove(self, name: str) -> None:
        """Take back a registration.

        Raises
        ------
        KeyError
            If there is none of that name.
        """
        del self._classes[name]
        self._aliases = {alias: of for alias, of in self._aliases.items() if of != name}

    def names(self) -> tuple[str, ...]:
        """Return all names, without aliases, in the order of registration."""
        return tuple(self._classes)

    def __iter__(self) -> Iterator[type[Class]]:
        return iter(self._classes.values())

    def __contains__(self, name: object) -> bool:
        return self._find(name) is not None

    def __getitem__(self, name: str) -> type[Class]:
        found = self._find(name)
        if found is None:
            raise ValueError(
                f"{self.kind} must be one of {', '.join(map(repr, self.names()))}, got {name!r}"
            )
        return found

    def _find(self, name: Any) -> type[Class] | None:
        if not isinstance(name, str):
            return None
        return self._classes.get(self._aliases.get(name, name))

    def name_of(self, instance: object) -> str | None:
        """Return the name under which the very class of an instance is registered."""
        for name, cls in self._classes.items():
            if type(instance) is cls:
                return name
        return None

    def describe(self, instance: Any, arrays: Arrays) -> dict[str, Any]:
        """Return a description for JSON; arrays that it refers to are added to `arrays`.

        Raises
        ------
        ValueError
            If the class is not registered or is no dataclass.
        """
        name = self.name_of(instance)
        if name is None or not dataclasses.is_dataclass(instance):
            expected = "of a registered class to be stored, not of a derived class"
            raise checks.wrong(self.kind, instance, self._others + expected)
        described: dict[str, Any] = {self.key: name}
        for field in dataclasses.fields(instance):
            value = getattr(instance, field.name)
            if isinstance(value, np.ndarray):
                array = field.metadata.get("array", f"{name}_{field.name}")
                arrays[array] = value
                described |= _reference(field, array)
            else:
                described[field.name] = _plain(value, f"{type(instance).__name__}.{field.name}")
        return described

    def make(self, described: dict[str, Any], arrays: Arrays) -> Class:
        """Make the instance that a description is of.

        Raises
        ------
        ValueError
            If no class of its name is registered.
        """
        name = described[self.key]
        if name not in self:
            raise ValueError(
                f"the run's {self.kind} {name!r} is not known; register its class first"
            )
        cls = self[name]
        arguments = {}
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]
            argument = field.metadata.get("argument", field.name)
            if "array" in field.metadata and "array" in described:
                arguments[argument] = arrays[described["array"]]
            elif field.name in described:
                value = described[field.name]
                arguments[argument] = arrays[value["array"]] if _is_reference(value) else value
        return cls(**arguments)


def _reference(field: Any, array: str) -> dict[str, Any]:
    """Refer to an array: directly where the field names it, else under the field's own name."""
    return {"array": array} if "array" in field.metadata else {field.name: {"array": array}}


def _plain(value: Any, name: str) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, np.generic):
        return value.item()
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        raise checks.wrong(name, value, "a number, a text or an array to be stored") from None
    return value


def _is_reference(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"array"}


def arrays_in(described: Any) -> Iterator[str]:
    """Yield the names of all arrays that a description refers to."""
    if isinstance(described, dict):
        for key, value in described.items():
            if key == "array" and isinstance(value, str):
                yield value
            else:
                yield from arrays_in(value)


def takes_one_number(cls: type[Any]) -> bool:
    """Whether a dataclass is made from a single number, as options of a command line name it."""
    if not dataclasses.is_dataclass(cls):
        return False
    first, *others = dataclasses.fields(cls)
    needed = [f for f in others if f.default is f.default_factory is dataclasses.MISSING]
    return first.type in (float, "float") and not needed


def takes_numbers(cls: type[Any]) -> bool:
    """Whether a dataclass is made from numbers alone, as options of a command line list them."""
    kinds = (float, int, "float", "int")
    return dataclasses.is_dataclass(cls) and all(
        field.type in kinds for field in dataclasses.fields(cls)
    )


#: Noise models, step-size rules, engines and optimizers; ``register`` adds one.
NOISES: Registry[Any] = Registry("noise", "model")
RULES: Registry[Any] = Registry("step_size", "rule", "a number, an array or ")
ENGINES: Registry[Any] = Registry("engine", "engine")
OPTIMIZERS: Registry[Any] = Registry("optimizer", "optimizer")
