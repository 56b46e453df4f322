"""The links: causes and effects of science, as a table.

A link says that a quantity follows another one ("+") or goes the other way ("-") as long as its
condition holds. Known and new links are what known and new laws are (see laws.py).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    """One cause with one effect."""

    field: str
    thing: str
    """What has these quantities: "valley"."""
    cause: str
    sign: int
    """+1 if the effect rises with its cause, −1 if it falls."""
    effect: str
    condition: str
    """What stays as it is."""
    source: str
    new: bool = False

    @property
    def name(self) -> str:
        """ "cloud cover > sunlight"."""
        return f"{self.cause} > {self.effect}"


def _link(field: str, thing: str, cause: str, sign: str, effect: str, *rest, new=False) -> Link:
    """A row of the table; `rest`: the condition and the source."""
    return Link(field, thing, cause, {"+": 1, "-": -1}[sign], effect, *rest, new)


LINKS = ()
