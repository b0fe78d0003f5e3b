"""Words that say what a quotation is: lettering, a title, a name, a style. Tables in many languages; `lettering` judges by them. Pure.

Each kind is a list of regular expressions for whole words of scripts that part words, and one for places in those that do not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_SPACED: Mapping[str, str] = {
    # What is no lettering: prompts quoted as such, and whose manner something is in.
    "style": r"prompt(?=\s*:)|(?:in|of) the (?:style|manner|spirit|vein) of|styles? of|inspired by|based on|reminiscent of|scenes? (?:from|of|in)|"
    r"(?:re)?imagin\w+ of|version of|adaptation of|parody of|homage to|tribute to|vibes? of|"
    r"(?:im|nach dem) stil (?:von|des|der)|inspiriert von|(?:dans le|au) style d\w*|inspirée? (?:de|par)|(?:al|en el|no|ao) estilo d\w+|inspirad[oa] (?:en|em|por)|"
    r"(?:nello|in) stile|ispirat[oa] (?:a|da)|in de stijl van|geïnspireerd door|w stylu|inspirowan\w+|i stil med|inspirerad av|i stil med|inspireret af|"
    r"ve stylu|inspirovan\w+|в стиле|вдохновл\w+|tarzında|esinlenen",
    # Works, which have titles: a title may stand in the picture, or only say what is shown.
    "work": r"films?|movies?|books?|novels?|novella|songs?|albums?|paintings?|series|(?:the|a|tv|talk|radio|stage|quiz|reality) shows?|plays?|(?:video|board|computer) ?games?|game|poems?|stor(?:y|ies)|operas?|musicals?|"
    r"podcasts?|animes?|mangas?|comics?|documentar(?:y|ies)|sitcom|essay|magazine|concept art|masterpiece|photograph by|"
    r"buch|buches|roman(?:s|en)?|lied(?:es)?|album|gemälde[s]?|serie|spiels?|stück(?:s|es)?|gedicht(?:s|es)?|oper|filmes|"
    r"livres?|romans?|chansons?|tableaux?|séries?|jeu|jeux|pièce|poème|opéra|bande dessinée|"
    r"películas?|libros?|novelas?|canci(?:ón|ones)|discos?|pinturas?|juegos?|obras?|poemas?|ópera|"
    r"libr[oi]|romanz[oi]|canzon[ei]|dipint[oi]|gioc(?:o|hi)|oper[ae]|poesi[ae]|pellicol[ae]|"
    r"filmes?|livros?|romances?|canç(?:ão|ões)|quadros?|jogos?|peças?|"
    r"boek(?:en)?|liedje|schilderij|spel|gedicht|toneelstuk|filmu|książk[iaę]\w*|powieś\w+|piosenk\w+|obraz(?:u|y)|serial\w*|gr[ay]|sztuk[ai]|"
    r"bok(?:en)?|roman(?:en)?|sång(?:en)?|målning(?:en)?|serien|spelet|filmen|bog(?:en)?|sang(?:en)?|maleri(?:et)?|spillet|knih\w+|román\w*|píse[nň]\w*|obraz\w*|hr[aye]|"
    r"фильм\w*|книг\w+|роман\w*|песн\w+|альбом\w*|картин\w+|сериал\w*|игр[аыу]|пьес\w+|filmi?n?i?n?|kitab\w*|roman[ıi]\w*|şarkı\w*|dizi\w*|oyun\w*|tablo\w*",
    # What is given a name need not bear it.
    "naming": r"(?:concept|idea|feeling|notion|sense|theme) of|called|named|titled|entitled|dubbed|nicknamed|known as|christened|so-called|namens|genannt\w*|betitelt\w*|mit dem titel|"
    r"appelée?s?|nommée?s?|intitulée?s?|llamad[oa]s?|titulad[oa]s?|chiamat[oaie]|intitolat[oaie]|chamad[oa]s?|intitulad[oa]s?|genaamd|getiteld\w*|geheten|"
    r"(?:o|pod) (?:nazwie|tytule)|zatytułowan\w+|nazywan\w+|kallad\w*|med titeln|kaldet|ved navn|med titlen|zvan\w+|nazvan\w+|jménem|"
    r"под названием|назван\w+|по имени|adlı|isimli|adında|başlıklı",
    # Letters are made: this is lettering, whatever it stands on.
    "verb": r"(?:it|which|that) (?:says|reads|states)|(?:clearly |boldly |simply )?(?:stat(?:es?|ing)|states|spell(?:s|ed|ing)?)(?: out)?|proclaim\w*|declar(?:es?|ing|ed)|"
    r"announc(?:es?|ing)|inscrib\w+|labell?(?:ed|ing)|marked|printed|engrav(?:ed|ing)|emboss\w+|emblazon\w+|stamped|stitched|embroider\w+|scrawl\w*|scribbl\w+|"
    r"written|wrote|writes?|writing|handwritten|lettered|captioned|subtitled|carved|etched|stencil\w*|signed|tattooed|chalked|typed|advertis(?:es?|ing)|title it|"
    r"(?:mit|in) der (?:aufschrift|beschriftung|inschrift)|steht|stehen|geschrieben\w*|beschriftet\w*|bedruckt\w*|gedruckt\w*|graviert\w*|lautet|gestickt\w*|prangt|"
    r"qui (?:dit|indique)|sur (?:lequel|laquelle) est|où (?:il est|est) écrit|écrite?s?|inscrite?s?|imprimée?s?|gravée?s?|brodée?s?|marquée?s?|"
    r"que (?:dice|pone|diga|diz|dizia|reza)|dice|pone|escrit[oa]s?|impres[oa]s?|grabad[oa]s?|bordad[oa]s?|rotulad[oa]s?|con la (?:leyenda|inscripción)|"
    r"che dice|(?:con|c['’]è) (?:la )?scritt[ao]|scritt[oaie]|stampat[oaie]|incis[oaie]|ricamat[oaie]|com os dizeres|gravad[oa]s?|"
    r"(?:waarop|waar) .{0,20}staat|geschreven|gedrukt\w*|gegraveerd\w*|bedrukt\w*|z napisem|napis(?:em|ami|ane|any|ano)?|wydrukowan\w+|wygrawerowan\w+|głosi|"
    r"(?:där det|som det) står|står det|står|skriv(?:et|na|en)|tryckt\w*|graverad\w*|broderad\w*|hvor der står|der står|skrevet|trykt\w*|graveret|"
    r"s nápisem|napsán\w*|vytištěn\w+|stojí|с надписью|надпис\w+|написан\w+|напечатан\w+|гласит|yazan|yazıl[ıi]\w*|yazıyor|yazısı(?:yla)?|yazılmış|basılı",
    # People say and read, and so do signs.
    "speech": r"says?|saying|said|shout\w*|ask(?:s|ing)?|repl(?:y|ies|ied|ying)|answer\w*|exclaim\w*|whisper\w*|yell\w*|scream\w*|respond\w*|pleads?|pleading|urg(?:es|ing)|beg(?:s|ging)|warn(?:s|ing)|remind(?:s|ing)|promis(?:es|ing)|wish(?:es|ing)|greet(?:s|ing)|demand(?:s|ing)|welcom(?:es|ing)|sagt|ruft|fragt|dit|dice|disant|"
    r"mówi|säger|siger|říká|говорит|diyor|zegt|diz",
    "reads": r"reads?|reading|liest|lee|legge|lê|leest|czyta",
    # What is made of letters, or is a piece of text.
    "noun": r"words?|texts?|letters?|lettering|phrases?|captions?|slogans?|headlines?|headings?|headers?|sub-?head(?:line|ing)s?|(?:sub)?titles?|taglines?|inscriptions?|"
    r"messages?|quot(?:e|es|ation)|sentences?|motto(?:e?s)?|wordmarks?|initials|acronyms?|monograms?|abbreviations?|typography|typeface|fonts?|graffiti|greetings?|"
    r"cta|calls?[- ]to[- ]action|buttons?|tabs?|hashtags?|numbers?|digits?|numerals?|urls?|website|footers?|footnotes?|paragraphs?|bullet points?|labels?|copy|engraving|"
    r"brand name|company name|(?:band|brand|company|firm|shop|store|author|artist|product|venue|team|event|club|restaurant|bakery|ship|boat)(?:['’]s)? name|logos?|"
    r"logotype|reminder|dialogue|notice|warning|lyrics?|chants?|saying on|speech bubbles?|thought bubbles?|bubbles?|sign-off|text box|price|dates?|"
    r"worte?n?|wörter[n]?|text(?:es?)?|schrift(?:zug|züge)?|aufschrift(?:en)?|beschriftung|überschrift|schlagzeile|titel(?:zeile)?|untertitel|spruch|slogan|motto|"
    r"inschrift|buchstaben|botschaft|logo|textes?|mots?|titre|sous-titre|inscription|slogan|légende|mention|message|lettres|texto|textos|palabras?|título|subtítulo|"
    r"letras|leyenda|frase|lema|eslogan|mensaje|rótulo|letrero|test[oi]|parol[ae]|titolo|sottotitolo|scritta|scritte|messaggio|lettere|palavras?|título|legenda|"
    r"mensagem|dizeres|tekst(?:en)?|woord(?:en)?|titel|opschrift|slogan|kop|letters|tekst(?:em|u)?|słow(?:o|a|ami|em)|tytuł(?:em)?|hasł(?:o|em)|napis|litery|"
    r"texten?|ord(?:en|et)?|rubrik(?:en)?|bokstäver|titeln|teksten|overskrift(?:en)?|bogstaver|nápis(?:em)?|text(?:em)?|slov(?:o|a|y)|titulek|"
    r"текст\w*|слов\w+|заголовок|заголовком|лозунг\w*|буквы|буквами|логотип\w*|слоган\w*|yazı(?:sı)?|metin|metni|kelime\w*|başlı[kğ]\w*|slogan\w*|sözcü\w+",
    # Things that exist to bear letters.
    "surface": r"signs?|signboards?|signage|signposts?|sign boards?|bill ?boards?|banners?|posters?|placards?|plaques?|name ?(?:plates?|tags?)|neons?|chalk ?boards?|black ?boards?|"
    r"white ?boards?|menus?|marquees?|score ?boards?|(?:licen[sc]e|number) plates?|stickers?|badges?|patch(?:es)?|fl(?:y|i)ers?|leaflets?|brochures?|post ?cards?|"
    r"(?:business |greeting |birthday )?cards?|tickets?|certificates?|newspapers?|covers?|packag(?:e|es|ing)|tags?|flags?|tombstones?|gravestones?|headstones?|"
    r"store ?fronts?|shop ?fronts?|awnings?|decals?|(?:sticky )?notes?|pages?|slides?|charts?|flow ?charts?|diagrams?|infographics?|presentations?|web ?(?:page|site)s?|interfaces?|"
    r"apps?|screens?|monitors?|displays?|panels?|memes?|keyboards?|sections?|categor(?:y|ies)|links?|menu items?|icons?|links|blocks?|columns?|boards?|titles? cards?|invitations?|"
    r"(?:book|album|magazine|game) covers?|advert(?:s|isements?)?|ads?|tattoos?|stamps?|seals?|crests?|scrolls?|banderoles?|pennants?|ribbons?|envelopes?|parchments?|posts?|"
    r"schild(?:er|ern|s|es|chen)?|\w*schild(?:er|ern|s)?|plakat(?:e|en|s)?|\w*plakat(?:e|s)?|poster|banner|etikett(?:en|s)?|tafel|\w*tafel|leuchtreklame|neonschrift|speisekarte|karte|"
    r"bildschirm|monitor|zeitung|aufkleber|anzeige|anhänger|flagge|fahne|grabstein|verpackung|"
    r"panneaux?|pancartes?|enseignes?|affiches?|étiquettes?|bannières?|ardoise|tableau noir|écrans?|journal|autocollants?|drapeaux?|cartes?|plaques?|"
    r"carteles|cartel|pancartas?|pósters?|póster|afiches?|etiquetas?|pizarras?|pantallas?|periódicos?|pegatinas?|banderas?|tarjetas?|vallas?|placas?|anuncios?|"
    r"cartell[oi]|insegn[ae]|manifest[oi]|etichett[ae]|lavagn[ae]|scherm[oi]|giornal[ei]|adesiv[oi]|bandier[ae]|bigliett[oi]|targ(?:a|he)|striscion[ei]|locandin[ae]|"
    r"placas?|cartaz(?:es)?|letreiros?|pôsteres?|pôster|quadro-negro|lousas?|telas?|jorna(?:l|is)|adesivos?|bandeiras?|cartão|cartões|faixas?|outdoors?|rótulos?|"
    r"bord(?:en|je)?|\w*bord|posters?|affiches?|etiket(?:ten)?|scherm(?:en)?|krant(?:en)?|stickers?|vlag(?:gen)?|kaart(?:je)?|spandoek(?:en)?|uithangbord|"
    r"szyld(?:u|em|y|zie)?|tablic[aeyę]\w*|tabliczk\w+|plakat\w*|znak\w*|etykiet\w+|baner\w*|ekran\w*|gazet\w+|naklejk\w+|flag\w*|neon\w*|kartk\w+|"
    r"skylt(?:ar|en)?|\w*skylt(?:en)?|affisch(?:en)?|etikett(?:en)?|skärm(?:en)?|tidning(?:en)?|klistermärke\w*|flagga\w*|tavl[an]\w*|"
    r"skilt(?:e|et)?|\w*skilt(?:et)?|plakat(?:en)?|etiket(?:ten)?|skærm(?:en)?|avis(?:en)?|klistermærke\w*|flag(?:et)?|tavle\w*|"
    r"cedul[eiya]\w*|tabul[ei]\w*|plakát\w*|etiket\w*|obrazovk\w+|noviny|samolepk\w+|vlajk\w+|transparent\w*|značk\w+|vývěsn\w+|"
    r"вывеск\w+|табличк\w+|плакат\w*|постер\w*|этикетк\w+|экран\w*|газет\w+|наклейк\w+|баннер\w*|знак\w*|доск\w+|билборд\w*|флаг\w*|"
    r"tabela\w*|levha\w*|afiş\w*|poster\w*|etiket\w*|pankart\w*|ekran\w*|gazete\w*|bayra[kğ]\w*|neon\w*",
    # Things that may bear letters, and mostly do not.
    "thing": r"mugs?|cups?|t-?shirts?|tees?|shirts?|hoodies?|sweat(?:er|shirt)s?|jerseys?|caps?|hats?|bags?|totes?|bottles?|cans?|jars?|box(?:es)?|doors?|walls?|windows?|cakes?|"
    r"cookies?|cars?|trucks?|vans?|bus(?:es)?|boats?|ships?|planes?|airplanes?|aircraft|helicopters?|trains?|jackets?|aprons?|pillows?|phones?|sand|snow|sky|buildings?|"
    r"shops?|stores?|caf[eé]s?|restaurants?|bakery|bars?|pubs?|hotels?|bracelets?|necklaces?|rings?|coins?|gifts?|balloons?|chocolate|bricks?|murals?|frames?|canvas|"
    r"tassen?|becher|hemd|flasche|kiste|tür|wand|fenster|kuchen|torte|laden|ladens|geschäft|tasses?|bouteilles?|porte|murs?|vitrines?|gâteaux?|magasin|boutique|"
    r"tazas?|camisetas?|botellas?|puertas?|pared(?:es)?|tartas?|tiendas?|tazz[ae]|magliett[ae]|bottigli[ae]|port[ae]|mur[oi]|tort[ae]|negozi[o]?|canecas?|garrafas?|"
    r"portas?|paredes?|bolos?|lojas?|mok(?:ken)?|kop|fles(?:sen)?|deur|muur|taart|winkel|kubek|kubk\w+|koszulk\w+|butelk\w+|drzwi(?:ach)?|ścian\w+|tort\w*|sklep\w*|"
    r"mugg(?:en)?|tröja\w*|flaska\w*|dörr(?:en)?|vägg(?:en)?|tårta\w*|butik(?:en)?|krus(?:et)?|trøje\w*|flaske\w*|dør(?:en)?|væg(?:gen)?|kage\w*|"
    r"hrn\w+|trik\w+|láhev|lahv\w+|dveř\w+|zď|zdi|dort\w*|obchod\w*|кружк\w+|футболк\w+|бутылк\w+|двер\w+|стен\w+|торт\w*|магазин\w*|kupa\w*|tişört\w*|şişe\w*|kapı\w*|duvar\w*|pasta\w*|dükk[aâ]n\w*",
    # Who speaks and bears a name.
    "person": r"m[ae]n|wom[ae]n|boys?|girls?|persons?|people|child(?:ren)?|kids?|bab(?:y|ies)|guys?|lad(?:y|ies)|cats?|dogs?|birds?|parrots?|kittens?|pupp(?:y|ies)|bears?|foxe?s?|"
    r"robots?|characters?|heroe?s?|king|queen|princess|teacher|student|customer|cashier|speaker|he|she|they|who|actor|singer|"
    r"mann|frau|kind|junge|mädchen|hund|katze|homme|femme|enfant|chien|chat|hombre|mujer|niñ[oa]|perro|gato|uomo|donna|bambin[oa]|cane|gatto|homem|mulher|criança|cachorro|"
    r"vrouw|hond|kat|mężczyzn\w+|kobiet\w+|pies|kot|kvinna|man|barn|kvinde|muž|žena|pes|kočka|мужчин\w+|женщин\w+|собак\w+|кошк\w+|кот|adam|kadın|çocuk|köpek|kedi",
    # Bears letters only where what stands before it can.
    "weak": r"with|bearing|bears?|display(?:s|ing|ed)?|show(?:s|ing|n|cas\w+)?|featur(?:es?|ing)|contain(?:s|ing)?|includ(?:es?|ing)|present(?:s|ing)?|highlight\w*|emphasi\w+|reveal\w*|"
    r"indicat\w+|for|notes|noting|promot\w+|mit|zeigt|avec|affich\w+|portant|con|muestra|mostra|mostrando|com|met|toont|z|ze|med|visar|viser|s|se|с|"
    r"которая|gösteren|like|such as",
}
"""Kinds in the order in which they are looked for at one place."""

_BLANKLESS: Mapping[str, str] = {
    "style": r"风格的?|風格的?|灵感来自|改编自|風の|をテーマに|をモチーフ|스타일|提示词|プロンプト",
    "work": r"电影|電影|影片|小说|小說|书籍|歌曲|专辑|專輯|油画|名画|画作|游戏|遊戲|动漫|動漫|漫画|漫畫|电视剧|電視劇|诗歌|映画|小説|アニメ|ゲーム|楽曲|曲|絵本|영화|소설|노래|앨범|게임|드라마|만화",
    "naming": r"名为|名為|名叫|叫做|叫作|称为|稱為|题为|題為|という名前の|と呼ばれる|というタイトル|이라는 이름|라는 이름|제목의",
    "verb": r"写着|寫著|写有|寫有|写上|写道|寫道|写|写成|印着|印有|印|刻着|刻有|标注|標註|标有|标着|标示|标明|标记为|題字|题字|书写|绣着|绣有|贴着|喷涂|描绘着|拼出|组成|显示|显示着|宣告|宣布|宣称|写明|注明|"
    r"と書|と記|と印刷|と刻|と表示|쓰인|쓰여|적힌|적혀|새겨|인쇄된",
    "speech": r"说|說|问|念叨|嘀咕|嘟囔|吆喝|唱着|笑道|叫道|回答|喊|言って|言う|말하",
    "noun": r"文字|字样|字樣|标语|標語|标题|標題|副标题|题目|编号|问候语|体字|字体|提问|短句|横批|签名|句子|亮点|信息|口号|字母|短语|短句|句子|内容|文案|文本|标签|標籤|按钮|说明|提示|信息|名称|品牌|标志|商标|对话|气泡|落款|数字|电话|日期|时间|地点|作者|页脚|导航|栏目|"
    r"文字|テキスト|タイトル|見出し|キャッチコピー|ロゴ|スローガン|言葉|セリフ|吹き出し|글자|글씨|문구|텍스트|제목|슬로건|로고|말풍선",
    "surface": r"牌|招牌|海报|海報|横幅|橫幅|广告|廣告|菜单|菜單|屏幕|螢幕|黑板|白板|封面|报纸|報紙|贴纸|卡片|证书|书签|包装|旗|路标|门牌|图表|页面|界面|"
    r"看板|ポスター|ラベル|バナー|メニュー|画面|黒板|表紙|新聞|ステッカー|カード|旗|標識|のれん|간판|포스터|표지판|라벨|배너|현수막|메뉴|화면|칠판|표지|신문|스티커|카드|깃발",
    "thing": r"杯|衬衫|T恤|瓶|盒|门|墙|蛋糕|店|箱|カップ|シャツ|瓶|箱|ドア|壁|ケーキ|店|머그|컵|티셔츠|병|상자|문|벽|케이크|가게",
    "person": r"他|她|嘴里|师傅|艺人|老人|男人|女人|男孩|女孩|人物|孩子|猫|狗|先生|女士|男性|女性|少年|少女|犬|남자|여자|아이|고양이|강아지",
}

BEFORE = re.compile(
    r"(?<!\w)(?:" + "|".join(f"(?P<{kind}>{words})" for kind, words in _SPACED.items()) + r")(?!\w)"
    r"|(?:" + "|".join(f"(?P<{kind}_>{words})" for kind, words in _BLANKLESS.items()) + ")"
)
"""Finds cues in a case-folded text; the last group that matched, less its `_`, is the kind."""

_LETTERS = (
    r"letters?|lettering|fonts?|type|typeface|typography|script|text|caps|capitals|chalk|marker|neon|paint|ink|cursive|calligraphy|handwriting|graffiti|embroidery|glaze|icing|frosting|"
    r"buchstaben|schrift|lettern|lettres|letras|caracteres|lettere|caratteri|litera(?:mi)?|literami|bokstäver|bogstaver|písmem|písmeny|буквами|шрифтом|harflerle|harfler"
)
AFTER_LETTERS = re.compile(rf"^[^.;]{{0,40}}?\b(?:in|with|using|mit|en|con|com|met|med|em)\s+(?:[\w'’-]+,?\s+){{0,7}}?(?:{_LETTERS})(?!\w)")
"""`"OPEN" in bold red letters`, from the quotation's end, case-folded."""
_MADE = (
    r"written|printed|inscribed|engraved|embossed|emblazoned|stamped|stitched|embroidered|scrawled|scribbled|painted|lettered|spelled|spelt|carved|etched|stencil\w+|tattooed|"
    r"handwritten|appears? (?:on|in|above|below|across|at)|displayed (?:on|in\w*|across|above|below|over)|(?:is|are) (?:displayed|shown|visible|featured) (?:on|in|across|above)|"
    r"steht|stehen|geschrieben|gedruckt|graviert|zu lesen|prangt|gestickt|aufgedruckt|écrit\w*|inscrit\w*|imprimé\w*|gravé\w*|peint\w*|escrit[oa]s?|impres[oa]s?|grabad[oa]s?|pintad[oa]s?|"
    r"scritt[oaie]|stampat[oaie]|incis[oaie]|dipint[oaie] su|geschreven|staat|gedrukt|gegraveerd|napisan\w+|wydrukowan\w+|wygrawerowan\w+|skrivet|skrivna|står|tryckt|skrevet|trykt|"
    r"napsán\w*|vytištěn\w+|написан\w*|напечатан\w+|yazan|yazıl[ıi]\w*|yazıyor|yazılmış|yazısı|yazılar\w*|yazmakta"
)
AFTER_MADE = re.compile(rf"^\W{{0,3}}(?:[\w'’-]+\W{{1,2}}){{0,4}}?(?:{_MADE})(?!\w)")
"""`"OPEN" is boldly written`, the same way."""
AFTER_SURFACE = re.compile(
    r"^['’]?s?\s+(?:[\w'’-]+\s+){0,2}?(?:" + _SPACED["surface"] + r"|lettering|logos?|text|caption|slogan|inscription|print|graphic|lettres?|schriftzug)(?!\w)"
)
"""`"OPEN" neon sign`, the same way."""
AFTER_ON = re.compile(
    r"^\s*(?:on|across|along|over|above|below|beneath|under|around|atop|auf|an|über|am|sur|au|en|sobre|su|sul\w*|na|no|op|aan|på|на)\s+(?:it|them|both|each|dem|der|its?|the|"
    r"a|an|his|her|their|la|le|les|el|il|lo|o|de|het|ihm|lui|ello)(?!\w)"
)
"""`"Best Dad" on it`, the same way."""
AFTER_BLANKLESS = re.compile(
    r"^\s*(?:(?:这|那|這)?(?:句话|句話|句|几个字|幾個字|行字|一词|一詞|一语|段话)|(?:写|書|印|刻)(?:在|于|成|着)|用[^，。、“”]{0,14}(?:字母|字体|书写|写|拼)|"
    r"的?[^，。、“”\s]{0,4}(?:涂鸦|塗鴉|特别优惠|优惠|号召)|[一二两三四五六七八九十几\d]+个?(?:大|汉|英文|金)?字|[这几]?个?(?:大)?字|的?(?:字样|字樣|标语|標語|招牌|牌子|牌匾|横幅|海报|标志|文字|标签|标识|按钮|路牌|广告牌|字体)|等字|几个大字|"
    r"(?:と|って)(?:書|記|印刷|刻|表示|いう(?:文字|言葉|看板|ロゴ|タイトル|テキスト|文|メッセージ|見出し))|の(?:看板|文字|ロゴ|ポスター|ラベル|テキスト|標識|張り紙|のれん|タイトル)|"
    r"(?:이?라고|이?라는|라)\s?(?:쓰|쓴|적|새겨|인쇄|표시|문구|글|간판|텍스트|메시지|로고|표지판|제목)|(?:간판|문구|글자|글씨|로고|표지판))"
)
AS_ADJECTIVE = re.compile(
    r"^\s+(?!(?:in|on|at|is|are|was|and|or|with|by|across|above|below|to|for|of|as|that|which|who|und|oder|in|auf|am|an|im|steht|mit|et|ou|sur|dans|est|avec|y|o|en|sobre|con|e|su|"
    r"nel|com|em|no|na|op|en|met|staat|i|na|w|z|och|på|med|står|og|a|s|v|и|на|в|с|ve|over|under|along|near|beside|next|placed|arranged|made|carefully|boldly|clearly|"
    r"prominently|beautifully|written|printed|set|from|inside|behind|spelled|formed|using|against|comes?|appears?|made|invite|artistically)\b)[^\W\d_]"
)
"""What follows an adjective in quotation marks: a noun straight away."""
AS_ADJECTIVE_BLANKLESS = re.compile(r"^(?:的|な|风|風|感|性|系|式|化)")
UNQUOTED = re.compile(
    r"(?:\b(?:" + _SPACED["surface"] + "|" + _SPACED["thing"] + r")\b[^.;\n\"“”]{0,60}?\b(?:says|saying|that reads|which reads|reading|with the (?:words?|text|slogan|caption))\s+)"
    r"(?P<words>(?!the\b|a\b|that\b|an\b|is\b|are\b|in\b|on\b|and\b|of\b)[A-Za-z0-9À-ÿ][^,.;:\n\"“”]{0,60})",
    re.IGNORECASE,
)
"""`a sign that says OPEN`: lettering without quotation marks."""
FOLLOWING = re.compile(
    r"(?:following (?:(?P<facts>information|details)|text|words|wording|content|copy|lettering)|folgende[nmrs]? (?:text|worten?|wortlaut|angaben|informationen|inhalt\w*)|"
    r"(?:texte|mots|informations|contenu) suivante?s?|siguientes? (?:textos?|palabras|información|contenido)|seguent[ei] (?:test[oi]|parole|informazioni)|"
    r"seguintes? (?:textos?|palavras|informações)|volgende (?:tekst|woorden|informatie)|następujący\w* (?:tekst\w*|słow\w+)|följande (?:text|ord)|følgende (?:tekst|ord)|"
    r"(?:以下|如下)(?:文字|文本|字样)[^：:\n]{0,8}|(?P<fakta>(?:以下|如下|提示)(?:信息|内容)[^：:\n]{0,14}|(?:信息|内容)(?:如下|以下))|次の(?:文字|テキスト|内容)[^：:\n]{0,8})\s*[:：]\s*",
    re.IGNORECASE,
)
"""What follows is the lettering: `with the following text: …`."""
FIELD = re.compile(r"[\w ]{1,20}[:：]")
SENTENCE_FIRST = re.compile(rf"\s*(?P<words>[^.!?\"“”]{{3,120}}[.!?])\s+(?:is|are)\s+(?:{_MADE})(?!\w)", re.IGNORECASE)
"""`Dreaming of adventures. is written inside a frame`."""
DESIGN = re.compile(
    r"(?<!\w)(?:posters?|fl(?:y|i)ers?|leaflets?|brochures?|logos?|business cards?|visiting cards?|advert(?:s|isements?)?|banners?|infographics?|invitations?|billboards?|"
    r"typographic|typography|lettering|graffiti|street art|spray(?:s|ed)?|spray[- ]paint\w*|packaging|labels?|signage|slides?|greeting cards?|postcards?|comics?|speech bubbles?|book covers?|web ?(?:page|site)s?|menus?|"
    r"plakat\w*|flyer|visitenkarte|einladung|anzeige|affiches?|prospectus|dépliants?|carte de visite|folletos?|cartel(?:es)?|tarjetas?|volantin[oi]|manifest[oi]|cartaz\w*|"
    r"folders?|visitekaartje|ulotk\w+|wizytówk\w+|affisch\w*|visitkort|leták\w*|vizitk\w+|плакат\w*|листовк\w+|визитк\w+|логотип\w*|afiş\w*|broşür\w*|kartvizit\w*)(?!\w)|"
    r"海报|海報|传单|傳單|宣传单|宣传册|小册子|标志|徽标|广告|廣告|名片|标志设计|涂鸦|塗鴉|横幅|请柬|邀请函|信息图|排版|封面|字体|ポスター|チラシ|ロゴ|名刺|広告|포스터|전단|로고|명함|광고"
)
"""What a prompt shows that lives from its letters: then what stands in quotation marks and is spoken of in no other way is lettering."""
AFTER_WORK = re.compile(r"^\s+(?:" + _SPACED["work"] + r")(?!\w)|^(?:という|の|라는|이라는)?\s?(?:" + _BLANKLESS["work"] + ")")
"""`the "Jaws" film`, from the quotation's end, case-folded."""
