"""Paths through the links: chains of one to three causes and effects, real and invented.

A question asks about a path in one of several kinds and directions. Its split depends on a hash of
these three alone, so no training question is also a test question.
"""

import hashlib
import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

from data.links import LINKS, Link

MOST_LINKS = 3
# Of the paths of two and three links: no training question has them, not even inside a longer path.
HARD_SHARE, VALID_SHARE = 0.2, 0.06
TEST_KEYS, VALID_KEYS = 0.12, 0.06  # of the (path, kind, direction) of all other paths

# Causes of one effect that cannot be chosen freely together: one fixes the other, or rules it out.
# fmt: off
NOT_TOGETHER = frozenset(frozenset(pair.split(" & ")) for pair in (
    "acceleration time & acceleration distance",
    "acceleration & hill height",
    "acceleration time & hill height",
    "acceleration distance & hill height",
    "solution volume & dilution factor",
    "stock volume & dilution factor",
    "solution volume & water loss",
    "stock concentration & salt purity",
    "salt mass & stock concentration",
    "salt mass & stock volume",
    "salt mass & dilution factor",
    "sun elevation & hill shade",
    "acceleration & acceleration distance",
    "starting speed & acceleration distance",
    "solution volume & stock concentration",
))
# fmt: on


@dataclass(frozen=True)
class Path:
    """Links in a row: the effect of each is the cause of the next."""

    links: tuple[Link, ...]

    @property
    def name(self) -> str:
        """Its quantities in a row: "cloud cover > sunlight > leaf temperature"."""
        return " > ".join([self.links[0].cause, *(link.effect for link in self.links)])

    @property
    def new(self) -> bool:
        """Whether one of its links is new."""
        return any(link.new for link in self.links)

    @property
    def sign(self) -> int:
        """+1 if the last quantity follows the first, −1 if it goes the other way."""
        sign = 1
        for link in self.links:
            sign *= link.sign
        return sign


def share_of(text: str) -> float:
    """A number from 0 to 1 that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def split_of(path: Path) -> str:
    """The sets that may have this path: "hard", "valid", or "train" for all of them.

    A path that has a hard one in it is hard too: its solution is that of the shorter one, and more.
    """
    if len(path.links) == 1:
        return "train"
    at = share_of(path.name)
    own = "hard" if at < HARD_SHARE else "valid" if at < HARD_SHARE + VALID_SHARE else "train"
    parts = (split_of(Path(path.links[1:])), split_of(Path(path.links[:-1])), own)
    return "hard" if "hard" in parts else "valid" if "valid" in parts else "train"


def split_of_key(key: str) -> str:
    """The set that a question about a path of the split "train" belongs to, by its key."""
    at = share_of(key)
    return "test" if at < TEST_KEYS else "valid" if at < TEST_KEYS + VALID_KEYS else "train"


def _all_paths() -> list[Path]:
    """All paths of one to MOST_LINKS links, the shorter ones first."""
    behind: dict[tuple[str, str], list[Link]] = {}
    for link in LINKS:
        behind.setdefault((link.field, link.cause), []).append(link)
    found = [Path((link,)) for link in LINKS]
    longest = found
    for _ in range(MOST_LINKS - 1):
        longest = [
            Path((*path.links, link))
            for path in longest
            for link in behind.get((path.links[-1].field, path.links[-1].effect), ())
        ]
        found += longest
    return found


PATHS = tuple(_all_paths())


@lru_cache
def paths_of(field: str, new: bool, length: int, split: str) -> tuple[Path, ...]:
    """The paths of a field with that many links and `split_of`; `new`: with a new link in them."""
    return tuple(
        path
        for path in PATHS
        if path.links[0].field == field
        and path.new == new
        and len(path.links) == length
        and split_of(path) == split
    )


@lru_cache
def twin_links(field: str) -> tuple[tuple[Link, Link], ...]:
    """Pairs of links with one effect whose causes can change freely together."""
    links = [link for link in LINKS if link.field == field]
    pairs = [(a, b) for i, a in enumerate(links) for b in links[i + 1 :]]
    pairs = [(a, b) for a, b in pairs if a.effect == b.effect]
    pairs = [(a, b) for a, b in pairs if frozenset((a.cause, b.cause)) not in NOT_TOGETHER]
    return tuple((a, b) for a, b in pairs if not joins_a_real_pair((a.cause, b.cause)))


_QUANTITIES = sorted({name for link in LINKS for name in (link.cause, link.effect)})
_CONDITIONS = sorted({link.condition for link in LINKS})
_REAL = {frozenset((path.links[0].cause, path.links[-1].effect)) for path in PATHS}


def joins_a_real_pair(names: Iterable[str]) -> bool:
    """Whether a real path leads from one of these quantities to another."""
    return any(frozenset(pair) in _REAL for pair in combinations(names, 2))


def invented_path(length: int, rng: random.Random) -> Path:
    """A path of links that hold nowhere between real quantities, with signs drawn by chance.

    Nothing but the context of a question tells these signs. No two of its quantities are the ends
    of a real path.
    """
    names = rng.sample(_QUANTITIES, length + 1)
    while joins_a_real_pair(names):
        names = rng.sample(_QUANTITIES, length + 1)
    thing = rng.choice(LINKS).thing
    links = []
    for cause, effect in zip(names, names[1:]):
        sign, condition = rng.choice((1, -1)), rng.choice(_CONDITIONS)
        links.append(Link("invented", thing, cause, sign, effect, condition, "nowhere"))
    return Path(tuple(links))
