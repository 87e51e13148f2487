/// Finds the texts that end an answer while it is made, wherever tokens begin and end.
///
/// Text that may be the beginning of a stop string is held back until it is clear.
package struct StopStrings: Sendable {
  private let stops: [(text: String, bytes: [UInt8])]
  /// What has not been given out.
  private var pending: [UInt8] = []

  package init(_ texts: [String]) {
    stops = texts.map { ($0, Array($0.utf8)) }
  }

  /// Takes more text.
  ///
  /// - Returns: the text that is settled now, and the stop string that ends it, if it is there.
  package mutating func append(_ text: String) -> (text: String, stop: String?) {
    guard !stops.isEmpty else { return (text, nil) }
    pending += text.utf8
    for start in pending.indices {
      if let stop = stops.first(where: { pending[start...].starts(with: $0.bytes) }) {
        defer { pending = [] }
        return (String(decoding: pending[..<start], as: UTF8.self), stop.text)
      }
    }
    // Only from the first place on where a stop string may have begun.
    let open = pending.indices.first { start in
      let rest = pending[start...]
      return stops.contains { $0.bytes.starts(with: rest) }
    }
    let settled = open ?? pending.count
    defer { pending.removeFirst(settled) }
    return (String(decoding: pending[..<settled], as: UTF8.self), nil)
  }

  /// Ends the text; returns what was held back.
  package mutating func finish() -> String {
    defer { pending = [] }
    return String(decoding: pending, as: UTF8.self)
  }
}
