"""Classes that users extend, by their kind: built in, brought along by packages, in a file of one's own."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from agent_sft.errors import UserError, nearest, wrong_value

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T", bound=type[Any])


@dataclass
class Registry:
    """The classes of one sort."""

    noun: str
    """What one of them is called, `transform`."""
    group: str
    """The entry point group in which a package names its own."""
    package: str
    """The package of those that are built in."""
    built_in: tuple[str, ...]
    """Each lives in the module of its name in `package`, which is imported when it is asked for."""
    registered: dict[str, type[Any]] = field(default_factory=dict)

    def register(self, kind: str) -> Callable[[T], T]:
        """Return a decorator that lets a class be found by `kind`.

        Raises:
            UserError: another class has this kind already.
        """

        def register(found: T) -> T:
            known = self.registered.get(kind)
            if known is not None and (known.__module__, known.__qualname__) != (found.__module__, found.__qualname__):
                raise UserError(
                    f"two {self.noun}s are called '{kind}': {_place(known)} and {_place(found)}",
                    fix="give one of them another kind",
                )
            self.registered[kind] = found
            return found

        return register

    def kinds(self) -> list[str]:
        """Return the kinds that can be named: built in, registered, brought along by packages."""
        from importlib.metadata import entry_points

        return sorted({*self.built_in, *self.registered, *(point.name for point in entry_points(group=self.group))})

    def find(self, kind: str, *, folder: Path | None = None) -> type[Any]:
        """Return the class of a kind, or of `FILE.py:CLASS`, a file relative to `folder`.

        Raises:
            UserError: there is no such kind, file or class, or importing it fails.
        """
        if ".py:" in kind:
            return self._from_file(kind, folder or Path())
        if kind not in self.registered and kind in self.built_in:
            importlib.import_module(f"{self.package}.{kind}")
        if kind not in self.registered:
            from importlib.metadata import entry_points

            points = entry_points(group=self.group, name=kind)
            if not points:
                hint = nearest(kind, self.kinds())
                raise UserError(
                    f"there is no {self.noun} of the kind '{kind}'",
                    fix=hint or f"known are {', '.join(self.kinds())}; one of your own: FILE.py:CLASS",
                )
            self.registered.setdefault(kind, self._from_package(next(iter(points))))
        return self.registered[kind]

    def make(self, kind: str, params: Mapping[str, Any], *, where: str, folder: Path | None = None) -> Any:
        """Return an object of a kind with its parameters, which its `Config` checks.

        Raises:
            UserError: the kind is unknown, or a parameter is (with the nearest name), or has a wrong value.
        """
        try:
            found = self.find(kind, folder=folder)
        except UserError as error:
            raise UserError(error.what, where=error.where or where, fix=error.fix) from error
        config = getattr(found, "Config", None)
        try:
            if config is not None:
                config(**params)
            return found(**params)
        except ValidationError as error:
            raise _wrong_parameter(kind, error, list(getattr(config, "model_fields", {})), where) from error
        except UserError:
            raise
        except Exception as error:
            what = f"the {self.noun} '{kind}' cannot be made: {type(error).__name__}: {error}"
            raise UserError(what, where=where) from error

    def _from_file(self, kind: str, folder: Path) -> type[Any]:
        name, _, class_name = kind.rpartition(":")
        path = (folder / name).resolve()
        if not path.is_file():
            raise UserError("no such file", where=str(path), fix=f"it was named as the {self.noun} '{kind}'")
        module_name = f"agent_sft_{self.noun}_{path.stem}_{abs(hash(str(path)))}"
        module = sys.modules.get(module_name)
        if module is None:
            specification = importlib.util.spec_from_file_location(module_name, path)
            assert specification is not None
            assert specification.loader is not None
            module = importlib.util.module_from_spec(specification)
            sys.modules[module_name] = module
            try:
                specification.loader.exec_module(module)
            except UserError:
                del sys.modules[module_name]
                raise
            except (Exception, SystemExit) as error:
                del sys.modules[module_name]
                raise UserError(f"cannot be imported: {type(error).__name__}: {error}", where=str(path)) from error
        found = getattr(module, class_name, None)
        if not isinstance(found, type):
            classes = [key for key, value in vars(module).items() if isinstance(value, type)]
            raise UserError(f"has no class '{class_name}'", where=str(path), fix=nearest(class_name, classes) or None)
        return found

    def _from_package(self, point: EntryPoint) -> type[Any]:
        try:
            found = point.load()
        except Exception as error:
            what = (
                f"the {self.noun} '{point.name}' of {point.value} cannot be imported: {type(error).__name__}: {error}"
            )
            raise UserError(what) from error
        if not isinstance(found, type):
            raise UserError(f"the {self.noun} '{point.name}' of {point.value} is no class")
        return found


def _wrong_parameter(kind: str, error: ValidationError, known: list[str], where: str) -> UserError:
    # A name that is not known is said first: what is missing is mostly what it was meant to be.
    first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        what = f"'{kind}' has no parameter '{key}'"
        fix = nearest(key, known) or (f"it has {', '.join(known)}" if known else "it has none")
    elif first["type"] == "missing":
        what, fix = f"'{kind}' needs the parameter '{key}'", None
    else:
        place = f"the parameter '{key}' of '{kind}'" if key else f"the parameters of '{kind}'"
        what, fix = f"{place}: {wrong_value(first)}", None
    return UserError(what, where=where, fix=fix)


def _place(found: type[Any]) -> str:
    return f"{found.__module__}.{found.__qualname__}"
