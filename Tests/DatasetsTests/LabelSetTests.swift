import Datasets
import Foundation
import JSON
import Testing

@Suite("Labels") struct LabelSetTests {
  private let scratch: Scratch

  init() throws { scratch = try Scratch() }

  private func file(_ labels: [String]) throws -> DataFile {
    try DataFile(
      scratch.file("rows.jsonl", labels.map { #"{"text": "a", "label": \#($0)}"# }.joined(separator: "\n")))
  }

  private func labels(_ values: [String], _ expectation: LabelSet.Expectation = .init()) throws -> LabelSet {
    try LabelSet(of: [file(values)], column: "label", expecting: expectation)
  }

  private func targets(_ values: [String], _ labels: LabelSet) throws -> [[Float]] {
    let format = try RowFormats.format(
      for: Row(["text": "a", "label": "b"]), options: RowFormatOptions(labels: labels))
    let reader = try file(values).reader()
    var targets: [[Float]] = []
    while let row = try reader.next() {
      guard case .labelled(.text("a"), let target) = try format.sample(from: row) else {
        Issue.record("no labelled text")
        continue
      }
      targets.append(target)
    }
    return targets
  }

  @Test("texts are ids in the order of their code points")
  func texts() throws {
    let values = [#""no""#, #""Yes""#, #""no""#, #""é""#]
    let labels = try labels(values)
    #expect(labels == LabelSet(.oneOf, names: ["Yes", "no", "é"]))
    #expect(try targets(values, labels) == [[1], [0], [1], [2]])
  }

  @Test("whole numbers are names by their size, and ids where the number of labels is given")
  func integers() throws {
    #expect(try labels(["10", "9", "-1"]) == LabelSet(.oneOf, names: ["-1", "9", "10"]))
    let ids = try labels(["2", "0"], .init(count: 4))
    #expect(ids == LabelSet(.oneOf, names: ["0", "1", "2", "3"]))
    #expect(try targets(["2", "0"], ids) == [[2], [0]])
    let named = try labels(["1", "0"], .init(kind: .oneOf, names: ["no", "yes"]))
    #expect(try targets(["1", "0", #""yes""#], named) == [[1], [0], [1]])
  }

  @Test("truth values are labels")
  func booleans() throws {
    let labels = try labels(["true", "false"])
    #expect(labels.names == ["false", "true"])
    #expect(try targets(["true"], labels) == [[1]])
  }

  @Test("numbers with a fraction are numbers, whole ones when they are asked for")
  func numbers() throws {
    let labels = try labels(["1", "2.5", "-3"])
    #expect(labels == LabelSet(.numbers, names: ["LABEL_0"]))
    #expect(try targets(["1", "2.5"], labels) == [[1], [2.5]])
    #expect(try self.labels(["1", "2"], .init(kind: .numbers)).kind == .numbers)
  }

  @Test("lists are several labels, by name, by id, or a zero or one for each")
  func lists() throws {
    let named = try labels([#"["b", "a"]"#, "[]", #"["c"]"#])
    #expect(named == LabelSet(.anyOf, names: ["a", "b", "c"]))
    #expect(try targets([#"["b", "a"]"#, "[]"], named) == [[1, 1, 0], [0, 0, 0]])
    let indicators = try labels(["[0, 1, 1]", "[1.0, 0.0, 0.0]"])
    #expect(indicators == LabelSet(.anyOf, names: ["LABEL_0", "LABEL_1", "LABEL_2"]))
    #expect(try targets(["[0, 1, 1]"], indicators) == [[0, 1, 1]])
    let vectors = try labels(["[0.5, 1]", "[2, -1]"])
    #expect(vectors == LabelSet(.numbers, names: ["LABEL_0", "LABEL_1"]))
  }

  @Test("a table's texts are numbers where all are")
  func tables() throws {
    let path = try scratch.file("rows.csv", "text,label\na,1.5\nb,2\n")
    let numbers = try LabelSet(of: [DataFile(path)], column: "label")
    #expect(numbers.kind == .numbers)
    let texts = try scratch.file("texts.csv", "text,label\na,1\nb,0\n")
    #expect(try LabelSet(of: [DataFile(texts)], column: "label") == LabelSet(.oneOf, names: ["0", "1"]))
  }

  @Test("only the rows that are read count")
  func limit() throws {
    let labels = try LabelSet(of: [file([#""a""#, #""b""#, #""c""#])], column: "label", limit: 2)
    #expect(labels.names == ["a", "b"])
  }

  @Test(
    "labels that cannot be meant are errors with their row and a remedy",
    arguments: [
      ([#""a""#, "null"], "row 2", "`label` is null"),
      ([#""a""#, #""""#], "row 2", "`label` is empty"),
      ([#""a""#, "{}"], "row 2", "`label` is"),
      ([#""a""#, #"["b"]"#], "row 2", "unlike those of earlier rows"),
      ([#"[{"a": 1}]"#], "row 1", "a list of something else"),
      ([#""a""#, "1.5"], "row 2", "numbers with a fraction in some rows"),
      ([#""a""#, #""a""#], "rows.jsonl", "nothing to tell apart"),
    ])
  func wrong(_ values: [String], _ place: String, _ problem: String) throws {
    let error = #expect(throws: DataError.self) { try labels(values) }
    let text = error.map { "\($0)" } ?? ""
    #expect(text.contains(place) && text.contains(problem), "\(text)")
  }

  @Test("another number of labels than is expected is an error")
  func otherCount() throws {
    let error = #expect(throws: DataError.self) { try labels([#""a""#, #""b""#], .init(count: 3)) }
    #expect(error?.description.contains("2 different labels (a, b), and `num_labels` is 3") == true)
  }

  @Test("a label that was not learnt, or of another kind, is an error")
  func unseen() throws {
    func text(_ value: String, _ labels: LabelSet) -> String {
      (#expect(throws: DataError.self) { try targets([value], labels) })?.description ?? ""
    }
    let names = LabelSet(.oneOf, names: ["no", "yes"])
    #expect(
      text(#""maybe""#, names).contains("`label` is `maybe`, which is none of the 2 labels `no`, `yes`"))
    #expect(text(#""maybe""#, names).contains("row 1"))
    #expect(text("2", names).contains("none of the 2 labels"))
    #expect(text(#"["no"]"#, names).contains("one label is needed"))
    #expect(text(#""no""#, LabelSet(.anyOf, names: ["no"])).contains("a list of labels is needed"))
    #expect(text(#""no""#, LabelSet(.numbers, names: ["LABEL_0"])).contains("a number is needed"))
    #expect(text("[1, 2]", LabelSet(.numbers, names: ["LABEL_0"])).contains("a number is needed"))
  }

  @Test("rows without the column of labels are refused, with the columns that they have")
  func noColumn() throws {
    let path = try scratch.file("rows.jsonl", #"{"text": "a", "intent": "b"}"#)
    let error = #expect(throws: DataError.self) { try LabelSet(of: [DataFile(path)], column: "label") }
    #expect(error?.description.contains("there is no column `label`") == true)
    #expect(error?.description.contains("label_column") == true)
    #expect(error?.description.contains("`text`, `intent`") == true)
  }

  @Test("pairs of texts and conversations have labels too")
  func forms() throws {
    let labels = LabelSet(.oneOf, names: ["no", "yes"])
    func sample(_ row: Row, _ options: RowFormatOptions = .init()) throws -> Sample {
      var options = options
      options.labels = labels
      return try RowFormats.format(for: row, options: options).sample(from: row)
    }
    let pair = Row(["text": "a", "text_pair": "b", "label": "yes"])
    #expect(try sample(pair) == .labelled(.pair("a", "b"), target: [1]))
    let named = Row(["premise": "a", "hypothesis": "b", "gold": "no"])
    let options = RowFormatOptions(textColumn: "premise", labelColumn: "gold", textPairColumn: "hypothesis")
    #expect(try sample(named, options) == .labelled(.pair("a", "b"), target: [0]))
    let turns: JSONValue = [["role": "user", "content": "hi"]]
    let conversation = Row(["messages": turns, "label": "yes"])
    guard case .labelled(.conversation(let found), target: [1]) = try sample(conversation) else {
      Issue.record("no conversation")
      return
    }
    #expect(JSONValue.array(found.messages) == turns)
  }
}
