import Foundation

/// What encoding a text file seems to be in, and why one should think so.
///
/// In this order: a byte-order mark; valid UTF-8; the zero bytes of UTF-16; then a score for each of
/// ``Candidate/all``. The score is the share of the text's non-ASCII characters that are among the most
/// frequent ones of the candidate's language. Text read in its own encoding scores about a half; in a wrong
/// one the characters come out rare, and it scores a few hundredths.
public struct EncodingDetection: Sendable, Hashable, CustomStringConvertible {
  /// What the decision rests on.
  public enum Evidence: Sendable, Hashable {
    case byteOrderMark
    case validUTF8
    /// Every other byte is zero.
    case zeroBytes
    /// From 0 to 1, with the next best encoding.
    case score(Double, next: TextEncoding, nextScore: Double)
  }

  public var encoding: TextEncoding
  public var evidence: Evidence

  public var description: String {
    switch evidence {
    case .byteOrderMark: return "\(encoding) (it starts with a byte-order mark)"
    case .validUTF8: return "\(encoding) (it is valid UTF-8)"
    case .zeroBytes: return "\(encoding) (every other byte is zero)"
    case .score(let score, let next, let nextScore):
      let (score, nextScore) = (Self.percentage(score), Self.percentage(nextScore))
      return
        "\(encoding) (detected: \(score) of its characters are common ones, next best \(next) with \(nextScore))"
    }
  }

  private static func percentage(_ share: Double) -> String { "\(Int((share * 100).rounded())) %" }

  /// Bytes that are looked at for valid UTF-8; a file that goes wrong later says so when it is read.
  static let scanned = 64 << 20
  /// Bytes that are scored.
  static let sampled = 256 << 10
  /// Random bytes read as CP1251 score 0.2.
  static let leastScore = 0.25

  /// Looks at the file.
  ///
  /// - Throws: ``DataError`` when the file cannot be read or no encoding is plausible.
  public static func detect(_ path: String) throws -> EncodingDetection {
    let file = try ByteFile(path)
    let head = try file.read(upTo: 4096, at: 0)
    if let encoding = byteOrderMark(head) {
      return EncodingDetection(encoding: encoding, evidence: .byteOrderMark)
    }
    if let encoding = zeroBytes(head) {
      return EncodingDetection(encoding: encoding, evidence: .zeroBytes)
    }
    guard let invalid = try firstInvalidUTF8(in: file) else {
      return EncodingDetection(encoding: .utf8, evidence: .validUTF8)
    }
    return try score(sample(of: file, around: invalid), path: path)
  }

  private static func byteOrderMark(_ head: [UInt8]) -> TextEncoding? {
    if head.starts(with: [0xEF, 0xBB, 0xBF]) { return .utf8 }
    // Before UTF-16LE, whose mark is the beginning of this one.
    if head.starts(with: [0xFF, 0xFE, 0, 0]) { return .utf32LittleEndian }
    if head.starts(with: [0, 0, 0xFE, 0xFF]) { return .utf32BigEndian }
    if head.starts(with: [0xFF, 0xFE]) { return .utf16LittleEndian }
    if head.starts(with: [0xFE, 0xFF]) { return .utf16BigEndian }
    if head.starts(with: [0x84, 0x31, 0x95, 0x33]) { return .gb18030 }
    return nil
  }

  private static func zeroBytes(_ head: [UInt8]) -> TextEncoding? {
    guard head.count >= 4 else { return nil }
    var zeros = [0, 0]
    for (position, byte) in head.enumerated() where byte == 0 { zeros[position % 2] += 1 }
    let pairs = head.count / 2
    // ASCII punctuation and line ends alone give a UTF-16 file of any language some zeros.
    if zeros[1] * 10 > pairs, zeros[0] * 50 < pairs { return .utf16LittleEndian }
    if zeros[0] * 10 > pairs, zeros[1] * 50 < pairs { return .utf16BigEndian }
    return nil
  }

  private static func firstInvalidUTF8(in file: ByteFile) throws -> Int? {
    let decoder = try TextDecoder(.utf8)
    var offset = 0
    var discarded: [UInt8] = []
    while offset < scanned {
      let chunk = try file.read(upTo: 1 << 20, at: offset)
      offset += chunk.count
      do {
        discarded.removeAll(keepingCapacity: true)
        try chunk.withUnsafeBytes {
          try decoder.decode($0, isLast: chunk.isEmpty, into: &discarded)
          if decoder.hasFailed { try decoder.decode($0, isLast: false, into: &discarded) }
        }
      } catch let failure as TextDecoder.InvalidSequence {
        return failure.byteOffset
      }
      if chunk.isEmpty { return nil }
    }
    return nil
  }

  /// Whole lines from the one that holds `offset` on: a line feed is never part of a longer character in
  /// the candidates' encodings, so the sample starts between characters.
  private static func sample(of file: ByteFile, around offset: Int) throws -> [UInt8] {
    let start = max(0, offset - (64 << 10))
    let before = try file.read(upTo: offset - start, at: start)
    let lineStart = before.lastIndex(of: 0x0A).map { start + $0 + 1 } ?? start
    var bytes = try file.read(upTo: sampled, at: lineStart)
    if bytes.count == sampled, let end = bytes.lastIndex(of: 0x0A) {
      bytes.removeSubrange((end + 1)...)
    }
    return bytes
  }

  static func score(_ sample: [UInt8], path: String) throws -> EncodingDetection {
    let scores = try Candidate.all.map { ($0.encoding, try $0.score(sample)) }
      .sorted { $0.1 > $1.1 }
    let (best, next) = (scores[0], scores[1])
    guard best.1 >= leastScore else {
      throw DataError(
        "the text encoding cannot be detected: it is not UTF-8, and read as \(best.0), the best guess,"
          + " only \(percentage(best.1)) of its characters are common ones",
        at: .init(file: path), remedy: "Name the encoding (--encoding; `iconv -l` lists them)")
    }
    return EncodingDetection(
      encoding: best.0, evidence: .score(best.1, next: next.0, nextScore: next.1))
  }
}

extension EncodingDetection {
  /// An encoding with the frequent characters of the language that is written in it.
  struct Candidate: Sendable {
    let encoding: TextEncoding
    let frequent: Set<Unicode.Scalar>
    /// Letters with marks stand alone between ASCII letters; only such count.
    let isAmongASCII: Bool

    init(_ name: String, _ frequent: String, isAmongASCII: Bool = false) {
      encoding = TextEncoding(name)
      self.frequent = Set(frequent.unicodeScalars)
      self.isAmongASCII = isAmongASCII
    }

    static let kana =
      String(
        String.UnicodeScalarView((0x3041...0x3093).compactMap(Unicode.Scalar.init)))
      + String(String.UnicodeScalarView((0x30A1...0x30F6).compactMap(Unicode.Scalar.init))) + "ー"

    static let all = [
      Candidate(
        "GB18030",
        """
        的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里\
        用道行所然家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实\
        日军者意无力它与长把机十民第公此已工使情明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政\
        美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给世位次度门任常先海通教儿原东声提立及比员\
        解水名真论处走义各入几口认条平系气题活尔更别打女变四神总何电数安少报才结反受目太量再感建务做接必场件
        """),
      Candidate(
        "BIG5-HKSCS",
        """
        的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年過發後作里\
        用道行所然家種事成方多經麼去法學如都同現當沒動面起看定天分還進好小部其些主樣理心她本前開但因只從想實\
        日軍者意無力它與長把機十民第公此已工使情明性知全三又關點正業外將兩高間由問很最重並物手應戰向頭文體政\
        美相見被利什二等產或新己制身果加西斯月話合回特代內信表化老給世位次度門任常先海通教兒原東聲提立及比員
        """),
      Candidate("CP932", kana),
      Candidate("EUC-JP", kana),
      Candidate(
        "CP949",
        "이다는을의에가고한하지를도로사으나은들어기리아인서대자라시그해수정보부일전원장스여만면주상오구있습니었했"
          + "것게과와적성제공동안내조국화유소선비위거경중신관개마분세방연생미영계등무모당드음없우행문실바말"),
      Candidate("CP1251", "оеаинтсрвлкмдпуяыьгзбчйхжшю"),
      Candidate(
        "CP1252", "éèêëàâäáãåæçñóòôöõøœúùûüíìîïßÉÈÀÁÄÖÜÓÇÑØÅŠšŽž’‘“”–—…€£°«»·§©®²³½¿¡ºª",
        isAmongASCII: true),
    ]

    /// The share of the sample's non-ASCII characters that are frequent; 0 when it is no text at all.
    func score(_ sample: [UInt8]) throws -> Double {
      let decoder: TextDecoder
      do {
        decoder = try TextDecoder(encoding, invalidBytes: .replace)
      } catch is DataError {
        return 0  // an iconv without this encoding (musl) cannot read such a file either
      }
      var utf8: [UInt8] = []
      // The sample may end inside a character, so it is not `isLast`.
      try sample.withUnsafeBytes { try decoder.decode($0, isLast: false, into: &utf8) }
      let scalars = Array(String(decoding: utf8, as: UTF8.self).unicodeScalars)
      var (counted, found) = (0, 0)
      for (position, scalar) in scalars.enumerated() where !scalar.isASCII {
        // Ideographic and full-width punctuation occurs in all East Asian texts and tells nothing.
        if (0x3000...0x303F).contains(scalar.value) || (0xFF00...0xFF60).contains(scalar.value) {
          continue
        }
        counted += 1
        guard frequent.contains(scalar) else { continue }
        if isAmongASCII {
          let before = position == 0 || scalars[position - 1].isASCII
          let after = position + 1 == scalars.count || scalars[position + 1].isASCII
          guard before && after else { continue }
        }
        found += 1
      }
      guard counted > 0 else { return 0 }
      // Real files hold a few broken characters; a wrong encoding breaks them by the hundred.
      let broken = Double(decoder.replacements) / Double(counted)
      return max(0, Double(found) / Double(counted) - 4 * broken)
    }
  }
}
