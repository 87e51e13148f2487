import Foundation
import Yams

/// Reads a YAML document into nodes with line numbers, within limits that no honest configuration meets.
struct YAMLReader {
  /// Bytes of a configuration file.
  static let maximumSize = 1 << 20
  /// Nodes after aliases were expanded, which is what a "billion laughs" document multiplies.
  static let maximumNodes = 20_000
  /// Levels of nesting.
  static let maximumDepth = 32
  /// Uses of anchors; together with `maximumAnchors` it bounds what hashing of aliased keys can cost.
  static let maximumAliases = 32

  /// The file's name in messages, or the text of an override.
  let name: String
  /// The location of a line of the document.
  let locate: @Sendable (Int) -> ConfigurationLocation
  private var nodes = 0

  /// A reader of a file.
  init(file name: String) {
    self.name = name
    locate = { .file(name, line: $0) }
  }

  /// A reader of the value of an override.
  init(override text: String) {
    name = "--set \(text)"
    locate = { _ in .override(text) }
  }

  /// The root of the only document in the text; nil when it holds nothing but comments.
  mutating func read(_ text: String) throws -> ConfigurationNode? {
    try checkLimits(of: text)
    let root: Node?
    do {
      root = try Parser(yaml: text).singleRoot()
    } catch let error as YamlError {
      throw configurationError(error, in: text)
    }
    guard let root else { return nil }
    return try node(root, at: root.mark?.line ?? 1, depth: 0)
  }

  private func checkLimits(of text: String) throws {
    guard text.utf8.count <= Self.maximumSize else {
      throw ConfigurationError(
        "the configuration has \(text.utf8.count) bytes, more than \(Self.maximumSize)", at: locate(0),
        remedy: "give `graft train` the YAML configuration, not the data")
    }
    if let control = text.unicodeScalars.first(where: {
      $0.value < 32 && !"\n\r\t".unicodeScalars.contains($0)
    }) {
      let line = text.unicodeScalars.prefix { $0 != control }.count { $0 == "\n" } + 1
      throw ConfigurationError(
        "the character U+\(String(control.value, radix: 16, uppercase: true)) is not allowed in YAML",
        at: locate(line), remedy: "remove it; the file may be binary or in UTF-16: save it as UTF-8")
    }
    // A scalar's asterisk follows a letter or stands in quotes; counting it as an alias only matters in the hundreds.
    let anchors = text.matches(of: #/(?:^|[\s\[{,:-])&[^\s,\[\]{}]/#).count
    let aliases = text.matches(of: #/(?:^|[\s\[{,:?-])\*[^\s,\[\]{}]/#).count
    guard anchors == 0 || aliases <= Self.maximumAliases else {
      throw ConfigurationError(
        "the configuration uses YAML aliases \(aliases) times, more than \(Self.maximumAliases)",
        at: locate(0),
        remedy: "write the values out")
    }
  }

  private mutating func node(_ node: Node, at line: Int, depth: Int) throws -> ConfigurationNode {
    nodes += 1
    guard nodes <= Self.maximumNodes else {
      throw ConfigurationError(
        "the configuration has more than \(Self.maximumNodes) values once its aliases are expanded",
        at: locate(line),
        remedy: "write the values out without aliases")
    }
    guard depth <= Self.maximumDepth else {
      throw ConfigurationError(
        "the configuration is nested more than \(Self.maximumDepth) levels deep", at: locate(line),
        remedy: "write keys side by side: nearly all of them stand at the top level")
    }
    switch node {
    case .scalar(let scalar):
      return ConfigurationNode(.scalar(scalar.string, isQuoted: scalar.style != .plain), at: locate(line))
    case .sequence(let sequence):
      return ConfigurationNode(
        .sequence(try sequence.map { try self.node($0, at: $0.mark?.line ?? line, depth: depth + 1) }),
        at: locate(line))
    case .mapping(let mapping):
      var entries: [ConfigurationNode.Entry] = []
      for (key, value) in mapping {
        let keyLine = key.mark?.line ?? line
        guard case .scalar(let scalar) = key else {
          throw ConfigurationError(
            "a key is not a word", at: locate(keyLine),
            remedy: "write keys as plain words: `learning_rate: 1e-4`")
        }
        guard scalar.string != "<<" else {
          throw ConfigurationError(
            "the merge key `<<` is not supported", at: locate(keyLine), remedy: "write the keys out")
        }
        entries.append(.init(key: scalar.string, value: try self.node(value, at: keyLine, depth: depth + 1)))
      }
      return ConfigurationNode(.mapping(entries), at: locate(line))
    case .alias(let alias):
      throw ConfigurationError(
        "the alias `*\(alias.anchor.rawValue)` cannot be resolved", at: locate(line),
        remedy: "write the value out")
    }
  }

  private func configurationError(_ error: YamlError, in text: String) -> ConfigurationError {
    switch error {
    case .scanner(let context, let problem, let mark, _), .parser(let context, let problem, let mark, _),
      .composer(let context, let problem, let mark, _):
      if problem.contains("nesting") {
        return ConfigurationError(
          "the configuration is nested more than \(Self.maximumDepth) levels deep", at: locate(mark.line),
          remedy: "write keys side by side: nearly all of them stand at the top level")
      }
      let remedy =
        text.contains("\t") && (problem.contains("tab") || problem.contains("token"))
        ? "indent with spaces: YAML forbids tabs there"
        : "write one `key: value` a line, and quote values that contain `: ` or ` #`"
      let detail = context.map { ", \($0.text)" } ?? ""
      return ConfigurationError(
        "the YAML cannot be read: \(problem)\(detail)", at: locate(mark.line), remedy: remedy)
    case .duplicatedKeysInMapping(let keys, _):
      return duplicateError(keys.first ?? "", in: text)
    case .reader(let problem, _, _, _):
      return ConfigurationError(
        "the YAML cannot be read: \(problem)", at: locate(0), remedy: "save the file as UTF-8")
    default:
      return ConfigurationError(
        "the YAML cannot be read: \(error)", at: locate(0), remedy: "check its syntax")
    }
  }

  /// The parser names a duplicate key but the place of the first use only; the second is what the user looks for.
  private func duplicateError(_ key: String, in text: String) -> ConfigurationError {
    var lines: [Int] = []
    for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
      let word = line.drop { $0 == " " }.prefix { $0 != ":" && $0 != "#" }
      if word.trimmingCharacters(in: CharacterSet(charactersIn: " \"'")) == key { lines.append(index + 1) }
    }
    let first = lines.first.map { " (first on line \($0))" } ?? ""
    return ConfigurationError(
      "`\(key)` is set more than once\(first)", key: key,
      at: locate(lines.dropFirst().first ?? lines.first ?? 0),
      remedy: "keep one of the two")
  }
}
