/// Counts of the runs of `length` tokens in a text.
enum NGrams {
  static func counts(_ tokens: [String], _ length: Int) -> [ArraySlice<String>: Int] {
    guard tokens.count >= length else { return [:] }
    var counts: [ArraySlice<String>: Int] = [:]
    for start in 0...(tokens.count - length) { counts[tokens[start..<start + length], default: 0] += 1 }
    return counts
  }
}
