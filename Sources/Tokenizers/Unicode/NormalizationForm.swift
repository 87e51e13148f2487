/// The four Unicode normalization forms, as the reference tokenizer computes them: with, for every
/// scalar of the result, how it relates to the scalars before.
///
/// Source: Unicode Standard Annex #15.
enum NormalizationForm: String, Sendable, CaseIterable {
  case nfc = "NFC"
  case nfd = "NFD"
  case nfkc = "NFKC"
  case nfkd = "NFKD"

  private var composes: Bool { self == .nfc || self == .nfkc }
  private var isCompatible: Bool { self == .nfkc || self == .nfkd }

  /// Rewrites `text` in this form.
  func normalize(_ text: inout AlignedText) {
    // ASCII is in every form.
    guard !text.bytes.allSatisfy({ $0 < 0x80 }) else { return }
    let tables = NormalizationTables.shared
    let scalars = text.scalars
    guard scalars.contains(where: { tables.mayChange($0, self) }) else { return }
    var changes = decompose(scalars, tables)
    if composes { changes = compose(changes, tables) }
    text.transform(changes)
  }

  private func decompose(_ scalars: [UInt32], _ tables: NormalizationTables) -> [AlignedText.Change] {
    var result: [AlignedText.Change] = []
    result.reserveCapacity(scalars.count)
    var pending: [(order: UInt8, change: AlignedText.Change)] = []
    func flush() {
      guard !pending.isEmpty else { return }
      // Stable: marks of one class keep their order.
      for item in pending.enumerated().sorted(by: {
        ($0.element.order, $0.offset) < ($1.element.order, $1.offset)
      }) {
        result.append(item.element.change)
      }
      pending.removeAll(keepingCapacity: true)
    }
    for scalar in scalars {
      var change = 0
      tables.decompose(scalar, compatible: isCompatible) { part in
        let order = tables.combiningClass(part)
        if order == 0 {
          flush()
          result.append(.init(scalar: part, change: change))
        } else {
          pending.append((order, .init(scalar: part, change: change)))
        }
        change = 1
      }
    }
    flush()
    return result
  }

  private func compose(
    _ changes: [AlignedText.Change], _ tables: NormalizationTables
  ) -> [AlignedText.Change] {
    var result: [AlignedText.Change] = []
    result.reserveCapacity(changes.count)
    /// Position in `result` of the starter that marks may join.
    var starter: Int?
    /// Class of the last mark that stayed behind the starter; nil directly behind it.
    var lastClass: UInt8?
    for change in changes {
      let order = tables.combiningClass(change.scalar)
      if let position = starter, lastClass == nil || (lastClass ?? 0) < order,
        let composed = tables.compose(result[position].scalar, change.scalar)
      {
        result[position] = .init(
          scalar: composed, change: result[position].change + change.change - 1)
        continue
      }
      if order == 0 {
        starter = result.count
        lastClass = nil
      } else if starter != nil {
        lastClass = order
      }
      result.append(change)
    }
    return result
  }
}

/// `UnicodeTables`' normalization data, indexed.
struct NormalizationTables: Sendable {
  static let shared = NormalizationTables()

  private let classes: [UInt32: UInt8]
  private let canonical: [UInt32: ArraySlice<UInt32>]
  private let compatible: [UInt32: ArraySlice<UInt32>]
  private let compositions: [UInt64: UInt32]
  private let changing: [NormalizationForm: ScalarBitmap]

  // Hangul syllables are composed by arithmetic (Unicode Standard, 3.12).
  private static let syllables: ClosedRange<UInt32> = 0xAC00...0xD7A3

  private init() {
    var classes: [UInt32: UInt8] = [:]
    for index in stride(from: 0, to: UnicodeTables.combiningClasses.count, by: 3) {
      let run = UnicodeTables.combiningClasses[index...index + 2]
      for scalar in run[index]...run[index + 1] { classes[scalar] = UInt8(run[index + 2]) }
    }
    func decompositions(_ table: [UInt32]) -> [UInt32: ArraySlice<UInt32>] {
      var result: [UInt32: ArraySlice<UInt32>] = [:]
      var index = 0
      while index < table.count {
        let count = Int(table[index + 1])
        result[table[index]] = table[index + 2..<index + 2 + count]
        index += 2 + count
      }
      return result
    }
    let canonical = decompositions(UnicodeTables.canonicalDecompositions)
    let compatible = decompositions(UnicodeTables.compatibilityDecompositions)
    var compositions: [UInt64: UInt32] = [:]
    var seconds: [UInt32] = []
    for index in stride(from: 0, to: UnicodeTables.compositions.count, by: 3) {
      let (first, second) = (UnicodeTables.compositions[index], UnicodeTables.compositions[index + 1])
      compositions[UInt64(first) << 32 | UInt64(second)] = UnicodeTables.compositions[index + 2]
      seconds.append(second)
    }
    // A scalar may change a text if it decomposes, reorders or joins a scalar before it. Under the
    // composing forms a precomposed scalar stays as it is, unless it is excluded from composition.
    let composed = Set(compositions.values)
    let marks = classes.keys.map { $0...$0 } + seconds.map { $0...$0 }
    let jamo: [ClosedRange<UInt32>] = [0x1161...0x1175, 0x11A8...0x11C2]
    let excluded = canonical.keys.filter { !composed.contains($0) }.map { $0...$0 }
    let decomposing = canonical.keys.map { $0...$0 } + [Self.syllables]
    let compatibility = compatible.keys.map { $0...$0 }
    changing = [
      .nfc: ScalarBitmap(ScalarSet(marks + jamo + excluded)),
      .nfkc: ScalarBitmap(ScalarSet(marks + jamo + excluded + compatibility)),
      .nfd: ScalarBitmap(ScalarSet(marks + decomposing)),
      .nfkd: ScalarBitmap(ScalarSet(marks + decomposing + compatibility)),
    ]
    self.classes = classes
    self.canonical = canonical
    self.compatible = compatible
    self.compositions = compositions
  }

  /// Whether a text that contains the scalar may differ from its normalized form.
  func mayChange(_ scalar: UInt32, _ form: NormalizationForm) -> Bool {
    changing[form]?.contains(scalar) ?? true
  }

  func combiningClass(_ scalar: UInt32) -> UInt8 {
    scalar < 0x300 ? 0 : classes[scalar] ?? 0
  }

  func decompose(_ scalar: UInt32, compatible isCompatible: Bool, _ body: (UInt32) -> Void) {
    if Self.syllables.contains(scalar) {
      let index = scalar - Self.syllables.lowerBound
      body(0x1100 + index / 588)
      body(0x1161 + index % 588 / 28)
      if index % 28 > 0 { body(0x11A7 + index % 28) }
    } else if isCompatible, let parts = compatible[scalar] {
      parts.forEach(body)
    } else if let parts = canonical[scalar] {
      parts.forEach(body)
    } else {
      body(scalar)
    }
  }

  func compose(_ first: UInt32, _ second: UInt32) -> UInt32? {
    if (0x1100...0x1112).contains(first), (0x1161...0x1175).contains(second) {
      return 0xAC00 + ((first - 0x1100) * 21 + second - 0x1161) * 28
    }
    if Self.syllables.contains(first), (first - 0xAC00) % 28 == 0,
      (0x11A8...0x11C2).contains(second)
    {
      return first + second - 0x11A7
    }
    return compositions[UInt64(first) << 32 | UInt64(second)]
  }
}
