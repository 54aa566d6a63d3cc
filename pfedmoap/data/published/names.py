"""Class names of the photograph data sets, in label order, as in CLIP's published prompts.

A class's label is its place in the list. Readers compare these lists with the annotation files, so
that no name can belong to another class. The wording is that of CLIP's published
prompts (github.com/openai/CLIP, data/prompts.md) where it says more than the folder's name.
"""

from collections.abc import Mapping


def _lines(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for line in text.strip().splitlines() for name in line.split(", "))


PETS = _lines("""
abyssinian, american bulldog, american pit bull terrier, basset hound, beagle, bengal, birman
bombay, boxer, british shorthair, chihuahua, egyptian mau, english cocker spaniel, english setter
german shorthaired, great pyrenees, havanese, japanese chin, keeshond, leonberger, maine coon
miniature pinscher, newfoundland, persian, pomeranian, pug, ragdoll, russian blue, saint bernard
samoyed, scottish terrier, shiba inu, siamese, sphynx, staffordshire bull terrier, wheaten terrier
yorkshire terrier
""")
"""The 37 breeds; label ``i`` is the annotation's class ``i + 1``."""

FLOWERS = _lines("""
pink primrose, hard-leaved pocket orchid, canterbury bells, sweet pea, english marigold, tiger lily
moon orchid, bird of paradise, monkshood, globe thistle, snapdragon, colt's foot, king protea
spear thistle, yellow iris, globe flower, purple coneflower, peruvian lily, balloon flower
giant white arum lily, fire lily, pincushion flower, fritillary, red ginger, grape hyacinth
corn poppy, prince of wales feathers, stemless gentian, artichoke, sweet william, carnation
garden phlox, love in the mist, mexican aster, alpine sea holly, ruby-lipped cattleya, cape flower
great masterwort, siam tulip, lenten rose, barbeton daisy, daffodil, sword lily, poinsettia
bolero deep blue, wallflower, marigold, buttercup, oxeye daisy, common dandelion, petunia
wild pansy, primula, sunflower, pelargonium, bishop of llandaff, gaura, geranium, orange dahlia
pink and yellow dahlia, cautleya spicata, japanese anemone, black-eyed susan, silverbush
californian poppy, osteospermum, spring crocus, bearded iris, windflower, tree poppy, gazania
azalea, water lily, rose, thorn apple, morning glory, passion flower, lotus, toad lily, anthurium
frangipani, clematis, hibiscus, columbine, desert-rose, tree mallow, magnolia, cyclamen, watercress
canna lily, hippeastrum, bee balm, air plant, foxglove, bougainvillea, camellia, mallow
mexican petunia, bromelia, blanket flower, trumpet creeper, blackberry lily
""")
"""The 102 flowers; label ``i`` is the annotation's class ``i + 1``, which has no name there."""

FOODS = _lines("""
apple pie, baby back ribs, baklava, beef carpaccio, beef tartare, beet salad, beignets, bibimbap
bread pudding, breakfast burrito, bruschetta, caesar salad, cannoli, caprese salad, carrot cake
ceviche, cheese plate, cheesecake, chicken curry, chicken quesadilla, chicken wings, chocolate cake
chocolate mousse, churros, clam chowder, club sandwich, crab cakes, creme brulee, croque madame
cup cakes, deviled eggs, donuts, dumplings, edamame, eggs benedict, escargots, falafel
filet mignon, fish and chips, foie gras, french fries, french onion soup, french toast
fried calamari, fried rice, frozen yogurt, garlic bread, gnocchi, greek salad
grilled cheese sandwich, grilled salmon, guacamole, gyoza, hamburger, hot and sour soup, hot dog
huevos rancheros, hummus, ice cream, lasagna, lobster bisque, lobster roll sandwich
macaroni and cheese, macarons, miso soup, mussels, nachos, omelette, onion rings, oysters
pad thai, paella, pancakes, panna cotta, peking duck, pho, pizza, pork chop, poutine, prime rib
pulled pork sandwich, ramen, ravioli, red velvet cake, risotto, samosa, sashimi, scallops
seaweed salad, shrimp and grits, spaghetti bolognese, spaghetti carbonara, spring rolls, steak
strawberry shortcake, sushi, tacos, takoyaki, tiramisu, tuna tartare, waffles
""")
"""The 101 dishes; folders have underscores for the spaces and are numbered in sorted order."""

TEXTURES = _lines("""
banded, blotchy, braided, bubbly, bumpy, chequered, cobwebbed, cracked, crosshatched, crystalline
dotted, fibrous, flecked, freckled, frilly, gauzy, grid, grooved, honeycombed, interlaced, knitted
lacelike, lined, marbled, matted, meshed, paisley, perforated, pitted, pleated, polka-dotted, porous
potholed, scaly, smeared, spiralled, sprinkled, stained, stratified, striped, studded, swirly
veined, waffled, woven, wrinkled, zigzagged
""")
"""The 47 textures; folders have the same names and are numbered in sorted order."""

_CALTECH_FOLDERS = _lines("""
Faces, Leopards, Motorbikes, accordion, airplanes, anchor, ant, barrel, bass, beaver, binocular
bonsai, brain, brontosaurus, buddha, butterfly, camera, cannon, car_side, ceiling_fan, cellphone
chair, chandelier, cougar_body, cougar_face, crab, crayfish, crocodile, crocodile_head, cup
dalmatian, dollar_bill, dolphin, dragonfly, electric_guitar, elephant, emu, euphonium, ewer, ferry
flamingo, flamingo_head, garfield, gerenuk, gramophone, grand_piano, hawksbill, headphone, hedgehog
helicopter, ibis, inline_skate, joshua_tree, kangaroo, ketch, lamp, laptop, llama, lobster, lotus
mandolin, mayfly, menorah, metronome, minaret, nautilus, octopus, okapi, pagoda, panda, pigeon
pizza, platypus, pyramid, revolver, rhino, rooster, saxophone, schooner, scissors, scorpion
sea_horse, snoopy, soccer_ball, stapler, starfish, stegosaurus, stop_sign, strawberry, sunflower
tick, trilobite, umbrella, watch, water_lilly, wheelchair, wild_cat, windsor_chair, wrench, yin_yang
""")
_CALTECH_WORDING = {
    "Faces": "face",
    "Leopards": "leopard",
    "Motorbikes": "motorbike",
    "airplanes": "airplane",
    "car_side": "side of a car",
    "cougar_body": "body of a cougar cat",
    "cougar_face": "face of a cougar cat",
    "crocodile_head": "head of a crocodile",
    "flamingo_head": "head of a flamingo",
    "snoopy": "snoopy (cartoon beagle)",
    "water_lilly": "water lily",
    "yin_yang": "yin and yang symbol",
}
CALTECH: Mapping[str, str] = {
    folder: _CALTECH_WORDING.get(folder, folder.replace("_", " ")) for folder in _CALTECH_FOLDERS
}
"""Names of the 100 classes of CoOp's protocol by folder, in label order (capitals sort first)."""

EUROSAT: Mapping[str, str] = {
    "AnnualCrop": "Annual Crop Land",
    "Forest": "Forest",
    "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road",
    "Industrial": "Industrial Buildings",
    "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land",
    "Residential": "Residential Buildings",
    "River": "River",
    "SeaLake": "Sea or Lake",
}
"""Names of the ten kinds of land by folder, in label order, as CoOp words them."""

CIFAR10 = _lines("airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck")
CIFAR100 = _lines("""
apple, aquarium fish, baby, bear, beaver, bed, bee, beetle, bicycle, bottle, bowl, boy, bridge, bus
butterfly, camel, can, castle, caterpillar, cattle, chair, chimpanzee, clock, cloud, cockroach
couch, crab, crocodile, cup, dinosaur, dolphin, elephant, flatfish, forest, fox, girl, hamster
house, kangaroo, keyboard, lamp, lawn mower, leopard, lion, lizard, lobster, man, maple tree
motorcycle, mountain, mouse, mushroom, oak tree, orange, orchid, otter, palm tree, pear
pickup truck, pine tree, plain, plate, poppy, porcupine, possum, rabbit, raccoon, ray, road, rocket
rose, sea, seal, shark, shrew, skunk, skyscraper, snail, snake, spider, squirrel, streetcar
sunflower, sweet pepper, table, tank, telephone, television, tiger, tractor, train, trout, tulip
turtle, wardrobe, whale, willow tree, wolf, woman, worm
""")

CIFAR100_SUPERCLASSES = tuple(
    _lines(line)
    for line in """
beaver, dolphin, otter, seal, whale
aquarium fish, flatfish, ray, shark, trout
orchid, poppy, rose, sunflower, tulip
bottle, bowl, can, cup, plate
apple, mushroom, orange, pear, sweet pepper
clock, keyboard, lamp, telephone, television
bed, chair, couch, table, wardrobe
bee, beetle, butterfly, caterpillar, cockroach
bear, leopard, lion, tiger, wolf
bridge, castle, house, road, skyscraper
cloud, forest, mountain, plain, sea
camel, cattle, chimpanzee, elephant, kangaroo
fox, porcupine, possum, raccoon, skunk
crab, lobster, snail, spider, worm
baby, boy, girl, man, woman
crocodile, dinosaur, lizard, snake, turtle
hamster, mouse, rabbit, shrew, squirrel
maple tree, oak tree, palm tree, pine tree, willow tree
bicycle, bus, motorcycle, pickup truck, train
lawn mower, rocket, streetcar, tank, tractor
""".strip().splitlines()
)
"""The twenty groups of five classes that CIFAR-100 comes with."""
