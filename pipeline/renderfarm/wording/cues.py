"""Words that say what a quotation is: lettering, a title, a name, a style. The tables are `cues.toml`; `lettering` judges by them. Pure."""

from __future__ import annotations

import re

from renderfarm.wording.tables import alternatives, table

_TABLE = table("cues")
_SPACED = {kind: alternatives(words) for kind, words in _TABLE["spaced"].items()}
_BLANKLESS = {kind: alternatives(words) for kind, words in _TABLE["blankless"].items()}
_OTHER = {kind: alternatives(words) for kind, words in _TABLE["other"].items()}
_LETTERS, _MADE = _OTHER["letters"], _OTHER["made"]

BEFORE = re.compile(
    r"(?<!\w)(?:" + "|".join(f"(?P<{kind}>{words})" for kind, words in _SPACED.items()) + r")(?!\w)"
    r"|(?:" + "|".join(f"(?P<{kind}_>{words})" for kind, words in _BLANKLESS.items()) + ")"
)
"""Finds cues in a case-folded text; the last group that matched, less its `_`, is the kind."""

_SET_IN = (
    rf"(?:in|using|en|em)\s+(?:[\w'’-]+,?\s+){{0,7}}?(?:{_LETTERS})|"
    rf"(?:with|mit|con|com|met|med)\s+(?:[\w'’-]+,?\s+){{0,7}}?(?:{_OTHER['set']})"
)
AFTER_LETTERS = re.compile(rf"^[^.;]{{0,40}}?\b(?:{_SET_IN})(?!\w)")
"""`"OPEN" in bold red letters`, from the quotation's end, case-folded."""
AFTER_THING = re.compile(r"^\s+(?:[\w'’-]+\s+)?(?:" + _SPACED["surface"] + "|" + _SPACED["thing"] + r")(?!\w)")
"""`an "I love you" balloon`: of three words and more, that is no name any more."""
AFTER_MADE = re.compile(rf"^\W{{0,3}}(?:[\w'’-]+\W{{1,2}}){{0,4}}?(?:{_MADE})(?!\w)")
"""`"OPEN" is boldly written`, the same way."""
AFTER_SURFACE = re.compile(
    r"^['’]?s?(?:\s+|-)(?:[\w'’-]+\s+){0,2}?(?:"
    + _SPACED["surface"]
    + r"|lettering|logos?|text|caption|slogan|inscription|print|graphic|lettres?|schriftzug)(?!\w)"
)
"""`"OPEN" neon sign`, the same way."""
AFTER_ON = re.compile(
    r"^\s*(?:on|across|along|over|above|below|beneath|under|around|atop|auf|an|über|am|sur|au|en|sobre|su|sul\w*|na|no|op|aan|"
    r"på|на)\s+(?:it|them|both|each|dem|der|its?|the|"
    r"a|an|his|her|their|la|le|les|el|il|lo|o|de|het|ihm|lui|ello)(?!\w)"
)
"""`"Best Dad" on it`, the same way."""
AFTER_BLANKLESS = re.compile(
    r"^\s*(?:(?:这|那|這)?(?:句话|句話|句|几个字|幾個字|行字|一词|一詞|一语|段话)|(?:写|書|印|刻)(?:在|于|成|着)|用[^，。、“”]{0,14}(?:字母|字体|书写|写|拼)|"
    r"的?[^，。、“”\s]{0,4}(?:涂鸦|塗鴉|特别优惠|优惠|号召)|[一二两三四五六七八九十几\d]+个?(?:大|汉|英文|金)?字|[这几]?个?(?:大)?字|的?(?:字样|字樣|标语|標語|招牌|牌子|牌匾|横幅|海报|"
    r"标志|文字|标签|标识|按钮|路牌|广告牌|字体)|等字|几个大字|"
    r"(?:と|って)(?:書|記|印刷|プリント|刺繍|刻|表示|いう(?:文字|言葉|看板|ロゴ|タイトル|テキスト|文|メッセージ|見出し))|の(?:看板|文字|ロゴ|ポスター|ラベル|テキスト|標識|張り紙|のれん|タイトル)|"
    r"(?:이?라고|이?라는|라)\s?(?:쓰|쓴|적|새겨|인쇄|표시|문구|글|간판|텍스트|메시지|로고|표지판|제목)|(?:간판|문구|글자|글씨|로고|표지판))"
)
AS_ADJECTIVE = re.compile(
    r"^\s+(?!(?:in|on|at|is|are|was|and|or|with|by|across|above|below|to|for|of|as|that|which|who|und|oder|in|auf|am|an|im|"
    r"steht|mit|et|ou|sur|dans|est|avec|y|o|en|sobre|con|e|su|"
    r"nel|com|em|no|na|op|en|met|staat|i|na|w|z|och|på|med|står|og|a|s|v|и|на|в|с|ve|over|under|along|near|beside|next|placed|"
    r"arranged|made|carefully|boldly|clearly|"
    r"prominently|beautifully|written|printed|set|from|inside|behind|spelled|formed|using|against|comes?|appears?|made|invite|"
    r"artistically)\b)[^\W\d_]"
)
"""What follows an adjective in quotation marks: a noun straight away."""
SHAPED = re.compile(r"[\s-]+(?:shaped?|styled?|types?|sized?|like|förmige?[nrs]?|frames?|lines?(?= ))(?!\w)")
AS_ADJECTIVE_BLANKLESS = re.compile(r"^(?:的|な|风|風|感|性|系|式|化)")
SAID = re.compile(r"\b(?:says|saying|reads|reading|with the (?:words?|text|slogan|caption))\b", re.IGNORECASE)
"""Without one of these words, nothing is `UNQUOTED`; most prompts have none, and this is the cheaper search."""
UNQUOTED = re.compile(
    r"(?:\b(?:"
    + _SPACED["surface"]
    + "|"
    + _SPACED["thing"]
    + r")\b[^.;\n\"“”]{0,60}?\b(?:says|saying|that reads|which reads|reading|with the (?:words?|text|slogan|caption)):?\s+)"
    r"(?P<words>(?!the\b|a\b|that\b|an\b|is\b|are\b|in\b|on\b|and\b|of\b)[A-Za-z0-9À-ÿ][^,.;:\n\"“”]{0,60})",
    re.IGNORECASE,
)
"""`a sign that says OPEN`: lettering without quotation marks."""
_IN_CAPITALS = r"[A-ZÀ-ÖØ-Þ][A-ZÀ-ÖØ-Þ0-9'’!?&-]*"
CAPITALS = re.compile(
    r"\b(?:[Tt]he |[Dd]as |[Ll]e |[Ll]a )?(?:words?|letters?|slogan|headline|caption|initials|Worte?|Buchstaben|mots?|lettres|palabras?|"
    r"parol[ae]|palavras?|woord(?:en)?|słow[oa]) "
    rf"(?P<words>{_IN_CAPITALS}(?:(?:, ?| )(?:and |und |et |y |e |en |i )?{_IN_CAPITALS})*)(?![\w'’])"
)
"""`the word LOVE`, `the letters A, B and C`: in capitals, without quotation marks."""
BLANKLESS_UNQUOTED = re.compile(
    r"(?:写着|寫著|写有|印着|印有|刻着|と書かれた|라고 적힌)\s*[：:]\s*(?P<words>[^\s，。；,;\"“”「」『』]{1,30})"
)
"""`杯子上写着：妈妈`, the same way."""
CALLED = re.compile(r"(?:boats?|ships?|trains?|yachts?|vessels?|\w*schiffe?|\w*boot|bateau|navire|barco|nave|barca|navio|schip|statek)$")
"""What is known by a name, and may bear it."""
FOLLOWING = re.compile(
    r"(?:following (?:(?P<facts>information|details)|text|words|wording|content|copy|lettering)|folgende[nmrs]? (?:text|"
    r"worten?|wortlaut|angaben|informationen|inhalt\w*)|"
    r"(?:texte|mots|informations|contenu) suivante?s?|siguientes? (?:textos?|palabras|información|contenido)|"
    r"seguent[ei] (?:test[oi]|parole|informazioni)|"
    r"seguintes? (?:textos?|palavras|informações)|volgende (?:tekst|woorden|informatie)|następujący\w* (?:tekst\w*|słow\w+)|"
    r"följande (?:text|ord)|følgende (?:tekst|ord)|"
    r"(?:以下|如下)(?:文字|文本|字样)[^：:\n]{0,8}|(?P<fakta>(?:以下|如下|提示)(?:信息|内容)[^：:\n]{0,14}|(?:信息|内容)(?:如下|以下))|次の(?:文字|テキスト|"
    r"内容)[^：:\n]{0,8})\s*[:：]\s*",
    re.IGNORECASE,
)
"""What follows is the lettering: `with the following text: …`."""
FIELD = re.compile(r"[\w ]{1,20}[:：]")
SENTENCE_FIRST = re.compile(rf"\s*(?P<words>[^.!?\"“”]{{3,120}}[.!?])\s+(?:is|are)\s+(?:{_MADE})(?!\w)", re.IGNORECASE)
"""`Dreaming of adventures. is written inside a frame`."""
DESIGN = re.compile(rf"(?<!\w)(?:{_OTHER['design']})(?!\w)|{_OTHER['design_blankless']}")
"""What a prompt shows that lives from its letters: then what stands in quotation marks and is spoken of in no other way is lettering."""
AFTER_WORK = re.compile(r"^(?:\s+|-)(?:" + _SPACED["work"] + r")(?!\w)|^(?:という|の|라는|이라는)?\s?(?:" + _BLANKLESS["work"] + ")")
"""`the "Jaws" film`, from the quotation's end, case-folded."""
PUBLISHED = re.compile(rf"(?:{_OTHER['published']})$")
"""What is made for something else that has a name: a poster *for* "The Long Road" need not bear these words."""
AWAY: str = _TABLE["other"]["away"]
"""Prepositions that lead away from what bears letters."""
