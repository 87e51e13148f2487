import Adapters
import JSON

/// The reference of configuration keys in Markdown, made from the tables that the reader uses.
public enum ConfigurationReference {
  /// The tables of every section.
  public static func markdown(methods: [AdapterMethod] = AdapterMethod.catalogue) -> String {
    var text = tables(of: ModelArguments.self) + tables(of: DataArguments.self)
    text += "## Adapter\n\n" + header
    let names = methods.map { "`\($0.name)`" }.joined(separator: ", ")
    text += row("peft_method", names, "lora", "Adapter method.") + "\n"
    for method in methods {
      text += "### `peft_method: \(method.name)`\n\n\(method.summary)\n\n" + header
      for option in method.options {
        text += row(option.name, option.type.name, option.defaultValue, option.meaning)
      }
      text += "\n"
    }
    text += tables(of: TrainingArguments.self)
    text += "## Keys of other programs that do not apply\n\n"
    text +=
      "Setting one of these is an error that gives the reason, unless its value is `false` or `null`.\n\n"
    text += "| key | why |\n|---|---|\n"
    for (key, reason) in UnknownKey.inapplicable.sorted(by: { ($0.value, $0.key) < ($1.value, $1.key) }) {
      text += "| `\(key)` | \(reason) |\n"
    }
    return text
  }

  private static let header = "| key | type | default | meaning |\n|---|---|---|---|\n"

  private static func tables<Group: ConfigurationGroup>(of type: Group.Type) -> String {
    var text = ""
    var section = ""
    for key in Group.keys {
      if key.section != section {
        text += (section.isEmpty ? "" : "\n") + "## \(key.section)\n\n" + header
        section = key.section
      }
      text += row(key.name, key.typeName, key.value(Group()), key.meaning)
    }
    return text + "\n"
  }

  private static func row(_ name: String, _ type: String, _ value: JSONValue, _ meaning: String) -> String {
    let text = value == "" ? "" : "`\(value.stringValue ?? value.serialized())`"
    return "| `\(name)` | \(type) | \(text) | \(meaning) |\n"
  }
}
