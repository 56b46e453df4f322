"""The chains: pairs of laws that share a quantity, for two-step problems."""

from dataclasses import dataclass

from data.laws import BY_NAME


@dataclass(frozen=True)
class Chain:
    """Two laws that share a quantity, for two-step problems.

    The first law is solved for the link. The second law, where the link stands for `as_`, is solved
    for the target.
    """

    first: str  # name of a law
    second: str  # name of a law
    link: str  # the shared quantity, by its name in the first law
    as_: str  # the same quantity, by its name in the second law
    target: str  # a quantity of the second law
    scene: str
    hard: bool  # whether only the hard test set has this combination

    @property
    def name(self) -> str:
        """The two laws and the target: "weight > work (work)"."""
        return f"{self.first} > {self.second} ({self.target})"

    @property
    def new(self) -> bool:
        """Whether one of the two laws is new."""
        return BY_NAME[self.first].new or BY_NAME[self.second].new


def _chain(first: str, second: str, link: str, target: str, scene: str, hard=False) -> Chain:
    """A row of the table; `link` is "quantity", or "quantity as its name in the second law"."""
    link, _, as_ = link.partition(" as ")
    return Chain(first, second, link, as_ or link, target, scene, hard)


# fmt: off
CHAINS = (
    # known laws, for stage 0
    _chain("Newton's second law", "work", "force", "work", "A crate is pushed over smooth ice."),
    _chain("power", "electric power", "power as electric power", "current", "A small motor runs from a battery."),
    _chain("molar concentration", "molar mass", "amount", "sample mass", "A salt is dissolved in a bottle of water."),
    _chain("molar mass", "molar volume", "amount", "gas volume", "A pure gas is stored in a pressurised tank."),
    _chain("river discharge", "flood volume", "discharge", "water volume", "A stream runs through a channel into a basin."),
    _chain("uniform acceleration", "momentum", "speed gain as velocity", "momentum",
           "A cart starts from rest and speeds up evenly."),
    _chain("uniform acceleration", "Newton's second law", "acceleration", "force",
           "A rocket sled speeds up evenly on smooth ice."),
    _chain("mark and recapture", "population density", "population estimate as population", "population density",
           "Hares are marked, set free and caught again on an island."),
    _chain("food energy", "heat capacity", "food energy as heat", "temperature rise",
           "A snack is burned below a calorimeter and all its energy warms it."),
    _chain("weight", "work", "weight as force", "work", "A small box is slowly lifted on a distant planet."),
    # known laws, combinations that no training question has
    _chain("electric power", "power", "electric power as power", "energy used", "A motor runs from a battery.", True),
    _chain("molar mass", "molar concentration", "amount", "concentration",
           "A pure salt is dissolved in a tank of water.", True),
    _chain("flood volume", "river discharge", "discharge", "flow speed", "A canal pours water into a basin.", True),
    _chain("Newton's second law", "uniform acceleration", "acceleration", "speed gain",
           "A rocket sled is pushed over smooth ice.", True),
    _chain("work", "Newton's second law", "force", "acceleration", "A sled is pulled over smooth ice.", True),
    _chain("molar volume", "molar mass", "amount", "sample mass", "A pure gas is trapped in a tank.", True),
    # with a new law, for stage II
    _chain("weight", "torque", "weight as applied force", "torque",
           "A rock hangs from the end of a short level bar on a distant planet."),
    _chain("wave speed", "uniform motion", "wave speed as speed", "distance", "A wave travels along a straight rope."),
    _chain("Ohm's law", "capacitor charge", "voltage", "charge",
           "A charged capacitor is connected across a resistor in a steady circuit."),
    _chain("river discharge", "sediment load", "discharge as river flow", "sediment load",
           "A muddy stream runs through a narrow channel."),
    _chain("residence time", "mass concentration", "reactor volume as solution volume", "solute mass",
           "A stirred tank reactor is full of a sugar solution."),
    _chain("map scale", "stream gradient", "ground distance as stream length", "height drop",
           "A straight brook is measured on a map."),
    # with a new law, combinations that no training question has
    _chain("Hooke's law", "Newton's second law", "spring force as force", "acceleration",
           "A stretched spring starts to pull a cart along a level track without friction.", True),
    _chain("weight", "Hooke's law", "weight as spring force", "extension",
           "A rock hangs at rest from a spring on a distant planet.", True),
    _chain("uniform motion", "wave speed", "speed as wave speed", "frequency", "A wave runs along a long rope.", True),
    _chain("Boyle's law", "Henry's law", "final pressure as partial pressure", "gas concentration",
           "A piston moves slowly in a sealed pump at constant temperature and a little gas dissolves in water.", True),
    _chain("Henry's law", "first-order rate", "gas concentration as reactant concentration", "reaction rate",
           "A dissolved gas breaks down in a first-order reaction.", True),
    _chain("residence time", "molar concentration", "reactor volume as volume", "amount",
           "A stirred tank reactor is full of a solution.", True),
)
# fmt: on
