#!/usr/bin/env python3
"""Trains small tokenizers of many structures and records what the `tokenizers` package makes of varied
lines. Everything is generated here; nothing is downloaded.

usage: python3 Tests/TokenizersTests/Fixtures/make_fixtures.py      (needs: pip install tokenizers)

lines.json        the lines
tokenizers/*.json the tokenizers
expected.json     for each tokenizer: 24-bit hashes, in hexadecimal, of each line's ids, of its offsets (UTF-8
                  bytes) and of its decoded text; a few lines in full, to read when a hash differs
patterns.json     split patterns, and for each line a hash of the bounds of the words
"""
import json
from pathlib import Path

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers,
                        processors, trainers)

from varied_lines import lines

HERE = Path(__file__).resolve().parent
ALL_LINES = list(lines(10000, 7, ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<mask>", "Word", "tool_call"]))
FEW_LINES = 1500
TRAINING = [line for line in lines(6000, 8)]
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
         r"\s+(?!\S)|\s+")
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CL100K = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|"
          r"\s*[\r\n]|\s+(?!\S)|\s")
KIMI = (r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+|"
        r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
PATTERNS = [
    QWEN2, LLAMA3, GPT2, O200K, CL100K, KIMI, "(?:" + QWEN2 + ")", "(?:" + LLAMA3 + ")", "(?:" + GPT2 + ")",
    r"\p{L}+", r"\p{Lu}\p{Ll}*", r"\P{L}", r"\p{^N}+", r"\p{Han}", r"[\p{Hiragana}\p{Katakana}]+", r"\p{Arabic}+",
    r"\w+", r"\W", r"\d{2,}", r"\s", r"\S+?", r"[^a-y]+", r"[\w&&[^\d_]]+", r"[[:^space:]]+",
    r"\h+", r"(?i:k)", r"(?i:[a-f])+", r"(?i)[^a-z\s]+", r"^.", r".$", r"\A.", r".\z", r"\b\w", r"\B.",
    r"(?<=\s)\S", r"(?<!a)b", r"(?<=\p{L}')s", r"a(?=b)|\d(?!\d)", r"(?=a)", r"x*", r"(?>a+|ab)c?", r"a*+a|\s*+", r"(?:ab?){2,3}?",
    r"e{,2}", r"o{2}+", r"(a|b|cd)+e?", r"(?<name>\d)\.", r"(?#comment)-", r"(?m:.)+", "(?x: a | b # note\n)", r"\u4f60|\x{1F600}|\x41", r"\R", r"[\]\-x]+", r"[a\-c]", r"[-a]", r"[a-]", r"a{x", r"\p{Sm}|\p{Sc}|\p{So}",
    r"\p{Mn}+", r"[\u0300-\u036f]+", r"(?:(?:[^\s]|\n){1,4}|\s{2,})", r"(a(?i)b|C)d?", r"\p{Zs}", r"\p{Cn}|\p{Co}", r"\p{P}", r"\p{M}",
]


def hash24(numbers):
    value = 0x811C9DC5
    for number in numbers:
        for shift in (0, 8, 16, 24):
            value = ((value ^ (number >> shift & 0xFF)) * 0x01000193) & 0xFFFFFFFF
    return f"{(value ^ value >> 24) & 0xFFFFFF:06x}"


def byte_offsets(text):
    result, position = [], 0
    for character in text:
        result.append(position)
        position += len(character.encode())
    return [*result, position]


def train(tokenizer, size=600, **options):
    options.setdefault("initial_alphabet", pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        TRAINING, trainers.BpeTrainer(vocab_size=size, show_progress=False, min_frequency=2, **options))
    return tokenizer


def byte_level(pre_tokenizer, normalizer=None, size=600, **model):
    tokenizer = Tokenizer(models.BPE(**model))
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    return train(tokenizer, size)


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def words(pattern):
    return pre_tokenizers.Sequence([split(pattern), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def make():
    special = [AddedToken(t, special=True, normalized=False) for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")]

    tokenizer = byte_level(words(QWEN2), normalizers.NFC(), size=2500)
    tokenizer.add_tokens(special + [AddedToken("tool_call", normalized=False)])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    yield "qwen2", tokenizer

    tokenizer = byte_level(words(LLAMA3), size=1200)
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=True),
        processors.TemplateProcessing(
            single="<|im_start|> $A", pair="<|im_start|> $A <|im_end|>:1 $B:1 <|endoftext|>:1",
            special_tokens=[(t.content, tokenizer.token_to_id(t.content)) for t in special])])
    document = json.loads(tokenizer.to_str())
    document["model"]["ignore_merges"] = True
    # A word that is a token, but that no merge makes.
    document["model"]["merges"] = [m for m in document["model"]["merges"] if "".join(m) not in ("Ġthe", "患者", "ing")]
    reachable = set(pre_tokenizers.ByteLevel.alphabet()) | {"".join(m) for m in document["model"]["merges"]}
    document["model"]["merges"] = [m for m in document["model"]["merges"] if m[0] in reachable and m[1] in reachable]
    yield "llama3", Tokenizer.from_str(json.dumps(document))

    tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True))
    tokenizer.add_special_tokens(special[:1])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    yield "gpt2", tokenizer

    tokenizer = byte_level(pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]))
    tokenizer.add_special_tokens(special)
    yield "smollm", tokenizer

    tokenizer = byte_level(pre_tokenizers.Sequence([
        pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.ByteLevel(add_prefix_space=False),
        pre_tokenizers.Digits(individual_digits=False), split("[0-9][0-9][0-9]")]))
    yield "falcon", tokenizer

    yield "o200k-nfd", byte_level(words(O200K), normalizers.NFD())
    yield "cl100k", byte_level(words(CL100K), normalizers.Sequence([normalizers.NFKC(), normalizers.Strip()]))

    tokenizer = byte_level(pre_tokenizers.Sequence([
        pre_tokenizers.Split("-", "removed"), split("[,;]", "merged_with_previous"), split(r"[(\[]", "merged_with_next"),
        split(r"\d+", "contiguous"), split(r"\w+", "isolated", True), pre_tokenizers.Split("  ", "merged_with_previous", True),
        pre_tokenizers.Split(" ", "merged_with_next", True), pre_tokenizers.Split("a", "contiguous", True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]))
    yield "behaviors", tokenizer

    tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True), normalizers.Lowercase())
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in ("<s>", "</s>")])
    tokenizer.add_tokens([
        AddedToken("<mask>", lstrip=True, rstrip=True, normalized=False), AddedToken("Word", single_word=True),
        AddedToken("DON'T", normalized=True), AddedToken("the", single_word=True, lstrip=True), AddedToken("世界", rstrip=True, normalized=False),
        AddedToken("<|im", normalized=False), AddedToken("<|im_start|>", normalized=False), AddedToken("of an", normalized=True)])
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", tokenizer.token_to_id("</s>")), ("<s>", tokenizer.token_to_id("<s>")), trim_offsets=True, add_prefix_space=True)
    yield "added-tokens", tokenizer

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    train(tokenizer, 900, initial_alphabet=[], limit_alphabet=120,
          special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)])
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)])
    yield "llama2", tokenizer

    def metaspace(scheme, splits, **model):
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", **model))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=splits)
        tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme, split=splits)
        train(tokenizer, 500, initial_alphabet=[], limit_alphabet=100, special_tokens=["<unk>", "<s>"])
        return tokenizer
    yield "metaspace-first", metaspace("first", True)
    yield "metaspace-always", metaspace("always", False, fuse_unk=True)
    yield "metaspace-never", metaspace("never", True)

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Replace(Regex(r"[0-9]+"), "0"),
        normalizers.Strip(left=True, right=True)])
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.BPEDecoder("</w>")
    yield "end-of-word", train(tokenizer, 500, initial_alphabet=[], limit_alphabet=120, special_tokens=["<unk>"], end_of_word_suffix="</w>")

    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]", continuing_subword_prefix="##"))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    yield "continuing-prefix", train(tokenizer, 500, initial_alphabet=[], limit_alphabet=120, special_tokens=["[UNK]"],
                                     continuing_subword_prefix="##")

    tokenizer = Tokenizer(models.BPE())
    yield "bare", train(tokenizer, 300, initial_alphabet=[], limit_alphabet=80)

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.ByteLevel()])
    tokenizer.pre_tokenizer = split(r"Ġ?[^Ġ]+")
    tokenizer.decoder = decoders.ByteLevel()
    yield "byte-level-normalizer", train(tokenizer, 500)


def main():
    (HERE / "tokenizers").mkdir(exist_ok=True)
    (HERE / "lines.json").write_text(json.dumps(ALL_LINES, ensure_ascii=False, indent=0), encoding="utf-8")
    offsets_of = [byte_offsets(line) for line in ALL_LINES]
    expected = {}
    for name, tokenizer in make():
        (HERE / f"tokenizers/{name}.json").write_text(tokenizer.to_str(), encoding="utf-8")
        # Read back, as a user does.
        tokenizer = Tokenizer.from_file(str(HERE / f"tokenizers/{name}.json"))
        texts = ALL_LINES if name == "qwen2" else ALL_LINES[:FEW_LINES]
        entry = {"ids": "", "offsets": "", "decoded": "", "skipped": "", "examples": [], "pairs": []}
        for index, text in enumerate(texts):
            encoding = tokenizer.encode(text)
            where = offsets_of[index]
            entry["ids"] += hash24(encoding.ids)
            entry["offsets"] += hash24(where[o] for pair in encoding.offsets for o in pair)
            entry["decoded"] += hash24(tokenizer.decode(encoding.ids, skip_special_tokens=False).encode())
            entry["skipped"] += hash24(tokenizer.decode(encoding.ids, skip_special_tokens=True).encode())
            if index % (len(texts) // 10) == 9:
                entry["examples"].append([index, encoding.ids])
            if index % (len(texts) // 10) == 10:
                pair = tokenizer.encode(text, "second text")
                entry["pairs"].append([index, pair.ids, pair.type_ids, pair.special_tokens_mask])
        entry["without"] = tokenizer.encode(TRAINING[3], add_special_tokens=False).ids
        entry["size"] = tokenizer.get_vocab_size()
        expected[name] = entry
    expected["without"] = TRAINING[3]
    (HERE / "expected.json").write_text(json.dumps(expected, indent=0), encoding="utf-8")

    patterns = []
    for pattern in PATTERNS:
        splitter = pre_tokenizers.Split(Regex(pattern), "isolated")
        hashes = ""
        for text, where in zip(ALL_LINES[:400], offsets_of):
            hashes += hash24(where[o] for _, bounds in splitter.pre_tokenize_str(text) for o in bounds)
        patterns.append({"pattern": pattern, "hashes": hashes})
    (HERE / "patterns.json").write_text(json.dumps(patterns, indent=0), encoding="utf-8")


if __name__ == "__main__":
    main()
