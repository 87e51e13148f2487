#!/usr/bin/env python3
"""Makes the fixtures of DatasetsTests. Needs sacrebleu and rouge-score (pip install sacrebleu==2.6.0 rouge-score==0.1.2).

The texts are our own; the expected values come from Python's csv and json modules, sacrebleu and rouge-score.
"""
import csv
import hashlib
import io
import json
from pathlib import Path

import sacrebleu
from rouge_score import rouge_scorer

HERE = Path(__file__).resolve().parent

# MARK: Encodings

ROWS = {
    "gb18030": [
        ("仓库几点开门？", "我们的仓库每天早上八点开门，晚上六点关门，周末不开放。"),
        ("我的订单什么时候到？", "您的订单已经发出，一般三天以内就会送到您家里。"),
        ("可以退货吗？", "可以。商品没有使用过的话，七天内都能退，运费由我们出。"),
        ("怎么联系你们的人？", "您可以打电话，也可以在网上写信给我们，我们会很快回答您的问题。"),
        ("门口的灯坏了", "好的，我现在就通知工程部的同事过去看看，请您稍等一下。"),
    ],
    "big5": [
        ("倉庫幾點開門？", "我們的倉庫每天早上八點開門，晚上六點關門，週末不開放。"),
        ("我的訂單什麼時候到？", "您的訂單已經發出，一般三天以內就會送到您家裡。"),
        ("可以退貨嗎？", "可以。商品沒有使用過的話，七天內都能退，運費由我們出。"),
        ("怎麼聯繫你們的人？", "您可以打電話，也可以在網上寫信給我們，我們會很快回答您的問題。"),
    ],
    "shift_jis": [
        ("倉庫は何時に開きますか？", "倉庫は毎日朝八時に開き、夕方六時に閉まります。週末はお休みです。"),
        ("注文はいつ届きますか？", "ご注文の商品はもう発送しました。三日以内にお届けします。"),
        ("返品できますか？", "はい、使っていない商品なら、七日以内に返品できます。"),
    ],
    "euc_kr": [
        ("창고는 몇 시에 문을 여나요?", "저희 창고는 매일 아침 여덟 시에 문을 열고 저녁 여섯 시에 닫습니다."),
        ("주문한 물건은 언제 도착하나요?", "주문하신 상품은 이미 보냈으며 보통 삼 일 안에 도착합니다."),
        ("반품할 수 있나요?", "네, 사용하지 않은 상품은 칠 일 안에 반품할 수 있습니다."),
    ],
    "cp1252": [
        ("À quelle heure ouvre l’entrepôt ?", "Notre entrepôt ouvre chaque matin à huit heures et ferme à dix-huit heures."),
        ("Können wir die Ware zurückgeben?", "Ja – die Rückgabe ist für unbenutzte Ware möglich, natürlich ohne Gebühr."),
        ("¿Cuándo llegará mi pedido?", "El envío salió el lunes; llegará mañana o pasado mañana, señora Núñez."),
    ],
}
ROWS["utf-8"] = ROWS["gb18030"]
ROWS["utf-8-sig"] = ROWS["gb18030"]
ROWS["utf-16"] = ROWS["gb18030"]  # with a byte-order mark
ROWS["utf-16-le"] = ROWS["cp1252"]  # without

for encoding, rows in ROWS.items():
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(["department", "ask", "answer"])
    for ask, answer in rows:
        writer.writerow(["service", ask, answer])
    (HERE / "encodings" / f"{encoding}.csv").write_bytes(buffer.getvalue().encode(encoding))
(HERE / "encodings" / "expected.json").write_text(
    json.dumps(ROWS, ensure_ascii=False, indent=1), encoding="utf-8")

# What `graft data convert --columns question=ask,answer --train 3 --validation 2` has to write.
for name, rows in (("train", ROWS["gb18030"][:3]), ("validation", ROWS["gb18030"][3:])):
    with open(HERE / "encodings" / f"{name}.json", "w", encoding="utf-8") as file:
        json.dump([{"question": q, "answer": a} for q, a in rows], file, ensure_ascii=False, indent=4)

# MARK: CSV

CASES = [
    "a,b\n1,2\n", "a,b\r\n1,2\r\n", "a,b\r1,2\r", "a,b\n1,2", '"a","b"\n"1","2"\n', 'a,b\n"x,y",2\n',
    'a,b\n"x ""quoted"" y",2\n', 'a,b\n"line one\nline two",2\n', 'a,b\r\n"one\r\ntwo","\r\n"\r\n', "a,b\n,\n",
    'a,b\n"",""\n', "a,b\n\n1,2\n\n\n3,4\n", "a,b\n 1 , 2 \n", "a\n1\n", 'a,b\n"1",\n', "a,b\n1,", "a,b\n中文,é\n",
    'a,b\n"",x\n"""",y\n', "a,b\n1;2,3\n",
    'a,b\nx"y"z,2\n',
]
expected = []
for text in CASES:
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    expected.append({"text": text, "rows": rows})
(HERE / "csv.json").write_text(json.dumps(expected, ensure_ascii=False, indent=1), encoding="utf-8")

# MARK: Metrics

ENGLISH = [
    ("The cat sat on the mat.", "The cat is on the mat."),
    ("It costs $3.50, which is 10% more.", "It costs $3.50, about 10% more than before."),
    ("A state-of-the-art 2-way (parallel) engine", "The state-of-the-art 2-way parallel engine"),
    ("Hello &amp; goodbye, &lt;world&gt;!", "Hello & goodbye, <world>!"),
    ("1,000.5 items... on 5-6 shelves, .5 left", "1,000.5 items, on 5-6 shelves; .5 left"),
    ("completely different words here", "nothing in common at all"),
    ("", "an empty prediction"),
    ("one", "one"),
    ("line one-\ntwo\nthree <skipped>four", "line onetwo three four"),
    ("Ünïcode “quotes” – and dashes…", "Unicode “quotes” – and dashes…"),
    ("repeat repeat repeat repeat", "repeat repeat"),
]
CHINESE = [
    ("高血压病人可以口服党参的。", "高血压患者可以吃党参。"),
    ("仓库每天早上8点开门，周末不开放。", "仓库早上8:00开门，周末不开放！"),
    ("使用iPhone 15打开App，价格为3.5元。", "请使用iPhone 15打开APP，价格是3.50元。"),
    ("完全不同", "毫无关系的回答"),
    ("“引号”和——破折号……", "“引号”与——破折号……"),
    ("㐀𠀀字", "㐀𠀀的字"),
]


class Characters:
    """The units of our ROUGE for Chinese: every other letter or digit than a-z0-9 alone."""

    def tokenize(self, text):
        tokens, word = [], ""
        for character in text.lower():
            if character.isascii() and character.isalnum():
                word += character
                continue
            if word:
                tokens.append(word)
            word = ""
            if not character.isascii() and (character.isalpha() or character.isnumeric()):
                tokens.append(character)
        return tokens + ([word] if word else [])


def metrics(pairs, tokenize, tokenizer):
    predictions, references = [p for p, _ in pairs], [r for _, r in pairs]
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False, tokenizer=tokenizer)
    each = [scorer.score(target=r, prediction=p) for p, r in pairs]
    bleu = sacrebleu.metrics.BLEU(tokenize=tokenize)
    return {
        "predictions": predictions, "references": references,
        "bleu": bleu.corpus_score(predictions, [references]).score,
        "bleu_without_first": bleu.corpus_score(predictions[1:], [references[1:]]).score,
        "bleu_of_two": bleu.corpus_score(predictions[:2], [references[:2]]).score,
        "tokens": [bleu.tokenizer(p.rstrip()) for p in predictions],
        "rouge": [{name: [s.precision, s.recall, s.fmeasure] for name, s in scores.items()} for scores in each],
    }


(HERE / "metrics.json").write_text(
    json.dumps({"english": metrics(ENGLISH, "13a", None), "chinese": metrics(CHINESE, "zh", Characters())},
               ensure_ascii=False, indent=1), encoding="utf-8")

# MARK: Random order


class Generator:
    """xoshiro256** seeded by SplitMix64, written again from the papers' reference code."""

    MASK = 2**64 - 1

    @classmethod
    def mix(cls, state):
        state = (state + 0x9E3779B97F4A7C15) & cls.MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & cls.MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & cls.MASK
        return state, z ^ (z >> 31)

    def __init__(self, seed, stream):
        _, key = self.mix(seed)
        state, self.s = (key + stream) & self.MASK, []
        for _ in range(4):
            state, word = self.mix(state)
            self.s.append(word)

    @classmethod
    def rotate(cls, x, k):
        return ((x << k) | (x >> (64 - k))) & cls.MASK

    def next(self):
        s = self.s
        result = (self.rotate((s[1] * 5) & self.MASK, 7) * 9) & self.MASK
        t = (s[1] << 17) & self.MASK
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= t
        s[3] = self.rotate(s[3], 45)
        return result

    def below(self, bound):
        threshold = (2**64 - bound) % bound
        while True:
            product = self.next() * bound
            if product & self.MASK >= threshold:
                return product >> 64

    def shuffled(self, count):
        order = list(range(count))
        for last in range(count - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order


(HERE / "shuffle.json").write_text(json.dumps([
    {"seed": str(seed), "stream": stream, "numbers": [str(Generator(seed, stream).next())],
     "shuffled": Generator(seed, stream).shuffled(20)}
    for seed, stream in ((42, 0), (42, 1), (0, 0), (2**64 - 1, 7))]), encoding="utf-8")

# MARK: SHA-256

(HERE / "sha256.json").write_text(json.dumps(
    {str(n): hashlib.sha256(bytes(i % 251 for i in range(n))).hexdigest() for n in (0, 1, 55, 56, 63, 64, 65, 1000)}),
    encoding="utf-8")
