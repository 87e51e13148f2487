// The Swift side of Scripts/verify_tokenizers.py and Benchmarks/Tokenizers/benchmark.py.
//
//   tokenizer-check ids DIRECTORY            lines of JSON strings on stdin → a line of ids each
//   tokenizer-check offsets DIRECTORY        … → ids, starts and ends (UTF-8 bytes)
//   tokenizer-check decode DIRECTORY [skip]  lines of ids → a line with a JSON string each
//   tokenizer-check convert METADATA DIRECTORY
//                                            a GGUF file's tokenizer metadata as JSON → its files
//   tokenizer-check time DIRECTORY THREADS REPETITIONS
//                                            lines of JSON strings → seconds of each repetition, tokens
import Files
import Foundation
import JSON
import Tokenizers

func fail(_ message: String) -> Never {
  FileHandle.standardError.write(Data((message + "\n").utf8))
  exit(2)
}

func strings() throws -> [String] {
  var result: [String] = []
  while let line = readLine() {
    guard let text = try JSONValue(parsing: line).stringValue else { fail("not a JSON string: \(line)") }
    result.append(text)
  }
  return result
}

func vocabulary(_ metadata: JSONValue) -> GGUFVocabulary {
  func value(_ key: String) -> JSONValue? { metadata["tokenizer.ggml." + key] }
  var vocabulary = GGUFVocabulary(
    model: value("model")?.stringValue ?? "",
    tokens: value("tokens")?.arrayValue?.compactMap(\.stringValue) ?? [])
  vocabulary.pre = value("pre")?.stringValue
  vocabulary.tokenTypes = value("token_type")?.arrayValue?.compactMap {
    $0.intValue.flatMap(GGUFVocabulary.TokenType.init)
  }
  vocabulary.merges = value("merges")?.arrayValue?.compactMap(\.stringValue)
  vocabulary.beginningOfSequenceID = value("bos_token_id")?.intValue
  vocabulary.endOfSequenceID = value("eos_token_id")?.intValue
  vocabulary.unknownID = value("unknown_token_id")?.intValue
  vocabulary.paddingID = value("padding_token_id")?.intValue
  vocabulary.addsBeginningOfSequence = value("add_bos_token")?.boolValue
  vocabulary.addsEndOfSequence = value("add_eos_token")?.boolValue
  vocabulary.addsSpacePrefix = value("add_space_prefix")?.boolValue
  vocabulary.chatTemplate = metadata["tokenizer.chat_template"]?.stringValue
  return vocabulary
}

let arguments = CommandLine.arguments
guard arguments.count >= 3 else { fail("usage: tokenizer-check ids|offsets|decode|time DIRECTORY …") }

do {
  if arguments[1] == "convert", arguments.count == 4 {
    let data = try Data(contentsOf: URL(fileURLWithPath: arguments[2]))
    try Tokenizer(gguf: vocabulary(JSONValue(parsing: data))).save(to: URL(fileURLWithPath: arguments[3]))
    exit(0)
  }
  let start = ContinuousClock.now
  let tokenizer = try Tokenizer(directory: URL(fileURLWithPath: arguments[2]))
  let loading = ContinuousClock.now - start
  switch arguments[1] {
  case "ids":
    for text in try strings() {
      print(tokenizer.encode(text).map(String.init).joined(separator: " "))
    }
  case "offsets":
    for text in try strings() {
      let encoding = tokenizer.encodeWithOffsets(text)
      let fields = [
        encoding.ids.map(Int.init), encoding.offsets.map(\.lowerBound), encoding.offsets.map(\.upperBound),
      ]
      print(fields.map { $0.map(String.init).joined(separator: " ") }.joined(separator: "\t"))
    }
  case "decode":
    let skip = arguments.count > 3 && arguments[3] == "skip"
    while let line = readLine() {
      let ids = line.split(separator: " ").compactMap { Int32($0) }
      let text = tokenizer.decode(ids, skipSpecialTokens: skip, cleanUpTokenizationSpaces: false)
      var stream = StreamingDecoder(tokenizer, skipSpecialTokens: skip)
      let streamed = ids.map { stream.append($0) }.joined() + stream.finish()
      guard Array(streamed.utf8) == Array(text.utf8) else { fail("streaming differs on \(line)") }
      print(JSONValue.string(text).serialized(escapeNonASCII: true))
    }
  case "time":
    guard arguments.count == 5, let threads = Int(arguments[3]), let repetitions = Int(arguments[4])
    else { fail("usage: tokenizer-check time DIRECTORY THREADS REPETITIONS") }
    let texts = try strings()
    var seconds: [Double] = []
    var tokens = 0
    for _ in 0..<repetitions {
      // A fresh tokenizer: nothing cached from the run before.
      let fresh = try Tokenizer(directory: URL(fileURLWithPath: arguments[2]))
      let start = ContinuousClock.now
      let ids = fresh.encodeBatch(texts, threads: threads)
      seconds.append((ContinuousClock.now - start) / .seconds(1))
      tokens = ids.reduce(0) { $0 + $1.count }
    }
    let result: JSONValue = [
      "seconds": .array(seconds.map { .number($0) }), "tokens": .integer(tokens),
      "loading": .number(loading / .seconds(1)),
    ]
    print(result.serialized())
  default:
    fail("unknown command \(arguments[1])")
  }
} catch {
  fail("\(error)")
}
