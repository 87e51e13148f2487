/// `optim_args`: options of the optimizer beside those that have keys of their own, `name=value,name=value`.
struct OptimizerOptions {
  private let values: [String: String]

  /// - Throws: `ConfigurationError` for a text of another form, and for names that the optimizer does not have.
  init(_ text: String?, of entry: OptimizerEntry) throws {
    var values: [String: String] = [:]
    for pair in (text ?? "").split(separator: ",") {
      let parts = pair.split(separator: "=", omittingEmptySubsequences: false).map { part in
        String(part.drop(while: \.isWhitespace).reversed().drop(while: \.isWhitespace).reversed())
      }
      guard parts.count == 2, !parts[0].isEmpty else {
        throw ConfigurationError(
          "`optim_args` holds `\(pair)`", key: "optim_args", remedy: "write `name=value,name=value`")
      }
      guard entry.options.contains(parts[0]) else {
        let known = entry.options.isEmpty ? "it has none" : "it has \(entry.options.joined(separator: ", "))"
        throw ConfigurationError(
          "`optim_args` sets `\(parts[0])`, which `optim: \(entry.name)` does not have", key: "optim_args",
          remedy: "remove it, \(known)")
      }
      values[parts[0]] = parts[1]
    }
    self.values = values
  }

  func invalid(_ name: String, _ problem: String, remedy: String) -> ConfigurationError {
    ConfigurationError("`\(name)` in `optim_args` \(problem)", key: "optim_args", remedy: remedy)
  }

  func number(_ name: String, default fallback: Double, in range: ClosedRange<Double>) throws -> Double {
    guard let text = values[name] else { return fallback }
    guard let number = Double(text), range.contains(number) else {
      throw invalid(
        name, "is `\(text)`", remedy: "write a number from \(range.lowerBound) to \(range.upperBound)")
    }
    return number
  }

  /// As transformers reads it: `true`, `1` and `yes` are true.
  func flag(_ name: String, default fallback: Bool) throws -> Bool {
    guard let text = values[name]?.lowercased() else { return fallback }
    guard let flag = ["true": true, "1": true, "yes": true, "false": false, "0": false, "no": false][text]
    else {
      throw invalid(name, "is `\(text)`", remedy: "write true or false")
    }
    return flag
  }
}
