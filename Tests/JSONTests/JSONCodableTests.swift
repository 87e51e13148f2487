import Foundation
import JSON
import Testing

@Suite struct JSONCodableTests {
  private struct Layer: Codable, Equatable {
    var name: String
    var size: UInt8
    var rate: Float?
    var tags: [String: Int] = [:]
  }

  private struct Model: Codable, Equatable {
    var layers: [Layer]
    var extra: JSONValue
    var home: URL
    var optional: Int?
  }

  private let model = Model(
    layers: [Layer(name: "a", size: 1, rate: 0.1, tags: ["x": 1]), Layer(name: "b", size: 255)],
    extra: ["z": [1, 2.5, nil], "a": true], home: URL(filePath: "/tmp/x"))

  @Test("what was encoded decodes to the same value, in the order of its properties")
  func roundTrip() throws {
    let value = try JSONValue.encode(model)
    #expect(
      value.serialized()
        == #"{"layers": [{"name": "a", "size": 1, "rate": 0.1, "tags": {"x": 1}}, "#
        + #"{"name": "b", "size": 255, "tags": {}}], "#
        + #""extra": {"z": [1, 2.5, null], "a": true}, "home": "file:///tmp/x"}"#)
    #expect(try value.decode(Model.self) == model)
    #expect(try JSONValue(parsing: value.serialized()).decode(Model.self) == model)
  }

  @Test("a value survives Foundation's coders")
  func foundation() throws {
    let value: JSONValue = ["a": [1, 2.5, true, nil, "x", ["b": []]]]
    let data = try JSONEncoder().encode(value)
    #expect(try JSONDecoder().decode(JSONValue.self, from: data) == value)
  }

  @Test(
    "a decoding error names the path, what was expected and what was found",
    arguments: [
      (
        #"{"layers": [{"name": "a", "size": 300}]}"#,
        "`layers[0].size`: expected an integer from 0 to 255, found an integer (300)"
      ),
      (
        #"{"layers": [{"name": "a", "size": 1, "tags": {"x": "y"}}]}"#,
        "`layers[0].tags.x`: expected an integer from -9223372036854775808 to 9223372036854775807, "
          + "found a string (\"y\")"
      ),
      (#"{"layers": [{"size": 1}]}"#, "`layers[0].name`: the key is missing"),
      (#"{"layers": {}}"#, "`layers`: expected an array, found an object"),
      (#"[1]"#, "expected an object, found an array"),
      (#"{"layers": [{"name": null, "size": 1}]}"#, "`layers[0].name`: expected a string, found null"),
    ])
  func errors(text: String, message: String) throws {
    let value = try JSONValue(parsing: text)
    let error = #expect(throws: JSONError.self) { try value.decode(Model.self) }
    #expect(error?.description == message)
  }

  @Test("a number that JSON cannot hold is an error with its path")
  func nonFinite() {
    let error = #expect(throws: JSONError.self) { try JSONValue.encode(["a": [1.0, .infinity]]) }
    #expect(error?.description == "`a[1]`: inf is not a JSON number")
  }

  @Test("members can be read and changed by key")
  func access() {
    var value: JSONValue = ["a": 1, "b": [1.0, "x"]]
    value["c"] = nil
    value["a"] = "new"
    #expect(value == ["a": "new", "b": [1.0, "x"]])
    #expect(value["b"]?[0]?.intValue == 1)
    #expect(value["b"]?[2] == nil)
    #expect(value["a"]?.intValue == nil)
    #expect(JSONValue.integer(2).doubleValue == 2)
  }
}
