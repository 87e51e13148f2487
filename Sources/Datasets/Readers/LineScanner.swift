/// Hands out the lines of a text, without their line ends (LF or CRLF).
struct LineScanner {
  let source: TextSource
  /// The number of the line that was handed out last, from 1.
  private(set) var line = 0

  init(_ source: TextSource) { self.source = source }

  /// The next line; `nil` at the end.
  mutating func next(row: Int) throws -> [UInt8]? {
    var bytes: [UInt8] = []
    var isFirst = true
    while true {
      if source.position == source.buffer.count,
        try !source.refill(at: .init(file: source.path, row: row, line: line + 1))
      {
        if isFirst { return nil }
        break
      }
      isFirst = false
      let rest = source.buffer[source.position...]
      if let end = rest.firstIndex(of: 0x0A) {
        bytes.append(contentsOf: rest[..<end])
        source.position = end + 1
        break
      }
      bytes.append(contentsOf: rest)
      source.position = source.buffer.count
    }
    if bytes.last == 0x0D { bytes.removeLast() }
    line += 1
    return bytes
  }
}
