import JSON

/// What a value of `tokenizer.ggml.pre` stands for, in the terms of `tokenizer.json`.
///
/// The names are llama.cpp's; what they mean was taken from the `tokenizer.json` of the models that
/// each name is given to.
struct GGUFPreTokenizer {
  let normalizer: JSONValue
  let preTokenizer: JSONValue
  /// Words that are tokens are not merged up.
  var ignoresMerges = false
  /// Whether a beginning-of-text token is added where the file does not say.
  var addsBOSToken = false

  static let names: [String: @Sendable (_ addsPrefixSpace: Bool) -> GGUFPreTokenizer] = {
    var names: [String: @Sendable (Bool) -> GGUFPreTokenizer] = [:]
    func add(_ keys: [String], _ make: @escaping @Sendable (Bool) -> GGUFPreTokenizer) {
      for key in keys { names[key] = make }
    }
    add([
      "gpt-2", "gpt2", "phi-2", "olmo", "mpt", "jais", "gigachat", "roberta-bpe", "jina-es", "jina-de",
      "jina-v1-en", "jina-v2-es", "jina-v2-de", "a.x-4.0", "mellum", "modern-bert", "trillion",
      "granite-docling",
    ]) {
      .init(normalizer: .null, preTokenizer: byteLevel($0, usesRegex: true))
    }
    add(["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"]) {
      .init(
        normalizer: .null,
        preTokenizer: sequence([
          ["type": "Digits", "individual_digits": true], byteLevel($0, usesRegex: true),
        ]))
    }
    add(["qwen2", "stablelm2", "hunyuan", "solar-open", "deepseek-r1-qwen", "kormo", "megrez"]) {
      .init(
        normalizer: ["type": "NFC"],
        preTokenizer: sequence([
          split(WordScanner.qwen2Pattern), byteLevel($0, usesRegex: false),
        ]))
    }
    add(["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"]) {
      .init(
        normalizer: .null,
        preTokenizer: sequence([
          split(WordScanner.llama3Pattern), byteLevel($0, usesRegex: false),
        ]), ignoresMerges: true, addsBOSToken: true)
    }
    add(["dbrx", "smaug-bpe", "chatglm-bpe", "glm4"]) {
      .init(
        normalizer: .null,
        preTokenizer: sequence([
          split(WordScanner.llama3Pattern), byteLevel($0, usesRegex: false),
        ]))
    }
    add(["gpt-4o", "llama4", "kanana2"]) {
      .init(
        normalizer: .null,
        preTokenizer: sequence([split(o200kPattern), byteLevel($0, usesRegex: false)]))
    }
    add(["falcon"]) {
      .init(
        normalizer: .null,
        preTokenizer: sequence([
          ["type": "Punctuation", "behavior": "Contiguous"], byteLevel($0, usesRegex: true),
          ["type": "Digits", "individual_digits": false], split("[0-9][0-9][0-9]"),
        ]))
    }
    add(["default"]) {
      // What llama.cpp does for files whose converter did not recognize the tokenizer.
      .init(
        normalizer: .null,
        preTokenizer: sequence([
          split(#"[\p{P}\$\+<=>\^~\|]+"#), split(WordScanner.gpt2Pattern), split(#"\p{N}+"#),
          split("[0-9][0-9][0-9]"), byteLevel($0, usesRegex: false),
        ]))
    }
    return names
  }()

  private static let o200kPattern: String = {
    let upper = #"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"#
    let lower = #"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"#
    let contraction = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    return #"[^\r\n\p{L}\p{N}]?"# + upper + "*" + lower + "+" + contraction + "|"
      + #"[^\r\n\p{L}\p{N}]?"# + upper + "+" + lower + "*" + contraction + "|"
      + #"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
  }()

  private static func sequence(_ parts: [JSONValue]) -> JSONValue {
    ["type": "Sequence", "pretokenizers": .array(parts)]
  }

  private static func split(_ pattern: String) -> JSONValue {
    [
      "type": "Split", "pattern": ["Regex": .string(pattern)], "behavior": "Isolated", "invert": false,
    ]
  }

  private static func byteLevel(_ addsPrefixSpace: Bool, usesRegex: Bool) -> JSONValue {
    [
      "type": "ByteLevel", "add_prefix_space": .bool(addsPrefixSpace), "trim_offsets": true,
      "use_regex": .bool(usesRegex),
    ]
  }
}
