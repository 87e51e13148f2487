#!/usr/bin/env python3
"""Writes Sources/Tokenizers/Unicode/UnicodeTables.swift.

A token id depends on whether `\\p{L}` holds for a character, and the answer depends on the Unicode
version that an engine was built with. Models are trained with the `tokenizers` package, so this
script asks that package about every Unicode scalar instead of reading a Unicode version of its own:
general categories, `\\w`, `\\s` and scripts from its Oniguruma, numbers, punctuation and words from
its Rust side, normalization forms from its normalizers.

usage: python3 Scripts/generate_unicode_tables.py      (needs: pip install tokenizers)
"""
import sys
import unicodedata
from pathlib import Path

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

OUTPUT = Path(__file__).resolve().parent.parent / "Sources/Tokenizers/Unicode/UnicodeTables.swift"
SCALARS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
CATEGORIES = (
    "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Cs Co Cn".split()
)
SCRIPTS = (
    "Common Inherited Latin Greek Cyrillic Armenian Hebrew Arabic Syriac Thaana Devanagari Bengali "
    "Gurmukhi Gujarati Oriya Tamil Telugu Kannada Malayalam Sinhala Thai Lao Tibetan Myanmar Georgian "
    "Hangul Ethiopic Cherokee Khmer Mongolian Hiragana Katakana Bopomofo Han Yi"
).split()
# One letter before every scalar: the first piece of a `contiguous` split is then a known one.
TEXT = "".join(map(chr, SCALARS))


def flags_of_split(pre_tokenizer, lead):
    """For each scalar, whether `pre_tokenizer` (contiguous) matches it; `lead` must not match."""
    flags = bytearray(len(SCALARS) + 1)
    matched = False
    for _, (start, end) in pre_tokenizer.pre_tokenize_str(lead + TEXT):
        if matched:
            flags[start:end] = b"\x01" * (end - start)
        matched = not matched
    return flags[1:]


def pattern(expression, lead="a"):
    return flags_of_split(pre_tokenizers.Split(Regex(expression), "contiguous"), lead)


def runs(values):
    """(first scalar, value) wherever the value changes; surrogates take the value before them."""
    result, previous = [], None
    for scalar, value in zip(SCALARS, values):
        if value != previous:
            result.append((scalar, value))
            previous = value
    return result


def swift_array(name, doc, numbers, element="UInt32"):
    lines, line = [], "   "
    for number in numbers:
        item = f" {number},"
        if len(line) + len(item) > 100:
            lines.append(line)
            line = "   "
        line += item
    lines.append(line)
    body = "\n".join(lines)
    return f"  /// {doc}\n  static let {name}: [{element}] = [\n{body}\n  ]\n"


def main():
    category = bytearray(len(SCALARS))
    seen = bytearray(len(SCALARS))
    for index, name in enumerate(CATEGORIES):
        if name == "Cs":
            continue
        lead = "1" if name == "Ll" else "a"
        for i, flag in enumerate(pattern(rf"\p{{{name}}}", lead)):
            if flag:
                assert not seen[i], f"{SCALARS[i]:X} has two categories"
                category[i], seen[i] = index, 1
    assert all(seen), "a scalar without a category"

    word = pattern(r"\w", " ")
    space = pattern(r"\s")
    numeric = flags_of_split(pre_tokenizers.Digits(individual_digits=False), "a")
    punctuation = flags_of_split(pre_tokenizers.Punctuation("contiguous"), "a")
    whitespace_split = pre_tokenizers.WhitespaceSplit()
    whitespace = pre_tokenizers.Whitespace()
    strip_accents = normalizers.StripAccents()
    nfd, nfkd, nfc = normalizers.NFD(), normalizers.NFKD(), normalizers.NFC()
    properties, canonical, compatible, combining, composed = [], [], [], [], []
    for i, scalar in enumerate(SCALARS):
        character = chr(scalar)
        is_space = len(whitespace_split.pre_tokenize_str(character)) == 0
        pieces = whitespace.pre_tokenize_str("a" + character)
        is_word = len(pieces) == 1 and len(pieces[0][0]) == 2
        is_mark = strip_accents.normalize_str(character) == ""
        properties.append(
            category[i] | word[i] << 5 | space[i] << 6 | numeric[i] << 7 | punctuation[i] << 8
            | is_space << 9 | is_word << 10 | is_mark << 11
        )
        if 0xAC00 <= scalar <= 0xD7A3:
            continue  # Hangul syllables follow from arithmetic
        d, k = nfd.normalize_str(character), nfkd.normalize_str(character)
        if d != character:
            canonical += [scalar, len(d), *map(ord, d)]
        if k != d:
            compatible += [scalar, len(k), *map(ord, k)]
        order = unicodedata.combining(character)
        if order:
            # U+0345 has class 240, the highest: a lower class that the package knows moves before it.
            if order == 240 or nfd.normalize_str("\u0345" + character) != "\u0345" + d:
                combining.append((scalar, order))
        parts = unicodedata.decomposition(character).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            first, second = (int(part, 16) for part in parts)
            if nfc.normalize_str(chr(first) + chr(second)) == character:
                composed += [first, second, scalar]

    folds = {}
    for scalar in SCALARS:
        folded = chr(scalar).casefold()
        if len(folded) == 1:
            folds.setdefault(ord(folded), {ord(folded)}).add(scalar)
    fold_classes = []
    for members in sorted(sorted(m) for m in folds.values() if len(m) > 1):
        fold_classes += [len(members), *members]

    scripts = []
    script_of = [0] * len(SCALARS)
    for index, name in enumerate(SCRIPTS):
        lead = "1" if name == "Latin" else "a"
        for i, flag in enumerate(pattern(rf"\p{{{name}}}", lead)):
            if flag:
                script_of[i] = index + 1
    scripts = runs(script_of)

    combining_runs, previous = [], None
    for scalar, order in combining:
        if previous and previous[1] == scalar - 1 and previous[2] == order:
            previous[1] = scalar
        else:
            previous = [scalar, scalar, order]
            combining_runs.append(previous)

    def packed(pairs, shift):
        return [scalar << shift | value for scalar, value in pairs]

    names = lambda items: ", ".join(f'"{item}"' for item in items)
    out = f"""// Generated by Scripts/generate_unicode_tables.py from tokenizers {tokenizers.__version__}. Do not edit.
// swift-format-ignore-file

/// What the reference tokenizer believes about every Unicode scalar.
enum UnicodeTables {{
  /// General categories, in the order in which `properties` counts them.
  static let categoryNames: [String] = [{names(CATEGORIES)}]
  /// Scripts, in the order in which `scripts` counts them (from 1; 0 is any other script).
  static let scriptNames: [String] = [{names(SCRIPTS)}]
"""
    # 12 bits of properties do not fit beside 21 bits of scalar in 32 bits: two tables.
    kinds = sorted(set(properties))
    index = {kind: i for i, kind in enumerate(kinds)}
    assert len(kinds) <= 256
    out += swift_array("propertyKinds", "Bits of each kind of scalar: 0-4 category, 5 `\\w`, 6 `\\s`, 7 numeric, "
                       "8 punctuation, 9 white space, 10 word, 11 mark.", kinds, "UInt16")
    out += swift_array("properties", "Runs: first scalar << 8 | index into `propertyKinds`.",
                       packed([(s, index[v]) for s, v in runs(properties)], 8))
    out += swift_array("scripts", "Runs: first scalar << 8 | script.", packed(scripts, 8))
    out += swift_array("combiningClasses", "Triples: first scalar, last scalar, canonical combining class.",
                       [n for run in combining_runs for n in run])
    out += swift_array("canonicalDecompositions", "Full canonical decompositions: scalar, count, scalars.", canonical)
    out += swift_array("compatibilityDecompositions",
                       "Full compatibility decompositions that differ from the canonical ones.", compatible)
    out += swift_array("compositions", "Triples: first, second, composed.", composed)
    out += swift_array("caseFolding", "Classes of scalars that are equal without case: count, scalars.", fold_classes)
    out += "}\n"
    OUTPUT.write_text(out, encoding="utf-8")
    print(f"{OUTPUT}: {len(out)} bytes, {len(kinds)} kinds", file=sys.stderr)


if __name__ == "__main__":
    main()
