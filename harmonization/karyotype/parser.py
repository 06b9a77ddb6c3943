"""ISCN text to clones: a recursive-descent parser that says where it stopped and what it expected.

It reads the short system of ISCN 2016/2020 and, beside it, what laboratories write in its place and can be read in one
way only: lower case, spaces and underscores, ``;`` for ``/``, ``:`` for ``;`` in parentheses, a missing comma before a
sign, ``iso``, ``2xdel(5)``, ``del(5q)``, ``5q-``, ``9ph``. Everything else is an error: a free remark behind the
karyotype may say the contrary of it ("46,XX; monosomy 7 by FISH").
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

from harmonization.karyotype.notation import CHROMOSOMES, Abnormality, Clone, Karyotype, KaryotypeError

FAILED = re.compile(
    r"(no|keine?)\s+(analysable |analyzable |analysierbaren? |auswertbaren? )?"
    r"(metaphases?|metaphasen|mitoses|mitosen|growth|result)"
    r"|(culture )?(failed|failure)|unsuccessful|insufficient( material)?|(no|kein) material"
)
NOT_DONE = re.compile(r"no analysis|not (done|performed|tested)|n\.?d\.?|nicht (durchgeführt|gemacht)")

_SPACE = re.compile(r"[\s_]*")
_COUNT = re.compile(r"(?:~|ca\.?\s*)?(\d{2,3})(?:\s*[-~–]\s*(\d{2,3}))?(?:\s*<\d?n[+-]?>)?")
_CLONE_HEAD = re.compile(r"(?:~|ca\.?\s*)?\d{2,3}(?:\s*[-~–]\s*\d{2,3})?(?:\s*<\d?n[+-]?>)?\s*,")
_SEX = re.compile(r"[xyu]+(?![a-z(])|\?(?=,)")
_CELLS = re.compile(r"\s*(?:\[\s*(cp)?\s*(\d*)\s*\]|cp\s*\[\s*(\d*)\s*\])")
_SIGN = re.compile(r"([+-]?)\s*(\??)\s*([+-]?)\s*(\??)")
_TIMES_BEFORE = re.compile(r"(\d)\s*x\s*(?=[a-z(]|\d\d)")
_TIMES_EITHER = re.compile(r"\d\s*x\s*\d(?!\d)")  # +8x2: two copies of 8, or eight of 2?
_TIMES_AFTER = re.compile(r"\s*[x*×]\s*(\d)(?:\s*[-~]\s*(\d))?")
_MARKER = re.compile(r"(?:(\d+)(?:\s*[-~]\s*(\d+))?\s*)?(mar|dmins?|r)(?![a-z(])(\d+)?(?:\s*[-~]\s*(\d+)(?![a-z]))?")
_STEMLINE = re.compile(r"(idem|sdl|sl)(\d*)(?![a-wyz]|x\D)")
_HETEROMORPHISM = re.compile(r"(\d{1,2}|x|y)\s*(?:ph|qh|phqh|cenh|pss|ps|pstk|stk)[+-]?(?![a-z])")
_SEX_AGAIN = re.compile(r"[xyu]+(?![a-z(\d])")
_INCOMPLETE = re.compile(r"inc(?![a-z])")
_OR = re.compile("or")
_DOUBT = re.compile(r"\?")
_PREFIX = re.compile(r"(?:mos|chi)\s")
_ARM = re.compile(r"(\d{1,2}|x|y)\s*([pq])([+-])")
_NUMBER = re.compile(r"(\d{1,2}|x|y)(?![\d(a-z]|\s*[pq])|(\d{1,2}|x|y)(?=(?:c|or|x\s*\d)(?![a-z]))")
_SYMBOL = re.compile(
    r"(inv dup|psu dic|psu idic|dup|del|inv|ins|ider|idic|iso|add|der|dic|tas|trp|trc|qdp|rob|rec|fra|fis|hsr|abn|upd"
    r"|t|i|r)(?=\s*\()|(der|hsr)(?![a-z])"
)
_PART = re.compile(r"\??\s*(?:" + _SYMBOL.pattern + r")\s*\(")
_CHROMOSOME = re.compile(r"\??\s*(\d{1,2}|[xy]|\?)\s*([pq](?![\d?]))?")
_BAND = re.compile(
    r"\??(cen|[pq]\??(?:ter|(?:\d|\?)*(?:\.\d+)?\??)|\d{1,2}(?:\.\d+)?|\?)"
    r"(?:\s*(?:[-~/]|or)\s*([pq]?\d+(?:\.\d+)?\??))?"
)
_SEPARATOR = re.compile(r"\s*[;:,/]\s*")
_CELLS_OF_ITEM = re.compile(_CELLS.pattern + r"\s*(?:,|[+-]|cp|\[)(?!\s*" + _CLONE_HEAD.pattern + ")")
_BEYOND = re.compile(r"[.\s]*\b(?:nuc[\s_]*ish|ish|arr|wcp|mlpa)\b.*$", re.DOTALL)
_INBORN = re.compile(r"\s*(?:c(?![a-z])|mat\b|pat\b|dn\b|dinh\b|inh\b)")

_NEAR_CENTROMERE_9 = re.compile(r"p1[1-3]|q1[1-3]")
"""inv(9)(p12q13) and its like are inborn variants (ISCN 7.1.1), also where a laboratory leaves out the c."""

_RENAMED = {
    "iso": "i",
    "rob": "der",
    "rec": "der",
    "psu dic": "dic",
    "psu idic": "idic",
    "inv dup": "dup",
    "dmins": "dmin",
}


@lru_cache(maxsize=4096)
def parse_karyotype(text: str, sex: str | None = None) -> Karyotype:
    """Read the result of a chromosome analysis.

    Parameters
    ----------
    text
        A karyotype by ISCN 2016/2020 (or close to it, see above), or words that say that there is none.
    sex
        ``male`` or ``female``, the patient's: decides whether ``45,X`` has lost a Y or an X where no other clone tells.

    Returns
    -------
    Karyotype
        With no clones if the analysis failed (`Karyotype.failed`) or was not done.

    Raises
    ------
    KaryotypeError
        Naming the text, the position and what was expected there.
    """
    words = text.strip().rstrip(".").lower()
    if FAILED.fullmatch(words):
        return Karyotype(text, (), failed=True)
    if NOT_DONE.fullmatch(words):
        return Karyotype(text, ())
    return _Parser(text).karyotype(sex)


class _Parser:
    def __init__(self, text: str) -> None:
        lowered = text.lower()
        if len(lowered) != len(text):  # some capitals have longer small letters; none belongs here
            raise KaryotypeError(text, 0, "plain letters")
        beyond = _BEYOND.search(lowered)
        self.text, self.at = text, 0
        self.end = beyond.start() if beyond else len(text.rstrip())
        self.lowered = lowered[: self.end]
        self.unread = text[self.end :].strip(" .") if beyond else ""
        self.clones: list[Clone] = []
        self.incomplete = False

    # -- the text, piece by piece

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        space = _SPACE.match(self.lowered, self.at)
        start = space.end() if space else self.at
        match = pattern.match(self.lowered, start)
        if match:
            self.at = match.end()
        return match

    def sees(self, pattern: re.Pattern[str]) -> bool:
        before = self.at
        found = self.take(pattern) is not None
        self.at = before
        return found

    def sees_any(self, letters: str) -> bool:
        space = _SPACE.match(self.lowered, self.at)
        at = space.end() if space else self.at
        return at < self.end and self.lowered[at] in letters

    def accept(self, letters: str) -> bool:
        if self.sees_any(letters):
            space = _SPACE.match(self.lowered, self.at)
            self.at = (space.end() if space else self.at) + 1
            return True
        return False

    def fail(self, expected: str) -> KaryotypeError:
        space = _SPACE.match(self.lowered, self.at)
        return KaryotypeError(self.text, space.end() if space else self.at, expected)

    def ended(self) -> bool:
        space = _SPACE.match(self.lowered, self.at)
        return (space.end() if space else self.at) >= self.end

    # -- clones

    def karyotype(self, sex: str | None) -> Karyotype:
        self.take(_PREFIX)
        while True:
            self.clones.append(self.clone())
            if self.ended():
                break
            if self.accept("/;"):
                self.accept("/")  # chimerism, //
                if self.ended():
                    break
            elif not self.sees(_CLONE_HEAD):
                raise self.fail("',' and an abnormality, '[' and a number of cells, or '/' and another clone")
        clones = _with_lost_sex(tuple(self.clones), sex)
        return Karyotype(self.text, clones, self.unread, self.incomplete)

    def clone(self) -> Clone:
        count = self.take(_COUNT)
        if not count:
            raise self.fail("a number of chromosomes such as 46")
        low = int(count[1])
        high = int(count[2] or low)
        if not 20 <= low <= high <= 300:
            self.at = count.start()
            raise self.fail("a number of chromosomes of 20 to 300")
        self.accept(",")
        gender = self.take(_SEX)
        if gender:
            self.take(_INBORN)  # 47,XXYc; without the c it is taken for inborn as well: what is acquired is written +X
        elif not self.sees(_STEMLINE) and not self.sees_any("+-"):
            raise self.fail("the sex chromosomes (XX, XY, X, ...), or idem or sl")
        sex = gender[0] if gender else ""
        abnormalities = self.items(sex)
        cells, composite = self.cells()
        if gender and not abnormalities and not self.incomplete and not low - 1 < 44 + len(sex) < high + 1 and low < 58:
            self.at = count.start()
            raise self.fail(f"{44 + len(sex)} chromosomes, or the abnormality that makes it {count[0]}")
        if not gender and self.clones:
            sex = self.clones[0].sex
        return Clone((low, high), sex.upper().strip("U?"), tuple(abnormalities), cells, composite)

    def cells(self) -> tuple[int | None, bool]:
        match = self.take(_CELLS)
        if not match:
            return None, False
        number = match[2] if match[3] is None else match[3]
        return (int(number) if number else None), bool(match[1] or match[3] is not None)

    def items(self, sex: str) -> list[Abnormality]:
        """The list of a clone, the stemline's included."""
        found: list[Abnormality] = []
        stem: list[Abnormality] = []
        if not sex:
            self.one(found, stem)
        while self.accept(",") or self.sees_any("+-"):
            if self.sees(_CELLS) or self.ended():
                break  # a list that ends in a comma
            if sex and not found and (again := self.take(_SEX_AGAIN)) and again[0] != sex:
                self.at = again.start()
                raise self.fail("an abnormality (the sex chromosomes stand before)")
            if not (sex and not found and again):
                self.one(found, stem)
        return _evolved(stem, found)

    def one(self, found: list[Abnormality], stem: list[Abnormality]) -> None:
        if self.take(_INCOMPLETE):
            self.incomplete = True
        elif match := self.take(_STEMLINE):
            stem.extend(self.stemline(match))
            self.take(_TIMES_AFTER)  # idemx2: the same abnormalities in a doubled clone
        else:
            found.append(self.item())

    def stemline(self, match: re.Match[str]) -> tuple[Abnormality, ...]:
        if not self.clones:
            self.at = match.start()
            raise self.fail("an abnormality (there is no clone yet for 'idem', 'sl' or 'sdl' to refer to)")
        if match[1] in ("idem", "sl"):
            return self.clones[0].abnormalities  # the stemline is the clone given first
        if not match[2]:
            return self.clones[-1].abnormalities
        if int(match[2]) >= len(self.clones):
            self.at = match.start()
            raise self.fail(f"a sideline that was given before ({len(self.clones) - 1} were)")
        return self.clones[int(match[2])].abnormalities

    # -- abnormalities

    def item(self) -> Abnormality:
        signs = self.take(_SIGN)
        assert signs is not None  # it also matches nothing
        sign = {"+": 1, "-": -1, "": 0}[signs[1] or signs[3]]
        uncertain = bool(signs[2] or signs[4])
        if self.sees(_TIMES_EITHER):
            raise self.fail("each copy by itself (+8,+8): it could be either number")
        before = self.take(_TIMES_BEFORE)
        times = int(before[1]) if before else 1
        found = self.bare_item(sign)
        after = self.take(_TIMES_AFTER)
        low, high = (int(after[1]), int(after[2] or after[1])) if after else (1, 1)
        inborn = bool(self.take(_INBORN)) or found.constitutional
        uncertain |= bool(self.take(_DOUBT))
        if self.take(_OR):  # either of two: what is known is that there is one
            self.item()
            uncertain = True
        # [5] between two abnormalities of a composite karyotype: cells with the one before
        cells = self.cells()[0] if self.sees(_CELLS_OF_ITEM) else None
        return replace(
            found,
            copies=(found.copies[0] * times * low, found.copies[1] * times * high),
            uncertain=uncertain or found.uncertain,
            constitutional=inborn,
            cells=cells,
        )

    def bare_item(self, sign: int) -> Abnormality:
        if match := self.take(_MARKER):
            kind = _RENAMED.get(match[3], match[3])
            low = int(match[1] or 1)
            high = int(match[2] or low)
            if match[4] and match[5]:  # mar1-5 are five markers
                low = high = max(1, int(match[5]) - int(match[4]) + 1)
            return Abnormality(kind, sign=min(sign, 0), copies=(low, high), label=match[4] or "")
        if match := self.take(_HETEROMORPHISM):
            return Abnormality("heteromorphism", (_chromosome(match[1]),), ((),), constitutional=True)
        if match := self.take(_ARM):  # 5q-
            kind = "del" if match[3] == "-" else "add"
            return Abnormality(kind, (self.known(match[1], match.start()),), ((match[2],),), sign=sign)
        if sign and (match := self.take(_NUMBER)):
            name = self.known(match[1] or match[2], match.start())
            return Abnormality("gain" if sign > 0 else "loss", (name,), ((),))
        if match := self.take(_SYMBOL):
            return self.structural(match[1] or match[2], sign)
        raise self.fail("an abnormality such as +8, -7, del(5)(q13q33), t(8;21)(q22;q22) or +mar")

    def structural(self, symbol: str, sign: int) -> Abnormality:
        kind = _RENAMED.get(symbol, symbol)
        if not self.sees_any("("):  # der, hsr
            return Abnormality(kind, sign=sign)
        chromosomes, arms, uncertain = self.chromosomes()
        if kind in ("del", "dup", "add", "i", "idic") and len(chromosomes) > 1:
            raise self.fail(f"a single chromosome in {symbol}()")
        breaks = self.breaks(kind, len(chromosomes)) if self.sees_any("(") else None
        if breaks is None:
            breaks = tuple((arm,) if arm else () for arm in arms)
        if kind == "inv" and chromosomes == ("9",) and all(_NEAR_CENTROMERE_9.match(band) for band in breaks[0]):
            return Abnormality("heteromorphism", chromosomes, ((),), constitutional=True)
        parts: list[Abnormality] = []
        while self.sees(_PART):
            doubt = self.take(_DOUBT)
            match = self.take(_SYMBOL)
            assert match is not None
            part = self.structural(match[1] or match[2], 0)
            parts += [replace(part, parts=(), uncertain=bool(doubt)), *part.parts]
        return Abnormality(kind, chromosomes, breaks, tuple(parts), sign, uncertain=uncertain)

    def chromosomes(self) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
        names, arms, uncertain = [], [], False
        self.accept("(")
        while True:
            match = self.take(_CHROMOSOME)
            if not match:
                raise self.fail("a chromosome (1 to 22, X, Y or ?)")
            uncertain |= match[0].startswith("?") and match[1] != "?"
            names.append(self.known(match[1], match.start(1)))
            arms.append(match[2] or "")
            if self.accept(")"):
                return tuple(names), tuple(arms), uncertain
            if not self.take(_SEPARATOR):
                raise self.fail("';' or ')'")

    def breaks(self, kind: str, n: int) -> tuple[tuple[str, ...], ...]:
        groups: list[list[str]] = [[]]
        self.accept("(")
        while not self.accept(")"):
            if match := self.take(_SEPARATOR):
                if not groups[-1]:
                    self.at = match.start()
                    raise self.fail("a breakpoint such as q22")
                groups.append([])
            elif match := self.take(_BAND):
                before = groups[-1] or (groups[-2] if n == 1 and len(groups) > 1 else [])
                arm = before[-1][0] if before and before[-1][0] in "pq" else ""
                groups[-1].append(match[1] if match[1][0] in "pqc?" else arm + match[1] if arm else f"?{match[1]}")
            else:
                raise self.fail("a breakpoint such as q22, or ')'")
        if len(groups) > n and n == 1:  # del(5)(q13;q33)
            groups = [[band for group in groups for band in group]]
        elif len(groups) == 1 and n > 1 and len(groups[0]) == n:  # dic(5;17)(q21p12)
            groups = [[band] for band in groups[0]]
        elif len(groups) > n and kind == "ins":  # ins(2;4)(p2;q1,q2)
            groups = [groups[0], [band for group in groups[1:] for band in group]]
        if len(groups) > n:
            raise self.fail(f"breakpoints for {n} chromosomes, not {len(groups)}")
        return tuple(tuple(group) for group in groups) + ((),) * (n - len(groups))

    def known(self, name: str, at: int) -> str:
        chromosome = _chromosome(name)
        if chromosome != "?" and chromosome not in CHROMOSOMES:
            self.at = at
            raise self.fail("a chromosome (1 to 22, X, Y)")
        return chromosome


def _chromosome(name: str) -> str:
    return name.upper().lstrip("0") or name


def _evolved(stem: list[Abnormality], found: list[Abnormality]) -> list[Abnormality]:
    """The stemline's abnormalities, changed by a subclone's own list: ``idem,-mar`` and ``idem,+7`` take away again."""
    kept = list(stem)
    own = []
    for item in found:
        if item in kept and not item.sign and item.kind not in ("gain", "loss"):
            continue  # said again, without the + or x2 that would make it another one
        undone = next((old for old in kept if _undoes(item, old)), None)
        if undone:
            kept.remove(undone)
        else:
            own.append(item)
    return [*kept, *own]


def _undoes(item: Abnormality, old: Abnormality) -> bool:
    if item.kind in ("gain", "loss"):
        return {item.kind, old.kind} == {"gain", "loss"} and item.chromosomes == old.chromosomes
    return item.sign < 0 and (item.kind, item.chromosomes, item.label) == (old.kind, old.chromosomes, old.label)


def _with_lost_sex(clones: tuple[Clone, ...], sex: str | None) -> tuple[Clone, ...]:
    """``45,X``, where a laboratory leaves out what was lost: Y in a man, X in a woman, unknown if nothing tells."""
    return tuple(_lost_sex(clone, clones, sex) for clone in clones)


def _lost_sex(clone: Clone, clones: tuple[Clone, ...], sex: str | None) -> Clone:
    names = {name for a in clone.abnormalities for part in a.with_parts() for name in part.chromosomes}
    if clone.sex != "X" or names & {"X", "Y"} or clone.chromosomes[0] > 45:
        return clone
    told = [other.sex for other in clones if other.sex in ("XX", "XY")]
    lost = told[0][1] if told else {"male": "Y", "female": "X"}.get(sex or "", "?")
    return replace(clone, abnormalities=(Abnormality("loss", (lost,), ((),)), *clone.abnormalities))
