"""What the sample catalogue holds: things by category, each an emoji whose rendering is the picture."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

# Things one can hold a camera to. Left out: faces, people, flags, symbols, what few people ever photograph, and a dozen
# renderings (maize, popcorn, falafel, lab coat, …) that turned out to be near to every second photograph of anything.
THINGS = {
    "fruit": "🍎🍏🍐🍊🍋🍌🍉🍇🍓🫐🍈🍒🍑🥭🍍🥥🥝🍅🫒",
    "vegetables": "🥑🍆🥔🥕🌶🫑🥒🥬🥦🧄🧅🍄🥜🫘🌰🍠🥗",
    "food": "🍞🥐🥖🥨🥯🥞🧇🧀🍗🥩🥓🍔🍟🍕🌭🥪🌮🥚🍳🥘🍲🥣🧈🧂🥫🍚🍜🍝🍣🍤🥟🥠",
    "sweets": "🍦🍧🍨🍩🍪🎂🍰🧁🥧🍫🍬🍭🍮🍯",
    "drinks": "🍼🥛☕🫖🍵🍾🍷🍸🍺🥃🥤🧋🧃🧊🫙",
    "clothing": "👓🕶🥽👔👕👖🧣🧤🧥🧦👗🩲🩳👙👚👛👜👝🎒🩴👞👟🥾🥿👠👡🩰👢👒🎩🎓🧢⛑💄💍💎🛍",
    "animals": (
        "🐒🦍🐕🐩🐈🐅🐆🐎🦌🦬🐂🐄🐖🐗🐏🐑🐐🐪🐫🦙🦘🦥🦦🦨🐘🦏🦛🐁🐀🐇🐿🦫🦔🦇🐨🐼🦝🐻🦃🐔🐓🐥🐦🐧🕊🦅🦆🦢🦉🦩🦚🦜"
        "🐸🐊🐢🦎🐍🦕🦖🐋🐬🦭🐟🐠🐡🦈🐙🐚🪸🐌🦋🐝🪲🐞🪳🕷🪰🦀🦞🦐🦑🦪"
    ),
    "plants": "💐🌸🪷🌹🌺🌻🌼🌷🌱🪴🌲🌳🌴🌵🌿🍀🍁🍂🍃🪵🪨",
    "vehicles": "🚂🚃🚄🚆🚋🚌🚐🚑🚒🚓🚕🚗🚙🛻🚚🚛🚜🏎🏍🛵🦽🛺🚲🛴🛹🛼🛶⛵🚤🛳⛴🚢✈🛩🚁🚀🚠🎈🪂⚓🛞🛟⛽🚦",
    "places": "🏔🌋🏖🏜🏛🏠🏡🏢🏥🏨🏪🏫🏬🏯🏰⛪🕌⛩⛲⛺🎡🎢🌉🗼🗿",
    "household": "🚪🪞🪟🛏🛋🪑🚽🚿🛁🛗🧸🪆🖼🕰🕯💡🔦🏮🧺🧹🪣🧼🪥🧽🧯🛒🧴🧻🪒🪠🧷🧵🧶🍽🍴🥄🔪🏺🥢🥡🌂☂",
    "tools": "🔨🪓⛏🛠🪚🔧🪛🔩⚙⚖⛓🧰🧲🪜🧪🔬🔭📡💉🩹🩺💊🧭🧱🔑🗝🔒🔔📎📌📏📐✂🪤🌡⏳",
    "electronics": "⌚📱☎📞📠🔌💻🖥🖨⌨🖱💾💿🎥📽📺📷📹📻🎙🎧🎤🕹🎮⏰⏱⏲🔊",
    "paper": "📕📗📘📙📚📓📔📰📖✏🖋🖊🖌📁📅🗑🗄📦✉📫💼🧳💰💳🪙",
    "music": "🎷🎸🎹🎺🎻🪕🥁",
    "sport": "⚽⚾🥎🏀🏐🏈🎾🥏🎳🏏🏒🏓🏸🥊⛸🎣🤿🎿🛷🎯🪀🪁🎱🎲🧩♟🎨🏆🏅🎁🎀🎄🎃🎭",
}

# Unicode's names are not always the word a reader looks for.
NAMES = {
    "🍞": "loaf of bread", "🥖": "baguette", "🧀": "cheese", "🍗": "chicken leg", "🥩": "steak", "🍕": "pizza",
    "🍳": "fried egg", "🥘": "paella", "🍲": "stew", "🥣": "cereal bowl", "🥫": "tin", "🍚": "rice",
    "🍜": "noodle soup", "🍤": "prawn", "🍰": "cake", "🍯": "honey", "🥛": "milk", "☕": "coffee", "🍵": "green tea",
    "🍾": "champagne", "🍸": "cocktail", "🍺": "beer", "🥃": "whisky", "🥤": "soft drink", "🧃": "juice carton",
    "🕶": "sunglasses", "👔": "shirt and tie", "👚": "blouse", "🎒": "backpack", "🩴": "flip-flop", "👞": "shoe",
    "👟": "trainer", "👡": "sandal", "👢": "boot", "👒": "sun hat", "🧢": "cap", "⛑": "rescue helmet",
    "🐼": "panda", "🐻": "bear", "🐸": "frog", "🐥": "chick", "🕊": "dove", "🐡": "puffer fish", "🐚": "seashell",
    "🐞": "ladybird", "🦕": "brontosaurus", "🦖": "tyrannosaurus", "🌿": "herbs", "🚋": "tram", "🚓": "police car",
    "🚗": "car", "🚙": "jeep", "🚛": "lorry", "🏎": "racing car", "🏍": "motorcycle", "🦽": "wheelchair",
    "🚠": "cable car",
    "🛟": "lifebuoy", "⛽": "petrol pump", "🚦": "traffic light", "🏔": "mountain", "🏖": "beach", "🏛": "temple",
    "🏠": "house", "🏡": "cottage", "⛩": "shrine", "🌉": "bridge", "🗼": "tower", "🛋": "sofa", "🪆": "matryoshka",
    "🖼": "picture frame", "🕰": "clock", "💡": "light bulb", "🔦": "torch", "🏮": "lantern", "🧼": "soap",
    "🛒": "shopping trolley", "🧴": "lotion", "🧻": "toilet paper", "🧵": "thread", "🧶": "yarn", "🍽": "plate",
    "🔪": "kitchen knife", "🏺": "vase", "🌂": "folded umbrella", "📡": "dish antenna", "🩹": "plaster", "🗝": "old key",
    "📏": "ruler", "📐": "set square", "✂": "scissors", "⏳": "hourglass", "☎": "telephone", "📞": "receiver",
    "🔌": "plug", "💻": "laptop", "🖱": "computer mouse", "💿": "compact disc", "🎥": "film camera",
    "📽": "projector", "🎙": "studio microphone", "🎧": "headphones", "🎮": "game controller", "⏲": "timer",
    "🔊": "loudspeaker", "📕": "red book", "📔": "decorated notebook", "🖋": "fountain pen", "🖊": "ballpoint pen",
    "🖌": "paintbrush", "📁": "folder", "🗑": "wastepaper basket", "🗄": "filing cabinet", "📦": "parcel",
    "📫": "letterbox", "🧳": "suitcase", "🎹": "piano keys", "🥁": "drum", "🏀": "basketball", "🎾": "tennis ball",
    "🥏": "frisbee", "🏏": "cricket bat", "🏒": "ice hockey stick", "🏓": "table tennis bat", "🏸": "badminton racket",
    "🎣": "fishing rod", "🎿": "skis", "🎯": "dartboard", "🎱": "billiard ball", "🎲": "dice", "🧩": "jigsaw piece",
    "♟": "chess pawn", "🏅": "medal", "🎁": "present", "🎃": "pumpkin lantern", "🎭": "theatre masks",
}  # fmt: skip


SOURCE = "Fluent emoji"  # the value of metadata key `source`, by which these items are known again


def name_of(emoji: str) -> str:
    """A thing's name in lower case: "red apple"."""
    return NAMES.get(emoji) or unicodedata.name(emoji).lower()


def id_of(category: str, emoji: str) -> str:
    """ "fruit:red-apple"."""
    return f"{category}:{name_of(emoji).replace(' ', '-')}"


def catalogue() -> dict[str, dict[str, str]]:
    """Every thing's metadata by its id."""
    return {
        id_of(category, emoji): {"name": name_of(emoji), "category": category, "emoji": emoji, "source": SOURCE}
        for category, things in THINGS.items()
        for emoji in things
    }


def are_sample(items: Iterable[tuple[str, Mapping[str, Any]]]) -> bool:
    """Whether all items, given as id and metadata, came with the sample."""
    things = catalogue()
    return all(id in things and metadata.get("source") == SOURCE for id, metadata in items)
