extension Double {
  /// The number as Python's `repr(float)` prints it: the shortest digits that read back as the same
  /// number, in positional notation for exponents from -4 to 15 and as `1e+16` otherwise.
  package var pythonRepresentation: String {
    if isNaN { return "nan" }
    if isInfinite { return self < 0 ? "-inf" : "inf" }
    let sign = self.sign == .minus ? "-" : ""
    if isZero { return sign + "0.0" }

    // Swift's description has the same shortest digits; only the layout differs.
    let parts = magnitude.description.split(separator: "e", maxSplits: 1)
    let mantissa = parts[0].split(separator: ".", maxSplits: 1)
    let whole = String(mantissa[0])
    var fraction = mantissa.count > 1 ? String(mantissa[1]) : ""
    if fraction == "0" { fraction = "" }
    let leading = whole.prefix { $0 == "0" }.count
    var digits = (whole + fraction).drop { $0 == "0" }
    // The power of ten of the first significant digit.
    var exponent = (parts.count > 1 ? Int(parts[1]) ?? 0 : 0) + whole.utf8.count - 1
    exponent -=
      leading == whole.utf8.count
      ? (whole + fraction).utf8.count - digits.utf8.count : leading
    while digits.utf8.count > 1, digits.last == "0" { digits.removeLast() }

    guard (-4..<16).contains(exponent) else {
      let power = exponent.magnitude < 10 ? "0\(exponent.magnitude)" : "\(exponent.magnitude)"
      let tail = digits.utf8.count > 1 ? "." + digits.dropFirst() : ""
      return sign + digits.prefix(1) + tail + "e" + (exponent < 0 ? "-" : "+") + power
    }
    if exponent < 0 {
      return sign + "0." + String(repeating: "0", count: -exponent - 1) + digits
    }
    let padded = digits + String(repeating: "0", count: max(0, exponent + 1 - digits.utf8.count))
    let decimals = padded.dropFirst(exponent + 1)
    return sign + padded.prefix(exponent + 1) + "." + (decimals.isEmpty ? "0" : decimals)
  }
}
