import Datasets
import Files
import Foundation
import JSON
import Testing

@Suite struct DataConversionTests {
  private func conversion(_ scratch: Scratch, _ text: String) throws -> DataConversion {
    DataConversion(inputs: [try scratch.file("in.csv", text)])
  }

  @Test("a GB18030 table becomes the JSON files that Python writes, byte for byte")
  func medicalForm() throws {
    let scratch = try Scratch()
    let conversion = DataConversion(
      inputs: [Fixture.path("encodings/gb18030.csv")], columns: try .list(parsing: "question=ask,answer"),
      train: .count(3), validation: .count(2))
    let report = try conversion.run(
      trainPath: scratch.path("train.json"), validationPath: scratch.path("val.json"))
    #expect((report.trainRows, report.validationRows) == (3, 2))
    #expect(report.encodings.first?.contains("GB18030 (detected") == true)
    for (written, expected) in [("train", "train"), ("val", "validation")] {
      let python = try String(contentsOfFile: Fixture.path("encodings/\(expected).json"), encoding: .utf8)
      #expect(try scratch.text("\(written).json") == python)
    }
    #expect(scratch.names == ["train.json", "val.json"])
  }

  private static let medical = ProcessInfo.processInfo.environment["GRAFT_MEDICAL_CSV"]

  @Test(
    "the reference experiment's table gives 5,000 and 2,000 rows",
    .enabled(
      if: medical != nil, "GRAFT_MEDICAL_CSV does not name the sample file of Chinese-medical-dialogue-data"))
  func medicalTable() throws {
    let scratch = try Scratch()
    let conversion = DataConversion(
      inputs: [Self.medical ?? ""], columns: try .list(parsing: "question=ask,answer"), train: .count(5000),
      validation: .count(2000))
    let report = try conversion.run(trainPath: scratch.path("t.json"), validationPath: scratch.path("v.json"))
    #expect((report.trainRows, report.validationRows) == (5000, 2000))
    #expect(report.encodings.first?.contains("GB18030 (detected") == true, "\(report)")
    let rows = try DataFile(scratch.path("t.json")).reader().rows()
    #expect(rows.first?["question"] == "我有高血压这两天女婿来的时候给我拿了些党参泡水喝，您好高血压可以吃党参吗？")
    #expect(try DataFile(Self.medical ?? "").reader().rows().count == 7644)
    #expect(TextMetrics.areChinese(try rows.prefix(10).map { try $0.requiredText("answer") }))
  }

  @Test("what was written is read again")
  func roundTrip() throws {
    let scratch = try Scratch()
    for format in DataConversion.OutputFormat.allCases {
      var conversion = try conversion(scratch, "a,b\n\"x\n\"\"y\"\"\\\",\u{1}\n2,3\n")
      conversion.format = format
      _ = try conversion.run(trainPath: scratch.path("o.\(format)"), validationPath: nil)
      let rows = try DataFile(scratch.path("o.\(format)")).reader().rows()
      #expect(rows.map(\.values) == [["x\n\"y\"\\", "\u{1}"], ["2", "3"]])
    }
  }

  @Test("rows with an empty chosen field and duplicates are dropped and counted")
  func dropped() throws {
    let scratch = try Scratch()
    var conversion = try conversion(scratch, "a,b,c\n1,x,\n2, ,\n1,x,other\n,y,\n3,z,\n")
    conversion.columns = try .list(parsing: "a, b")
    conversion.dropsDuplicates = true
    conversion.format = .jsonl
    let report = try conversion.run(trainPath: scratch.path("o.jsonl"), validationPath: nil)
    #expect(
      (report.rowsRead, report.droppedEmpty, report.droppedDuplicates, report.trainRows) == (5, 2, 1, 2))
    #expect(try scratch.text("o.jsonl") == "{\"a\": \"1\", \"b\": \"x\"}\n{\"a\": \"3\", \"b\": \"z\"}\n")
  }

  @Test("fractions split all rows; a seed gives the same order each time, another seed another")
  func shuffled() throws {
    let scratch = try Scratch()
    var conversion = try conversion(scratch, "a\n" + (0..<50).map { "\($0)\n" }.joined())
    (conversion.train, conversion.validation, conversion.format) = (.fraction(0.8), .rest, .jsonl)
    func run(_ seed: UInt64?) throws -> (train: String, validation: String) {
      conversion.shuffleSeed = seed
      let report = try conversion.run(trainPath: scratch.path("t"), validationPath: scratch.path("v"))
      #expect((report.trainRows, report.validationRows) == (40, 10))
      return (try scratch.text("t"), try scratch.text("v"))
    }
    let (plain, first, again, other) = (try run(nil), try run(1), try run(1), try run(2))
    #expect(first == again)
    #expect(first.train != other.train && first.train != plain.train)
    let all = { (split: (train: String, validation: String)) in
      (split.train + split.validation).split(separator: "\n").sorted()
    }
    #expect(all(first) == all(plain))
    #expect(plain.train.hasPrefix("{\"a\": \"0\"}\n"))
  }

  @Test("too few rows, unknown columns and contradictions are errors that leave the outputs alone")
  func refused() throws {
    let scratch = try Scratch()
    let base = try conversion(scratch, "a,b\n1,2\n3,4\n")
    let (train, validation) = (try scratch.file("t.json", "old"), try scratch.file("v.json", "old"))
    var tooMany = base
    (tooMany.train, tooMany.validation) = (.count(2), .count(1))
    #expect(
      dataError { _ = try tooMany.run(trainPath: train, validationPath: validation) }?.message
        == "2 training and 1 validation rows were asked for, but only 2 rows are usable")
    var unknown = base
    unknown.columns = [.init(name: "q", source: "ask")]
    #expect(
      dataError { _ = try unknown.run(trainPath: train, validationPath: validation) }?.message
        == "there is no column `ask`")
    var rest = base
    rest.validation = .rest
    #expect(dataError { _ = try rest.run(trainPath: train, validationPath: validation) } != nil)
    #expect(dataError { _ = try base.run(trainPath: train, validationPath: train) } != nil)
    #expect(try scratch.text("t.json") == "old")
    #expect(try scratch.text("v.json") == "old")
    #expect(scratch.names == ["in.csv", "t.json", "v.json"])
    let error = #expect(throws: FileError.self) {
      _ = try base.run(trainPath: "/nowhere/t.json", validationPath: nil)
    }
    #expect(error?.code == .notFound && error?.path == "/nowhere/t.json")
  }

  @Test("sizes and columns are parsed or refused")
  func parsing() throws {
    #expect(try DataConversion.Size(parsing: "5000") == .count(5000))
    #expect(try DataConversion.Size(parsing: "0.25") == .fraction(0.25))
    #expect(try DataConversion.Size(parsing: "90%") == .fraction(0.9))
    for text in ["-1", "1.5", "many", "120%", ""] {
      #expect(dataError { _ = try DataConversion.Size(parsing: text) } != nil, "\(text)")
    }
    for text in ["a=", "=a", "a,,b", "a=b=c", "a,b=c,a=d"] {
      #expect(dataError { _ = try [DataConversion.Column].list(parsing: text) } != nil, "\(text)")
    }
  }

  @Test("an output that cannot be put in its place is an error and leaves nothing behind")
  func unwritable() throws {
    let scratch = try Scratch()
    let conversion = try conversion(scratch, "a\n1\n")
    try FileManager.default.createDirectory(
      atPath: scratch.path("folder"), withIntermediateDirectories: false)
    // The finished file cannot take the place of a folder.
    #expect(throws: FileError.self) {
      _ = try conversion.run(trainPath: scratch.path("folder"), validationPath: nil)
    }
    #expect(scratch.names == ["folder", "in.csv"])
  }
}

extension [DataConversion.Column] {
  static func list(parsing text: String) throws -> Self { try DataConversion.Column.list(parsing: text) }
}
