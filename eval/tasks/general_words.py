"""The words of the general items: our own lists, each entry without a second right answer."""

from typing import Final


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    """Return the pairs of a list written as `one/other one/other`."""
    return tuple((one, other) for one, _, other in (entry.partition("/") for entry in text.split()))


OPPOSITES: Final = _pairs(
    "hot/cold big/small open/closed early/late full/empty young/old rich/poor wet/dry fast/slow day/night"
    " black/white true/false begin/end buy/sell win/lose push/pull love/hate arrive/depart remember/forget"
    " inside/outside above/below before/after always/never everything/nothing north/south east/west summer/winter"
    " friend/enemy question/answer success/failure war/peace strong/weak deep/shallow wide/narrow long/short"
    " clean/dirty noisy/quiet sharp/blunt brave/cowardly sweet/bitter cheap/expensive safe/dangerous easy/difficult"
    " odd/even polite/rude guilty/innocent rough/smooth tight/loose lend/borrow accept/refuse increase/decrease"
    " attack/defend public/private float/sink include/exclude maximum/minimum entrance/exit ceiling/floor"
    " present/absent import/export permanent/temporary asleep/awake alive/dead vertical/horizontal multiply/divide"
    " raw/cooked humble/proud frequent/rare"
)
"""Words that mean the opposite of each other; no word is in two pairs, nor near to one of another pair."""

PLURALS: Final = _pairs(
    "child/children foot/feet tooth/teeth goose/geese man/men woman/women ox/oxen knife/knives wife/wives"
    " life/lives leaf/leaves loaf/loaves thief/thieves shelf/shelves wolf/wolves half/halves calf/calves city/cities"
    " baby/babies country/countries lady/ladies berry/berries story/stories party/parties puppy/puppies box/boxes"
    " dish/dishes church/churches watch/watches glass/glasses dress/dresses brush/brushes fox/foxes potato/potatoes"
    " tomato/tomatoes fork/forks gift/gifts key/keys day/days toy/toys monkey/monkeys valley/valleys book/books"
    " lamp/lamps garden/gardens window/windows letter/letters piano/pianos photo/photos radio/radios chief/chiefs"
    " cliff/cliffs belief/beliefs bench/benches peach/peaches kiss/kisses tax/taxes family/families duty/duties"
    " lily/lilies"
)

PAST_TENSES: Final = _pairs(
    "go/went eat/ate see/saw take/took give/gave come/came run/ran write/wrote drive/drove ride/rode speak/spoke"
    " break/broke choose/chose freeze/froze steal/stole begin/began drink/drank sing/sang swim/swam ring/rang"
    " sink/sank buy/bought bring/brought think/thought catch/caught teach/taught fight/fought seek/sought keep/kept"
    " sleep/slept feel/felt leave/left lose/lost send/sent spend/spent build/built find/found hold/held tell/told"
    " say/said make/made know/knew grow/grew throw/threw blow/blew fly/flew draw/drew wear/wore tear/tore fall/fell"
    " forget/forgot hide/hid bite/bit meet/met win/won stand/stood understand/understood shake/shook rise/rose"
    " walk/walked carry/carried stop/stopped"
)

CATEGORIES: Final[dict[str, tuple[str, ...]]] = {
    "fruit": ("apple", "banana", "grape", "pear", "mango", "pineapple", "strawberry", "watermelon"),
    "animal": ("horse", "rabbit", "elephant", "tiger", "goat", "camel", "donkey", "lizard"),
    "tool": ("hammer", "screwdriver", "wrench", "pliers", "chisel", "crowbar", "hacksaw", "spanner"),
    "color": ("yellow", "purple", "red", "blue", "beige", "scarlet", "crimson", "gray"),
    "piece of furniture": ("table", "chair", "sofa", "wardrobe", "bookcase", "armchair", "stool", "cupboard"),
    "musical instrument": ("violin", "piano", "trumpet", "flute", "guitar", "cello", "harp", "clarinet"),
    "vehicle": ("truck", "bicycle", "bus", "tram", "motorcycle", "taxi", "van", "tractor"),
    "part of the body": ("elbow", "knee", "shoulder", "ankle", "wrist", "thumb", "chin", "neck"),
    "metal": ("uranium", "lithium", "zinc", "aluminum", "tin", "nickel", "titanium", "cobalt"),
    "piece of clothing": ("shirt", "trousers", "jacket", "sweater", "glove", "scarf", "coat", "sock"),
}
"""No word belongs to two of the categories."""

TRANSLATIONS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "Spanish": _pairs(
        "house/casa water/agua dog/perro cat/gato book/libro sun/sol moon/luna bread/pan milk/leche tree/árbol"
        " door/puerta night/noche friend/amigo red/rojo white/blanco hand/mano city/ciudad school/escuela fish/pez"
        " king/rey"
    ),
    "French": _pairs(
        "house/maison water/eau dog/chien cat/chat book/livre sun/soleil moon/lune bread/pain milk/lait tree/arbre"
        " door/porte night/nuit friend/ami red/rouge white/blanc hand/main city/ville school/école fish/poisson"
        " king/roi"
    ),
    "German": _pairs(
        "house/Haus water/Wasser dog/Hund cat/Katze book/Buch sun/Sonne moon/Mond bread/Brot milk/Milch tree/Baum"
        " door/Tür night/Nacht friend/Freund red/rot white/weiß hand/Hand city/Stadt school/Schule fish/Fisch"
        " king/König"
    ),
}

EVENTS: Final = (
    ("The glass fell to the floor.", "The glass broke into pieces."),
    ("Heavy rain fell all night.", "The river flooded the fields."),
    ("She forgot to water the plant.", "The plant dried out."),
    ("He missed the bus.", "He came late to work."),
    ("The power went out.", "The room became dark."),
    ("She studied every evening.", "She passed the exam."),
    ("The driver pressed the brake.", "The car stopped."),
    ("The sun came out.", "The snow melted."),
    ("He ate nothing all day.", "He was very hungry."),
    ("The alarm clock rang.", "She woke up."),
    ("The boy tripped over a root.", "The boy scraped his knee."),
    ("She planted the seeds.", "Flowers grew in the garden."),
    ("The match was struck.", "The candle burned."),
    ("He ran ten miles.", "His legs were sore."),
    ("The dog saw a stranger.", "The dog barked."),
    ("The tire hit a nail.", "The tire went flat."),
    ("She opened the window.", "Fresh air filled the room."),
    ("The cook left the pan on the fire.", "The food burned."),
    ("He told a joke.", "Everybody laughed."),
    ("The bridge was closed.", "Drivers took a longer way."),
    ("The child caught a cold.", "The child sneezed for days."),
    ("The pipe froze and cracked.", "Water ran over the kitchen floor."),
    ("The band finished its last song.", "The audience clapped."),
    ("The baby was tired.", "The baby fell asleep."),
    ("He dropped his phone in the lake.", "His phone stopped working."),
    ("The teacher explained the problem.", "The pupils understood the problem."),
    ("The wind blew hard.", "The leaves flew away."),
    ("She saved money for years.", "She bought a house."),
    ("The milk stood in the sun.", "The milk turned sour."),
    ("He pulled the plug.", "The bathtub emptied."),
    ("The ice on the road was thick.", "A car slid into the ditch."),
    ("The doctor set the broken arm.", "The arm healed."),
    ("The wolf came near.", "The sheep ran off."),
    ("She lost her keys.", "She could not enter her flat."),
    ("The kettle was put on the stove.", "The water boiled."),
    ("He spilled ink on the page.", "The page had a blue stain."),
    ("The team trained for months.", "The team won the cup."),
    ("A bee stung her finger.", "Her finger swelled."),
    ("The film was very sad.", "Many viewers cried."),
    ("The battery was empty.", "The torch gave no light."),
    ("He mixed blue and yellow paint.", "He got green paint."),
    ("The gate was left open.", "The cows walked out."),
    ("She turned the volume up.", "The neighbors complained about the noise."),
    ("The factory closed.", "The workers lost their jobs."),
    ("The boat had a hole.", "The boat sank."),
    ("He salted the soup twice.", "The soup tasted too salty."),
    ("A storm tore the roof off.", "Rain came into the attic."),
    ("The moon moved in front of the sun.", "The sky grew dim at noon."),
    ("She wrote the wrong address.", "The letter never arrived."),
    ("The chain came off the bicycle.", "The rider had to walk home."),
    ("He touched the hot stove.", "He burned his hand."),
    ("The library bought new books.", "More readers visited the library."),
    ("The guests rang the bell.", "She opened the door for them."),
    ("The price was cut in half.", "The shop sold out in an hour."),
    ("The camper put out the fire.", "The tent grew cold."),
    ("The cat knocked the vase over.", "The carpet got wet."),
    ("He pressed the switch.", "The lamp went on."),
    ("The goalkeeper slipped.", "The ball rolled into the net."),
)
"""What came about first, and what it led to."""

NOUNS: Final = tuple(
    "bottle blanket suitcase bucket carpet curtain pillow basket kettle ladder mirror notebook parcel towel trunk"
    " wagon drawer helmet jar mattress".split()
)
ADJECTIVES: Final = tuple("blue old heavy clean empty warm broken expensive round small wooden ugly".split())
"""Properties that say nothing of one another."""

NAMES: Final = tuple("Ada Ben Cleo Dan Eva Finn Gus Hana Ivo Jane Kurt Lena Milo Nora Otto Pia".split())
KINDS: Final = tuple("blick dax fep gorp kimble lorn mave nib plonk quist rundle snarf tove vint wug zeem".split())
"""Words that mean nothing, so that only the form of an argument counts."""

WORDS: Final = tuple(
    "anchor basket candle dragon engine feather garden harbor island jacket kitchen ladder magnet needle orange"
    " pepper quarter rocket saddle tunnel umbrella velvet window yellow zipper blanket castle dinner elbow forest"
    " guitar hammer insect jungle kettle lemon market napkin oyster pocket rabbit silver ticket uncle valley wagon"
    " bottle cotton desert eagle finger goblet helmet iron jewel kidney lantern meadow nickel office parrot ribbon"
    " shadow temple urban vessel winter almond border copper donkey empire fabric ginger hunter icicle juggle kernel"
    " lizard mirror nephew oxygen pillow raisin stable turtle".split()
)
SUBJECTS: Final = tuple("The farmer|My sister|A stranger|The old captain|Our neighbor|The young nurse".split("|"))
VERBS: Final = tuple("sold|painted|carried|found|repaired|washed|hid".split("|"))
OBJECTS: Final = tuple(
    "a chair|two red boats|the kitchen table|an old map|some very small shells|the bicycle".split("|")
)
PLACES: Final = tuple("|yesterday|in the morning|near the river|before the long winter|at home last week".split("|"))
