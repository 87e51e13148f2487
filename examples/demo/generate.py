#!/usr/bin/env python3
"""Writes the demo's data set: spoken building-control requests and the JSON command each one means.

Standard library only, and the generator is our own, so that every Python writes the same bytes:

    python3 generate.py            # writes train.jsonl and test.jsonl beside this file
    python3 generate.py --check    # fails when the committed files are not what it would write

A request is a template (courtesy, sentence, place of the time) with its slots filled. What a test row must
not share with training is decided here, and `verify` proves it on the rows that were made:

- its template: all test templates are held out, some by a sentence that training never shows in any form;
- its utterance, obviously;
- its answer: no JSON command of the test is the answer to any training row.
"""
import json
import re
import sys
from pathlib import Path

SEED = 20240501
TRAIN_ROWS = 1500
TEST_ROWS = 200
SYSTEM = "Turn the request into a building command in JSON."

# MARK: Slots

ZONES = {
    "the lobby": "lobby",
    "the warehouse": "warehouse",
    "the loading dock": "loading_dock",
    "the server room": "server_room",
    "the kitchen": "kitchen",
    "the garage": "garage",
    "the workshop": "workshop",
    **{f"office {n}": f"office_{n}" for n in range(1, 10)},
    **{f"meeting room {n}": f"meeting_room_{n}" for n in range(1, 7)},
}

SWITCHED = {
    "lights": "lights",
    "lamps": "lights",
    "heating": "heating",
    "heater": "heating",
    "ventilation": "ventilation",
    "fan": "ventilation",
    "alarm": "alarm",
}

TENS = {10: "ten", 20: "twenty", 30: "thirty", 40: "forty", 50: "fifty", 60: "sixty", 70: "seventy",
        80: "eighty", 90: "ninety"}
TEENS = {16: "sixteen", 17: "seventeen", 18: "eighteen", 19: "nineteen"}
UNITS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five"}


def degrees(number):
    word = TEENS.get(number) or (TENS[20] + (" " + UNITS[number - 20] if number > 20 else ""))
    return [f"{number} degrees", f"{word} degrees"]


def percent(number):
    return [f"{number} percent", f"{number} %", f"{TENS[number]} percent"]


TEMPERATURES = {text: number for number in range(16, 26) for text in degrees(number)}
PERCENTAGES = {text: number for number in TENS for text in percent(number)}

HOURS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"]


def times():
    """Spoken time to HH:MM, a list for each of the three ways people say it."""
    clock, halves, words = [], [], [("at noon", "12:00"), ("at midnight", "00:00")]
    for hour in range(24):
        for minute in (0, 15, 30, 45):
            clock.append((f"at {hour:02}:{minute:02}", f"{hour:02}:{minute:02}"))
    for hour, word in enumerate(HOURS, start=1):
        for half, offset in (("am", 0), ("pm", 12)):
            halves.append((f"at {hour} {half}", f"{hour + offset:02}:00"))
            halves.append((f"at {hour}:30 {half}", f"{hour + offset:02}:30"))
        for part, offset in (("in the morning", 0), ("in the evening", 12)):
            if hour >= 5:
                words.append((f"at {word} {part}", f"{hour + offset:02}:00"))
                words.append((f"at half past {word} {part}", f"{hour + offset:02}:30"))
    return [clock, halves, halves, words]  # "pm" takes more practice than the others


TIMES = times()

# MARK: Sentences

# (sentence, action, device or None when {device} names it, values or None). Sentences under HELD_OUT use only
# words that SENTENCES teach, in an order or with a verb that training does not show for that action.
SENTENCES = [
    ("turn on the {device} in {zone}", "on", None, None),
    ("turn the {device} on in {zone}", "on", None, None),
    ("switch on the {device} in {zone}", "on", None, None),
    ("start the {device} in {zone}", "on", None, None),
    ("in {zone} turn on the {device}", "on", None, None),
    ("turn off the {device} in {zone}", "off", None, None),
    ("turn the {device} off in {zone}", "off", None, None),
    ("switch off the {device} in {zone}", "off", None, None),
    ("stop the {device} in {zone}", "off", None, None),
    ("in {zone} turn off the {device}", "off", None, None),
    ("lock the door of {zone}", "lock", "door", None),
    ("lock {zone}", "lock", "door", None),
    ("make sure the door of {zone} is locked", "lock", "door", None),
    ("unlock the door of {zone}", "unlock", "door", None),
    ("unlock {zone}", "unlock", "door", None),
    ("make sure the door of {zone} is unlocked", "unlock", "door", None),
    ("open the blinds in {zone}", "open", "blinds", None),
    ("pull up the blinds in {zone}", "open", "blinds", None),
    ("close the blinds in {zone}", "close", "blinds", None),
    ("pull down the blinds in {zone}", "close", "blinds", None),
    ("set the heating in {zone} to {value}", "set", "heating", TEMPERATURES),
    ("heat {zone} to {value}", "set", "heating", TEMPERATURES),
    ("bring {zone} to {value}", "set", "heating", TEMPERATURES),
    ("set {zone} to {value}", "set", "heating", TEMPERATURES),
    ("in {zone} set the heating to {value}", "set", "heating", TEMPERATURES),
    ("set the lights in {zone} to {value}", "set", "lights", PERCENTAGES),
    ("dim the lights in {zone} to {value}", "set", "lights", PERCENTAGES),
    ("dim {zone} to {value}", "set", "lights", PERCENTAGES),
    ("bring the lights in {zone} to {value}", "set", "lights", PERCENTAGES),
    ("in {zone} set the lights to {value}", "set", "lights", PERCENTAGES),
]

HELD_OUT = [
    ("switch the {device} on in {zone}", "on", None, None),
    ("in {zone} start the {device}", "on", None, None),
    ("switch the {device} off in {zone}", "off", None, None),
    ("in {zone} stop the {device}", "off", None, None),
    ("make sure {zone} is locked", "lock", "door", None),
    ("make sure {zone} is unlocked", "unlock", "door", None),
    ("in {zone} pull up the blinds", "open", "blinds", None),
    ("in {zone} close the blinds", "close", "blinds", None),
    ("bring the heating in {zone} to {value}", "set", "heating", TEMPERATURES),
    ("in {zone} dim the lights to {value}", "set", "lights", PERCENTAGES),
]

COURTESIES = ["{}", "please {}", "{} please", "hi, {}", "{}, thanks", "could you {}", "can you {}, thanks"]
PLACES = ["none", "end", "end", "start"]  # of the time; "end" twice, because people say it there


def is_spoken(sentence, courtesy, place):
    """Whether people talk like this: nobody says "could you in office 4 …" or names time and place first."""
    fronted = (place == "start") + sentence[0].startswith("in ")
    return fronted == 0 or (fronted == 1 and courtesy in ("{}", "{} please", "hi, {}", "{}, thanks"))


# MARK: Generation

class Random:
    """SplitMix64 (Steele, Lea and Flood 2014): the same numbers in every Python, unlike `random`."""

    def __init__(self, seed):
        self.state = seed

    def below(self, bound):
        self.state = (self.state + 0x9E3779B97F4A7C15) % 2**64
        z = self.state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return (z ^ z >> 31) % bound

    def choice(self, items):
        items = list(items)
        return items[self.below(len(items))]


def instance(random, sentence, courtesy, place):
    """Fills one template; returns (request, command)."""
    pattern, action, device, values = sentence
    slots = {}
    zone = random.choice(ZONES)
    slots["zone"] = zone
    if device is None:
        slots["device"] = random.choice(SWITCHED)
        device = SWITCHED[slots["device"]]
    value = None
    if values is not None:
        # The number first, then its wording: otherwise a number with more wordings would come up more often.
        value = random.choice(sorted(set(values.values())))
        slots["value"] = random.choice([text for text, number in values.items() if number == value])
    request = pattern.format(**slots)
    when = "now"
    if place != "none":
        spoken, when = random.choice(random.choice(TIMES))
        request = f"{request} {spoken}" if place == "end" else f"{spoken} {request}"
    request = courtesy.format(request)
    command = {"action": action, "device": device, "zone": ZONES[zone], "value": value, "when": when}
    return request, json.dumps(command, separators=(",", ":"))


def pick(random, sentences):
    """A template: kinds of action come up equally often, however many sentences say them."""
    kind = random.choice(sorted({(action, device or "") for _, action, device, _ in sentences}))
    while True:
        sentence = random.choice([s for s in sentences if (s[1], s[2] or "") == kind])
        parts = (sentence, random.choice(COURTESIES), random.choice(PLACES))
        if is_spoken(*parts):
            return parts


def template(sentence, courtesy, place):
    return (sentence[0], courtesy, place)


def generate():
    random = Random(SEED)
    # A fifth of the combinations of seen parts is held out, besides the sentences of HELD_OUT.
    held_out = {template(s, c, p) for s in SENTENCES for c in COURTESIES for p in ("none", "end", "start")
                if random.below(5) == 0}
    test, answers, requests = [], set(), set()
    while len(test) < TEST_ROWS:
        parts = pick(random, HELD_OUT if len(test) % 2 else SENTENCES)
        if len(test) % 2 == 0 and template(*parts) not in held_out:
            continue
        request, command = instance(random, *parts)
        if request in requests or command in answers:
            continue
        requests.add(request)
        answers.add(command)
        test.append((template(*parts), request, command))
    train = []
    while len(train) < TRAIN_ROWS:
        parts = pick(random, SENTENCES)
        if template(*parts) in held_out:
            continue
        request, command = instance(random, *parts)
        if request in requests or command in answers:
            continue
        requests.add(request)
        train.append((template(*parts), request, command))
    return train, test


def verify(train, test):
    """Checks the promises of the file's first paragraph on the rows themselves."""
    templates, requests, commands = ({row[i] for row in train} for i in range(3))
    assert not any(t in templates or r in requests or c in commands for t, r, c in test)
    assert len({r for _, r, _ in train + test}) == len(train) + len(test)
    # Digits one by one: a number is copied, not known.
    words = {word for _, request, _ in train for word in re.findall(r"[a-z]+|[^a-z]", request)}
    unseen = {word for _, request, _ in test for word in re.findall(r"[a-z]+|[^a-z]", request)} - words
    assert not unseen, f"the test uses words that training never shows: {sorted(unseen)}"


def lines(rows):
    for _, request, command in rows:
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": request},
                    {"role": "assistant", "content": command}]
        yield json.dumps({"messages": messages}) + "\n"


def main():
    train, test = generate()
    verify(train, test)
    folder = Path(__file__).resolve().parent
    for name, rows in (("train.jsonl", train), ("test.jsonl", test)):
        text = "".join(lines(rows))
        if "--check" in sys.argv[1:]:
            if (folder / name).read_text(encoding="utf-8") != text:
                sys.exit(f"{name} is not what generate.py writes; run `python3 generate.py` and commit the result")
        else:
            (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
