/// Lower case, scalar by scalar: no context, so a final sigma becomes σ.
struct Lowercase: Normalizer {
  init(_ configuration: ComponentConfiguration) {}

  func normalize(_ text: inout AlignedText) {
    var changes: [AlignedText.Change] = []
    changes.reserveCapacity(text.bytes.count)
    for scalar in text.scalars {
      if scalar < 0x80 {
        let isUpper = (0x41...0x5A).contains(scalar)
        changes.append(.init(scalar: isUpper ? scalar + 0x20 : scalar, change: 0))
        continue
      }
      guard let value = Unicode.Scalar(scalar) else { continue }
      for (index, lower) in value.properties.lowercaseMapping.unicodeScalars.enumerated() {
        changes.append(.init(scalar: lower.value, change: index == 0 ? 0 : 1))
      }
    }
    text.transform(changes)
  }
}
