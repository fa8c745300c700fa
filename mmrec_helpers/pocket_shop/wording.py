"""The words of the Pocket Shop: brand names, titles, descriptions and reviews.

Every text is assembled from the templates below. Nothing here draws random numbers: the caller passes a row of
``draws`` in [0, 1), and each position in that row always serves the same choice. So the same row with other
``mentions`` gives the same description except in the sentences about the attributes that are now told or hidden,
which is what makes the ``overlap`` knob of the shop a controlled experiment.
"""

import re
from collections.abc import Collection, Sequence
from functools import cache

from mmrec_helpers.pocket_shop.catalogue import (
    CATEGORIES,
    COLOURS,
    MATERIALS,
    MENTIONABLE,
    OCCASIONS,
    PATTERNS,
    PRICE_TIERS,
    STYLES,
)

WORDING_VERSION = 1  # count up whenever a template changes: stored shops and stored numbers depend on every word

NUM_DRAWS_BRAND = 8
NUM_DRAWS_TITLE = 8
NUM_DRAWS_DESCRIPTION = 24
NUM_DRAWS_SOIL = 8
NUM_DRAWS_REVIEW = 8

# ---------------------------------------------------------------------------------------------------------------------
# Word forms. {thing} names the item, {short} is what later sentences call it; both take a verb in the singular.
# ---------------------------------------------------------------------------------------------------------------------
THINGS = {category: category for category in CATEGORIES} | {"sneaker": "pair of sneakers"}
SHORTS = THINGS | {"teapot": "pot", "t-shirt": "shirt", "sneaker": "pair", "backpack": "bag"}
TITLE_THINGS = {category: category.title() for category in CATEGORIES} | {"sneaker": "Sneakers"}
GROUPS = {
    "mug": "tableware", "teapot": "tableware", "vase": "decor", "lamp": "decor", "chair": "furniture",
    "desk": "furniture", "cushion": "cushion", "t-shirt": "wear", "sneaker": "wear", "cap": "wear",
    "backpack": "backpack", "umbrella": "umbrella",
}  # fmt: skip
TEXTILE_CATEGORIES = ("cushion", "t-shirt", "sneaker", "cap", "backpack")
STIFF_MATERIALS = ("ceramic", "glass", "steel", "oak", "bamboo")

# What a sentence can say the item is right for; each template with {for_occasion} is used with each of the two.
FOR_OCCASION = {
    "everyday": ("for everyday use", "for everyday life"),
    "office": ("for the office", "for long office days"),
    "travel": ("for travel", "for people who travel"),
    "party": ("for parties", "for parties of every size"),
    "outdoor": ("for outdoor use", "for life outdoors"),
    "gift": ("as a gift", "as a gift for a friend"),
}
OCCASION_WORDS = {value: (value,) for value in OCCASIONS} | {
    "party": ("party", "parties"),
    "outdoor": ("outdoor", "outdoors"),
    "gift": ("gift", "gifts"),
}

# ---------------------------------------------------------------------------------------------------------------------
# Brand names and titles
# ---------------------------------------------------------------------------------------------------------------------
BRAND_STARTS = (
    "Ald", "Brin", "Cald", "Dorv", "Eld", "Fenn", "Garv", "Hask", "Ilm", "Jorv", "Keld", "Lonn", "Marn", "Norb",
    "Orv", "Pend", "Quen", "Rusk", "Selv", "Torb", "Ulv", "Vesk", "Wend", "Yarb", "Zorn",
)  # fmt: skip
BRAND_MIDDLES = ("", "er", "in", "o")
BRAND_ENDS = ("low", "mere", "wick", "stow", "combe", "garth", "haven", "holm", "beck", "tarn")

MODELS = (
    "Anchor", "Arcade", "Atlas", "Bayside", "Bridge", "Canyon", "Compass", "Corner", "Cove", "Delta", "Echo",
    "Encore", "Estuary", "Ferry", "Fjord", "Gallery", "Harbour", "Haven", "Hillside", "Horizon", "Island", "Juno",
    "Junction", "Kestrel", "Lagoon", "Ledger", "Lyric", "Marina", "Meridian", "Minuet", "Nook", "North", "Orbit",
    "Outlook", "Passage", "Pavilion", "Pebble", "Pier", "Plateau", "Portico", "Prelude", "Quarter",
    "Quay", "Ridge", "Riverside", "Sequel", "Signal", "Sonata", "Station", "Summit", "Tempo", "Terrace", "Tidal",
    "Valley", "Viaduct", "Vista", "Wharf", "Zephyr",
)  # fmt: skip
SERIES = ("", "", "", " II", " 3", " 5", " 7", " 9", " 12", " 24")
TITLES = (
    "{brand} {model} {thing}",
    "{brand} {thing} {model}",
    "{model} {thing} by {brand}",
    "{thing} {model} by {brand}",
    "The {model} {thing} by {brand}",
    "{brand} {model} {occasion} {thing}",
    "{brand} {model} {thing}, {occasion} Edition",
    "{brand} {model} {thing} {for_occasion}",
)
TITLE_FOR_OCCASION = {
    "everyday": "for Everyday Use", "office": "for the Office", "travel": "for Travel", "party": "for Parties",
    "outdoor": "for the Outdoors", "gift": "as a Gift",
}  # fmt: skip

# ---------------------------------------------------------------------------------------------------------------------
# Descriptions: the facts that every description tells, one by one or several at once
# ---------------------------------------------------------------------------------------------------------------------
FACT_SENTENCES = {
    "who": (
        "{brand} presents {a_thing} that earns its place from the first day.",
        "Meet {a_thing} by {brand}, thought through down to the last detail.",
        "This {thing} is the work of {brand}, a small team that takes its time.",
        "With this {thing}, {brand} shows how far a little patience can go.",
        "From the workshop of {brand} comes {a_thing} that is easy to like.",
        "{brand} is known for careful finishing, and this {thing} is no exception.",
        "Here is {a_thing} from {brand} that you will be glad to own.",
        "People who know {brand} know what to expect from this {thing}, and they will get it.",
        "{brand} spent a whole year on this {thing}, and it shows.",
        "You are looking at {a_thing} that {brand} makes in small batches.",
    ),
    "who_material": (
        "{brand} presents {a_material_thing} that earns its place from the first day.",
        "Meet {a_thing} by {brand}, {made} and finished with care.",
        "This {material_thing} is the work of {brand}, a small team that takes its time.",
        "From the workshop of {brand} comes {a_thing} {made}, with no corners cut.",
        "{brand} knows its way around {material}, and this {thing} is the best proof.",
        "Here is {a_material_thing} from {brand} that you will be glad to own.",
        "{brand} spent a whole year on this {thing}, and it had to be {made}.",
        "You are looking at {a_material_thing} that {brand} makes in small batches.",
        "With this {thing}, {brand} shows what can be done with {material} and patience.",
    ),
    "who_occasion": (
        "{brand} designed this {thing} {for_occasion}, and every detail follows from that.",
        "Meet {a_thing} by {brand}, made {for_occasion} and built to last.",
        "This {thing} by {brand} was made {for_occasion} and has proved itself many times.",
        "{brand} offers this {thing} {for_occasion}, and we are glad to have it in the shop.",
        "Ask us about {a_thing} {for_occasion}, and we will point you to {brand}.",
        "Here is {a_thing} {for_occasion}, made by {brand} in small batches.",
        "Our pick {for_occasion} is this {thing}, the latest work of {brand}.",
        "When {brand} set out to make {a_thing} {for_occasion}, no detail was too small.",
    ),
    "who_all": (
        "{brand} presents {a_material_thing}, designed {for_occasion} and finished with more care than most.",
        "Meet {a_thing} by {brand}, {made} and intended {for_occasion}, with every detail in its place.",
        "This {thing} by {brand} is {made}, and it was designed {for_occasion} from the first sketch on.",
        "Here is {a_material_thing} from {brand}, a sound choice {for_occasion} and a pleasure to own.",
        "From the workshop of {brand} comes {a_thing} {made}, which we warmly recommend {for_occasion}.",
        "Our pick {for_occasion} is {a_material_thing} by {brand}, and we have not regretted it once.",
        "When {brand} set out to make {a_thing} {for_occasion}, it simply had to be {made}.",
        "{brand} had one idea: {a_thing} {for_occasion}, {made} and put together without haste.",
    ),
    "material_occasion": (
        "This {thing} is {made}, a sound choice {for_occasion} at any time of year.",
        "Being {made}, the {short} is one that we like to recommend {for_occasion}.",
        "We recommend this {thing} {for_occasion}, not least because it is {made}.",
        "Designed {for_occasion} and {made}, this {thing} gets the basics right.",
        "The {material} in this {thing} makes it a good choice {for_occasion}.",
        "There are good reasons to pick {a_material_thing} {for_occasion}, and this one has them all.",
        "You get {a_thing} that is {made} and that was designed {for_occasion}.",
        "Many customers choose this {thing} {for_occasion}, and the {material} is one of the reasons.",
    ),
    "material": (
        "This {thing} is {made}, which was chosen because it lasts.",
        "The {short} is {made}, and that gives it a good, honest feel.",
        "For this {thing}, the makers chose {material} and would do so again.",
        "Touch this {thing} and you will notice the {material} at once.",
        "The makers met many suppliers before they settled on the {material} for this {thing}.",
        "The {material} in this {thing} comes from a supplier that {brand} has known for years.",
        "Because it is {made}, this {thing} will serve you well for years.",
        "There is no mistaking the {material}, and this {thing} feels right from the start.",
        "Good {material} is hard to find, so the makers of this {thing} buy it with care.",
        "What gives this {thing} its long life is the {material} in it.",
    ),
    # Tells nothing; the last sentence of the longer descriptions.
    "service": (
        "Questions are answered by real people, usually within a day.",
        "Our team is happy to answer any question that is still open.",
        "Thank you for reading this far, and do write if anything is unclear.",
        "We are a small shop, and each order makes our day.",
        "Have a look at the reviews below to see what other customers say.",
        "Put the {short} on your wish list if you would rather sleep on it.",
        "Tell us how you like the {short} once it is there, because we read every message.",
        "We have been in this business for years and stand behind what we sell.",
        "Subscribe to our newsletter if you would like to hear about new arrivals.",
    ),
}

OCCASION_SENTENCES = {
    "everyday": (
        "Made for everyday use, this {thing} does not mind being used a lot.",
        "This is {an_occasion_thing}, meant to be used rather than admired.",
        "Everyday life is where the {short} belongs, morning after morning.",
        "We had everyday use in mind when we put this {thing} to the test.",
        "As an everyday companion, the {short} asks for little and gives a lot.",
        "The {short} turns small everyday moments into something to look forward to.",
        "Think of this as {an_occasion_thing} that will not let you down.",
        "For everyday needs you will hardly find {a_thing} that is more reliable.",
        "In everyday life the {short} soon becomes the one you reach for first.",
    ),
    "office": (
        "This {thing} was made with the office in mind, where it has to last all day.",
        "At the office the {short} will earn you more than one kind remark.",
        "The {short} feels at home in any office, from Monday to Friday.",
        "Long days at the office are a little better with this {thing} around.",
        "An office needs things you can count on, and this {thing} is one of them.",
        "We recommend this {thing} for the office, where good things get used the most.",
        "Whether your office is large or small, this {thing} will not look out of place in it.",
        "People at the office will want to know where you found this {thing}.",
        "Call it {an_occasion_thing} if you like, because that is what it was designed to be.",
    ),
    "travel": (
        "{brand} designed this {thing} for people who travel and like to bring a bit of home along.",
        "If you travel often, you will be glad that the {short} is easy to take along.",
        "This is {an_occasion_thing}, light enough to come with you and tough enough to return.",
        "Made for travel, this {thing} gets through bumpy roads and long waits unharmed.",
        "Travel is hard on things, and this {thing} was built with that in mind.",
        "When you travel, the {short} comes along without taking up much room.",
        "Take this {thing} with you when you travel, and you will feel at home sooner.",
        "The {short} has been tested by friends who travel for months at a time.",
        "Few things make travel as pleasant as {a_thing} that you can rely on.",
    ),
    "party": (
        "Guests at your next party will ask where this {thing} comes from.",
        "A good party needs good company, and this {thing} is part of it.",
        "This {thing} is at its best at parties, when the room is full.",
        "Made with parties in mind, the {short} can take a long and lively night.",
        "Whether the party is large or small, this {thing} adds to the good mood.",
        "At a party this {thing} gives people something to talk about.",
        "If you enjoy parties, you will soon wonder how you did without this {thing}.",
        "{brand} designed this {thing} for parties, and it does its part until the last guest leaves.",
        "The {short} is ready for a party whenever you are, on any night of the week.",
    ),
    "outdoor": (
        "Made for the outdoors, this {thing} does not mind a bit of wind and weather.",
        "This is {an_occasion_thing} that feels at home on a terrace or by a lake.",
        "The {short} is as happy outdoors as it is in the house.",
        "Outdoor use is what this {thing} was built for, from spring to late autumn.",
        "Take the {short} outdoors and enjoy the fresh air a little longer.",
        "If you spend your free time outdoors, this {thing} belongs with you.",
        "We tested this {thing} outdoors for a whole season before we put it up for sale.",
        "Dew, dust and a bit of drizzle are nothing new to this {occasion_thing}.",
        "Weekends outdoors are better with {a_thing} that can take a little weather.",
    ),
    "gift": (
        "As a gift, this {thing} is hard to beat, and nobody has to guess twice.",
        "This {thing} makes a gift that people keep for a long time.",
        "When they look for a gift, many of our customers end up with this {thing}.",
        "{brand} had gifts in mind with this {thing}, so it comes ready to hand over.",
        "Give the {short} as a gift and expect to be thanked more than once.",
        "Some gifts are soon forgotten, but this {thing} is one that gets used.",
        "Whoever gets this {thing} as a gift will think of you for years.",
        "A gift should be useful and lovely at once, and this {thing} is both.",
        "The {short} was made as a gift for people who seem to have everything.",
    ),
}

# ---------------------------------------------------------------------------------------------------------------------
# Descriptions: what the picture shows too. A mentioned attribute is told by one of these ...
# ---------------------------------------------------------------------------------------------------------------------
MENTION_SENTENCES = {
    "colour": (
        "The {short} comes in {value}, a shade that holds up well in daylight.",
        "The colour is {value}, and it stays that way after years of use.",
        "{brand} settled on {a_value} that looks good in every kind of light.",
        "The {value} of this {short} was mixed until everyone on the team liked it.",
        "In {value}, the {short} looks every bit as good as in the pictures.",
        "Expect {a_value} that looks the same at home as it does on the screen.",
        "You will receive the {short} in {value}, just as the pictures show.",
        "The makers went for {value}, a colour they have used with success before.",
        "As for the colour, the makers picked {value} and never looked back.",
        "Fans of {value} can rejoice, because that is the colour of this {short}.",
    ),
    "pattern": (
        "The design is {value}, carefully done right up to the edges.",
        "The makers kept the design {value}, which suits the shape of the {short} well.",
        "Look closely at the {value} design and you see how neatly it was done.",
        "The {short} has a {value} design that will not wear off with use.",
        "Of several drafts the {value} one won, and it suits the {short} very well.",
        "A {value} design gives the {short} its own face without making a fuss.",
        "For the surface the makers went {value}, and we think that was right.",
        "Those who like things {value} will enjoy the design of this {short}.",
        "The {short} is {value} all over, front and back, just as the drawing asked for.",
    ),
    "style": (
        "The style is {value} through and through, and nothing about it feels forced.",
        "The lines of the {short} are {value}, and they were drawn with a steady hand.",
        "Anyone with {value} taste will feel at ease with the way the {short} looks.",
        "The designers wanted a {value} look, and nothing about the {short} feels out of place.",
        "If your taste is {value}, the {short} will soon feel like an old friend.",
        "We would call the style {value}, and our customers tend to agree with us.",
        "A {value} look like this one keeps its appeal year after year.",
        "In style the {short} is clearly {value} and does not pretend otherwise.",
        "The {value} style of the {short} was what won us over at first sight.",
    ),
}

# ... and one that is not mentioned leaves its place to one of these, picked by the same draw. They say nothing about
# how the item looks; each attribute has its own topic (care, delivery, sizes and returns), so that no sentence comes
# twice in one description.
FILLERS = {
    "colour": {
        "all": (
            "A small card in the box explains how to look after the {short}.",
            "Looking after the {short} takes a minute or two and no special products.",
            "Treat the {short} with a little care and it will stay with you for a long time.",
            "Should anything ever go wrong, our repair service will do its best to help.",
            "We test every {short} before it goes out, so you do not have to.",
        ),
        "tableware": (
            "Rinse the {short} with warm water after use and let it dry in the air.",
            "A soft sponge and a drop of dish soap are all the cleaning the {short} needs.",
            "The handle sits well in the hand, and the base does not wobble.",
            "Skip the scouring pad, and the surface will stay smooth for a long time.",
        ),
        "decor": (
            "Dust the {short} now and then with a soft, dry cloth, and that is it.",
            "Soft pads under the base protect the shelf or table it stands on.",
            "The base is weighted, so the {short} stands firm when someone bumps the table.",
            "A quick wipe once a week is all the attention the {short} asks for.",
        ),
        "furniture": (
            "Wipe the {short} with a damp cloth and dry it right away.",
            "Assembly takes about twenty minutes, and the tools are in the box.",
            "Adjustable feet keep the {short} steady on floors that are not level.",
            "Tighten the screws once a year, and the {short} will never wobble.",
        ),
        "cushion": (
            "Shake the {short} out now and then, and it will keep its shape.",
            "The cover comes off in seconds, thanks to a zip that stays out of sight.",
            "The filling springs back by itself, even after a long evening on the sofa.",
            "Air the {short} by an open window from time to time to keep it fresh.",
        ),
        "wear": (
            "Air the {short} overnight after wearing, and it stays fresh for longer.",
            "Follow the label inside, and the {short} will keep its shape.",
            "Let the {short} dry slowly, away from heaters and strong sun.",
            "All seams are stitched twice, so nothing comes apart where it should not.",
        ),
        "backpack": (
            "Shake the crumbs out now and then, and wipe the inside with a damp cloth.",
            "The zips run smoothly, and the straps adjust in a matter of seconds.",
            "Hang the {short} up by its loop when empty, and it will keep its shape.",
            "The straps are padded, and the back panel lets some air through.",
        ),
        "umbrella": (
            "Let the {short} dry open after a shower, and the ribs will last longer.",
            "One push of the button opens the {short}, even when your hands are full.",
            "Strong gusts may turn the {short} inside out, but it folds back without harm.",
            "A strap with a snap keeps the {short} neatly rolled up when it is dry.",
        ),
    },
    "pattern": {
        "all": (
            "Orders placed before noon leave our warehouse on the very same day.",
            "We ship six days a week, and most parcels arrive sooner than promised.",
            "The {short} comes in a sturdy box that survives rough handling on the way.",
            "All parcels are insured, and we replace whatever gets damaged on the way.",
            "You can follow the parcel online from our door to yours.",
            "The packaging is paper only, so there is very little to throw away.",
        ),
        "furniture": (
            "Two people carry the {short} to the room of your choice.",
            "The driver calls half an hour ahead, so that you can clear the way.",
            "Delivery takes one to two weeks, and you choose the day that suits you.",
        ),
        "small": (
            "If nobody is at home, a neighbour or a pickup point can take the parcel.",
            "Delivery takes two to four days, and a message tells you when to expect it.",
            "Order several things at once, and they will arrive together in one box.",
        ),
    },
    "style": {
        "all": (
            "You have thirty days to change your mind and send the {short} back.",
            "Returns are easy, because a label is already in the box with the {short}.",
            "A guarantee of two years covers every fault that is not ordinary wear.",
            "Sizes and weights are listed in the table further down this page.",
            "If something is missing from the box, write to us and we will send it.",
            "Stock is limited, and the next batch may take a week or two to arrive.",
        ),
        "tableware": (
            "There is room for a generous serving, and the weight stays comfortable.",
            "The {short} fits on most kitchen shelves and into most sinks.",
            "Filled to the brim, the {short} is still easy to hold with one hand.",
        ),
        "decor": (
            "The {short} takes up little room and fits on a narrow shelf.",
            "Please measure your shelf first, because the {short} is taller than it seems.",
            "At just over a kilo, the {short} is easy to move around the room.",
        ),
        "furniture": (
            "The size suits most rooms and leaves enough space to walk past.",
            "Please measure your doors and stairs before you order the {short}.",
            "Spare parts stay available for ten years, down to the last screw.",
        ),
        "cushion": (
            "At forty-five centimetres a side, the {short} fits most sofas and beds.",
            "The filling is included, so there is nothing else that you have to buy.",
            "The {short} is firm enough to lean on and soft enough for a nap.",
        ),
        "wear": (
            "If you are between two sizes, the larger one is the safer choice.",
            "The size chart below helps you find the right fit in a minute.",
            "Should the size be wrong, we exchange the {short} without any questions.",
        ),
        "backpack": (
            "There is room for a bottle, a book, lunch and a spare sweater.",
            "With twenty litres of space, the {short} holds more than you might think.",
            "Two side pockets hold a bottle each, and a small one hides the keys.",
        ),
        "umbrella": (
            "When open, the {short} covers two people who walk close together.",
            "Folded up, the {short} is about as long as your forearm.",
            "At less than four hundred grams, the {short} hardly adds to your load.",
        ),
    },
}

# The order of the sentences: facts told one by one or together, and something to look at or to rely on in between.
FRAMES = (
    ("who", "colour", "material", "pattern", "occasion", "style", "service"),
    ("who", "material", "style", "colour", "occasion", "pattern", "service"),
    ("occasion", "who", "colour", "style", "material", "pattern", "service"),
    ("who", "pattern", "material", "colour", "occasion", "style"),
    ("who", "style", "occasion", "colour", "material", "pattern"),
    ("material", "who", "pattern", "colour", "occasion", "style"),
    ("who_material", "colour", "pattern", "occasion", "style", "service"),
    ("who_occasion", "style", "colour", "material", "pattern", "service"),
    ("who_material", "style", "pattern", "occasion", "colour"),
    ("who_occasion", "colour", "pattern", "material", "style"),
    ("who", "material_occasion", "pattern", "style", "colour"),
    ("who", "colour", "style", "material_occasion", "pattern"),
    ("who_all", "colour", "pattern", "style", "service"),
    ("who_all", "pattern", "colour", "style"),
    ("who_all", "style", "colour", "pattern"),
)
# Position 0 of the draws picks the frame; every slot has a position of its own, used or not, so that the choice in one
# slot never shifts the choice in another.
SLOT_POSITIONS = {
    slot: position
    for position, slot in enumerate((*FACT_SENTENCES, "occasion", *MENTION_SENTENCES, "service"), start=1)
}

# ---------------------------------------------------------------------------------------------------------------------
# What a careless merchant does to a description
# ---------------------------------------------------------------------------------------------------------------------
SOIL_LAYOUTS = (  # before the text, between two sentences, after the text
    ("<p>", "</p><p>", "</p>"),
    ("<p>", "<br>", "</p>"),
    ("<p>", " <br> ", "</p><br>"),
    ("<div><p>", "  ", "</p></div>"),
    ("", "<br><br>", "<br>"),
    ("<b>DESCRIPTION</b><br>", "<br> ", ""),
    ("<p>&nbsp;</p><p>", "&nbsp; ", "</p>"),
    ("<ul><li>", "</li><li>", "</li></ul>"),
)
SOIL_SHOUTS = (
    "BUY NOW!!!", "*** TOP QUALITY ***", "QUALITY &amp; SERVICE SINCE 2009!", "100% SATISFACTION GUARANTEED!!",
    "LIMITED STOCK - ORDER TODAY!", "NEW ARRIVAL!!! NEW ARRIVAL!!!", "&gt;&gt;&gt; BESTSELLER &lt;&lt;&lt;",
    "TRUSTED SELLER &amp; HAPPY CUSTOMERS",
)  # fmt: skip
SOIL_SHIPPING = (
    "Ships within 24h.", "FAST &amp; FREE SHIPPING!", "Shipping: 1&nbsp;-&nbsp;3 days.", "We ship worldwide!!!",
    "Returns &amp; refunds: see shop page.", "DHL / UPS / POST - TRACKED.", "Combined shipping available &nbsp;",
    "No pickup. Shipping only.",
)  # fmt: skip
SOIL_SPACES = ((" ", "  "), (" ", "&nbsp;"), (", ", " ,  "), (" the ", "  the&nbsp;"), (" and ", "  and  "))

# ---------------------------------------------------------------------------------------------------------------------
# Reviews. Whole ones, for the days when nothing in particular stood out ...
# ---------------------------------------------------------------------------------------------------------------------
WHOLE_REVIEWS = {
    5: (
        "Love it! I would buy this {thing} again tomorrow.",
        "Could not be happier with this {thing}.",
        "Exactly what I had dreamed of, all five stars.",
        "The best {thing} I have ever owned.",
        "Wow, even better than in the pictures. Love it!",
        "I use it all the time and it still makes me smile. Wonderful!",
        "Bought one, loved it, came back for a second.",
        "Perfect from the first day on. I tell everyone about it.",
    ),
    4: (
        "Very good {thing}, only the delivery took a while.",
        "Happy with it, it does what it should.",
        "Good {thing}. I would recommend it to a friend.",
        "Nice! Not quite perfect, but close.",
        "Really pleased, it is well made.",
        "Solid {thing}, I am happy with my choice.",
        "I like it a lot. One star off because the box was damaged.",
        "Good buy, no regrets so far.",
    ),
    3: (
        "It is okay, neither more nor less.",
        "An average {thing}. It does the job.",
        "Not bad, but I am not excited either.",
        "So-so. Let us see how long it lasts.",
        "It is all right, I had pictured it differently.",
        "Mixed feelings, some days I use it, some days I do not.",
        "Okay {thing}, nothing special.",
        "Three stars. I neither miss it nor mind it.",
    ),
    2: (
        "I expected more from this {thing}.",
        "A bit disappointed, it looked better in the pictures.",
        "Not what I had hoped for. I will probably give it away.",
        "I used it twice, and now it sits in a corner. A let-down.",
        "Rather disappointing, I would not order it again.",
        "Meh. There must be a better {thing} out there.",
        "It works, but that is about all. I expected more.",
        "This {thing} and I are not going to be friends. A let-down.",
    ),
    1: (
        "Very disappointed. It went straight back.",
        "A waste of time, I sent it back the same day.",
        "The worst {thing} I have ever had.",
        "Terrible. I asked for a refund right away.",
        "I regret this one. Stay away from it.",
        "Awful, nothing about it is right for me.",
        "One star is one too many. What a waste!",
        "Do not buy this {thing}. I regret that I did.",
    ),
}
# ... and openers, which go together with a liked or a missed attribute.
OPENERS = {
    5: ("Love it", "Love this {thing}", "I am delighted", "Simply perfect", "Could not be happier", "My new favourite",
        "A wonderful {thing}", "Five stars from me"),
    4: ("I really like it", "Very nice {thing}", "Happy with it", "Good buy", "Pleased with this one", "Well done",
        "Good {thing}", "Glad I ordered it"),
    3: ("It is all right", "Okay overall", "Mixed feelings", "It does its job", "So-so", "An average {thing}",
        "Three stars from me", "Not bad, not great"),
    2: ("Not what I had hoped for", "A bit disappointed", "I expected more", "This one did not work out",
        "Rather a let-down", "I would not order it again", "Not one I would keep", "Sadly, we did not become friends"),
    1: ("Very disappointed", "I am sending it back", "I regret buying this {thing}", "A terrible choice",
        "I want my money back", "What a waste", "Awful {thing}", "Never again"),
}  # fmt: skip
LIKED = {
    "colour": ("the {value} is just right", "I like the {value} a lot", "the {value} is lovely",
               "{value} is my colour", "the {value} looks even better in real life", "that {value} suits me well"),
    "pattern": ("the {value} design is lovely", "I like that it is {value}", "{value} is just my thing",
                "the {value} design suits it well", "the {value} look makes me smile",
                "{value} was the right choice"),
    "style": ("the {value} style is right up my street", "I like the {value} look", "{value} is how I like things",
              "it is {value} in a good way", "the {value} style won me over", "the {value} look is just my taste"),
    "material": ("the {value} feels great", "I like that they used {value}", "{value} was the right choice",
                 "the {value} is lovely to touch", "you can tell it is good {value}", "the {value} is top quality"),
    "occasion": ("it is just right {value}", "it is ideal {value}", "it works really well {value}",
                 "it is clearly made {value}, which I like", "it is handy to have {value}",
                 "it is a good choice {value}"),
    "brand": ("I do like {value}", "I trust {value}", "I am fond of {value}", "I like what {value} makes",
              "{value} is a name I like", "{value} is one of my favourite makers"),
    "price_tier": ("the {value} price range suits me", "I like the {value} price range",
                   "a {value} price is right for me", "it is in the {value} range, where I like to shop",
                   "the {value} price is what I was after", "{value} is the price range I look for"),
}  # fmt: skip
MISSED = {
    "colour": ("I wish it were not {value}", "{value} is not my colour", "I do not care for the {value}",
               "I would have preferred anything other than {value}", "the {value} puts me off",
               "the {value} does not suit me"),
    "pattern": ("I wish it were not {value}", "{value} is not my thing", "the {value} design is not for me",
                "I am no fan of {value} things", "the {value} look puts me off",
                "I would rather it were not {value}"),
    "style": ("I wish it were less {value}", "{value} is not my style", "it is too {value} for me",
              "the {value} look is not my taste", "I do not get on with the {value} look",
              "the {value} style is not for me"),
    "material": ("I wish it were not {value}", "{value} is not for me", "I do not like the feel of the {value}",
                 "I would have preferred anything other than {value}", "the {value} puts me off",
                 "I am no fan of {value}"),
    "occasion": ("I wish it were not made {value}", "I have little use for something made {value}",
                 "I was not looking for something {value}", "it is meant {value} and that is not what I need",
                 "I did not need one {value}", "I would not have bought it {value}"),
    "brand": ("I wish it were not from {value}", "{value} is not my brand", "I am no fan of {value}",
              "I would pick another brand than {value} next time", "{value} does not convince me",
              "I do not get on with {value}"),
    "price_tier": ("the {value} price range is not for me", "I do not usually shop in the {value} range",
                   "the {value} range puts me off", "I would rather not shop in the {value} range",
                   "{value} is not the price range I look for", "I wish it were not from the {value} range"),
}  # fmt: skip
# How an opener meets praise and regret, by the mood of the rating. Capitalised fields start a sentence.
JOINS = {
    "liked": {
        "good": ("{opener}, {liked}.", "{opener}. {Liked}.", "{opener}! {Liked}.", "{Liked}. {opener}!"),
        "mixed": ("{opener}, but {liked}.", "{opener}. {Liked}, the rest is average.", "{opener}. Still, {liked}."),
        "bad": (
            "{opener}. At least {liked}.",
            "{opener}, even though {liked}.",
            "{Liked}, but that is not enough. {opener}.",
        ),
    },
    "missed": {
        "good": (
            "{opener}, even if {missed}.",
            "{opener}. {Missed}, but I can live with that.",
            "{opener}! Only one thing, {missed}.",
        ),
        "mixed": ("{opener}, but {missed}.", "{opener}. {Missed}.", "{Missed}. {opener}."),
        "bad": ("{opener}, {missed}.", "{opener}. {Missed}.", "{Missed}. {opener}."),
    },
    "both": {
        "good": (
            "{opener}, {liked}. Still, {missed}.",
            "{opener}. {Missed}, but {liked}.",
            "{opener}! {Liked}, even if {missed}.",
        ),
        "mixed": (
            "{opener}. {Liked}, but {missed}.",
            "{opener}. {Missed}, but {liked}.",
            "{Liked}, but {missed}. {opener}.",
        ),
        "bad": (
            "{opener}. {Liked}, but {missed}.",
            "{opener}, {missed}. At least {liked}.",
            "{Missed}. {opener}, even though {liked}.",
        ),
    },
}
MOODS = {5: "good", 4: "good", 3: "mixed", 2: "bad", 1: "bad"}


# ---------------------------------------------------------------------------------------------------------------------
# Filling the templates. All option tables are filled once per combination of values and then only looked up.
# ---------------------------------------------------------------------------------------------------------------------
def _an(phrase: str) -> str:
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def _kind_of(category: str, adjective: str) -> str:
    """The item with an adjective before its noun: "oak desk", "pair of wool sneakers"."""
    return f"pair of {adjective} sneakers" if category == "sneaker" else f"{adjective} {category}"


def _material_noun(category: str, material: str) -> str:
    if material == "plastic":
        return "recycled plastic"
    return "bamboo fibre" if material == "bamboo" and category in TEXTILE_CATEGORIES else material


@cache
def _forms(category: str, material: str, occasion: str) -> dict[str, str]:
    """What the fields of a description's templates stand for; the brand stays a field until the very end."""
    noun = _material_noun(category, material)
    adjective = noun.removesuffix(" fibre")
    material_thing = _kind_of(category, adjective)
    made = f"made of {noun}"
    if category == "umbrella" and material in STIFF_MATERIALS:  # nobody would believe in a canopy of oak
        material_thing, made = f"umbrella with {_an(adjective)} shaft", f"built on a shaft of {noun}"
    elif category in ("cushion", "umbrella") or (category, material) == ("chair", "leather"):
        made = f"covered in {noun}"
    elif (category, material) == ("desk", "glass"):
        made = "topped with glass"
    occasion_thing = _kind_of(category, occasion)
    return {
        "brand": "{brand}",
        "thing": THINGS[category],
        "a_thing": _an(THINGS[category]),
        "short": SHORTS[category],
        "material": noun,
        "made": made,
        "material_thing": material_thing,
        "a_material_thing": _an(material_thing),
        "occasion_thing": occasion_thing,
        "an_occasion_thing": _an(occasion_thing),
    }


@cache
def _fact_options(slot: str, category: str, material: str, occasion: str) -> tuple[str, ...]:
    """All sentences for a slot of the facts."""
    templates = OCCASION_SENTENCES[occasion] if slot == "occasion" else FACT_SENTENCES[slot]
    forms = _forms(category, material, occasion)
    sentences = (
        template.format(**forms, for_occasion=phrase) for template in templates for phrase in FOR_OCCASION[occasion]
    )
    return tuple(dict.fromkeys(sentences))  # a template without {for_occasion} came out twice


@cache
def _picture_options(attribute: str, category: str, value: str | None) -> tuple[str, ...]:
    """All sentences that tell the value, or for None all that fill the place of an attribute left to the picture."""
    forms = {"brand": "{brand}", "short": SHORTS[category]}
    if value is not None:
        templates = MENTION_SENTENCES[attribute]
        forms |= {"value": value, "a_value": _an(value)}
    else:
        fillers = FILLERS[attribute]
        group = GROUPS[category]
        templates = fillers["all"] + (fillers[group] if group in fillers else fillers["small"])
    return tuple(template.format(**forms) for template in templates)


@cache
def _opening_options(texts_of_rating: str, rating: int, category: str) -> tuple[str, ...]:
    """All whole reviews ("whole") or all openers ("opener") for the rating."""
    templates = {"whole": WHOLE_REVIEWS, "opener": OPENERS}[texts_of_rating][rating]
    return tuple(template.format(thing=THINGS[category]) for template in templates)


@cache
def _clause_options(feeling: str, attribute: str, value: str) -> tuple[str, ...]:
    """All clauses that praise ("liked") or regret ("missed") the value."""
    templates = {"liked": LIKED, "missed": MISSED}[feeling][attribute]
    return tuple(template.format(value=value) for template in templates)


# ---------------------------------------------------------------------------------------------------------------------
# The texts
# ---------------------------------------------------------------------------------------------------------------------
def brand_name(draws: Sequence[float]) -> str:
    """An invented brand name, e.g. "Aldermere"; different draws may give the same one."""
    parts = (BRAND_STARTS, BRAND_MIDDLES, BRAND_ENDS)
    return "".join(options[int(draw * len(options))] for options, draw in zip(parts, draws, strict=False))


def title(facts: dict[str, str], draws: Sequence[float]) -> str:
    """The item's title: brand, a model name, category and sometimes the occasion, in at most eight words."""
    model = MODELS[int(draws[1] * len(MODELS))] + SERIES[int(draws[2] * len(SERIES))]
    return TITLES[int(draws[0] * len(TITLES))].format(
        brand=facts["brand"],
        model=model,
        thing=TITLE_THINGS[facts["category"]],
        occasion=facts["occasion"].title(),
        for_occasion=TITLE_FOR_OCCASION[facts["occasion"]],
    )


def description(facts: dict[str, str], mentions: Collection[str], draws: Sequence[float]) -> str:
    """A description of 4 to 7 sentences that tells category, brand, material, occasion and what is in ``mentions``.

    Args:
        facts: The item's values, by attribute name.
        mentions: Which of "colour", "pattern" and "style" to tell; the others cannot be told from the text.
        draws: At least ``NUM_DRAWS_DESCRIPTION`` numbers in [0, 1).
    """
    for mention in mentions:
        if mention not in MENTIONABLE:
            raise ValueError(f"cannot mention {mention!r}; a description may mention {', '.join(MENTIONABLE)}")
    category, material, occasion = facts["category"], facts["material"], facts["occasion"]
    sentences = []
    for slot in FRAMES[int(draws[0] * len(FRAMES))]:
        if slot in MENTION_SENTENCES:
            options = _picture_options(slot, category, facts[slot] if slot in mentions else None)
        else:
            options = _fact_options(slot, category, material, occasion)
        sentences.append(options[int(draws[SLOT_POSITIONS[slot]] * len(options))])
    return " ".join(sentences).replace("{brand}", facts["brand"])


def soil(description: str, draws: Sequence[float]) -> str:
    """The description as a careless merchant uploads it; every word of it is still there, in order."""
    sentences = [sentence.removesuffix(".") + "." for sentence in description.split(". ")]
    spaced = int(draws[0] * len(sentences))
    sentences[spaced] = sentences[spaced].replace(*SOIL_SPACES[int(draws[1] * len(SOIL_SPACES))])
    bold = int(draws[2] * len(sentences))
    sentences[bold] = f"<b>{sentences[bold]}</b>"
    # The shout goes first or last, the line about shipping anywhere.
    shout = SOIL_SHOUTS[int(draws[3] * len(SOIL_SHOUTS))]
    sentences.insert(0 if draws[4] < 0.5 else len(sentences), shout)
    shipping = SOIL_SHIPPING[int(draws[5] * len(SOIL_SHIPPING))]
    sentences.insert(int(draws[6] * (len(sentences) + 1)), shipping)
    before, between, after = SOIL_LAYOUTS[int(draws[7] * len(SOIL_LAYOUTS))]
    return before + between.join(sentences) + after


def review(facts: dict[str, str], rating: int, liked: str | None, missed: str | None, draws: Sequence[float]) -> str:
    """One or two short sentences by a customer who gave ``rating`` stars.

    Args:
        facts: The item's values, by attribute name.
        rating: 1 to 5.
        liked: The attribute whose value the customer praises, if any.
        missed: The attribute whose value the customer regrets, if any.
        draws: At least ``NUM_DRAWS_REVIEW`` numbers in [0, 1).
    """
    if rating not in MOODS:
        raise ValueError(f"rating must be 1, 2, 3, 4 or 5, got {rating!r}")
    category = facts["category"]
    if liked is None and missed is None:
        wholes = _opening_options("whole", rating, category)
        return wholes[int(draws[0] * len(wholes))]
    openers = _opening_options("opener", rating, category)
    fields = {"opener": openers[int(draws[1] * len(openers))]}
    for feeling, attribute, draw in (("liked", liked, draws[2]), ("missed", missed, draws[3])):
        if attribute is not None:
            clauses = _clause_options(feeling, attribute, _in_a_review(attribute, facts))
            clause = clauses[int(draw * len(clauses))]
            fields[feeling], fields[feeling.capitalize()] = clause, clause[0].upper() + clause[1:]
    joins = JOINS["both" if liked and missed else "liked" if liked else "missed"][MOODS[rating]]
    return joins[int(draws[4] * len(joins))].format_map(fields)


def _in_a_review(attribute: str, facts: dict[str, str]) -> str:
    """The words for the item's value that the clauses about the attribute are written for."""
    if attribute not in LIKED:
        raise ValueError(f"a review cannot be about {attribute!r}; it can be about {', '.join(LIKED)}")
    if attribute == "material":
        return _material_noun(facts["category"], facts["material"])
    return FOR_OCCASION[facts["occasion"]][0] if attribute == "occasion" else facts[attribute]


# ---------------------------------------------------------------------------------------------------------------------
# Reading a text back
# ---------------------------------------------------------------------------------------------------------------------
_VALUES = {
    "category": CATEGORIES, "colour": COLOURS, "pattern": PATTERNS, "style": STYLES, "material": MATERIALS,
    "price_tier": PRICE_TIERS,
}  # fmt: skip
_TOLD_BY = {value: (attribute, value) for attribute, values in _VALUES.items() for value in values}
_TOLD_BY |= {word: ("occasion", value) for value, words in OCCASION_WORDS.items() for word in words}
_TOLD_BY["sneakers"] = ("category", "sneaker")
# Looking every word up is several times faster than searching for an alternation of all values.
_WORD = re.compile(r"t-shirt\b|\w+")


def told_attributes(text: str) -> dict[str, set[str]]:
    """Which attribute values a text tells by their words; attributes that are not told have no entry.

    The brand is not looked for: any capitalised word could be one.
    """
    told: dict[str, set[str]] = {}
    for word in _TOLD_BY.keys() & _WORD.findall(text.lower()):
        attribute, value = _TOLD_BY[word]
        told.setdefault(attribute, set()).add(value)
    return told
