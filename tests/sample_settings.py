"""Settings of every type, to be read, written and got wrong."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal, Optional

from minispike.errors import ConfigError, problem


@dataclass(frozen=True)
class Neuron:
    tau: float = field(default=2.0, metadata={"help": "membrane time constant in steps"})
    reset: Literal["zero", "subtract"] = "subtract"

    def __post_init__(self) -> None:
        if not self.tau > 1:
            raise ConfigError(problem("tau", expected="a number > 1", got=str(self.tau), hint="tau=2.0"))


@dataclass(frozen=True)
class Student:
    depth: int = field(default=12, metadata={"help": "blocks"})
    width: int = 768
    neuron: Neuron = Neuron(tau=1.5)

    def __post_init__(self) -> None:
        if self.width % 12:
            raise ValueError("the width is no multiple of 12")


@dataclass(frozen=True)
class Teacher:
    path: str
    layers: tuple[int, ...] = (1, 3)


@dataclass(frozen=True)
class Everything:
    whole: int = 1
    number: float = 0.5
    flag: bool = False
    text: str = "some text"
    wholes: tuple[int, ...] = (1,)
    numbers: tuple[float, ...] = ()
    texts: tuple[str, ...] = ("a", "b")
    flags: tuple[bool, ...] = (True,)
    kinds: tuple[Literal["x", "y"], ...] = ()
    choice: Literal["cosine", "linear", 8] = "cosine"
    maybe_whole: int | None = None
    maybe_number: Optional[float] = 0.25  # noqa: UP045
    maybe_text: str | None = "given"
    maybe_list: tuple[int, ...] | None = (1,)
    maybe_choice: Literal["a", "b"] | None = "a"
    student: Student = Student(depth=6)
    made: Neuron = field(default_factory=Neuron)
    maybe_neuron: Neuron | None = None
    nothing: "Empty" = field(default_factory=lambda: Empty())


@dataclass(frozen=True)
class Empty:
    """A section without settings."""


@dataclass(frozen=True)
class Run:
    seed: int = 0
    student: Student = Student()
    teacher: Teacher = Teacher("some/dir")
    extra: Neuron | None = None


def same(one: Any, other: Any) -> bool:
    """Equality of value and type, where NaN equals NaN and 0.0 differs from -0.0."""
    if type(one) is not type(other):
        return False
    if dataclasses.is_dataclass(one):
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one))
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other) if isinstance(one, float) else bool(one == other)
