"""Words that may stand beside a number and leave its value alone: units, currencies, counted nouns.

Units and the words before a number are lists of what is allowed. Nouns are an open class ("5 apples"), so
there the words that change a value, or may, are taken out: number words, fractions, scales, comparisons.
"""

import re


def words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


_UNITS = """
millimeter mm millimetre | centimeter cm centimetre | decimeter dm decimetre | meter m metre
kilometer km kilometre | inch in inches | foot ft feet | yard yd yds | mile mi | nanometer nm | micrometer um
milligram mg | gram g gm gms | kilogram kg kgs kilo | ton tonne | ounce oz | pound lb lbs
milliliter ml mL millilitre | liter l L litre ltr | gallon gal | quart qt | pint pt | cup | tablespoon tbsp
teaspoon tsp | millisecond ms | second s sec secs | minute min mins | hour h hr hrs | day | week wk wks
month | year yr yrs | decade | century centuries | degree deg | radian rad | newton N | joule J
kilojoule kJ
watt W | kilowatt kW | volt V | ampere A amp amps | ohm | kelvin | hertz Hz | kilohertz kHz | megahertz MHz
pascal Pa | kilopascal kPa | mole mol | coulomb | calorie cal | kilocalorie kcal | hectare ha | acre
mph | kmh kph | celsius C | fahrenheit F | unit
dollar usd $ | cent | euro eur € | pence penny pennies | yen ¥ | rupee rs Rs inr | peso | pound £ gbp
"""
UNITS: dict[str, str] = {}
for _line in _UNITS.replace("\n", " | ").split(" | "):
    for _alias in (_names := _line.split()):
        UNITS[_alias] = _names[0]
        if len(_alias) > 3 and not _alias.endswith("s"):
            UNITS[_alias + "s"] = _names[0]
UNITS["£"] = UNITS["gbp"] = "gbp"
# Of two letters or more, so that they can follow a digit at once, as in 5km. "mg" is rather a product.
SHORT_UNITS = frozenset(u for u in UNITS if 2 <= len(u) <= 4 and u.isalpha()) - words("rs Rs in mg gm")

SCALES = {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9}
SCALES |= {"trillion": 10**12, "bn": 10**9}  # bn is billions with and without a currency

_CARDINALS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety
hundred thousand million billion trillion quadrillion dozen score gross lakh lac crore myriad googol"""
_FRACTIONS = """third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth
fifteenth sixteenth seventeenth eighteenth nineteenth twentieth thirtieth fortieth fiftieth hundredth
thousandth millionth billionth trillionth half quarter pair couple percent"""
_COUNTS = words(f"{_CARDINALS} {_FRACTIONS}")
_VALUE_WORDS = (
    _COUNTS
    | {f"{word}s" for word in _COUNTS}
    | words("""
mega giga tera micro nano milli
halves sixes bn mn tn mil mio mrd mille tens k grand double triple quadruple twice thrice fold twofold
threefold single sqrt root roots sin cos tan log ln exp pi factorial squared cubed cube cubes square
squares power powers exponent modulo mod minus plus negative positive times multiplied divided over added
subtracted reciprocal inverse less fewer more greater least most above below under than up about around
approximately approx roughly nearly almost circa between until to through and or nor but except without
not no none never versus vs if when unless remainder rem am pm bc ad bce ce base binary octal hex
hexadecimal st nd rd th clock oclock percentage permille pct ppm deficit debt loss short something some
odd ish by from infinity infinite undefined
""")
)
# Millions and thousands in other languages with Latin letters.
_NUMERIC_STEM = re.compile(
    r"mil+i?[oóõ]n|mil(?:j|iar|liar)|bil+i?[oóõ]n|tril+i?[oóõ]n|tausend|hundert|mil(?:le)?$"
)
_FILLERS = words("""
of per a an the each every for in on at total left remaining altogether all away long tall wide high deep
old is are was were have been has had there his her its their our my your he she it they we you who that
this with as
""")
_AREA = {"square": "^2", "sq": "^2", "cubic": "^3", "cu": "^3"}

_LEADING = words("""
a an the total sum of is are was were be equals equal answer final there it he she they we you i so has
have had needs need takes take costs cost makes make earns earn pays pay spends spend saves save gets get
got left only exactly altogether amount number result value will in all thus therefore hence then now can
must should would his her their your our this that area length width height price distance time age count
as us usd eur gbp rs inr sells sold bought buys uses used eats ate gives gave collected won read walked
ran drove runs walks drives receives received difference probability perimeter speed volume average mean
median side radius diameter circumference weight mass temperature rate slope angle change balance
remaining
""")
_NAMED = re.compile(r"[A-Z][a-z]+(?: and [A-Z][a-z]+)? (?=[a-z])")
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_PHRASE = re.compile(r"(?:[^\W\d_]|[ '.,()/$€£¥-])*")


def leads(phrase: str) -> bool:
    """Tell whether words before a number leave its value alone, as in "a total of" or "Janet makes"."""
    words = _WORD.findall(_NAMED.sub("", phrase.strip() + " ", count=1))
    harmless = re.fullmatch(r"(?:[^\W\d_]|[ ':,(])*", phrase) is not None
    named = _NAMED.match(phrase.strip() + " ")
    if named and any(w.lower() in _VALUE_WORDS for w in _WORD.findall(named[0]) if w != "and"):
        return False
    return harmless and all(w.lower() in _LEADING for w in words)


def counted(phrase: str) -> str | None:
    """Return the canonical unit in a phrase after a number: '' for none, None if it may change the value.

    "cm" and "centimeters" are one unit; a noun phrase ("apples per week") is its own.
    """
    phrase = phrase.strip().rstrip(".,;:").strip()
    if phrase.startswith("(") and phrase.endswith(")"):
        phrase = phrase[1:-1].strip()
    if not phrase:
        return ""
    if not _PHRASE.fullmatch(phrase) or re.search(
        r"[-/,.'] *[-/,.']|\.[^\W\d_]|^[-,.'/](?! ?[^\W\d_])|- | -", phrase
    ):
        return None
    words = re.findall(r"[^\W\d_]+(?:['-][^\W\d_]+)*|[$€£¥/]", phrase)
    kept: list[str] = []
    power = ""
    for i, word in enumerate(words):
        lower = word.lower()
        if i + 1 < len(words) and lower in _AREA:
            power = _AREA[lower]
        elif kept and kept[-1] in UNITS.values() and lower in ("squared", "cubed"):
            kept[-1] += "^2" if lower == "squared" else "^3"
        elif (word in UNITS or (len(word) > 2 and lower in UNITS)) and (word != "in" or i + 1 == len(words)):
            kept.append((UNITS.get(word) or UNITS[lower]) + power)
            power = ""
        elif word == "/":
            kept.append("per")
        elif lower in _FILLERS or is_noun(word):
            kept.append(_singular(lower) + power)
            power = ""
        else:
            return None
    return " ".join(kept)


def is_noun(word: str) -> bool:
    """Tell whether a word of Latin letters can be what is counted."""
    parts = re.split("['-]", word.lower().removesuffix("'s"))
    latin = all(ord(c) < 0x250 for c in word)
    return latin and len(parts[0]) > 2 and not any(p in _VALUE_WORDS or _NUMERIC_STEM.match(p) for p in parts)


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
