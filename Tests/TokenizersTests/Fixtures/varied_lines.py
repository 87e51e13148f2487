"""Lines of text that tokenizers get wrong: many scripts, odd white space, code, marks, emoji, special
tokens inside text. Deterministic: the same seed gives the same lines."""
import random

WORDS = {
    "latin": "the of and naïve café Übergröße coöperate ŋ ſtraße İstanbul ﬁne ﬀ Ω Å don't I'll we've IT'S "
             "they'RE he'd 'tis 'ſ x'ſy rock'n'roll DON'T".split(),
    "cyrillic": "Привет мир неужели Съешь ещё этих мягких французских булок їжак".split(),
    "greek": "Ὀδυσσεύς λόγος ἄνθρωπος σοφός ΣΊΣΥΦΟΣ".split(),
    "hebrew": "שלום עולם בְּרֵאשִׁית".split(),
    "arabic": "مرحبا بالعالم كِتَابٌ السَّلامُ ١٢٣ ٤٥٦٧".split(),
    "hindi": "नमस्ते दुनिया क्षत्रिय हिन्दी १२३ ज़िन्दगी".split(),
    "bengali": "বাংলা ভাষা ক্ষুদ্র".split(),
    "tamil": "தமிழ் மொழி வணக்கம்".split(),
    "thai": "สวัสดีชาวโลก ภาษาไทย เก้าอี้".split(),
    "chinese": "你好 世界 患者 头痛 发热三天 高血压病史十年 应该怎么治疗 请问医生 糖尿病 龘 𠮷野家 臺灣 麤".split(),
    "japanese": "こんにちは 世界 カタカナ ﾊﾝｶｸ がぎぐ か\u3099 東京都 食べられる".split(),
    "korean": "안녕하세요 세계 각 한국어 \u1112\u1161\u11ab\u1100\u116e\u11a8".split(),
    "georgian": "გამარჯობა მსოფლიო ᲛᲡᲝᲤᲚᲘᲝ".split(),
    "tibetan": "བོད་སྐད་ ཀྵ".split(),
}
EMOJI = ["😀", "👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇨🇳🇩🇪", "❤️", "☎", "1️⃣", "🫠", "⌚️", "🧑🏿‍🚀"]
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", " \n ", "\u00a0", "\u2003", "\u3000", "\u200b", "\u2028",
          "\u0085", "\u000b", "\u000c", "\u1680", "\ufeff", "\r", "        ", " \t ", "\n \n  \n"]
PUNCTUATION = list(".,;:!?-_/\\|()[]{}<>@#$%^&*~`'\"=+") + ["…", "—", "“", "”", "«", "»", "。", "，", "！", "？", "、",
               "《", "》", "¿", "·", "€", "₿", "→", "≤", "∑", "°", "²", "½", "Ⅷ", "①", "٪", "॥", "''", "...", "?!", "=="]
NUMBERS = ["0", "7", "42", "365", "2024", "31415", "1000000", "3.14", "1,234.56", "0x1F", "１２３", "٣٤", "½", "²³", "Ⅻ", "㊿"]
CODE = ["def f(x):\n    return x**2\n", "for (int i = 0; i < n; ++i) { a[i] += b[i]; }", "SELECT * FROM t WHERE id='x';",
        "<div class=\"a\">&amp;</div>", "\\frac{1}{2}", "https://example.org/a?b=c&d=%20#e", "user@example.com",
        "camelCase snake_case kebab-case CONST_CASE", "#include <stdio.h>\r\n", "{\"key\": [1, 2.5e-3, null]}", "\t\tif err != nil {\n"]
MARKS = ["\u0301", "\u0308", "\u0323", "\u20d7", "\u0345", "\u0300\u0323", "\u3099", "\ufe0f", "\u200d", "\u0327\u0301"]


def any_scalar(rng):
    while True:
        plane = rng.random()
        scalar = (rng.randrange(0x20, 0x3000) if plane < 0.5 else rng.randrange(0x3000, 0x10000) if plane < 0.8
                  else rng.randrange(0x10000, 0x20000) if plane < 0.95 else rng.randrange(0x20000, 0x110000))
        if not 0xD800 <= scalar <= 0xDFFF:
            return chr(scalar)


def piece(rng, special):
    kind = rng.random()
    if kind < 0.40:
        script = rng.choice(list(WORDS))
        words = [rng.choice(WORDS[script]) for _ in range(rng.randrange(1, 6))]
        return ("" if script in ("chinese", "japanese", "thai") else rng.choice([" ", " ", " ", "  "])).join(words)
    if kind < 0.50:
        return rng.choice(SPACES)
    if kind < 0.60:
        return rng.choice(PUNCTUATION) * rng.choice([1, 1, 1, 2, 3, 8])
    if kind < 0.68:
        return rng.choice(NUMBERS)
    if kind < 0.74:
        return rng.choice(EMOJI)
    if kind < 0.79:
        return rng.choice(CODE)
    if kind < 0.84:
        return rng.choice("aéЖ汉あ각ก ") + "".join(rng.choice(MARKS) for _ in range(rng.randrange(1, 4)))
    if kind < 0.88:
        return "".join(any_scalar(rng) for _ in range(rng.randrange(1, 8)))
    if kind < 0.91:
        return rng.choice("a =-_汉é\n0!") * rng.randrange(10, 120)
    if kind < 0.95 and special:
        return rng.choice(special)
    if kind < 0.97:
        return "".join(rng.choice("abcdefghijklmnopqrstuvwxyzABCDEFGHIJ'") for _ in range(rng.randrange(1, 30)))
    return rng.choice(["<|", "|>", "<|im_", "<", "</s", "[", "▁", "Ġ", "Ċ", "�", "\x00", "\x1b[0m", "\x7f"])


def lines(count, seed, special=()):
    rng = random.Random(seed)
    yield from ("", " ", "\n", "a", "'", "'s", " 's")
    for _ in range(count - 7):
        yield rng.choice(["", "", " "]).join(piece(rng, list(special)) for _ in range(rng.randrange(1, 9)))
