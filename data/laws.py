"""The science: 64 real laws as a plain table, and the two-step chains between them.

A law is one relation between named quantities, such as "force = mass × acceleration". There are
three kinds of laws:

- Known laws: 48 of the 64. The base model learns them in stage 0 from solved questions.
- New laws: the other 16, four of each field, marked with `new=True`. Stage 0 only shows a few solved
  questions about them, many of them solved from a wrong relation. Stage I learns to write rubrics
  that state these laws, and stage II teaches the student to use them without a rubric.
- Invented laws: made-up relations that hold nowhere (`invented.py`, not in this table). Nobody can
  know them by heart, so from questions about them stage 0 learns to read a rubric.

Each law has a unit for each quantity, four scenes and a source. A scene is one sentence that does
not hint at the answer. The last scene is held out: only the hard test set uses it. The units are
chosen such that whole numbers from 2 to 12 are plausible values and no relation hides a conversion
factor (kN × ms is N·s). Where other values are plausible, `values` lists them.
"""

from dataclasses import dataclass
from dataclasses import field as dataclass_field

FIELDS = ("physics", "chemistry", "biology", "earth and space")
TENS = tuple(range(20, 130, 10))  # for quantities that are realistic only as multiples of ten


@dataclass(frozen=True)
class Law:
    """A relation between quantities, with what a question needs to ask about it."""

    name: str
    field: str
    relation: str  # "y = a × b ÷ c", "y = ½ × a × b²", "y = a + b" or "y = a − b"
    units: tuple[str, ...]  # one for each quantity, in the order of the relation
    scenes: tuple[str, ...]  # the last one is for the hard test set, the others for training
    source: str
    new: bool = False
    # {quantity: the values it may take}, where these are not 2 to 12
    values: dict[str, tuple[int, ...]] = dataclass_field(default_factory=dict, hash=False)


def _law(
    field: str, name: str, relation: str, units: str, *scenes: str, source: str, new=False, **values
) -> Law:
    """A row of the table; `units` is one string, and `values` have "_" for a space in a name."""
    values = {name.replace("_", " "): allowed for name, allowed in values.items()}
    return Law(name, field, relation, tuple(units.split(", ")), scenes, source, new, values)


# fmt: off
LAWS = (
    # ------------------------------------------------------------------------------------------------ physics
    _law("physics", "uniform motion", "distance = speed × time", "m, m/s, s",
         "A cyclist rides along a straight road at a steady pace.", "A motor boat crosses a lake without speeding up.",
         "A horse runs along a beach at a constant rate.", "A horse runs along a straight road at a steady pace.",
         source="definition of average speed"),
    _law("physics", "uniform acceleration", "speed gain = acceleration × time", "m/s, m/s², s",
         "A rocket leaves its pad and keeps speeding up evenly.", "A rocket sled speeds up evenly along its track.",
         "A racing car speeds up evenly on a straight road.", "A rocket sled speeds up evenly on a straight track.",
         source="definition of acceleration, constant acceleration"),
    _law("physics", "Newton's second law", "force = mass × acceleration", "N, kg, m/s²",
         "A cart is pushed along a level track without friction.", "A sled is pulled over smooth ice.",
         "A trolley is dragged across a polished floor without friction.", "A trolley is pulled over smooth ice.",
         source="Newton's second law, one net force"),
    _law("physics", "weight", "weight = mass × gravity", "N, kg, N/kg",
         "An astronaut holds a rock on a distant planet.", "A probe rests on the ground of a far planet.",
         "A backpack hangs from a scale on another planet.", "A rock rests on the ground of a distant planet.",
         source="W = mg, g as field strength in N/kg"),
    _law("physics", "momentum", "momentum = mass × velocity", "kg·m/s, kg, m/s",
         "A heavy ball rolls down a lane.", "A block of ice glides over a frozen pond.",
         "A parcel slides down a smooth ramp.", "A trolley rolls down a smooth ramp.",
         source="definition of momentum"),
    _law("physics", "impulse", "impulse = average force × contact time", "N·s, kN, ms",
         "A player kicks a heavy ball.", "A hammer hits a post.",
         "A heavy ball hits a stone wall.", "A hammer hits a stone wall.",
         source="definition of impulse for the mean force"),
    _law("physics", "work", "work = force × displacement", "J, N, m",
         "A child pushes a toy cart straight across a hall.", "A dog pulls a light sled along a level track.",
         "A small motor drags a box along a rail.", "A dog pulls a toy cart along a level track.",
         source="definition of work, force along the displacement"),
    _law("physics", "power", "energy used = power × running time", "J, W, s",
         "A small fan runs in a workshop.", "A toy motor is switched on for a while.",
         "A lamp on a desk is switched on and later off.", "A small motor runs on a desk for a while.",
         source="definition of power"),
    _law("physics", "Hooke's law", "spring force = stiffness × extension", "N, N/cm, cm",
         "A spring is stretched with a hook.", "A coil hangs from a stand and is pulled down.",
         "A steel spring is stretched within its elastic limit.", "A coil is stretched with a hook on a stand.",
         source="Hooke's law", new=True),
    _law("physics", "torque", "torque = applied force × lever arm", "N·cm, N, cm",
         "A mechanic turns a bolt with a short wrench, pulling at a right angle.",
         "A child turns a small crank, pushing at a right angle.",
         "A sailor turns a small winch, pushing at a right angle to the handle.",
         "A child turns a handle, pulling at a right angle.",
         source="moment of a perpendicular force", new=True),
    _law("physics", "Ohm's law", "voltage = current × resistance", "V, A, Ω",
         "A heating wire is connected to a supply.", "A resistor is tested on a bench.",
         "A lamp filament at constant temperature is connected to a supply.",
         "A heating wire is tested on a bench.",
         source="Ohm's law"),
    _law("physics", "electric power", "electric power = voltage × current", "W, V, A",
         "A small heater is tested on a bench.", "A motor runs from a battery.",
         "A soldering iron is used in a workshop.", "A small heater runs from a battery.",
         source="P = UI"),
    _law("physics", "joule heating", "heating power = current² × resistance", "W, A, Ω",
         "A coil of wire gets warm in a circuit.", "A thin cable heats up under load.",
         "A heater element warms an oven.", "A coil gets warm under load.",
         source="Joule's first law", current=(2, 3, 10)),
    _law("physics", "kinetic energy", "kinetic energy = ½ × mass × speed²", "J, kg, m/s",
         "A sled glides across a rink.", "A stone flies through the air.",
         "A small wagon rolls freely along a rail.", "A small sled glides along a rail.",
         source="kinetic energy at speeds far below that of light", mass=tuple(range(2, 25, 2)), speed=(2, 3, 10)),
    _law("physics", "wave speed", "wave speed = frequency × wavelength", "m/s, Hz, m",
         "A wave travels along a long rope.", "A bridge cable is shaken and a wave runs along it.",
         "A wave runs along a taut wire.", "A wave travels along a taut cable.",
         source="wave relation", new=True),
    _law("physics", "capacitor charge", "plate charge = capacitance × plate voltage", "µC, µF, V",
         "A capacitor is charged in a radio.", "A capacitor is connected to a battery.",
         "A capacitor smooths the output of a charger.", "A capacitor in a radio is connected to a battery.",
         source="definition of capacitance", new=True),
    # ---------------------------------------------------------------------------------------------- chemistry
    _law("chemistry", "molar mass", "sample mass = amount × molar mass", "g, mol, g/mol",
         "A chemist weighs out a pure compound.", "A sample of a pure gas is trapped in a tank.",
         "A jar holds a pure salt.", "A chemist weighs out a jar of a pure salt.",
         source="definition of molar mass", molar_mass=TENS),
    _law("chemistry", "molar concentration", "amount = concentration × volume", "mol, mol/L, L",
         "A salt is dissolved in water to make a solution.", "A bottle of acid stands in a laboratory.",
         "A tank is filled with sodium hydroxide solution.", "A tank is filled with acid in a laboratory.",
         source="definition of amount concentration"),
    _law("chemistry", "mass concentration", "solute mass = mass concentration × solution volume", "g, g/L, L",
         "Brackish water is boiled dry in a pan.", "A weak brine is mixed in a kitchen.",
         "A technician prepares a dye bath.", "A weak brine is boiled dry in a pan.",
         source="definition of mass concentration"),
    _law("chemistry", "molar volume", "gas volume = amount × molar volume", "L, mol, L/mol",
         "A gas is stored in a pressurised tank.", "A cylinder is filled with a compressed gas.",
         "A balloon of gas is kept deep under water.", "A compressed gas is kept in a tank.",
         source="definition of molar volume"),
    _law("chemistry", "mean reaction rate", "concentration change = mean rate × elapsed time",
         "mmol/L, mmol/(L·s), s",
         "A reaction runs in a stirred beaker.", "A dye fades in a test tube.",
         "Two solutions react in a closed cell.", "A dye fades in a stirred beaker.",
         source="definition of the mean rate of reaction"),
    _law("chemistry", "first-order rate", "reaction rate = rate constant × reactant concentration",
         "mmol/(L·h), per h, mmol/L",
         "A compound breaks down in a first-order reaction.", "A first-order reaction is followed in a cell.",
         "A dye bleaches in a first-order reaction.", "A compound bleaches in a first-order reaction.",
         source="first-order rate law", new=True),
    _law("chemistry", "heat capacity", "heat = heat capacity × temperature rise", "kJ, kJ/K, K",
         "A calorimeter is warmed by a reaction.", "A block of metal is heated on a plate.",
         "A pot of oil is warmed on a stove.", "A pot is warmed on a plate.",
         source="definition of heat capacity"),
    _law("chemistry", "heat of solution", "heat absorbed = dissolved amount × heat of solution", "kJ, mol, kJ/mol",
         "A salt cools the water in which it dissolves.", "A cold pack is squeezed and its salt dissolves.",
         "Crystals dissolve in a bucket of water, which turns cold.", "Crystals of a salt dissolve in cold water.",
         source="molar enthalpy of solution, endothermic"),
    _law("chemistry", "Boyle's law", "final pressure = initial pressure × initial volume ÷ final volume",
         "bar, bar, L, L",
         "A piston moves slowly in a sealed cylinder of gas at constant temperature.",
         "A piston moves in a sealed pump that stays at room temperature.",
         "The volume of a gas is changed slowly at constant temperature.",
         "A piston moves slowly in a sealed pump at constant temperature.",
         source="Boyle's law"),
    _law("chemistry", "Dalton's law", "total pressure = nitrogen pressure + oxygen pressure", "kPa, kPa, kPa",
         "A flask holds nitrogen and oxygen only.", "Nitrogen and oxygen are mixed in an empty vessel.",
         "A test chamber is filled with nitrogen and oxygen only.", "A vessel holds nitrogen and oxygen only.",
         source="Dalton's law of partial pressures"),
    _law("chemistry", "Henry's law", "gas concentration = solubility × gas pressure",
         "mmol/L, mmol/(L·bar), bar",
         "A gas dissolves in a bottle of water under pressure.", "A gas is stored above water in a keg.",
         "Ground water takes up a gas under pressure.", "A gas dissolves in a keg of water.",
         source="Henry's law", new=True),
    _law("chemistry", "freezing point depression", "freezing point drop = cryoscopic constant × molality",
         "mK, K·kg/mol, mmol/kg",
         "A little camphor is added to a solvent.",
         "A dilute solution of a non-ionic compound is cooled until it freezes.",
         "A chemist adds a trace of a non-ionic compound to a solvent.",
         "A dilute solution of camphor is cooled until it freezes.",
         source="colligative law for dilute solutions of non-electrolytes", new=True),
    _law("chemistry", "excess acid", "excess acid = acid amount − base amount", "mmol, mmol, mmol",
         "A strong monobasic acid is partly neutralised by sodium hydroxide.",
         "Some hydrochloric acid is left after sodium hydroxide is added.",
         "A student adds too little sodium hydroxide to nitric acid.",
         "Some nitric acid is left after sodium hydroxide is added by a student.",
         source="neutralisation, one to one"),
    _law("chemistry", "adsorption", "adsorbed amount = loading × adsorbent mass", "mmol, mmol/g, g",
         "A zeolite takes up a gas.", "A filter of charcoal cleans a stream of air.",
         "A porous powder is used to trap a vapour.", "A porous powder takes up a vapour from a stream of air.",
         source="definition of the specific loading"),
    _law("chemistry", "catalytic turnover", "product amount = turnover frequency × catalyst amount × reaction time",
         "µmol, per s, µmol, s",
         "A catalyst works steadily in a reactor.", "A metal complex catalyses a reaction at a steady rate.",
         "A steady catalytic reaction is stopped after a while.",
         "A metal complex works steadily in a reactor.",
         source="definition of the turnover frequency",
         turnover_frequency=(2, 3, 4), catalyst_amount=(2, 3, 4), reaction_time=tuple(range(2, 13))),
    _law("chemistry", "residence time", "reactor volume = feed rate × residence time", "L, L/min, min",
         "A liquid passes through a stirred tank reactor.", "A solution flows through a tube reactor.",
         "A pilot plant passes water through a full basin.", "Water passes through a stirred tank.",
         source="mean residence time in steady flow", new=True),
    # ------------------------------------------------------------------------------------------------ biology
    _law("biology", "ventilation", "ventilation = breathing rate × tidal volume", "L/min, breaths/min, L/breath",
         "A horse stands quietly in its stable.", "A rhino rests in a meadow.",
         "An elephant sleeps in the shade.", "A horse rests in the shade.",
         source="definition of minute ventilation", breathing_rate=tuple(range(4, 13))),
    _law("biology", "micrograph scale", "image length = image scale × true length", "mm, mm/µm, µm",
         "A cell is measured on a micrograph.", "A bacterium is drawn from a microscope image.",
         "A yeast cell is shown in a textbook.", "A bacterium is measured on a microscope image.",
         source="definition of magnification, as mm of image for each µm"),
    _law("biology", "population density", "population = population density × habitat area",
         "animals, animals/km², km²",
         "Deer live in a forest reserve.", "Hares are counted on an island.",
         "Badgers share a valley.", "Hares live in a valley.",
         source="definition of population density"),
    _law("biology", "enzyme rate", "product formed = enzyme rate × incubation time", "µmol, µmol/min, min",
         "An enzyme digests starch in a tube.", "An enzyme splits milk sugar in a flask.",
         "A yeast extract works on a sugar at a steady rate.", "An enzyme splits starch in a flask.",
         source="definition of enzyme activity"),
    _law("biology", "Fick principle", "oxygen uptake = cardiac output × oxygen difference",
         "mL/min, L/min, mL/L",
         "A child is tested on a treadmill.", "A patient rests during a heart examination.",
         "A rower is studied during a warm-up.", "A child rests during a heart examination.",
         source="Fick principle, arteriovenous oxygen difference", oxygen_difference=TENS),
    _law("biology", "renal clearance", "excretion rate = clearance × plasma concentration",
         "mg/h, L/h, mg/L",
         "A kidney removes a drug from the blood.", "A patient gets a dye that the kidneys remove.",
         "A kidney test follows a tracer.", "A kidney test follows a drug in the blood.",
         source="definition of clearance", new=True),
    _law("biology", "drug dose", "dose = dosage × body mass", "mg, mg/kg, kg",
         "A vet treats a small dog.", "A cat is given a medicine.",
         "A lamb gets a drug against worms.", "A vet treats a lamb.",
         source="dosing by body mass"),
    _law("biology", "transpiration", "water loss = transpiration rate × leaf area × exposure time",
         "g, g/(m²·h), m², h",
         "A large potted plant loses water on a terrace.", "A young tree stands in the wind.",
         "A bush stands in a greenhouse.", "A large potted plant stands in the wind.",
         source="definition of the transpiration rate",
         transpiration_rate=TENS, leaf_area=(2, 3, 4), exposure_time=(2, 3, 4)),
    _law("biology", "net production", "net production = gross production − respiration",
         "g/day, g/day, g/day",
         "Algae grow in a pond.", "A meadow takes up carbon in summer.",
         "Sea grass grows in a bay.", "Algae grow in a bay in summer.",
         source="definition of net primary production, in grams of carbon"),
    _law("biology", "food energy", "food energy = energy content × food mass", "kJ, kJ/g, g",
         "A snack is burned in a food test.", "A bird eats berries.",
         "A student studies the label of a loaf.", "A student studies a snack in a food test.",
         source="definition of the energy density of food"),
    _law("biology", "leaf area index", "foliage area = leaf area index × ground area", "m², m²/m², m²",
         "A forest plot is studied from above.", "A plot of maize closes its canopy.",
         "Ivy covers a test plot.", "A plot of maize is studied from above.",
         source="definition of the leaf area index", leaf_area_index=(2, 3, 4, 5, 6, 7, 8)),
    _law("biology", "transcription", "transcript length = elongation rate × transcription time", "kb, kb/min, min",
         "An RNA polymerase copies a gene.", "A gene is transcribed in a bacterium.",
         "A polymerase moves along DNA at a steady rate.", "A polymerase copies a gene in a bacterium.",
         source="definition of the elongation rate", new=True, elongation_rate=(2, 3, 4, 5, 6)),
    _law("biology", "mark and recapture", "population estimate = first catch × second catch ÷ recapture count",
         "animals, animals, animals, animals",
         "Snails are marked, set free and caught again in a garden.", "Fish are marked in a pond and caught again later.",
         "Beetles are marked and trapped again on a field.", "Beetles are marked, set free and trapped again later.",
         source="Lincoln index: all of the first catch marked, the recaptured ones counted in the second",
         first_catch=tuple(range(6, 13)), second_catch=tuple(range(6, 13)), recapture_count=(2, 3, 4, 5),
         population_estimate=tuple(range(8, 37))),
    _law("biology", "conduction speed", "axon length = conduction speed × conduction delay", "mm, mm/ms, ms",
         "A nerve signal runs along an axon.", "A nerve fibre of a squid is tested.",
         "A signal is followed along a nerve fibre.", "A nerve signal of a squid is followed.",
         source="definition of conduction velocity", new=True),
    _law("biology", "filtration pressure", "filtration pressure = capillary pressure − osmotic pressure",
         "mmHg, mmHg, mmHg",
         "Fluid leaves a capillary of a frog.", "Fluid is filtered in the kidney of a frog.",
         "A capillary in the muscle of a frog leaks fluid.", "Fluid is filtered in the muscle of a frog.",
         source="Starling forces, tissue pressures neglected"),
    _law("biology", "vascular resistance", "pressure drop = blood flow × flow resistance",
         "mmHg, L/min, mmHg·min/L",
         "Blood passes through the vessels of the body.", "Blood flows through a row of vessels.",
         "The flow through a vessel of a large animal is measured.",
         "Blood flows through the vessels of a large animal.",
         source="definition of vascular resistance", new=True),
    # ---------------------------------------------------------------------------------------- earth and space
    _law("earth and space", "river discharge", "discharge = flow speed × channel area", "m³/s, m/s, m²",
         "A stream runs through a narrow channel.", "A flood fills a canal.",
         "Melt water rushes down a gully.", "Melt water fills a narrow channel.",
         source="continuity of steady flow"),
    _law("earth and space", "plate motion", "plate shift = plate speed × drift time", "cm, cm/year, years",
         "An ocean plate drifts away from a ridge.", "Two plates slide past each other along a fault.",
         "An island moves with its plate.", "An island drifts away from a fault.",
         source="mean speed of a plate"),
    _law("earth and space", "rain catch", "rain volume = rainfall × roof area", "L, mm, m²",
         "Rain falls on a shed and is collected.", "A storm fills a barrel below a roof.",
         "A tent collects rain during a storm.", "A barrel collects rain below a shed.",
         source="1 mm of rain on 1 m² is 1 L"),
    _law("earth and space", "sedimentation", "layer thickness = deposition rate × deposition time",
         "mm, mm/year, years",
         "Mud settles on the floor of a lake.", "A delta grows layer by layer.",
         "A reservoir floor is covered by clay.", "Clay settles on the floor of a reservoir.",
         source="mean deposition rate"),
    _law("earth and space", "geothermal gradient", "temperature increase = geothermal gradient × depth",
         "°C, °C/km, km",
         "A borehole is drilled into the crust.", "The crust below a plain is studied.",
         "A deep well is drilled near an old volcano.", "A borehole is drilled near an old volcano.",
         source="geothermal gradient", geothermal_gradient=(20, 30, 40, 50, 60)),
    _law("earth and space", "lapse rate", "temperature drop = lapse rate × height gain", "°C, °C/km, km",
         "A weather balloon rises through the air.", "An aeroplane climbs over a plain.",
         "A parcel of air is lifted in the troposphere.", "An aeroplane rises through the troposphere.",
         source="lapse rate of the troposphere", lapse_rate=(4, 5, 6, 7, 8, 9, 10),
         height_gain=(2, 3, 4, 5, 6, 7, 8, 9)),
    _law("earth and space", "flood volume", "water volume = discharge × flow time", "m³, m³/s, s",
         "A gate lets water out of a reservoir.", "A canal carries water to a field.",
         "A river pours into a basin.", "A canal pours water into a basin.",
         source="definition of discharge"),
    _law("earth and space", "seismic path", "path length = seismic speed × travel time", "km, km/s, s",
         "A station records a small earthquake.", "A blast in a quarry is recorded by a sensor.",
         "A seismic wave crosses a block of crust.", "A sensor records a small earthquake.",
         source="mean speed of a seismic wave", seismic_speed=(2, 3, 4, 5, 6, 7, 8)),
    _law("earth and space", "map scale", "ground distance = map scale × map distance", "km, km/cm, cm",
         "A driver plans a route on a map.", "A geologist maps a fault.",
         "A crater is measured on a chart of the Moon.", "A geologist plans a route on a chart.",
         source="definition of the scale of a map"),
    _law("earth and space", "stream gradient", "height drop = stream gradient × stream length", "m, m/km, km",
         "A short river runs from the hills to the sea.", "A brook runs down a valley.",
         "A hiker follows a river from its spring to a lake.", "A brook runs from the hills to a lake.",
         source="definition of the stream gradient", new=True),
    _law("earth and space", "tidal range", "tidal range = high water − low water", "m, m, m",
         "The sea rises and falls at a harbour wall.", "A gauge follows the tide in a bay.",
         "A beach is covered and laid bare by the tide.", "A gauge follows the sea at a harbour.",
         source="definition of the tidal range"),
    _law("earth and space", "water balance", "precipitation = evaporation + runoff", "cm/year, cm/year, cm/year",
         "A dry river basin is in balance over many years.",
         "The water budget of a dry valley is drawn up over many years.",
         "A catchment in a desert keeps its store of water over many years.",
         "The water budget of a dry river basin is in balance.",
         source="long-term water balance"),
    _law("earth and space", "sediment load", "sediment load = sediment concentration × river flow",
         "kg/s, kg/m³, m³/s",
         "A muddy river carries silt to the sea.", "A flood washes soil into a canal.",
         "A stream below a glacier is grey with silt.", "A muddy stream carries soil into a canal.",
         source="mass flow of suspended load", new=True),
    _law("earth and space", "Darcy's law", "seepage rate = hydraulic conductivity × hydraulic gradient",
         "cm/day, m/day, cm/m",
         "Groundwater creeps through a bed of sand.", "Water seeps under a dam.",
         "An aquifer feeds a spring.", "Water seeps through a bed of sand under a spring.",
         source="Darcy's law, specific discharge", new=True),
    _law("earth and space", "humidity", "vapour mass = absolute humidity × air volume", "g, g/m³, m³",
         "The air of a greenhouse is tested.", "Fog forms in a small valley and the air is sampled.",
         "The air in a cave is damp.", "The air of a small cave is sampled.",
         source="definition of absolute humidity"),
    _law("earth and space", "degree-day melt", "melt depth = melt factor × degree-day sum",
         "mm, mm/(°C·day), °C·day",
         "A glacier melts in early summer.", "Snow melts on a mountain in spring.",
         "An ice cap thins during a warm spell.", "Snow melts on a glacier during a warm spell.",
         source="degree-day model", new=True),
)
# fmt: on
BY_NAME = {law.name: law for law in LAWS}


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
    _chain("Ohm's law", "capacitor charge", "voltage as plate voltage", "plate charge",
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
    _chain("Boyle's law", "Henry's law", "final pressure as gas pressure", "gas concentration",
           "A piston moves slowly in a sealed pump at constant temperature and a little gas dissolves in water.", True),
    _chain("Henry's law", "first-order rate", "gas concentration as reactant concentration", "reaction rate",
           "A dissolved gas breaks down in a first-order reaction.", True),
    _chain("residence time", "molar concentration", "reactor volume as volume", "amount",
           "A stirred tank reactor is full of a solution.", True),
)
# fmt: on
