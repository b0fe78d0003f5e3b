"""Whether a prompt says that no lettering is wanted, in the wordings of many languages. Pure: tables, and a small reader of them.

A wording is a *negation* (no, without, do not add), up to a few words, and a *noun* (text, lettering, letters). What stands between, and
what comes behind, decides: `without any visible text or logos` and `no watermark, text, or logo` want none; `no readable text`, `no
English text`, `no text on the shirt` may allow some, and are uncertain. Where the noun comes first (Turkish, Japanese, Korean), whole
phrases stand in `PHRASES`, and `DOUBTS` names what makes them uncertain.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

BETWEEN_MAX = 8
"""Words between a negation and its noun."""
BEHIND_MAX = 4


@dataclass(frozen=True, slots=True)
class Tongue:
    """How one language says it: alternatives of regular expressions, each for whole words.

    `plain`: words between that change nothing (any, visible). `joins`: what parts a list. `breaks`: words that end what is negated.
    `behind`: what follows the noun and may allow some text elsewhere.
    """

    negations: str
    nouns: str
    plain: str
    joins: str
    breaks: str = ""
    behind: str = ""
    picture: str = ""


_ADD = r"add|adding|includ\w+|contain\w*|have|having|us(?:e|ing)|writ(?:e|ing)|put(?:ting)?|show\w*|render\w*|plac\w+|insert\w*|generat\w+|draw\w*|"
_ADD += r"display\w*|featur\w+|print\w*|overlay|want|need"
TONGUES = {
    "en": Tongue(
        rf"no|without|w/o|zero|minus|nor|(?:free|devoid|clear|empty|void) (?:of|from)|avoid(?:ing)?|exclud(?:e|ing)|omit(?:ting)?|remov(?:e|ing)|"
        rf"lack(?:s|ing)|skip|leave out|(?:(?:do|does|did|must|should|shall|may|can|could|will) ?not|don['’]?t|doesn['’]?t|mustn['’]?t|"
        rf"shouldn['’]?t|can['’]?t|won['’]?t|never|not)(?: (?:to|ever|please))? (?:{_ADD})",
        r"texts?|lettering|letters?|words?|writings?|typography|typographies|captions?|wording|inscriptions?|handwriting|subtitles?|textual",
        r"any|visible|written|printed|type|types|kind|kinds|sort|form|forms|of|whatsoever|single|at|all|the|alphabet\w*|textual|painted",
        r"or|and|nor|no|without|any|&|plus|and/or",
        r"a|an|with|but|on|in|that|which|who|says?|reads?|reading|saying|just|only|for|is|are|has|holding|wearing|featuring|showing|please",
        r"except\w*|other|besides|apart|beyond|outside|unless|but|need\w*|requir\w+|necessary|overlays?|overlap\w*|errors?|artifacts?|artefacts?|"
        r"distort\w*|glitch\w*|messages?|box(?:es)?|blocks?|bubbles?|being|books?|boundar\w+|cut\w*|can|could|to|than|elsewhere|deformation|"
        r"(?:on|in|near|above|over|under|behind|around|across|inside|at|along|below) (?!all|it\b|any)",
        r"(?:on|in|within|across|anywhere (?:on|in)) (?:the |this |that |any |an? )?(?:whole |entire |final |generated |main )?(?:image|picture|photo\w*|"
        r"frame|design|scene|composition|illustration|artwork|video|render\w*|shot|drawing|output|result|poster)s?\b",
    ),
    "de": Tongue(
        r"kein(?:e|en|er|em|es|erlei)?|ohne|frei von|verzicht\w* auf|vermeide\w*|weder|noch|nicht|null",
        r"text(?:e|es|en|elemente\w*)?|schrift(?:en|zug|zuge|züge|zügen|zeichen)?|beschriftung(?:en)?|buchstaben|wörter|wörtern|worte|worten|wort|"
        r"aufschrift(?:en)?|lettern|typogra(?:f|ph)ie|bildunterschrift(?:en)?|geschriebenes",
        r"jeglich\w*|jed\w+|irgend\w+|sichtbar\w*|einzig\w*|geschrieben\w*|gedruckt\w*|art von|arten von|den|die|das",
        r"oder|und|noch|sowie|bzw\.?|keine?|ohne",
        r"ein\w*|mit|aber|auf|der|im|in|steht|das|nur|für",
        r"au(?:ß|ss)er|bis auf|nötig|notwendig|erforderlich|überlagerung\w*|fehler\w*|(?:auf|in|im|am|an) ",
        r"(?:auf|in|im) (?:dem |der |diesem )?(?:gesamten |ganzen )?(?:bild|foto|motiv|szene|illustration|grafik|aufnahme)\b",
    ),
    "fr": Tongue(
        r"(?<!comic )(?<!open )(?<!noto )(?<!gill )sans|pas (?:de|d['’])|aucun(?:e)?|ni|dépourvue? de|exempte? de|évite[rz]?|zéro|"
        r"ne pas (?:ajouter|mettre|inclure|écrire)(?: de| d['’]| du)?|n['’]ajoute[rz]? pas(?: de)?",
        r"textes?|mots?|lettres?|lettrages?|inscriptions?|écritures?|écrits?|typographies?|légendes?|caractères",
        r"aucun\w*|visibles?|le|la|les|moindre|du|de|tout|quelconque",
        r"ou|et|ni|sans|de",
        r"un|une|avec|mais|sur|dans|qui|seulement",
        r"sauf|hormis|excepté|autre que|nécessaire|requis|lisible|supplémentaire|additionnel|en (?:anglais|français|surimpression)|(?:sur|dans|au|à) ",
        r"(?:sur|dans) (?:l['’]|la |cette )?(?:image|photo|scène|illustration)\b",
    ),
    "es": Tongue(
        r"sin|ning[uú]n(?:a)?|libre de|nada de|evita[r]?|ni|cero|no (?:añad\w+|inclu\w+|pon\w+|agreg\w+|escrib\w+|us\w+|conteng\w+|contiene)",
        r"textos?|letras?|palabras?|escritura|escritos?|tipograf[ií]a|letreros?|leyendas?|rotulaci[oó]n|r[oó]tulos?|inscripciones",
        r"ning[uú]n\w*|visibles?|tipo|de|el|la|alg[uú]n\w*|cualquier",
        r"o|u|y|e|ni|sin",
        r"un|una|con|pero|en|que|s[oó]lo",
        r"salvo|excepto|legibles?|adicional\w*|extra|necesari\w+|en (?:ingl[eé]s|espa[nñ]ol)|superpuest\w+|(?:en|sobre) ",
        r"(?:en|sobre) (?:la |esta )?(?:imagen|foto\w*|escena|ilustraci[oó]n)\b",
    ),
    "it": Tongue(
        r"senza|nessun(?:a|o)?|niente|priv[ao] di|evita(?:re)?|né|zero|non (?:aggiung\w+|inclu\w+|inser\w+|scriv\w+|metter\w+|conten\w+)",
        r"test[oi]|scritt[ae]|parol[ae]|letter[ae]|scrittur[ae]|didascali[ae]|tipografia|caratteri|lettering",
        r"alcun\w*|nessun\w*|visibil\w+|di|il|la|tipo|qualsiasi",
        r"o|e|ed|né|senza",
        r"un|una|uno|con|ma|su|in|che|solo",
        r"tranne|eccetto|leggibil\w+|aggiuntiv\w+|altr\w+|necessari\w+|in inglese|(?:su|sul\w*|in|nel\w*) ",
        r"(?:su|sull['’]|nell['’]|nella |sulla )\s?(?:immagine|foto|scena)\b",
    ),
    "pt": Tongue(
        r"sem|nenhum(?:a)?|livre de|nada de|evit(?:e|ar)|nem|zero|não (?:adicion\w+|inclu\w+|coloc\w+|us\w+|escrev\w+|conter|contém|ponha\w*)",
        r"textos?|letras?|palavras?|escrit[ao]s?|tipografia|letreiros?|legendas?|inscrições|dizeres",
        r"nenhum\w*|qualquer|visíve\w+|tipo|de|o|a|algum\w*",
        r"ou|e|nem|sem",
        r"um|uma|com|mas|em|no|na|que|só",
        r"exceto|salvo|legíve\w+|adiciona\w+|extra|necessári\w+|em inglês|sobrepost\w+|(?:em|no|na|sobre) ",
        r"(?:em|na|no|sobre) (?:a )?(?:imagem|foto\w*|cena)\b",
    ),
    "nl": Tongue(
        r"geen(?: enkele)?|zonder|vrij van|vermijd|noch|nul|niet",
        r"tekst(?:en)?|letters?|woorden|woord|opschrift(?:en)?|belettering|schrift|bijschrift(?:en)?|typografie|geschreven tekst",
        r"enige|enkele|zichtbare|geschreven|soort|de|het",
        r"of|en|noch|geen|zonder",
        r"een|met|maar|op|in|die|alleen",
        r"behalve|nodig|overlays?|fouten|(?:op|in|aan) ",
        r"(?:op|in) (?:de |het )?(?:afbeelding|foto|beeld|scène)\b",
    ),
    "pl": Tongue(
        r"bez|żadn\w+|brak|nie (?:dodawaj\w*|umieszczaj\w*|pisz)|unikaj|ani|wolne od",
        r"tekst(?:u|ów|y|em)?|napis(?:u|ów|y)?|liter\w*|słów|słowa|pism[ao]|typografii|podpis(?:u|ów)|czcionek",
        r"żadn\w+|jakichkolwiek|jakiegokolwiek|widoczn\w+|pisanego",
        r"i|oraz|lub|albo|ani|czy|bez",
        r"z|ale|na|w|który|tylko",
        r"poza|oprócz|czyteln\w+|dodatkow\w+|angielsk\w+|(?:na|w|po) ",
        r"(?:na|w) (?:obrazie|obrazku|zdjęciu|scenie|grafice)\b",
    ),
    "sv": Tongue(
        r"ingen|inget|inga|utan|fri från|fritt från|undvik|varken|noll|inte",
        r"text(?:er|en)?|bokstäver|ord|skrift|typografi|påskrift(?:er)?|bildtext(?:er)?",
        r"någon|något|några|synlig\w*|som helst|skriven",
        r"och|eller|samt|utan|inga",
        r"en|ett|med|men|på|i|som|bara",
        r"utom|förutom|(?:på|i) ",
        r"(?:på|i) (?:bilden|fotot|scenen)\b",
    ),
    "da": Tongue(  # and Norwegian
        r"ingen|intet|uden|uten|fri for|undgå|unngå|hverken|verken|nul|ikke",
        r"tekst(?:er|en)?|bogstaver|bokstaver|ord|skrift|typografi|påskrift(?:er)?|billedtekst(?:er)?",
        r"nogen|noget|noe|noen|synlig\w*|skrevet|form|for|som|helst",
        r"og|eller|samt|uden|uten|ingen",
        r"en|et|med|men|på|i|der|som|kun|bare",
        r"undtagen|bortset|unntatt|(?:på|i) ",
        r"(?:på|i) (?:billedet|bildet|fotoet|scenen)\b",
    ),
    "cs": Tongue(  # and Slovak
        r"bez|žádn\w+|žiadn\w+|nepřidávej\w*|nepridávaj\w*|vyhni se|ani",
        r"text(?:u|ů|y|ov)?|nápis(?:u|ů|y|ov)?|písm(?:en|ena|eno|a|o)|slov[ao]?|popis(?:ků|ek|ky|kov)|typografie|titulků",
        r"jakéhokoli\w*|jakýchkoli\w*|žádn\w+|viditeln\w+|akéhokoľvek|psaného",
        r"a|i|nebo|alebo|ani|či|bez",
        r"s|se|ale|na|v|který|jen",
        r"kromě|okrem|čiteln\w+|(?:na|v|ve) ",
        r"(?:na|v|ve) (?:obrázku|obraze|fotografii|scéně)\b",
    ),
    "ru": Tongue(  # and Ukrainian
        r"без|никак\w+|нет|не (?:добавля\w+|пиш\w+|используй\w*|размещай\w*)|ни|жодн\w+",
        r"текст(?:а|ов|у|ы)?|надпис(?:и|ей|ь)|букв\w*|слов[ао]?|шрифт(?:а|ов)|подпис(?:и|ей)|напис(?:ів|у)|літер",
        r"как\w+-либо|любого|любых|видим\w+|всякого|будь-якого",
        r"и|или|либо|ни|без|та|або",
        r"с|но|на|в|который|только",
        r"кроме|за исключением|(?:на|в|во) ",
        r"(?:на|в) (?:изображении|картинке|фото\w*|кадре|сцене)\b",
    ),
    "fi": Tongue(r"ei|ilman|älä lisää", r"teksti[äa]?\w*|kirjaimia|sanoja|kirjoitusta", r"mitään|näkyvää", r"ja|tai|eikä"),
    "hu": Tongue(r"nincs(?:en)?|mentes", r"szöveg\w*|felirat\w*|betű\w*", r"semmilyen|látható", r"és|vagy|sem"),
    "ro": Tongue(r"fără|niciun", r"text\w*|litere|cuvinte|scris", r"niciun|vizibil", r"și|sau|nici"),
    "el": Tongue(r"χωρίς|καθόλου", r"κείμενο|γράμματα|λέξεις|κείμενα", r"κανένα|ορατό", r"και|ή|ούτε"),
    "id": Tongue(r"tanpa|tidak ada", r"teks|tulisan|huruf|kata", r"apa pun|sebarang", r"dan|atau"),
    "vi": Tongue(r"không có|không", r"chữ|văn bản|chữ viết", r"bất kỳ|nào", r"và|hoặc|hay"),
    "ar": Tongue(r"بدون|دون|بلا|لا يوجد", r"نص|نصوص|كتابة|كتابات|كلمات|حروف", r"أي", r"أو|و"),
    "he": Tongue(r"ללא|בלי|אין", r"טקסט|כיתוב|מילים|אותיות", r"שום|כל", r"או|ו"),
    "hi": Tongue(r"बिना|बिना किसी", r"टेक्स्ट|पाठ|अक्षर\w*|लिखावट", r"किसी|के", r"या|और"),
}
"""Adjectives that are in no `plain` make a wording uncertain: no *readable* text, keine *englische* Schrift."""

_CJK_TEXT = r"(?:文字|文本|字样|字樣|字母|字幕|标语|標語|文案|テキスト|字)"
PHRASES = {
    "en": r"\btext[- ]?free\b|\btextless\b|\bletter(?:ing)?[- ]?(?:free|less)\b|\bwordless\b|\bunlettered\b|\bnothing (?:is )?written\b|"
    r"\btexts? (?:is |are )?(?:not|never) (?:allowed|wanted|desired|permitted|needed)\b|\btexts?\s*[:=]\s*(?:none|no|false|off|n/a)\b|"
    r"\bno[- ]text\b(?! )|--no text\b",
    "de": r"\b(?:text|schrift)(?:frei|los)(?:e[rsnm]?)?\b|\btext (?:nicht|un)\s?erwünscht\b|\bnichts geschrieben\b|\bunbeschriftet\w*",
    "nl": r"\btekst(?:vrij|loos|loze|vrije)\b",
    "sv": r"\btext(?:fri|lös)(?:a|tt?)?\b|\btekst(?:fri|løs)(?:e|t)?\b",
    "fi": r"\btekstitön\b|\btekstittä\b",
    "hu": r"\bszöveg nélkül\w*|\bfelirat nélkül\w*|\bszövegmentes\w*",
    "tr": r"\b(?:metin|yazı|harf|kelime|metni|yazısı)(?:ler|lar)? ?(?:yok\w*|olmadan|olmasın|olmayan|olmamalı|içermeyen|içermesin|bulunmayan|"
    r"istemiyorum|ekleme\w*|koyma\w*|kullanma\w*)|\b(?:metin|yazı|harf)s[iı]z\w*|\bhiçbir (?:metin|yazı|harf|kelime)\b",
    "ja": r"(?:文字|テキスト|字幕|文章|ロゴや文字)(?:は|が|を|も|の|一切|など|、)*(?:なし|無し|ナシ|無く|なく|ない|入れない|入れず|いらない|不要|抜き|"
    r"含まない|含まず|書かない|描かない|使わない|表示しない)",
    "zh": rf"(?:没有|沒有|无|無|不要|不含|不带|不帶|不加|不需要|不出现|不出現|不包含|去掉|去除|避免|禁止|请勿添加|请勿|勿)(?:出现|出現|有|添加|加|任何|包含|使用|写|的|水印|、|和|或|图案|标志|logo|LOGO)*{_CJK_TEXT}"
    r"|(?:纯|純)?无字|無字",
    "ko": r"(?:텍스트|글자|글씨|문자|문구|자막|글)(?:나|도|는|은|가|이|을|를|와|과|로고|,|\s){0,4}(?:없음|없이|없는|없고|없애|없게|없어야|넣지|쓰지|"
    r"포함하지|금지|제외|빼고|불필요)",
    "th": r"ไม่มี(?:ข้อความ|ตัวอักษร|ตัวหนังสือ)|ไม่ต้องใส่(?:ข้อความ|ตัวอักษร)",
}
DOUBTS = {
    "tr": r"(?:okunabilir|okunaklı|ek|başka|ilave|fazladan|ingilizce|türkçe|üzerinde|üstünde)\s+$",
    "ja": r"(?:読める|読み取れる|他の|ほかの|余計な|追加の|英語の|英|余分な|日本語の)$",
    "zh": r"(?:可读|可读的|可识别|清晰|其他|其它|其他的|额外|额外的|多余|多余的|英文|英语|中文)(?:的)?$",
    "ko": r"(?:읽을 수 있는|다른|추가|영어|영문|한글|불필요한)\s*$",
    "en": r"(?:more|other|additional|extra|further|readable|legible)[ -]$",
}
_ZH_DOUBT = re.compile(
    r"(?:没有|沒有|无|無|不要|不含|不带|不加|不需要|不出现)(?:任何)?"
    rf"(?:(?:可读|可识别|其他|其它|其餘|额外|額外|多余|多餘|清晰)的?{_CJK_TEXT}|(?:英文|英语|中文)(?:的?{_CJK_TEXT})?)"
)


@dataclass(frozen=True, slots=True)
class Denial:
    """A place that speaks against lettering: characters `start` to `end` of the prompt, and whether it is sure to mean all lettering."""

    start: int
    end: int
    sure: bool


@dataclass(frozen=True, slots=True)
class _Reader:
    """A tongue, compiled: `negation` and the words between up to a noun; the others match from the start of what they are given."""

    wording: re.Pattern[str]
    plain: re.Pattern[str]
    joins: re.Pattern[str]
    breaks: re.Pattern[str]
    behind: re.Pattern[str]
    picture: re.Pattern[str]


def _compiled(tongue: Tongue) -> _Reader:
    between = rf"(?P<between>(?:(?:\s*[,/;&]\s*|\s+|(?<=['’]))[^\s,.;:!?()\"“”/]+){{0,{BETWEEN_MAX}}}?)"
    gap = r"(?:\s*[,/&]\s*|\s+|(?<=['’]))"
    wording = rf"(?<!\w)(?P<negation>{tongue.negations}){between}{gap}(?P<noun>{tongue.nouns})(?!\w)"

    def whole(words: str, tail: str = r"(?!\w)") -> re.Pattern[str]:
        return re.compile(rf"(?:{words}){tail}" if words else "(?!)", re.IGNORECASE)

    return _Reader(
        re.compile(wording, re.IGNORECASE),
        whole(tongue.plain),
        whole(tongue.joins),
        whole(tongue.breaks),
        re.compile(rf"\s+(?:{tongue.behind})" if tongue.behind else "(?!)", re.IGNORECASE),
        re.compile(rf"\s+(?:{tongue.picture})" if tongue.picture else "(?!)", re.IGNORECASE),
    )


_READERS = [_compiled(tongue) for tongue in TONGUES.values()]
_PHRASES = [(re.compile(phrase, re.IGNORECASE), re.compile(DOUBTS.get(name, "(?!)"), re.IGNORECASE)) for name, phrase in PHRASES.items()]
_PARTS = re.compile(r"\s*[,/;&]\s*")


def denials(prompt: str) -> list[Denial]:
    """Every place of the prompt that speaks against lettering, in order."""
    found: list[Denial] = []
    for reader in _READERS:
        for match in reader.wording.finditer(prompt):
            sure = _sure(reader, match, prompt)
            if sure is not None:
                found.append(Denial(match.start(), match.end(), sure))
    for phrase, doubt in _PHRASES:
        for match in phrase.finditer(prompt):
            found.append(Denial(match.start(), match.end(), not doubt.search(prompt, max(0, match.start() - 20), match.start())))
    found += [Denial(match.start(), match.end(), False) for match in _ZH_DOUBT.finditer(prompt)]
    return sorted(found, key=lambda denial: (denial.start, denial.end))


def _sure(reader: _Reader, match: re.Match[str], prompt: str) -> bool | None:
    """Whether a negation with its noun is sure to mean all lettering; None where the noun is not what is negated."""
    parts = _PARTS.split(prompt[match.end("negation") : match.start("noun")])
    for part in parts[:-1]:
        if any(reader.breaks.fullmatch(word) for word in part.split()):
            return None
    listed = len(parts) > 1
    sure = True
    last = parts[-1].split()
    for at, word in enumerate(last):
        if reader.breaks.fullmatch(word):
            return None
        if reader.joins.fullmatch(word):
            sure, listed = True, True  # what stood before was another thing
        elif not reader.plain.fullmatch(word) and not reader.plain.fullmatch(" ".join(last[at : at + 2])):
            sure = False
    behind = prompt[match.end() : match.end() + 60]
    if reader.picture.match(behind):
        return sure
    if reader.behind.match(behind):
        return False
    return sure
