import Foundation
import JSON

extension RunConfiguration {
  /// The complete configuration as YAML: every key with the value it has in this run, grouped by section.
  ///
  /// Reading it gives an equal configuration.
  public func yaml() -> String {
    var lines: [String] = []
    Self.write(model, to: &lines)
    Self.write(data, to: &lines)
    lines += ["", "# Adapter", "\(Self.methodKey): \(Self.scalar(adapterMethod))"]
    for (name, value) in adapter.objectValue ?? [:] where name != "peft_type" {
      lines.append("\(name): \(Self.flow(value))")
    }
    Self.write(training, to: &lines)
    return lines.drop { $0.isEmpty }.joined(separator: "\n") + "\n"
  }

  private static func write<Group: ConfigurationGroup>(_ group: Group, to lines: inout [String]) {
    var section = ""
    for key in Group.keys {
      if key.section != section {
        section = key.section
        lines += ["", "# \(section)"]
      }
      lines.append("\(key.name): \(flow(key.value(group)))")
    }
  }

  /// A value in YAML's flow style, which is JSON with fewer quotes.
  private static func flow(_ value: JSONValue) -> String {
    switch value {
    case .null: "null"
    case .bool(let value): value ? "true" : "false"
    case .integer(let value): String(value)
    case .number(let value): number(value)
    case .string(let value): scalar(value)
    case .array(let values): "[" + values.map(flow).joined(separator: ", ") + "]"
    case .object(let members):
      "{" + members.map { "\(scalar($0.key)): \(flow($0.value))" }.joined(separator: ", ") + "}"
    }
  }

  /// With a point before the exponent: `5e-05` is a text to YAML 1.1 programs.
  private static func number(_ value: Double) -> String {
    let text = value.description
    guard let exponent = text.firstIndex(of: "e"), !text[..<exponent].contains(".") else { return text }
    return text[..<exponent] + ".0" + text[exponent...]
  }

  /// A text, in quotes unless it is a plain word that YAML can take for nothing else.
  private static func scalar(_ text: String) -> String {
    let isPlain =
      text.wholeMatch(of: #/[A-Za-z_\/][A-Za-z0-9_.\/-]*/#) != nil
      && ConfigurationNode(.scalar(text, isQuoted: false)).json == .string(text)
    return isPlain ? text : JSONValue.string(text).serialized()
  }
}
