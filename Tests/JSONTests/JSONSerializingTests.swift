import Foundation
import JSON
import Testing

@Suite struct JSONSerializingTests {
  private func fixture() throws -> JSONValue {
    let url = URL(filePath: #filePath).deletingLastPathComponent()
      .appending(path: "Fixtures/python_json.json")
    return try JSONValue(parsing: Data(contentsOf: url))
  }

  @Test("documents print as json.dumps prints them")
  func documents() throws {
    let variants = try #require(try fixture()["variants"]?.arrayValue)
    #expect(variants.count == 7)
    for variant in variants {
      let text = try #require(variant["text"]?.stringValue)
      let options = try #require(variant["options"])
      let separators = options["separators"]?.arrayValue?.compactMap(\.stringValue)
      let printed = try JSONValue(parsing: text).serialized(
        indent: options["indent"]?.intValue, sortedKeys: options["sort_keys"]?.boolValue ?? false,
        escapeNonASCII: options["ensure_ascii"]?.boolValue ?? true, itemSeparator: separators?[0],
        keySeparator: separators?[1] ?? ": ")
      #expect(Array(printed.utf8) == Array(text.utf8), "\(options)")
    }
  }

  @Test("floats print as repr prints them, and read back bit for bit")
  func floats() throws {
    let floats = try #require(try fixture()["floats"]?.arrayValue)
    #expect(floats.count == 2000)
    for entry in floats {
      let bits = try #require(UInt64(entry[0]?.stringValue ?? "", radix: 16))
      let text = try #require(entry[1]?.stringValue)
      let value = Double(bitPattern: bits)
      #expect(JSONValue.number(value).serialized() == text)
      let parsed = try JSONValue(parsing: text).doubleValue
      #expect(parsed?.bitPattern == bits)
    }
  }
}
