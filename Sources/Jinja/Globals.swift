import Foundation
import OrderedCollections

/// The functions that a template finds without being given them.
extension Interpreter {
  func call(_ function: Value.Function, _ arguments: Arguments) throws -> Value {
    switch function {
    case .range: return try range(arguments)
    case .dict: return try dictionary(entries(arguments))
    case .namespace:
      var attributes: OrderedDictionary<String, Value> = [:]
      for (key, value) in try entries(arguments) {
        guard case .string(let name) = key else {
          throw TemplateError.runtime("a namespace's attributes are named by strings")
        }
        attributes[name.text] = value
      }
      return try namespace(attributes)
    case .cycler:
      guard arguments.keyword.isEmpty, !arguments.positional.isEmpty else {
        throw TemplateError.runtime("at least one item has to be provided")
      }
      let sequence = try sequence(arguments.positional)
      return .cycler(Cycler(items: sequence.items, depth: sequence.depth))
    case .joiner:
      let separator = try arguments.bind("joiner", ["sep"])[0].map { try text(of: $0) }
      return .joiner(Joiner(separator: separator ?? ", "))
    case .raiseException:
      let message = try arguments.bind("raise_exception", ["message"], required: 1)[0] ?? .none
      throw TemplateError(.raised, try text(of: message))
    case .strftimeNow:
      let format = try arguments.bind("strftime_now", ["format"], required: 1)[0] ?? .none
      return .string(try strftime(string(format, "the format")))
    }
  }

  private func range(_ arguments: Arguments) throws -> Value {
    let bounds = try arguments.positional.map { try integer($0, "a range's bound") }
    guard (1...3).contains(bounds.count), arguments.keyword.isEmpty else {
      throw TemplateError.runtime("range expects 1 to 3 arguments, got \(bounds.count)")
    }
    let start = bounds.count > 1 ? bounds[0] : 0
    let stop = bounds.count > 1 ? bounds[1] : bounds[0]
    let step = bounds.count > 2 ? bounds[2] : 1
    guard step != 0 else { throw TemplateError.runtime("range() arg 3 must not be zero") }
    let (span, overflow) = (step > 0 ? stop : start).subtractingReportingOverflow(step > 0 ? start : stop)
    let size = step.magnitude
    let count = overflow ? .max : span <= 0 ? 0 : (span.magnitude - 1) / size + 1
    guard count <= 100_000 else {
      throw TemplateError.runtime("Range too big. The sandbox blocks ranges larger than 100000.")
    }
    return .range(.init(start: start, step: step, count: Int(count)))
  }

  /// What `dict(...)` makes of its arguments: a mapping or pairs, then keywords.
  private func entries(_ arguments: Arguments) throws -> OrderedDictionary<Value.Key, Value> {
    guard arguments.positional.count <= 1 else {
      throw TemplateError.runtime("dict expected at most 1 argument, got \(arguments.positional.count)")
    }
    var entries: OrderedDictionary<Value.Key, Value> = [:]
    if let first = arguments.positional.first {
      if case .dictionary(let mapping) = first {
        entries = mapping.entries
      } else {
        for pair in try items(of: first) {
          let pair = try items(of: pair)
          guard pair.count == 2 else { throw TemplateError.runtime("dict needs pairs of key and value") }
          entries[try key(pair[0])] = pair[1]
        }
      }
    }
    for (name, value) in arguments.keyword { entries[.string(.init(text: name))] = value }
    return entries
  }

  /// `datetime.now().strftime(format)`, by the C library as in Python, in its C locale.
  private func strftime(_ format: String) throws -> String {
    let now = options.now ?? Date()
    let seconds = now.timeIntervalSince1970 + Double(options.timeZone.secondsFromGMT(for: now))
    guard format.utf8.count <= 1000, seconds.magnitude < 1e12 else {
      throw TemplateError.runtime("strftime_now takes formats of at most 1000 bytes")
    }
    let whole = seconds.rounded(.down)
    var time = time_t(whole)
    var parts = tm()
    gmtime_r(&time, &parts)
    // A naive datetime has no zone, and its microseconds are Python's own addition.
    let microseconds = String(format: "%06d", Int(((seconds - whole) * 1e6).rounded(.down)))
    var cFormat = ""
    var isDirective = false
    for scalar in format.unicodeScalars {
      if isDirective {
        switch scalar {
        case "f": cFormat += microseconds
        case "z", "Z": break
        default: cFormat += "%\(scalar)"
        }
        isDirective = false
      } else if scalar == "%" {
        isDirective = true
      } else {
        cFormat.unicodeScalars.append(scalar)
      }
    }
    if isDirective { cFormat += "%%" }
    guard !cFormat.isEmpty else { return "" }
    var buffer = [CChar](repeating: 0, count: 16_384)
    let count = Foundation.strftime(&buffer, buffer.count, cFormat, &parts)
    return String(decoding: buffer[..<count].map(UInt8.init(bitPattern:)), as: UTF8.self)
  }
}
