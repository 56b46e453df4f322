"""The chains: laws that share a quantity, for two-step problems.

PAIRS has a row for each pair of laws that questions join. A pair makes several chains: mostly
either law may come first, and each quantity of the second law in turn is the target. A hard pair is
for the hard test set alone: no training question joins its two laws, in either order.
"""

from dataclasses import dataclass

from data.laws import BY_NAME
from data.relations import forms


@dataclass(frozen=True)
class Chain:
    """Two laws that share a quantity, for two-step problems.

    The first law is solved for the link, which has its name from the second law, `as_`. The second
    law is solved for the target.
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

    @property
    def field(self) -> str:
        """The field of the law that gives the answer."""
        return BY_NAME[self.second].field


def _chains(one: str, other: str, shared: str, scene: str, *, hard=False, only="") -> list[Chain]:
    """The chains of two laws, each law first in turn.

    `shared` is "quantity", or "quantity as its name in the other law". Any other quantity that both
    laws have is no target: it has the same value in both. `only` is the one law that may come
    first, where the scene or the numbers allow no other order.
    """
    name, _, other_name = shared.partition(" as ")
    other_name, made = other_name or name, []
    for first, second, link, as_ in (
        (one, other, name, other_name),
        (other, one, other_name, name),
    ):
        if only in ("", first):
            before, names = forms(BY_NAME[first].relation), forms(BY_NAME[second].relation)
            targets = [target for target in names if target != as_ and target not in before]
            made += [Chain(first, second, link, as_, target, scene, hard) for target in targets]
    return made


# fmt: off
PAIRS = (
    # ------------------------------------------------------------------------------------------- known laws
    _chains("uniform motion", "kinetic energy", "speed", "A stone glides over smooth ice at a steady speed."),
    _chains("uniform motion", "work", "distance as displacement",
            "A sled moves at a steady speed while a rope pulls it forward along the track."),
    _chains("uniform motion", "power", "time as running time",
            "A toy car with an electric motor runs over a smooth floor at a steady speed."),
    _chains("uniform acceleration", "Newton's second law", "acceleration",
            "A small rocket sled speeds up evenly on smooth ice."),
    _chains("uniform acceleration", "momentum", "speed gain as velocity",
            "A sled starts from rest on smooth ice and speeds up evenly."),
    _chains("Newton's second law", "weight", "mass",
            "An astronaut weighs a block on a distant planet and then pushes it over smooth ice there."),
    _chains("Newton's second law", "work", "force", "A crate is pushed along a smooth level track without friction."),
    _chains("Newton's second law", "kinetic energy", "mass",
            "A sled glides at first freely over smooth ice, and only later a rope makes it speed up."),
    _chains("weight", "work", "weight as force", "A small box is slowly lifted on a distant planet."),
    _chains("weight", "kinetic energy", "mass", "A stone is weighed on a distant planet and then slides over smooth ice."),
    _chains("momentum", "kinetic energy", "velocity as speed", "A curling stone slides over smooth ice."),
    _chains("work", "power", "work as energy used", "An ideal motor drags a box along a rail and loses no energy."),
    _chains("power", "electric power", "power as electric power", "A small motor runs from a battery."),
    _chains("electric power", "Ohm's law", "voltage", "A resistor is connected to a battery."),
    _chains("molar concentration", "molar mass", "amount", "A pure salt is dissolved in water to make a solution."),
    _chains("molar mass", "molar volume", "amount", "A pure gas is stored in a pressurised tank."),
    _chains("molar concentration", "heat of solution", "amount as dissolved amount",
            "Crystals of a salt dissolve in hot water, which turns cooler."),
    _chains("molar concentration", "mass concentration", "volume as solution volume",
            "A tank holds a solution of sugar and acid in water, with amounts in moles for the acid and masses for the"
            " sugar."),
    _chains("excess acid", "adsorption", "excess acid as adsorbed amount",
            "Sodium hydroxide neutralises a part of an acid, and a porous resin takes up all that is left of the acid."),
    _chains("mark and recapture", "population density", "population estimate as population",
            "Hares are marked, set free and caught again on an island.", only="mark and recapture"),
    _chains("food energy", "heat capacity", "food energy as heat",
            "A snack is burned below a calorimeter, and all the energy set free warms the calorimeter."),
    _chains("weight", "drug dose", "mass as body mass",
            "A small animal is weighed at a station on a distant planet and then gets a medicine."),
    _chains("mass concentration", "rain catch", "solution volume as collected volume",
            "Rain falls on a shed and is collected, and then a fertiliser is dissolved in all of it."),
    _chains("river discharge", "flood volume", "discharge", "A stream runs through a channel into a basin."),
    _chains("power", "flood volume", "running time as flow time",
            "A signal lamp is on for exactly as long as a gate lets water flow through a canal."),
    _chains("Newton's second law", "momentum", "mass",
            "A block slides at first freely over smooth ice, and only later a rope makes it speed up."),
    _chains("power", "joule heating", "power as heating power", "A small heating coil warms a beaker of water for a while."),
    _chains("Ohm's law", "joule heating", "current", "A heating wire is connected to a supply."),
    _chains("molar mass", "mass concentration", "sample mass as solute mass",
            "A pure compound is weighed and then dissolved in water."),
    _chains("heat of solution", "heat capacity", "heat absorbed as heat",
            "A salt dissolves and cools a flask, and then a heater gives back the same heat."),
    _chains("mean reaction rate", "catalytic turnover", "elapsed time as reaction time",
            "In one beaker a reaction runs, and in another one a catalyst works steadily for the same time."),
    _chains("leaf area index", "transpiration", "foliage area as leaf area", "A small bed of beans loses water in the wind."),
    _chains("map scale", "seismic path", "ground distance as path length",
            "A seismic wave runs through the crust between two stations on a map."),
    _chains("plate motion", "sedimentation", "drift time as deposition time",
            "Mud from a great river settles on the sea floor while the plate below drifts."),
    _chains("momentum", "drug dose", "mass as body mass", "A fox runs straight ahead at a steady speed, and later gets a medicine."),
    _chains("uniform motion", "mean reaction rate", "time as elapsed time",
            "A toy car drives at a steady speed for exactly as long as a reaction runs in a beaker."),
    _chains("uniform motion", "seismic path", "time as travel time",
            "A cart rolls at a steady speed for exactly as long as a seismic wave runs to a station."),
    _chains("uniform acceleration", "power", "time as running time",
            "A sled starts from rest and speeds up evenly for exactly as long as a lamp is on."),
    _chains("uniform acceleration", "catalytic turnover", "time as reaction time",
            "A sled starts from rest and speeds up evenly for exactly as long as a catalyst works steadily."),
    _chains("power", "mean reaction rate", "running time as elapsed time",
            "A lamp is on for exactly as long as a reaction runs in a beaker."),
    _chains("power", "catalytic turnover", "running time as reaction time",
            "A lamp is on for exactly as long as a catalyst works steadily in its light."),
    _chains("mean reaction rate", "flood volume", "elapsed time as flow time",
            "A gate lets water flow through a canal for exactly as long as a reaction runs in a beaker."),
    _chains("seismic path", "flood volume", "travel time as flow time",
            "A gate lets water flow through a canal for exactly as long as a seismic wave runs to a station."),
    # ------------------------------------------------------- known laws, together in no training question
    _chains("uniform motion", "momentum", "speed as velocity", "A curling stone glides over smooth ice at a steady speed.", hard=True),
    _chains("weight", "momentum", "mass", "A ball is weighed on a distant planet and then slides over smooth ice.", hard=True),
    _chains("work", "kinetic energy", "work as kinetic energy",
            "A sled starts from rest on smooth ice, and a rope pulls it forward.", hard=True),
    _chains("power", "kinetic energy", "energy used as kinetic energy",
            "An ideal motor that loses no energy sets a sled at rest in motion on smooth ice.", hard=True),
    _chains("molar mass", "heat of solution", "amount as dissolved amount",
            "A pure salt is weighed and then cools the water in which it dissolves.", hard=True),
    _chains("molar concentration", "molar volume", "amount",
            "Pure ammonia gas in a warm tank is later dissolved completely in water.", hard=True),
    _chains("food energy", "mass concentration", "food mass as solute mass",
            "A little soup powder is dissolved in water.", hard=True),
    _chains("Newton's second law", "drug dose", "mass as body mass",
            "A small animal floats in a space station and is pulled to find its mass, and then gets a medicine.", hard=True),
    _chains("uniform motion", "river discharge", "speed as flow speed",
            "A leaf drifts down a canal as fast as the water flows.", hard=True),
    _chains("leaf area index", "rain catch", "ground area as roof area",
            "Rain falls on a bed of beans in an open tray, which collects all of it.", hard=True),
    # --------------------------------------------------------------------------------------- with a new law
    _chains("Hooke's law", "Newton's second law", "spring force as force",
            "A stretched spring starts to pull a block over smooth ice."),
    _chains("weight", "torque", "weight as applied force",
            "A rock hangs from the end of a short level bar on a distant planet."),
    _chains("wave speed", "uniform motion", "wave speed as speed", "A wave travels along a straight taut rope."),
    _chains("Ohm's law", "capacitor charge", "voltage",
            "A battery drives a steady current through a resistor, and a capacitor is connected across it."),
    _chains("mean reaction rate", "first-order rate", "concentration change as reactant concentration",
            "A reaction makes a new compound, and only then does the compound start to break down in a first-order reaction,"
            " whose reaction rate at the start counts."),
    _chains("Boyle's law", "Henry's law", "final pressure as partial pressure",
            "A piston slowly changes the volume of a pure gas at constant temperature, and in the end a small drop of water"
            " in the cylinder is at equilibrium with the gas."),
    _chains("mass concentration", "residence time", "solution volume as reactor volume",
            "A stirred tank reactor is full of a sugar solution that flows through it."),
    _chains("Fick principle", "vascular resistance", "cardiac output as blood flow",
            "The blood of a resting patient flows through the body."),
    _chains("residence time", "enzyme activity", "residence time as incubation time",
            "An enzyme splits milk sugar in a tube reactor, and the product of one residence time is measured."),
    _chains("river discharge", "sediment load", "discharge as river flow", "A muddy stream runs through a narrow channel."),
    _chains("map scale", "stream gradient", "ground distance as stream length", "A straight brook is measured on a map."),
    _chains("Hooke's law", "torque", "spring force as applied force",
            "A stretched spring pulls at a right angle on the end of a short bar."),
    _chains("work", "torque", "force as applied force",
            "A winch drags a box along a rail, and the rope is at a right angle to the arm of the winch."),
    _chains("Henry's law", "first-order rate", "gas concentration as reactant concentration",
            "A gas has come to equilibrium with water, and in the water it breaks down in a first-order reaction."),
    _chains("residence time", "molar volume", "reactor volume as gas volume",
            "A gas at constant pressure flows through a tube reactor and fills it."),
    _chains("residence time", "transcription", "residence time as transcription time",
            "A polymerase copies a gene while the solution flows through a tube reactor."),
    _chains("degree-day melt", "rain catch", "melt depth as rainfall",
            "The snow on a flat roof melts in spring and its water is collected in a barrel."),
    _chains("stream gradient", "Darcy's law", "stream gradient as hydraulic gradient",
            "Groundwater creeps through sand beside a brook, and the water table falls as steeply as the brook."),
    # -------------------------------------------------- with a new law, together in no training question
    _chains("weight", "Hooke's law", "weight as spring force", "A rock hangs at rest from a spring on a distant planet.", hard=True),
    _chains("Hooke's law", "work", "spring force as force",
            "A sled is pulled forward along a level track by a spring that stays stretched.", hard=True),
    _chains("electric power", "capacitor charge", "voltage",
            "A battery drives a small motor, and a capacitor is connected to the same battery.", hard=True),
    _chains("Newton's second law", "torque", "force as applied force",
            "A winch makes a sled speed up on smooth ice, and the rope is at a right angle to the arm of the winch.", hard=True),
    _chains("Henry's law", "mean reaction rate", "gas concentration as concentration change",
            "Water at equilibrium with a gas is drawn off into a full bottle, and then a reaction uses up all of the"
            " dissolved gas.", hard=True),
    _chains("residence time", "molar concentration", "reactor volume as volume",
            "A stirred tank reactor is full of an acid solution that flows through it.", hard=True),
    _chains("residence time", "Boyle's law", "reactor volume as initial volume",
            "A gas flows through a tube reactor, which is then closed, and a piston slowly changes the volume of the gas"
            " at constant temperature.", hard=True),
    _chains("enzyme activity", "transcription", "incubation time as transcription time",
            "In one flask an enzyme splits a sugar and a polymerase copies a gene during the same time.", hard=True),
    _chains("flood volume", "sediment load", "discharge as river flow", "A muddy river pours into a basin.", hard=True),
    _chains("residence time", "rain catch", "reactor volume as collected volume",
            "Rain from a roof fills the tank of a filter, and then water is passed through the full tank.", hard=True),
)
# fmt: on
CHAINS = tuple(chain for pair in PAIRS for chain in pair)
