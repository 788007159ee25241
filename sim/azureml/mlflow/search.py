"""MLflow's search language: conditions joined by AND, and orders, for runs, experiments and models.

tags.`mlflow.parentRunId` = 'brave_fox' AND metrics.accuracy > 0.9 AND status IN ('RUNNING', 'FINISHED')
"""

import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from sim.azureml.mlflow.figures import invalid

Field: TypeAlias = tuple[str, str]
"""Kind and name of what is compared: ("tag", "mlflow.parentRunId"), ("attribute", "status")."""

Value: TypeAlias = str | float | None
T = TypeVar("T")

KINDS = {
    "attribute": ("attribute", "attributes", "attr", "run"),
    "metric": ("metric", "metrics"),
    "param": ("param", "params", "parameter", "parameters"),
    "tag": ("tag", "tags"),
}
"""Every kind of field, and the words for it."""

NUMBERS = (
    "start_time",
    "end_time",
    "creation_time",
    "last_update_time",
    "creation_timestamp",
    "last_updated_timestamp",
)
"""Attributes that are numbers; the others are texts, as parameters and tags are."""

TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>'[^']*'|"[^"]*")
    | (?P<number>-?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?(?![\w.]))
    | (?P<word>[A-Za-z_][\w./-]*(?:`[^`]*`|"[^"]*")?)
    | (?P<sign><=|>=|!=|<>|=|<|>|\(|\)|,)
    )""",
    re.VERBOSE,
)

SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "LIKE": lambda value, pattern: like(value, pattern, 0),
    "ILIKE": lambda value, pattern: like(value, pattern, re.IGNORECASE),
    "IN": lambda value, values: value in values,
    "NOT IN": lambda value, values: value not in values,
}
ORDERS = ("<", "<=", ">", ">=")


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One comparison; what lacks the field meets none but IS NULL."""

    field: Field
    sign: str
    value: Any = None

    def meets(self, value: Value) -> bool:
        if self.sign in ("IS NULL", "IS NOT NULL"):
            return (value is None) == (self.sign == "IS NULL")
        return value is not None and SIGNS[self.sign](value, self.value)


def found(things: Iterable[T], text: str, field_of: Callable[[T, Field], Value]) -> list[T]:
    """The things that meet every condition of a filter; raises WorkspaceError (400) for one not understood."""
    conditions = Reader(text).conditions()
    return [thing for thing in things if all(each.meets(field_of(thing, each.field)) for each in conditions)]


def ordered(things: list[T], orders: Iterable[str], field_of: Callable[[T, Field], Value]) -> list[T]:
    """Things sorted by `<field> [ASC|DESC]` in turn; what lacks the field comes last."""
    for text in reversed(list(orders)):
        name, _, direction = text.strip().rpartition(" ")
        if direction.upper() not in ("ASC", "DESC"):
            name, direction = text.strip(), "ASC"
        field = Reader(name).field()
        have = [thing for thing in things if field_of(thing, field) is not None]
        lack = [thing for thing in things if field_of(thing, field) is None]
        have.sort(key=lambda thing: field_of(thing, field), reverse=direction.upper() == "DESC")  # type: ignore[arg-type,return-value]
        things = have + lack
    return things


def like(value: Any, pattern: str, flags: int) -> bool:
    """SQL's LIKE: % is any text, _ any character."""
    parts = {"%": ".*", "_": "."}
    expression = "".join(parts.get(character) or re.escape(character) for character in pattern)
    return re.fullmatch(expression, str(value), flags | re.DOTALL) is not None


class Reader:
    """Reads a filter token by token."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = tokens(text)

    def conditions(self) -> list[Condition]:
        conditions: list[Condition] = []
        while self.tokens:
            if conditions:
                self.word("AND")
            conditions.append(self.condition())
        return conditions

    def condition(self) -> Condition:
        field = self.field()
        sign = self.sign()
        if sign in ("IS NULL", "IS NOT NULL"):
            return Condition(field=field, sign=sign)
        if sign in ("IN", "NOT IN"):
            return Condition(field=field, sign=sign, value=self.values(field))
        value = self.value(field)
        if isinstance(value, str) and sign in ORDERS:
            raise self.error(f"texts are not compared with {sign}")
        return Condition(field=field, sign=sign, value=value)

    def field(self) -> Field:
        kind, token = self.take()
        if kind != "word":
            raise self.error(f"a field was expected, not {token}")
        first, dot, name = token.partition(".")
        kind_of = {word: kind for kind, words in KINDS.items() for word in words}
        if not dot:
            return "attribute", unquoted(token)
        if first.lower() not in kind_of:
            raise self.error(f"{first!r} is none of {', '.join(words[-1] for words in KINDS.values())}")
        return kind_of[first.lower()], unquoted(name)

    def sign(self) -> str:
        kind, token = self.take()
        if kind == "word":
            sign = token.upper()
            if sign == "IS":
                sign = "IS NOT NULL" if self.next("NOT") else "IS NULL"
                self.word("NULL")
            elif sign == "NOT":
                self.word("IN")
                sign = "NOT IN"
        else:
            sign = token
        if sign not in SIGNS and not sign.endswith("NULL"):
            raise self.error(f"{token} is no comparison")
        return sign

    def value(self, field: Field) -> Value:
        kind, token = self.take()
        numeric = field[0] == "metric" or (field[0] == "attribute" and field[1] in NUMBERS)
        if kind != ("number" if numeric else "text"):
            expected = "a number" if numeric else "a text in quotes"
            raise self.error(f"{'.'.join(field)} is compared with {expected}, not with {token}")
        return float(token) if numeric else token[1:-1]

    def values(self, field: Field) -> list[Value]:
        self.word("(")
        values = [self.value(field)]
        while self.next(","):
            values.append(self.value(field))
        self.word(")")
        return values

    def take(self) -> tuple[str, str]:
        if not self.tokens:
            raise self.error("it ends too early")
        return self.tokens.pop(0)

    def next(self, word: str) -> bool:
        """Take the next token if it is this one."""
        if self.tokens and self.tokens[0][1].upper() == word:
            self.tokens.pop(0)
            return True
        return False

    def word(self, word: str) -> None:
        if not self.next(word):
            raise self.error(f"{word} was expected" + (f", not {self.tokens[0][1]}" if self.tokens else ""))

    def error(self, what: str) -> Exception:
        return invalid(f"the search {self.text!r} is not understood: {what}")


def tokens(text: str) -> list[tuple[str, str]]:
    """Kind and text of every token; raises WorkspaceError (400) for what is none."""
    read, at = [], 0
    while text[at:].strip():
        match = TOKEN.match(text, at)
        if match is None:
            raise invalid(f"the search {text!r} is not understood from {text[at:].strip()!r} on")
        read.append((str(match.lastgroup), match.group(str(match.lastgroup))))
        at = match.end()
    return read


def unquoted(name: str) -> str:
    return name[1:-1] if name[:1] in ("`", '"') and name[-1:] == name[:1] else name
