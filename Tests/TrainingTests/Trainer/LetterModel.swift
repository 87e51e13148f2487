import Foundation
import JSON

/// A tiny model with a tokenizer of single letters: a to h, and the space.
func writeLetterModel(to model: URL) throws {
  try FileManager.default.createDirectory(at: model, withIntermediateDirectories: true)
  for name in ["config.json", "model.safetensors"] {
    try FileManager.default.copyItem(
      at: URL(filePath: tinyBase("llama-grouped-query")).appending(path: name),
      to: model.appending(path: name))
  }
  let tokens = ["<unk>", "<s>", "</s>"] + "abcdefgh ".map(String.init)
  let vocabulary = tokens.enumerated().map { "\(JSONValue.string($1).serialized()): \($0)" }
  let added = tokens.prefix(3).enumerated().map { index, token in
    """
    {"id": \(index), "content": "\(token)", "single_word": false, "lstrip": false, "rstrip": false,
     "normalized": false, "special": true}
    """
  }
  try Data(
    """
    {"version": "1.0", "truncation": null, "padding": null, "added_tokens": [\(added.joined(separator: ","))],
     "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
     "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
      "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
      "vocab": {\(vocabulary.joined(separator: ","))}, "merges": []}}
    """.utf8
  ).write(to: model.appending(path: "tokenizer.json"))
  try Data(#"{"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}"#.utf8)
    .write(to: model.appending(path: "tokenizer_config.json"))
}
