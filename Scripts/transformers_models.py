"""How transformers loads the model that Graft is compared with: a folder, or a GGUF file."""

from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer


def source(path: Path):
    return (path.parent, {"gguf_file": path.name}) if path.suffix == ".gguf" else (path, {})


def load_tokenizer(path: Path):
    folder, options = source(path)
    return AutoTokenizer.from_pretrained(folder, **options)


def load_model(path: Path, dtype, **options):
    folder, where = source(path)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **where, **options).eval()
    if where:
        # The weights are dense by now, but transformers still calls the model quantized: Trainer would refuse it and
        # save_pretrained would write it as GGUF.
        model.is_quantized = False
        model.hf_quantizer = None
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
    return model
