"""Lettering: where quotation marks stand, what they mean, how people say that none is wanted, and what the column `text` says."""

from __future__ import annotations

import time

import pytest

from renderfarm.wording import from_prompt, from_text, reading
from renderfarm.wording.quotes import quotations, tidied

QUOTED = [
    ('a sign reading "OPEN"', ["OPEN"]),
    ("a neon sign for 'Mama's Kitchen & Bakery Co.' at night", ["Mama's Kitchen & Bakery Co."]),
    ("a shop sign that says ‘Anna’s Books’.", ["Anna’s Books"]),
    ("ein Schild mit „Guten Tag“ am Tor", ["Guten Tag"]),
    ("ein Schild ‚Offen‘ am Tor", ["Offen"]),
    ("une affiche « Bonne année » rouge", ["Bonne année"]),
    ("et skilt med »Åbent« på døren", ["Åbent"]),
    ("en skylt med ”Öppet” på dörren", ["Öppet"]),
    ("看板「営業中」と『本日休業』", ["営業中", "本日休業"]),
    ('墙上写着"小心地滑"几个字', ["小心地滑"]),
    ('"영업중"이라고 쓰인 간판', ["영업중"]),
    ('two signs, "IN" and "OUT"', ["IN", "OUT"]),
    ("a post: \"he said 'hello' twice\"", ["he said 'hello' twice"]),
    ("the cats' bowl beside the dogs' beds", []),
    ("a '90s diner with rock 'n' roll and the girls' coats", []),
    ("the baker's dozen isn't twelve, it's thirteen", []),
    ("a sign that says 'Fish 'n' Chips' by the sea", ["Fish 'n' Chips"]),
    ("a sign 'Girls' Night Out' on a door", ["Girls' Night Out"]),
    ("a sign 'NO DOGS', a mat 'HI'", ["NO DOGS", "HI"]),
    ('a 24" x 36" frame on a wall', []),
    ("a man 5'10\" tall by a 6' x 4' table", []),
    ('a 24" poster reading "SALE" in red', ["SALE"]),
    ('a 27" screen that shows "HELLO" beside a 32" one', ["HELLO"]),
    ('the words “STAY" and "GO”', ["STAY", "GO"]),
    ("a sign that reads &quot;OPEN&quot; and &#39;SHUT&#39;", ["OPEN", "SHUT"]),
    ('a sign that reads \\"OPEN\\"', ["OPEN"]),
    ('a sign ""OPEN"" in red', ["OPEN"]),
    ('empty quotes "" and "..."', []),
    ("an unclosed 'quote at the end", []),
]


@pytest.mark.parametrize(("prompt", "found"), QUOTED)
def test_quotations_across_styles_and_not_apostrophes_or_inches(prompt: str, found: list[str]) -> None:
    assert [quote.words for quote in quotations(tidied(prompt))] == found


WANTED = [
    ("the words “STAY''", "STAY"),
    ("a sign with \"STAY'", "STAY"),
    ("a mat that says ″STAY″", "STAY"),
    ("a shirt that says “Drum ‘n’ Bass”", "Drum ‘n’ Bass"),
    ('a 13.3" laptop that shows "Hi there"', "Hi there"),
    ("un panneau &laquo;OUVERT&raquo;", "OUVERT"),
    ('a "no dogs please" sign', "no dogs please"),
    ('an "I love trains" balloon', "I love trains"),
    ('匾额上书"厚德载物"', "厚德载物"),
    ("ネオンサイン「喫茶」", "喫茶"),
    ("a sign that says 'Ladies' Room'", "Ladies' Room"),
    ('a 32" TV with "LIVE" in the corner', "LIVE"),
    ('a window with "Sale" and "New" stickers', "Sale New"),
    ('a label with the brand name "Oak & Ash"', "Oak & Ash"),
    ("eine Tafel, auf der “Heute frisch” steht", "Heute frisch"),
    ('une affiche où il est écrit "Soldes"', "Soldes"),
    ('"İndirim" yazılı afiş', "İndirim"),
    ('"営業中"の看板', "営業中"),
    ("「출구」라고 쓰인 표지판", "출구"),
    ("a sign that says 'Rock 'n' Roll Diner'", "Rock 'n' Roll Diner"),
    ('a 27" monitor that shows "GOOD MORNING"', "GOOD MORNING"),
    ('a shop window with the words “SALE"', "SALE"),
    ("a banner that reads &quot;WELCOME&quot;", "WELCOME"),
    ('a mug with "Best Dad" on it', "Best Dad"),
    ('a box labelled "Fragile"', "Fragile"),
    ('"CLOSED" written on a door', "CLOSED"),
    ('a "CLOSED" sign', "CLOSED"),
    ('a story book titled "Winter Light" on the cover in gold letters', "Winter Light"),
    ('a chalkboard menu with "Soup", "Salad" and "Tea"', "Soup Salad Tea"),
    ("\"a sign that says 'OPEN'\"", "OPEN"),
    ('text: "HELLO"', "HELLO"),
    ("ein Schild, auf dem „Offen“ steht", "Offen"),
    ("eine Tasse mit dem Schriftzug „Guten Morgen“", "Guten Morgen"),
    ("un panneau qui dit « Ouvert »", "Ouvert"),
    ('un letrero con las palabras "Se vende"', "Se vende"),
    ('un cartello con la scritta "Aperto"', "Aperto"),
    ('uma placa que diz "Aberto"', "Aberto"),
    ("een bord waarop „Welkom” staat", "Welkom"),
    ("tabliczka z napisem „Otwarte”", "Otwarte"),
    ('en skylt där det står "Stängt"', "Stängt"),
    ("et skilt hvor der står »Lukket«", "Lukket"),
    ("cedule s nápisem „Otevřeno“", "Otevřeno"),
    ("вывеска с надписью «Открыто»", "Открыто"),
    ('üzerinde "Açık" yazan bir tabela', "Açık"),
    ('看板に"営業中"と書いてある', "営業中"),
    ("「本日休業」という文字の張り紙", "本日休業"),
    ('招牌上有"恭喜发财"字样', "恭喜发财"),
    ("'환영합니다'라는 문구가 있는 포스터", "환영합니다"),
    ("un néon rose « Bar » au-dessus de la porte", "Bar"),
    ("sur le gâteau, on peut lire « Joyeux anniversaire »", "Joyeux anniversaire"),
    ("una insegna su cui si legge «Aperto»", "Aperto"),
    ("Becher, Aufdruck: „Moin“", "Moin"),
    ("Werbebanner: „Nur heute“ am Haus", "Nur heute"),
    ("ein „Zu verkaufen“-Schild vor dem Haus", "Zu verkaufen"),
    ('a "Welcome" doormat', "Welcome"),
    ("una targa che dice «Studio»", "Studio"),
    ("a poster with the following text: Title: Autumn Fair\nDate: 3 May", "Title: Autumn Fair\nDate: 3 May"),
]


@pytest.mark.parametrize(("prompt", "text"), WANTED)
def test_what_the_sentence_calls_lettering_is_wanted(prompt: str, text: str) -> None:
    said = from_prompt(prompt)
    assert (said.text, said.doubts) == (text, ()) and said.where


NO_LETTERING = [
    'an "L" shaped sofa',
    'an "A"-line skirt',
    "a '57 Chevy and a '90s jacket",
    'Prompt: "a red mug"',
    "in Comic Sans lettering",
    "“a product photo of a blue bottle in a bright kitchen”",
    "'a cat on a sofa'",
    "«красная кружка на столе»",
    "「赤いマグカップの写真」",
    'a "rustic" photo of a blue chair',
    'a red lamp with a "retro" look',
    "eine „gemütliche“ Lampe",
    "une lampe « vintage » rouge",
    'a dog named "Rex" in a park',
    'a painting in the style of "Starry Night"',
    "it's a rock 'n' roll poster",
    'a 16" x 20" print on a wall',
    "a red mug",
]


@pytest.mark.parametrize("prompt", NO_LETTERING)
def test_a_prompt_an_adjective_a_name_or_a_style_in_quotation_marks_is_no_lettering(prompt: str) -> None:
    said = from_prompt(prompt)
    assert (said.text, said.doubts) == (None, ())


UNCERTAIN = [
    'a "wooden" sign',
    "the sign says: OPEN",
    'a film poster: "Night Train"',
    'a newspaper clipping about the musical "Cats"',
    "no gibberish text",
    "minimal text",
    "wenig Text",
    "文字少なめ",
    'a poster for the film "A Quiet Harbour"',
    'the cover of a book called "Summer Rain"',
    'an album cover for "Blue Moon"',
    'the "Jaws" movie poster',
    'a woman reading "War and Peace" on a bench',
    'a cat saying "meow"',
    'a logo for a coffee shop called "Bean There"',
    "ein Filmplakat für „Der lange Weg“",
    "la couverture du livre « Lumière d'hiver »",
    'la portada de un libro titulado "Luz de invierno"',
    'la locandina del film "La lunga strada"',
    'o cartaz do filme "A Longa Estrada"',
    'een poster voor de film "De lange weg"',
    "plakat filmu „Długa droga”",
    'en affisch för filmen "Den långa vägen"',
    "plakát k filmu „Dlouhá cesta“",
    "афиша фильма «Долгая дорога»",
    '"Uzun Yol" filminin afişi',
    "映画『長い道』のポスター",
    "电影《长路》的海报",
    '영화 "먼 길"의 포스터',
    "a sign that says OPEN in red",
    'an "A" frame sign',
    "杯子上写着：妈妈",
    "the word LOVE in balloons",
    "the letters A, B and C on wooden blocks",
    "das Wort LIEBE aus Blumen",
    "une femme qui dit « bonjour »",
    'un hombre que dice "hola"',
    'the "Mona Lisa" on a wall',
    'the ship "Titanic" at sea',
    "das Segelboot „Albatros“ im Hafen",
    "a mug, no legible text",
    "no additional lettering",
    "no superimposed text",
    "no German text",
    "no text on the shirt",
    "kein lesbarer Text",
    "sans texte supplémentaire",
    "sin texto adicional",
    "senza testo leggibile",
    "sem outro texto adicional",
    "geen extra tekst",
    "bez czytelnego tekstu",
    "ingen läsbar text",
    "ingen læsbar tekst",
    "bez čitelného textu",
    "без читаемого текста",
    "okunabilir metin yok",
    "読める文字なし",
    "没有可读文字",
    "다른 텍스트 없음",
]


@pytest.mark.parametrize("prompt", UNCERTAIN)
def test_what_may_be_either_asks_for_nothing_and_is_told_with_both_readings(prompt: str) -> None:
    said = from_prompt(prompt)
    assert said.text is None and said.doubts
    assert all(len(set(question.readings)) == 2 for question in said.doubts)


NO_TEXT = """
No text or letters inside the generated image itself | do not add any text to the image | Avoid: logos, lettering | STRICT NO TEXT RULE
without embedded text | KEIN Text im Bild, KEINE Schrift | без текста на экране | 文字やロゴを入れない
文字、ロゴ、透かしなし | 텍스트와 워터마크 없이
refrain from adding text | text must not appear | nothing written on it | no text/logo | (no text) | image only, no text
remove all lettering | a poster without typographic elements | a no-text poster | absence of text | text: no
Texte bitte weglassen | Schrift ist nicht erlaubt | Text: nein | Text soll nicht vorkommen | keine Textelemente | ohne jegliche Textelemente
le texte est interdit | sans aucun élément textuel | absence de texte | texte : aucun | je ne veux pas de texte
no debe haber texto | ausencia de texto | no quiero texto en la imagen | que no aparezca texto | texto: ninguno | texto prohibido
assenza di testo | non deve esserci testo | non voglio scritte | testo: nessuno | testo vietato
ausência de texto | não quero texto na imagem | não deve haver texto | texto: nenhum | tekst: geen | tekst verboden | tekst: brak
ma nie być tekstu | ノーテキスト | テキスト：なし | 文字：无 | कोई टेक्स्ट नहीं | bez teksta
Text weglassen | auf Text verzichten | nicht beschriftet | no debe contener letras | non deve contenere scritte | não deve conter texto
ne doit pas contenir de texte | nepřidávat text | без всяких надписей | текста нет
yazı bulunmasın | 文字が入っていない | 文字情報なし | 画面中没有文字
no watermark, logo, or text | a mug, no text | no letters or numbers | text-free backdrop | Do not include any text
don't write any words | avoid any lettering | without any visible lettering or logos | free of text | devoid of writing
no written text | there is no text in the picture | must not contain text | textless | keine Schrift oder Logos
ohne Text | ohne jegliche Beschriftung | bitte keine Buchstaben | textfreier Hintergrund | kein sichtbarer Text
sans texte | pas de mots | aucun texte | sans logo ni texte | ne pas ajouter de texte | sin letras | ningún texto
sin logotipos ni texto | senza testo | nessuna scritta | non aggiungere testo | sem texto | nenhum texto
geen woorden of letters | zonder tekst | bez napisów | brak tekstu | utan text | inga bokstäver | uden tekst
ingen bogstaver | uten tekst | bez nápisů | žádný text | без надписей | никакого текста | yazı yok | metin olmadan
yazısız | 文字を入れない | テキストなし | 文字は不要 | 不要文字 | 无文字 | 沒有文字 | 不要出现任何文字 | 글자 없음 | 텍스트 없이
ilman tekstiä | szöveg nélkül
fără text | χωρίς κείμενο | tanpa teks | không có chữ | بدون نص | ללא טקסט | ไม่มีข้อความ
"""
NO_TEXT_SAID = [wording.strip() for wording in NO_TEXT.replace("\n", "|").split("|") if wording.strip()]


@pytest.mark.parametrize("wording", NO_TEXT_SAID)
def test_no_text_in_the_wordings_of_many_languages(wording: str) -> None:
    for prompt in (wording, f"a product photo of a red mug, {wording}", f"{wording[:1].upper()}{wording[1:]}."):
        assert from_prompt(prompt).text == "" and not from_prompt(prompt).doubts


@pytest.mark.parametrize(
    "prompt",
    [
        "a context without texture",
        "Comic Sans text in blue",
        "no people, a sign with text",
        "no watermark",
        "a letter without an envelope",
        "there is no text limit",
        "le texte est interdit aux mineurs, dit la pancarte",
        "Text: Neinstein",
        "texture: none",
    ],
)
def test_other_negations_say_nothing_of_text(prompt: str) -> None:
    assert from_prompt(prompt).text is None


def test_quotations_win_over_no_other_text_and_a_contradiction_is_told() -> None:
    assert from_prompt("a sign reading 'SALE', no other text") == reading(None, "a sign reading 'SALE', no other text")
    assert from_prompt("a sign reading 'SALE', no other text").text == "SALE"
    said = from_prompt("a sign reading 'SALE', no text")
    assert said.text == "SALE" and len(said.doubts) == 1
    assert from_prompt('a poster for the film "Jaws", no text').text == ""


@pytest.mark.parametrize(
    "cell",
    [
        *(
            "none",
            "n/a",
            "N/A",
            "-",
            "—",
            "no",
            "No text",
            "kein Text",
            "FALSE",
            "null",
            '""',
            "''",
            "“”",
            "ohne Text",
            "aucun",
            "sin texto",
        ),
        *(
            "nessuno",
            "sem texto",
            "geen",
            "brak",
            "ingen",
            "žádný",
            "нет",
            "yok",
            "なし",
            "无",
            "없음",
            "no text, no logo",
            "no text please",
        ),
        *("No lettering", "No copy", "kein Text erwünscht", "(blank)", "leer", "vide", "keine Angabe", "k. A.", "…", "空白"),
    ],
)
def test_cells_that_want_no_text(cell: str) -> None:
    assert from_text(cell).text == "" and reading(cell, 'a sign "OPEN"').text == ""


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("“CLOSED”", "CLOSED"),
        ('"No"', "No"),
        ("Headline: HALF PRICE\nCTA: Buy now", "HALF PRICE Buy now"),
        ("Überschrift: Sommer; Button: keine", "Sommer"),
        ("标题：春天", "春天"),
        ("Title: “Summer”, Subtitle: “Now”", "Summer Now"),
        ("H1: SALE, CTA: Buy", "SALE Buy"),
        ("- SALE\n- NOW", "SALE\nNOW"),
        ("• SALE", "SALE"),
        ("1. SALE\n2. NOW", "SALE\nNOW"),
        ("1. FC Köln\n2. Bundesliga", "FC Köln\nBundesliga"),
        ("1. FC Köln", "1. FC Köln"),
        ("- 20 %", "- 20 %"),
        ("Time: 5:30, Place: here", "Time: 5:30, Place: here"),
        ("In this room", "In this room"),
        ("Words matter", "Words matter"),
        ("NO SMOKING", "NO SMOKING"),
        ("Nothing is impossible", "Nothing is impossible"),
        ("Say it without words", "Say it without words"),
        ("Ben &amp; Jerry", "Ben & Jerry"),
        ('24" TV', '24" TV'),
    ],
)
def test_cells_that_hold_the_words(cell: str, text: str) -> None:
    assert (from_text(cell).text, from_text(cell).doubts) == (text, ())


@pytest.mark.parametrize(
    "cell",
    [
        *(
            "SALE (in red)",
            "SALE in big red letters",
            "the word SALE",
            "Acme logo",
            "logo only",
            "no text except logo",
            "text on mug: Hello",
        ),
        *("EN: Sale\nDE: Verkauf", "SALE mit roten Buchstaben", "das Wort SALE", "le mot SOLDES", "Logo von Acme"),
    ],
)
def test_a_cell_that_describes_is_doubted(cell: str) -> None:
    said = from_text(cell)
    assert said.text == cell and len(said.doubts) == 1


def test_a_cell_that_tells_of_words_is_doubted_and_the_prompt_asked_where_it_says_none() -> None:
    assert from_text('the words "OPEN"').text == 'the words "OPEN"' and from_text('the words "OPEN"').doubts
    assert reading("no other text", 'a sign "OPEN"').text == "OPEN" and reading("no other text", "a mug").text is None


@pytest.mark.parametrize(
    "prompt",
    [
        "'a " * 3333,
        "“a " * 3333,
        "'" * 10_000,
        '"' * 10_000,
        "‘a" * 5000,
        "no a " * 2500,
        "无" * 5000,
        "sign that says " * 700,
        "a, " * 3300,
    ],
)
def test_hostile_prompts_take_no_time(prompt: str) -> None:
    begun = time.process_time()
    from_prompt(prompt)
    from_text(prompt)
    from_text(prompt * 100)
    assert time.process_time() - begun < 5
