#!/bin/sh
# Fine-tunes SmolLM2-135M-Instruct on the demo's data, and measures it before and after. `make demo` calls this
# when the engine, the program and the model are there. Everything that it writes lies in runs/demo, which it
# replaces. Options of `graft train` may be given: examples/demo/run.sh --set seed=7

set -eu
cd "$(dirname "$0")/../.."

model=.models/smollm2-135m-instruct.gguf
test=examples/demo/test.jsonl
output=runs/demo

if [ ! -e "$model" ]; then
  echo "examples/demo/run.sh: $model is missing; run 'make demo', which fetches it." >&2
  exit 1
fi

say() { printf '\n== %s\n' "$*"; }

# Answers are one line of JSON of at most 40 tokens; the base rambles, so its answers are cut there too.
evaluate() { # NAME, then options
  name=$1
  shift
  bin/graft evaluate "$model" "$test" --dtype bfloat16 "$@" \
    --generate --max-new-tokens 48 --batch-size 20 --predictions "$output/$name.jsonl" --json > "$output/$name.json"
}

rm -rf "$output"
mkdir -p "$output"

say "1/3 The base model answers the 200 requests of the test"
evaluate base
say "2/3 LoRA fine-tuning on 1,500 other requests"
bin/graft train examples/demo/demo.yaml "$@"
say "3/3 The tuned model answers the same 200 requests"
evaluate tuned --adapter "$output"

say "Result"
"${PYTHON:-python3}" examples/demo/compare.py "$output"
