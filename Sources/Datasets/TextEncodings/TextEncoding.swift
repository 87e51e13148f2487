/// The character encoding of a text file, by a name that the C library's `iconv` knows.
public struct TextEncoding: Sendable, Hashable, CustomStringConvertible {
  /// The name as `iconv -l` prints it.
  public let name: String

  /// - Parameter name: a name that `iconv -l` prints, or one of the usual other spellings (`utf8`, `gbk`,
  ///   `gb2312`, `sjis`, `latin-1`). Whether `iconv` knows it is found out by ``TextDecoder``.
  public init(_ name: String) {
    let key = name.lowercased().filter { $0 != "-" && $0 != "_" && $0 != " " }
    self.name = Self.otherSpellings[key] ?? name
  }

  public static let utf8 = TextEncoding("UTF-8")
  public static let utf16 = TextEncoding("UTF-16")
  public static let utf16LittleEndian = TextEncoding("UTF-16LE")
  public static let utf16BigEndian = TextEncoding("UTF-16BE")
  public static let utf32LittleEndian = TextEncoding("UTF-32LE")
  public static let utf32BigEndian = TextEncoding("UTF-32BE")
  public static let gb18030 = TextEncoding("GB18030")

  public var description: String { name }

  // GB2312 and GBK are read as GB18030, which contains both: files that claim the smaller sets
  // commonly hold characters of the larger one. The same goes for CP949 and EUC-KR, CP932 and Shift-JIS,
  // Windows-1252 and Latin-1 (as the WHATWG encoding standard has it).
  private static let otherSpellings: [String: String] = [
    "utf8": "UTF-8", "utf8sig": "UTF-8", "utf8bom": "UTF-8", "ascii": "UTF-8", "usascii": "UTF-8",
    "utf16": "UTF-16", "utf16le": "UTF-16LE", "utf16be": "UTF-16BE", "utf32": "UTF-32",
    "utf32le": "UTF-32LE", "utf32be": "UTF-32BE",
    "gb2312": "GB18030", "gbk": "GB18030", "cp936": "GB18030", "gb18030": "GB18030",
    "sjis": "CP932", "shiftjis": "CP932", "ms932": "CP932", "cp932": "CP932",
    "eucjp": "EUC-JP", "euckr": "CP949", "cp949": "CP949", "uhc": "CP949",
    "big5": "BIG5-HKSCS", "cp950": "BIG5-HKSCS", "big5hkscs": "BIG5-HKSCS",
    "latin1": "CP1252", "iso88591": "CP1252", "windows1252": "CP1252", "cp1252": "CP1252",
    "windows1251": "CP1251", "cp1251": "CP1251", "koi8r": "KOI8-R",
  ]
}
