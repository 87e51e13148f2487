import Datasets
import Foundation
import JSON
import Testing

@Suite struct DelimitedReaderTests {
  @Test("tables are read as Python's csv module reads them")
  func python() throws {
    let scratch = try Scratch()
    let tests = try Fixture.json("csv.json")
    for (index, test) in try #require(tests.arrayValue).enumerated() {
      let text = try #require(test["text"]?.stringValue)
      let expected = try #require(test["rows"]?.arrayValue)
      let path = try scratch.file("\(index).csv", text)
      let reader = try DataFile(path, options: .init(isRelaxed: false)).reader()
      // The header names a column without a name by its place; these have none such.
      let header = try #require(expected.first?.strings)
      var wide = expected.dropFirst().filter { $0.arrayValue?.count == header.count }[...]
      do {
        while let row = try reader.next() {
          #expect(row.columns == header, "\(text)")
          #expect(.array(row.values) == wide.popFirst(), "\(text)")
        }
        #expect(wide.isEmpty, "\(text)")
      } catch let error as DataError {
        #expect(expected.contains { $0.arrayValue?.count != header.count }, "\(text): \(error)")
      }
    }
  }

  @Test("fields that cross the reader's chunks come out whole")
  func chunks() throws {
    let scratch = try Scratch()
    let long = String(repeating: "长字段, \"with\" quotes\nand lines ", count: 30_000)
    let text = "a,b\n" + (0..<3).map { "\($0),\"\(long.replacing("\"", with: "\"\""))\"\r\n" }.joined()
    let rows = try DataFile(try scratch.file("long.csv", text)).reader().rows()
    #expect(rows.map { $0["a"] } == ["0", "1", "2"])
    #expect(rows.allSatisfy { $0["b"] == .string(long) })
    #expect(rows[1].location.line == 2 + 30_001)
  }

  @Test("tabs separate the fields of a .tsv file")
  func tabs() throws {
    let scratch = try Scratch()
    let rows = try DataFile(try scratch.file("t.tsv", "a\tb\n1,5\t\"x\ty\"\n")).reader().rows()
    #expect(rows.map(\.values) == [["1,5", "x\ty"]])
  }

  @Test("a row with too few or too many fields is an error that names it")
  func ragged() throws {
    let scratch = try Scratch()
    let path = try scratch.file("r.csv", "a,b\n1,\"2\n2\"\n3\n")
    let error = dataError { _ = try DataFile(path).reader().rows() }
    #expect(error?.message == "1 field where the header has 2 (`a`, `b`)")
    #expect(error?.location == .init(file: path, row: 2, line: 4))
  }

  @Test("relaxed reading makes rows fit and counts them")
  func relaxed() throws {
    let scratch = try Scratch()
    let path = try scratch.file("r.csv", "a,b\n1\n1,2,3\nx\"y,\"p\"q\n")
    let reader = try DataFile(path, options: .init(isRelaxed: true)).reader()
    #expect(try reader.rows().map(\.values) == [["1", ""], ["1", "2"], ["x\"y", "pq"]])
    #expect(reader.adjustedRows == 2)
  }

  @Test(
    "broken quoting is an error with line and column",
    arguments: [
      ("a,b\n\"x\"y,2\n", "text after the quote that closes this field", 2, 4),
      ("a,b\n1,\"open\n\n", "the quote that opens this field is never closed", 2, 3),
    ])
  func quoting(text: String, message: String, line: Int, column: Int) throws {
    let scratch = try Scratch()
    let path = try scratch.file("q.csv", text)
    let error = dataError { _ = try DataFile(path).reader().rows() }
    #expect(error?.message == message)
    #expect(error?.location?.line == line)
    #expect(error?.location?.column == column)
  }

  @Test("column names may be given, missing ones are made, equal ones are an error")
  func names() throws {
    let scratch = try Scratch()
    let path = try scratch.file("n.csv", "1,2\n")
    #expect(try DataFile(path, options: .init(columnNames: ["x", "y"])).reader().rows().first?["y"] == "2")
    #expect(
      try DataFile(try scratch.file("i.csv", ",a\n0,1\n")).reader().next()?.columns == ["column1", "a"])
    let twice = try scratch.file("t.csv", "a,b,a\n")
    #expect(dataError { _ = try DataFile(twice).reader() }?.message == "two columns are called `a`")
    let empty = try scratch.file("e.csv", "")
    #expect(dataError { _ = try DataFile(empty).reader() }?.message == "the file is empty")
  }
}

@Suite struct JSONReaderTests {
  @Test("arrays and JSON Lines give the same rows, in order of their members")
  func formats() throws {
    let scratch = try Scratch()
    let array = try scratch.file(
      "a.json", "\n[ {\"b\": \"]},[\\\"\", \"a\": [1, {}]},\n {\"b\": null, \"a\": 2} ]\n")
    let lines = try scratch.file(
      "l.jsonl", "{\"b\": \"]},[\\\"\", \"a\": [1, {}]}\r\n\n{\"b\": null, \"a\": 2}")
    let named = try scratch.file("l.json", "{\"b\": \"]},[\\\"\", \"a\": [1, {}]}\n{\"b\": null, \"a\": 2}")
    for path in [array, lines, named] {
      let rows = try DataFile(path).reader().rows()
      #expect(rows.map(\.columns) == [["b", "a"], ["b", "a"]], "\(path)")
      #expect(rows.map(\.values) == [["]},[\"", [1, [:]]], [nil, 2]], "\(path)")
    }
    #expect(try DataFile(array).reader().rows().map(\.location.line) == [2, 3])
    #expect(try DataFile(lines).reader().rows().map(\.location.line) == [1, 3])
    #expect(try DataFile(try scratch.file("e.json", "[]")).reader().rows().isEmpty)
  }

  @Test(
    "errors name line and column in the file",
    arguments: [
      ("x.json", "[{\"a\": 1},\n {\"a\": 1,}]", 2, 10), ("x.jsonl", "{\"a\": 1}\n\n{\"a\": nul}\n", 3, 7),
      ("x.json", "[{\"a\": 1}\n {\"a\": 2}]", 2, 2), ("x.json", "[{\"a\": 1},\n {\"a\": \"x", 2, 10),
      ("x.json", "[1]", 1, 2), ("x.json", "[{\"a\": 1}] x", 1, 12), ("x.jsonl", "[1]\n", 1, 1),
    ])
  func errors(name: String, text: String, line: Int, column: Int) throws {
    let scratch = try Scratch()
    let path = try scratch.file(name, text)
    let error = dataError { _ = try DataFile(path).reader().rows() }
    #expect(error?.location?.line == line, "\(String(describing: error))")
    #expect(error?.location?.column == column, "\(String(describing: error))")
    #expect(error?.remedy != nil)
  }

  @Test("a JSON file that holds neither rows nor lines is an error")
  func noRows() throws {
    let scratch = try Scratch()
    #expect(dataError { _ = try DataFile(try scratch.file("x.json", "12")).reader() } != nil)
    #expect(
      dataError { _ = try DataFile(try scratch.file("x.json", " ")).reader() }?.message == "the file is empty"
    )
  }

  @Test("text is read by lines, paragraphs or whole")
  func text() throws {
    let scratch = try Scratch()
    let path = try scratch.file("t.txt", "\none\r\ntwo\n \n\nthree")
    func rows(_ unit: ReadingOptions.TextUnit) throws -> [JSONValue?] {
      try DataFile(path, options: .init(textUnit: unit)).reader().rows().map { $0["text"] }
    }
    #expect(try rows(.line) == ["one", "two", "three"])
    #expect(try rows(.paragraph) == ["one\ntwo", "three"])
    #expect(try rows(.document) == ["one\ntwo\n \n\nthree"])
  }

  @Test("a file whose name says nothing needs its format named")
  func format() throws {
    let scratch = try Scratch()
    let path = try scratch.file("data", "a\n1\n")
    #expect(dataError { _ = try DataFile(path) }?.remedy?.contains("csv, tsv, json, jsonl, text") == true)
    #expect(try DataFile(path, options: .init(format: .csv)).reader().rows().count == 1)
  }
}
