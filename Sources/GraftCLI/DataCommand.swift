import ArgumentParser
import Datasets

/// `graft data`: work on data files.
struct DataCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "data", abstract: "Prepare data files.", subcommands: [DataConvertCommand.self])
}

/// `graft data convert`: data files in any encoding to training and validation files.
struct DataConvertCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "convert",
    abstract: "Turn CSV, TSV, JSON and JSONL files in any encoding into training and validation files.",
    discussion: """
      Encoding and format are detected unless given. Rows with an empty field are left out. Rows go to training first, \
      then to validation, in the files' order or shuffled by a seed. Nothing is written unless everything could be.

      EXAMPLE
        graft data convert medical.csv --encoding gb18030 \\
          --columns question=ask,answer --train 5000 --validation 2000
      """)

  @Argument(help: "Data files.")
  var inputs: [String]

  @Option(help: "Where the training rows go; .jsonl writes JSON Lines.")
  var trainFile = "train.json"

  @Option(help: "Where the validation rows go.")
  var validationFile = "val.json"

  @Option(help: "Training rows: a number, a fraction (0.9), 90% or rest.")
  var train = "rest"

  @Option(help: "Validation rows, likewise.")
  var validation = "0"

  @Option(help: "Columns to keep, as NEW=OLD or NAME, separated by commas (default: all).")
  var columns: String?

  @Option(help: "Encoding of the input, any that iconv knows (default: detected).")
  var encoding: String?

  @Option(help: "Format of the input: csv, tsv, json, jsonl or text (default: by the file's name).")
  var inputFormat: DataFileFormat?

  @Option(help: "Format of the output: json or jsonl (default: by the file's name).")
  var outputFormat: DataConversion.OutputFormat?

  @Option(help: "Shuffle the rows with this seed.")
  var shuffleSeed: UInt64?

  @Flag(help: "Leave out rows that are equal to an earlier one.")
  var dropDuplicates = false

  @Flag(help: "Replace bytes that are no text in the encoding by U+FFFD, instead of failing.")
  var replaceInvalid = false

  @Flag(help: "Take tables as they come: missing fields are empty, extra ones are left out.")
  var relaxed = false

  @Flag(help: "Print the report as JSON.")
  var json = false

  func run() async throws {
    let validationSize = try DataConversion.Size(parsing: validation)
    let conversion = DataConversion(
      inputs: inputs,
      reading: ReadingOptions(
        format: inputFormat, encoding: encoding, replacesInvalidBytes: replaceInvalid, isRelaxed: relaxed),
      columns: try columns.map { try DataConversion.Column.list(parsing: $0) },
      train: try DataConversion.Size(parsing: train), validation: validationSize, shuffleSeed: shuffleSeed,
      dropsDuplicates: dropDuplicates,
      format: outputFormat ?? (trainFile.lowercased().hasSuffix(".jsonl") ? .jsonl : .json))
    let report = try conversion.run(
      trainPath: trainFile, validationPath: validationSize == .count(0) ? nil : validationFile)
    if json { try Console.result(report) } else { try Console.result("\(report)") }
  }
}

extension DataFileFormat: ExpressibleByArgument {}
extension DataConversion.OutputFormat: ExpressibleByArgument {}
