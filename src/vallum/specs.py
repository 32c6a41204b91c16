"""Strings and objects: "pgd:eps=8/255,steps=40" names a registered dataclass, "folder:PATH?size=224" a source.

Whatever is registered here can be listed, constructed from the command line, and written back as the string that
rebuilds it.
"""

from __future__ import annotations

import dataclasses
import difflib
import numbers
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import unquote

from vallum.errors import UserError, a, did_you_mean

T = TypeVar("T")


class Registry(Generic[T]):
    """Names for things of one kind, each made from a spec: a frozen dataclass, or a function for a source.

    >>> shapes = Registry("shape")
    >>> @shapes.register("square")
    ... @dataclass(frozen=True)
    ... class Square:
    ...     side: float
    >>> shapes.parse("square:side=1/4")
    Square(side=0.25)
    >>> shapes.spec(Square(side=2 / 255))
    'square:side=2/255'
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Callable[..., T]] = {}
        self._aliases: dict[str, str] = {}
        self.options: dict[str, dict[str, str]] = {}  # of sources, which are functions: what follows ?, with its help

    def register(self, name: str, *aliases: str, **options: str) -> Callable[[Callable[..., Any]], Any]:
        """Keep an entry under its name; it is found under its aliases too, but listed and written by its name."""

        def keep(entry: Callable[..., Any]) -> Callable[..., Any]:
            for one in (name, *aliases):
                if one in self and not _is_again(entry, self[one]):
                    raise ValueError(f"{self.kind} {one!r} is registered already")
            self._entries[name], self.options[name] = entry, options
            self._aliases.update(dict.fromkeys(aliases, name))
            return entry

        return keep

    def __getitem__(self, name: str) -> Callable[..., T]:
        if name not in self:
            raise UserError(
                f"no {self.kind} is called {name!r}", remedy=did_you_mean(name, [*self._entries, *self._aliases])
            )
        return self._entries[self._aliases.get(name, name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries or name in self._aliases

    def parse(self, spec: str) -> T:
        """The object that `spec` names: "name", "name:value" (its first parameter) or "name:parameter=value,..."."""
        name, _, rest = spec.strip().partition(":")
        make = self[name]
        return build(make, split_arguments(rest, spec), spec)

    def name_of(self, thing: object) -> str:
        for name, entry in self._entries.items():
            if entry is type(thing):
                return name
        raise UserError(f"{type(thing).__name__} is not a registered {self.kind}")

    def spec(self, thing: T) -> str:
        """The string from which `parse` makes `thing` again; parameters at their defaults are left out."""
        name, said = self.name_of(thing), []
        for place, parameter in enumerate(parameters(type(thing))):
            value = getattr(thing, parameter.name)
            if parameter.required or not _same(value, parameter.default):
                bare = parameter.nameless and place == 0
                said.append(write_value(value) if bare else f"{parameter.name}={write_value(value)}")
        return f"{name}:{','.join(said)}" if said else name


@dataclass(frozen=True)
class Parameter:
    """What one parameter of a spec takes; `help` is the text in its field's metadata."""

    name: str
    type: Any
    default: Any
    required: bool
    help: str
    nameless: bool = False  # people write it without its name, as the 3 in fog:3

    def __str__(self) -> str:
        return f"{self.name}={'?' if self.required else write_value(self.default)}"


def parameter(help: str, default: Any = dataclasses.MISSING, **metadata: Any) -> Any:
    """A dataclass field with a line of help, which `vallum list` and the error messages show.

    With `nameless=True` the first field is written back without its name: fog:3.
    """
    return field(default=default, metadata={"help": help, **metadata})


def parameters(made: Any) -> list[Parameter]:
    """The parameters of a registered dataclass, in order."""
    hints = typing.get_type_hints(made)
    return [
        Parameter(
            name=f.name,
            type=hints[f.name],
            default=f.default,
            required=f.default is dataclasses.MISSING,
            help=f.metadata.get("help", ""),
            nameless=f.metadata.get("nameless", False),
        )
        for f in dataclasses.fields(made)
        if f.init and not f.metadata.get("hidden", False)
    ]


def build(made: Callable[..., T], arguments: list[tuple[str | None, str]], spec: str) -> T:
    """Construct the dataclass `made` from its arguments as text."""
    known = {p.name: p for p in parameters(made)}
    values: dict[str, Any] = {}
    for place, (name, text) in enumerate(arguments):
        if name is None:
            if place or not known:
                raise UserError(f"{text!r} in {spec!r} has no name", remedy="write parameter=value")
            name = next(iter(known))
        if name not in known:
            raise UserError(f"{spec!r} has no parameter {name!r}", remedy=_takes(known, name))
        if name in values:
            raise UserError(f"{spec!r} gives {name} twice", remedy="keep one")
        values[name] = read_value(text, known[name].type, f"{name} in {spec!r}")
    missing = [p.name for p in known.values() if p.required and p.name not in values]
    if missing:
        raise UserError(f"{spec!r} lacks {', '.join(missing)}", remedy=f"it takes {_listed(known)}")
    return made(**values)


def split_arguments(text: str, spec: str) -> list[tuple[str | None, str]]:
    """ "a=1,b=2" as pairs; a value in brackets may hold commas of its own."""
    parts: list[str] = []
    depth, start, matched = 0, 0, True
    for place, letter in enumerate(text):
        depth += (letter in "([") - (letter in ")]")
        matched = matched and depth >= 0
        if letter == "," and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    parts.append(text[start:])
    if depth or not matched:
        raise UserError(f"the brackets in {spec!r} do not match", remedy="close each one that you open")
    if parts == [""]:
        return []
    pairs: list[tuple[str | None, str]] = []
    for part in parts:
        name, equals, value = part.partition("=")
        if not part.strip() or (equals and not (name.strip() and value.strip())):
            raise UserError(f"{spec!r} has an empty parameter", remedy="write parameter=value, separated by commas")
        pairs.append((name.strip(), value.strip()) if equals else (None, part.strip()))
    return pairs


def read_value(text: str, kind: Any, where: str) -> Any:
    """The value of type `kind` that `text` says; numbers may be fractions, as 8/255.

    >>> read_value("8/255", float, "eps"), read_value("none", int | None, "steps"), read_value("2", float, "norm")
    (0.03137254901960784, None, 2.0)
    """
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        kinds = [k for k in typing.get_args(kind) if k in (float, int, bool, str, types.NoneType) or _is_literal(k)]
        if types.NoneType in kinds and text.lower() == "none":
            return None
        kinds = [k for k in kinds if k is not types.NoneType]
        for attempt in kinds:
            try:
                return read_value(text, attempt, where)
            except UserError:
                if attempt is kinds[-1]:
                    raise
    if _is_literal(kind):
        choices = typing.get_args(kind)
        for choice in choices:
            if text == str(choice):
                return choice
        raise UserError(f"{where} is {text!r}", f"one of {', '.join(map(str, choices))}")
    if kind is bool:
        known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if text.lower() in known:
            return known[text.lower()]
        raise UserError(f"{where} is {text!r}", "true or false")
    if kind is int:
        try:
            return int(text)
        except ValueError:
            raise UserError(f"{where} is {text!r}", "a whole number") from None
    if kind is float:
        try:
            above, slash, below = text.partition("/")
            value = float(above) / float(below) if slash else float(text)
        except (ValueError, ZeroDivisionError):
            raise UserError(f"{where} is {text!r}", "a number, as 0.1 or 8/255") from None
        if value != value:
            raise UserError(f"{where} is {text!r}", "a number, as 0.1 or 8/255")
        return value
    return text


def read_numbers(text: str, where: str) -> list[float]:
    """Several numbers with commas between them.

    >>> read_numbers("0.485,1/2", "mean")
    [0.485, 0.5]
    """
    return [read_value(part, float, where) for part in text.split(",")]


def write_value(value: Any) -> str:
    """Text that `read_value` reads back to exactly `value`.

    >>> write_value(8 / 255), write_value(0.5), write_value(float("inf")), write_value(True)
    ('8/255', '0.5', 'inf', 'true')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        whole = f"{value:g}"
        if float(whole) == value:
            return whole
        for below in (3, 255):
            above = round(value * below) if abs(value) < 100 else 0
            if above and above / below == value:
                return f"{above}/{below}"
        return repr(float(value))  # a NumPy float's own repr is no number
    if value is None or isinstance(value, str | numbers.Integral):
        return "none" if value is None else str(value)
    raise UserError(f"{a(value)} cannot be written in a spec", "a number, a word, true, false or none can")


@dataclass(frozen=True)
class Source:
    """ "scheme:rest?option=value&option=value": where a model or a data set comes from.

    >>> Source.parse("smp:Unet?encoder=resnet18")
    Source(scheme='smp', rest='Unet', options={'encoder': 'resnet18'})
    """

    scheme: str
    rest: str
    options: dict[str, str]

    @classmethod
    def parse(cls, text: str) -> Source:
        head, _, query = text.partition("?")
        scheme, colon, rest = head.partition(":")
        options: dict[str, str] = {}
        for pair in filter(None, query.split("&")):
            name, equals, value = pair.partition("=")
            if not equals or not name:
                raise UserError(f"{pair!r} in {text!r} is no option", "options follow ? as name=value, joined by &")
            options[name] = unquote(value)
        return cls(scheme, rest, options) if colon else cls("", head, options)

    def __str__(self) -> str:
        """The text that `parse` reads back to this source.

        >>> str(Source.parse("smp:Unet?encoder=resnet18&classes=11").but(encoder="resnet34", classes=None))
        'smp:Unet?encoder=resnet34'
        """
        head = f"{self.scheme}:{self.rest}" if self.scheme else self.rest
        quoted = {name: value.replace("%", "%25").replace("&", "%26") for name, value in self.options.items()}
        return "?".join(filter(None, (head, "&".join(f"{name}={value}" for name, value in quoted.items()))))

    def but(self, **options: str | None) -> Source:
        """The same source with these options set, or left out where they are None."""
        merged = {**self.options, **options}
        kept = {name: value for name, value in merged.items() if value is not None}
        return dataclasses.replace(self, options=kept)

    def refuse_unknown(self, *known: str) -> None:
        """Raise unless every option is one of `known`."""
        for name in self.options:
            if name not in known:
                remedy = did_you_mean(name, known) if known else "it takes none"
                raise UserError(f"{self.scheme}: has no option {name!r}", remedy=remedy)


def _is_again(entry: Any, earlier: Any) -> bool:
    """Whether a file of the user's, which is run under its path, registers it anew after an edit."""
    module, name = entry.__module__, entry.__qualname__
    return module.endswith(".py") and (module, name) == (earlier.__module__, earlier.__qualname__)


def _is_literal(kind: Any) -> bool:
    return typing.get_origin(kind) is typing.Literal


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _listed(known: dict[str, Parameter]) -> str:
    return ", ".join(map(str, known.values())) or "no parameters"


def _takes(known: dict[str, Parameter], name: str) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return (f"did you mean {near[0]}? " if near else "") + f"it takes {_listed(known)}"
