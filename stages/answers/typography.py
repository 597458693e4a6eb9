# ruff: noqa: RUF001  (signs that look like others are the subject)
r"""One spelling for what is written in many ways: Unicode signs as LaTeX, and LaTeX without its layout.

Nothing here changes what a text says. "5²" becomes "5^{2}" and "½" becomes "\frac{1}{2}" before NFKC, which
would make them "52" and "1/2".
"""

import re
import unicodedata

_GREEK = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau "
_GREEK += "upsilon phi chi psi omega"
_SIGNS = {
    **{c: "-" for c in "\u2212\u2010\u2011\u2012\u2013\ufe63\uff0d"},
    **{c: " " for c in "\u00a0\u2009\u202f\u2002\u2003\u2007"},
    **{c: "'" for c in "\u2018\u2019\u201b\u02bc\uff07"},
    **{c: '"' for c in "\u201c\u201d\u201e\u00ab\u00bb"},
    "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "÷": r"\div ", "∕": "/", "⁄": "/",
    "±": r"\pm ", "∓": r"\mp ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "≡": r"\equiv ",
    "∞": r"\infty ", "∪": r"\cup ", "∩": r"\cap ", "∅": r"\emptyset ", "∈": r"\in ", "°": r"^{\circ}",
    "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}",
    "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ", "∠": r"\angle ", "…": r"\ldots ",
    "∧": r"\land ", "∨": r"\lor ", "⟨": r"\langle ", "⟩": r"\rangle ", "′": "'", "ℓ": "l",
    "ϕ": r"\phi ", "ϵ": r"\epsilon ", "ε": r"\varepsilon ",
}  # fmt: skip
for _name in _GREEK.split():
    for _case, _command in (("SMALL", _name), ("CAPITAL", _name.capitalize())):
        _letter = unicodedata.lookup(f"GREEK {_case} LETTER {_name.replace('lambda', 'lamda').upper()}")
        _SIGNS.setdefault(_letter, f"\\{_command} ")
_TABLE = str.maketrans(_SIGNS)

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿⁱ", "0123456789+-ni")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋", "0123456789+-")
_RAISED, _LOWERED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿⁱ]+"), re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋]+")
_VULGAR = re.compile("[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅐⅛⅜⅝⅞⅑⅒]")
_ROOT = re.compile(r"([√∛∜])\s*(?:([0-9]+(?:\.[0-9]+)?|[A-Za-z])|\(([^()]*)\)|(?=\{))")
_ROOTS = {"√": r"\sqrt", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]"}
# Separators of groups of three digits that cannot be anything else.
_THIN = "\u2009\u202f\u00a0"
_GROUPS = re.compile(
    rf"(?<![0-9.,])[0-9]{{1,3}}"
    rf"(?:(?P<gap>[{_THIN}'’_]|\{{,\}}|,?\\[,!:; ] ?)[0-9]{{3}})(?:(?P=gap)[0-9]{{3}})*(?![0-9])"
)


def in_latex(text: str) -> str:
    """Return `text` with Unicode's mathematical signs as LaTeX commands, and NFKC for the rest of it."""
    text = "".join(c for c in text if unicodedata.category(c) != "Cf")
    text = _GROUPS.sub(lambda m: re.sub("[^0-9]", "", m[0]), text)
    text = _RAISED.sub(lambda m: f"^{{{m[0].translate(_SUPERSCRIPTS)}}}", text)
    text = _LOWERED.sub(lambda m: f"_{{{m[0].translate(_SUBSCRIPTS)}}}", text)
    text = _VULGAR.sub(_fraction, text)
    text = _ROOT.sub(lambda m: f"{_ROOTS[m[1]]}{'' if m.end() == m.end(1) else '{'}{m[2] or m[3] or ''}"
                     f"{'' if m.end() == m.end(1) else '}'}", text)  # fmt: skip
    return unicodedata.normalize("NFKC", text.translate(_TABLE)).translate(_TABLE)


def _fraction(match: re.Match[str]) -> str:
    top, bottom = unicodedata.normalize("NFKC", match[0]).split("\u2044")
    return rf"\frac{{{top}}}{{{bottom}}}"


_LAYOUT = [
    (re.compile(r"\\(?:left|right|[bB]igg?[lrm]?)(?=\s*(?:[()\[\]|/]|\\[{}|a-zA-Z]))(?![a-zA-Z])\s*"), ""),
    (re.compile(r"\\(?:displaystyle|textstyle|scriptstyle|limits|nolimits|bf|rm|it)(?![a-zA-Z])"), " "),
    (re.compile(r"\\color\s*\{[^{}]*\}|\\textcolor\s*\{[^{}]*\}"), ""),
    (re.compile(r"\\(?:boxed|fbox)\s*(?=\{)"), ""),
    (re.compile(r"\\(?:phantom|hspace|vspace)\*?\s*\{[^{}]*\}"), ""),
    (re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\\[dt]binom(?![a-zA-Z])"), r"\\binom"),
    (re.compile(r"\\(?:leqslant|leq)(?![a-zA-Z])"), r"\\le "),
    (re.compile(r"\\(?:geqslant|geq)(?![a-zA-Z])"), r"\\ge "),
    (re.compile(r"\\neq(?![a-zA-Z])|\\not\s*=|!="), r"\\ne "),
    (re.compile(r"(?<=[\w)}])\s*\*\*\s*(?=[\w({-])"), "^"),
    (re.compile(r"<=|=<"), r"\\le "),
    (re.compile(r">="), r"\\ge "),
    (re.compile(r"\\lt(?![a-zA-Z])"), "<"),
    (re.compile(r"\\gt(?![a-zA-Z])"), ">"),
    (re.compile(r"\\[lr]vert(?![a-zA-Z])|\\[lrm]id(?![a-zA-Z])|\\vert(?![a-zA-Z])"), "|"),
    (re.compile(r"\\(?:lbrace)(?![a-zA-Z])"), r"\\{"),
    (re.compile(r"\\(?:rbrace)(?![a-zA-Z])"), r"\\}"),
    (re.compile(r"\\varnothing(?![a-zA-Z])"), r"\\emptyset "),
    (re.compile(r"\\(?:dots|cdots|dotsc|ldots)(?![a-zA-Z])|\.\.\."), r"\\ldots "),
    (re.compile(r"\\(?:text)?degree(?![a-zA-Z])|\^\s*(?:\\circ(?![a-zA-Z])|\{\s*\\circ\s*\})"), r"\\degree "),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\\\$"), "$"),
]  # fmt: skip
_SPACE = re.compile(
    r"(\\\\)|\\[,;:!> ]|(?<=\S)~|\\q?quad(?![a-zA-Z])|\\(?:thin|med|thick|enspace)space(?![a-zA-Z])"
)
_DOUBLED = re.compile(r"\\\\(?=[a-zA-Z])")


def tidy(text: str) -> str:
    r"""Return `text` without the LaTeX that only lays it out: sizes, colours, spaces, twin commands.

    The degree sign becomes `\degree`, digit groups lose their separators unless these are plain commas.
    """
    if r"\begin" not in text:
        text = _DOUBLED.sub(r"\\", text)  # models that imitate JSON write `\\frac`
    text = _GROUPS.sub(lambda m: re.sub("[^0-9]", "", m[0]), text)
    for pattern, replacement in _LAYOUT:
        text = pattern.sub(replacement, text)
    return _SPACE.sub(lambda m: m[1] or " ", text)
